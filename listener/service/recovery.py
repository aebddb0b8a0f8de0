"""Crash recovery: requeue the claims of dead workers and earlier runs; set aside files that keep killing workers.

What a dead worker held is still in incoming, in a claim, or set aside already.
"""

from __future__ import annotations

import itertools
import os
import time
from collections.abc import Iterator

from listener.config import Config
from listener.disk import files
from listener.disk.directories import Directories, claim_directories
from listener.disk.orphans import Orphans, find
from listener.reasons import WorkerLost
from listener.records import Arrival, Outcome
from listener.repacking import claim, setaside
from listener.repacking.context import CLAIM, WorkerContext
from listener.service.lock import is_owned
from listener.service.pool import WorkerExit

#: Workers that die with a file until it is set aside. The files of a batch come back one by one after the first.
MOST_LOSSES = 2

#: The same for a file that was linked into the tree before: reading it did no harm then.
MOST_LOSSES_PLACED = 20

#: Services that end while a claim is in hand, alone, until it is set aside: other causes are more likely.
MOST_RESTARTS = 5


class Recovery:
    """Finds claims, and sets aside files that cannot be processed."""

    def __init__(self, config: Config, directories: Directories, mode: str) -> None:
        self._config = config
        self._directories = directories
        self._mode = mode
        self._context: WorkerContext | None = None

    def claims(self) -> Iterator[Arrival]:
        """Yield every claim as an arrival that is claimed already."""
        if self._mode != CLAIM:
            return
        for root, incoming in enumerate(self._directories.incoming):
            places = self._directories.claim_places(root)
            for entry in itertools.chain.from_iterable(map(_entries, places)):
                name = claim.parse_name(entry.name)
                if name is not None:
                    path = os.path.join(incoming, name.name)
                    size = entry.stat(follow_symlinks=False).st_size
                    yield Arrival(path, root, name.time_ns, "startup", entry.path, name.attempts, size)

    def left_behind(self) -> list[Arrival]:
        """Return the claims of an earlier run, oldest first, those of one time in byte order as in `once`."""
        return sorted(self.claims(), key=lambda arrival: (arrival.time_ns, os.fsencode(arrival.path)))

    def orphans(self) -> list[Orphans]:
        """Return claims of incoming directories that are not configured any more and that no listener uses."""
        # A part has looked at its own before it began.
        is_service = self._mode == CLAIM and not self._directories.part
        return orphans_of(self._directories.incoming, self._directories.state) if is_service else []

    def recover(self, lost: WorkerExit) -> Iterator[Arrival | Outcome]:
        """Yield for each file of a dead worker, in order, an arrival to do again or the outcome of one that is gone."""
        claims = {_identity(arrival): arrival.claim for arrival in self.claims()}
        for arrival in lost.held:
            again = arrival._replace(claim=claims.get(_identity(arrival), ""), losses=arrival.losses + lost.was_ready)
            yield again if os.path.lexists(again.key) else _gone(arrival)

    def is_poison(self, arrival: Arrival) -> bool:
        """Return whether workers die of this file. Not if it has a name in the tree already: reading it did no harm
        then, and set aside it would be in two places.
        """
        if arrival.losses < MOST_LOSSES:
            return False
        return arrival.losses >= MOST_LOSSES_PLACED or not _is_placed(arrival)

    def ends_services(self, arrival: Arrival) -> bool:
        """Return whether services end while this claim is in hand."""
        return arrival.attempts >= MOST_RESTARTS and not _is_placed(arrival)

    def clean(self, pid: int) -> None:
        """Remove the temporary files of the dead worker `pid`."""
        places = {*self._directories.stagings, *self._directories.claims}
        for entry in itertools.chain.from_iterable(map(_entries, places)):
            # A claim is not temporary, whatever its file was called.
            if files.made_by(entry.name, pid) and claim.parse_name(entry.name) is None:
                files.discard(entry.path)

    def give_up(self, arrival: Arrival) -> Outcome:
        """Set a file aside as `worker-lost` and return its outcome, whose claim is still to be released. Raises OSError
        if that is refused.
        """
        if self._context is None:
            # Called in the loop, which must not wait: what cannot be set aside now is tried again.
            self._context = WorkerContext(self._config, self._directories, self._mode, lock_timeout=0)
        error = str(WorkerLost())
        name = os.path.basename(arrival.path)
        where = setaside.put_aside(
            arrival.key, name, self._context, setaside.Why("worker-lost", error), _without_this(arrival)
        )
        held = arrival.key if self._mode == CLAIM else ""
        outcome = _gone(arrival)._replace(kind="set-aside", reason="worker-lost", step="read", error=error)
        return outcome._replace(dst=where, claim=held)


def orphans_of(incoming: tuple[str, ...], state_dir: str) -> list[Orphans]:
    """Return claims below `state_dir` of directories that are not in `incoming` and that no listener uses."""
    ours = {place for root in incoming for place in claim_directories(root, state_dir)}
    return find(state_dir, ours, is_owned)


def _without_this(arrival: Arrival) -> Arrival:
    """Return the arrival with one loss fewer: the reason file itself counts this try."""
    return arrival._replace(losses=max(0, arrival.losses - 1))


def _is_placed(arrival: Arrival) -> bool:
    """Return whether a claim has a second link, in the tree or in set-aside: then the rest is repeated."""
    try:
        return os.lstat(arrival.key).st_nlink > 1
    except FileNotFoundError:
        return False


def _entries(directory: str) -> list[os.DirEntry[str]]:
    try:
        with os.scandir(directory) as entries:
            return list(entries)
    except FileNotFoundError:  # The directory was removed.
        return []


def _identity(arrival: Arrival) -> tuple[int, int, bytes]:
    """Return what an arrival and its claim have in common; the name in a claim may be cut."""
    return arrival.root_index, arrival.time_ns, os.fsencode(os.path.basename(arrival.path))[:64]


def _gone(arrival: Arrival) -> Outcome:
    return Outcome("vanished", arrival.path, arrival.root_index, arrival.time_ns, time.time_ns(), size=arrival.size)
