"""Removes empty study directories of storescp after a day without traffic.

Never the newest: storescp creates the directory of a study (-su, -ss, -sp) with its first file, and refuses further
files of the study that it received last if it is gone. Directories with other names are never removed: they may be
another storescp's output directory.
"""

from __future__ import annotations

import contextlib
import os
import re
from math import inf

#: Time without traffic, interval of the passes, and how far the clocks may drift apart, in seconds.
DAY = 86_400.0
_EVERY = 3_600.0
_DRIFT = 60.0

#: Most directories of one pass.
_MOST = 10_000

#: Names that storescp gives: a prefix and the Study Instance UID (-su), or a prefix or the patient's name and the time,
#: YYYYMMDD_HHMMSSmmm (-ss, -sp). Source: storescp(1), --sort-on-study-uid, --sort-conc-studies, --sort-on-patientname.
_NAME = re.compile(r"_(?:[0-9]+(?:\.[0-9]+)+|[0-9]{8}_[0-9]{9})")


class Emptied:
    """Empty directories that rescans find. Times in seconds on the monotonic clock, `now_ns` on the wall clock;
    `quiet`: seconds without traffic after which one is removed.
    """

    def __init__(self, quiet: float = DAY) -> None:
        self._quiet = quiet
        self._found: list[str] = []
        self._next = 0.0
        self._offset: float | None = None
        self._jumped = -inf

    def due(self, now: float) -> bool:
        """Return whether the next rescan is to report empty directories."""
        return now >= self._next

    def found(self, path: str) -> None:
        """Record an empty directory below incoming."""
        if len(self._found) < _MOST and _kind(path.rpartition("/")[2]) is not None:
            self._found.append(path)

    def remove(self, now: float, now_ns: int) -> int:
        """Remove the directories that nothing happened in for a day, and return how many."""
        self._next = now + _EVERY
        found, self._found = self._found, []
        self._watch_the_clock(now, now_ns)
        if now - self._jumped < self._quiet:  # Their times may be of the former clock.
            return 0
        removed = 0
        keep = {newest for parent in {os.path.dirname(path) for path in found} for newest in _newest(parent)}
        for path in found:
            if path in keep:
                continue
            with contextlib.suppress(OSError):  # A file came, or it belongs to another user.
                status = os.stat(path)
                if now_ns - max(status.st_mtime_ns, status.st_ctime_ns) >= self._quiet * 1e9:
                    os.rmdir(path)
                    removed += 1
        return removed

    def _watch_the_clock(self, now: float, now_ns: int) -> None:
        """Note when the wall clock was set: a new directory may then seem a day old."""
        offset = now_ns / 1e9 - now
        if self._offset is not None and abs(offset - self._offset) > _DRIFT:
            self._jumped = now
        self._offset = offset


def _kind(name: str) -> str | None:
    """Return what the directories of one storescp have in common: the prefix before a UID, or "" for names that end
    with a time; None for a name that storescp does not give.
    """
    found = _NAME.search(name)
    if not found or found.end() != len(name):
        return None
    return "" if "_" in found[0][1:] else name[: found.start() + 1]


def _newest(parent: str) -> list[str]:
    """Return the directory of each kind in which something happened last."""
    last: dict[str, tuple[int, str]] = {}
    with contextlib.suppress(OSError), os.scandir(parent) as entries:
        for entry in entries:
            kind = _kind(entry.name)
            if kind is not None and entry.is_dir(follow_symlinks=False):
                last[kind] = max(last.get(kind, (0, "")), (entry.stat().st_mtime_ns, entry.path))
    return [path for _, path in last.values()]
