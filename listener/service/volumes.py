"""Detects directories that are not those of the start any more: unmounted, mounted over or replaced.

Checked once a second and before a batch is released: what was published below the mount point of a volume that is gone
is not done.
"""

from __future__ import annotations

import os

from listener.diagnostics import log
from listener.disk.directories import Directories
from listener.disk.identity import DirectoryIdentity
from listener.disk.moves import rename_free
from listener.records import Arrival, Deferral, Outcome

#: The reason of the deferral: no errno says that a volume is gone.
_REASON = "io-error"


class Volumes:
    """The directories of the start; `missing` are the roles of those that are gone, as `look` found last."""

    def __init__(self, directories: Directories) -> None:
        self._ours = [(role, directories.identity_of(getattr(directories, role))) for role in ("data", "log", "state")]
        self._incoming = [directories.identity_of(root) for root in directories.incoming]
        self._state = f"{directories.state}/"
        self._seen, self._seen_missing = float("-inf"), list[str]()
        self.missing: list[str] = []

    def gone(self, since: float, now: float) -> list[str]:
        """Return which of data, log and state are not at their paths now, or were missing at or after `since` (times of
        the monotonic clock). Nothing that was done meanwhile counts as done.
        """
        missing = [role for role, directory in self._ours if not directory.is_there()]
        if missing:
            self._seen, self._seen_missing = now, missing
        elif self._seen >= since:
            return self._seen_missing
        return missing

    def look(self, now: float) -> list[str]:
        """Check all directories at `now`, log what changed, and return the roles of those that are gone. An incoming
        directory may be replaced, but not by one of another volume.
        """
        missing = list(self.gone(now, now))
        if not all(map(DirectoryIdentity.is_on_its_volume, self._incoming)):
            missing.append("incoming")
        for role in missing:
            if role not in self.missing:
                log.error("the %s directory is not the one of the start: its volume is gone, or it was replaced", role)
        for role in self.missing:
            if role not in missing:
                log.info("the %s directory is back", role)
        self.missing = missing
        return missing

    def hides(self, arrival: Arrival) -> bool:
        """Whether the claim of `arrival`, or a file of a batch, is gone only because the volume of its directory is."""
        return (bool(arrival.claim) or arrival.source == "batch") and not self._incoming[
            arrival.root_index
        ].is_on_its_volume()

    def kept(self, arrival: Arrival, result: Outcome | Deferral, gone: list[str]) -> Deferral:
        """Return the deferral of a file whose `result` does not count because `gone` are missing. A claim below the
        mount point of the state volume goes back to incoming: when the volume is back it would be hidden.
        """
        claim = result.claim or arrival.claim
        path = arrival.path
        if "state" in gone and claim.startswith(self._state) and os.path.lexists(claim):
            path = rename_free(claim, os.path.dirname(path), os.path.basename(path))
            claim = ""
        text = f"the {gone[0]} directory is not the one of the start"
        return Deferral(path, arrival.root_index, arrival.time_ns, _REASON, "release", text, claim, arrival.attempts)
