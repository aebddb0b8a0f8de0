"""What is left over when a worker or the whole service dies: claims, which are done again, and files that kill.

Everything a dead worker held is somewhere: still in incoming, in a claim, or set aside already.
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
from listener.errors import WorkerLost
from listener.records import Arrival, Outcome
from listener.repacking import claim, setaside
from listener.repacking.context import CLAIM, WorkerContext
from listener.service.lock import is_owned
from listener.service.pool import WorkerExit

#: A file that a worker died with so often is set aside. In a batch all are suspects, and come back one by one.
MOST_LOSSES = 2

#: For a file that was linked into the tree before: whatever kills its workers is not in the file.
MOST_LOSSES_PLACED = 20

#: The same for a claim that was in hand, alone, when the whole service died: an innocent file may meet that too.
MOST_RESTARTS = 5


class Recovery:
    """Finds them, and gives up on what cannot be done."""

    def __init__(self, config: Config, directories: Directories, mode: str) -> None:
        self._config = config
        self._directories = directories
        self._mode = mode
        self._context: WorkerContext | None = None

    def claims(self) -> Iterator[Arrival]:
        """Every claim there is, as an arrival that is claimed already."""
        if self._mode != CLAIM:
            return
        for root, incoming in enumerate(self._directories.incoming):
            places = claim_directories(incoming, self._directories.state)
            for entry in itertools.chain.from_iterable(map(_entries, places)):
                told = claim.parse_name(entry.name)
                if told is not None:
                    path = os.path.join(incoming, told.name)
                    size = entry.stat(follow_symlinks=False).st_size
                    yield Arrival(path, root, told.time_ns, "startup", entry.path, told.attempts, size)

    def left_behind(self) -> list[Arrival]:
        """The claims of an earlier run, oldest first; those of one tick of the clock in byte order, as `once` takes
        them.
        """
        return sorted(self.claims(), key=lambda one: (one.time_ns, os.fsencode(one.path)))

    def orphans(self) -> list[Orphans]:
        """Claims of incoming directories that are not configured any more and that nobody works on."""
        return orphans_of(self._directories.incoming, self._directories.state) if self._mode == CLAIM else []

    def recover(self, lost: WorkerExit) -> Iterator[Arrival | Outcome]:
        """What a dead worker held, in order: an arrival to do again, or the outcome of one that is gone."""
        claims = {_mark(one): one.claim for one in self.claims()}
        for arrival in lost.held:
            again = arrival._replace(claim=claims.get(_mark(arrival), ""), losses=arrival.losses + lost.began)
            yield again if os.path.lexists(again.key) else _gone(arrival)

    def is_poison(self, arrival: Arrival) -> bool:
        """Whether workers die of this file. Not when it has a name in the tree already: then reading it did no harm,
        and set aside it would be in two places.
        """
        if arrival.losses < MOST_LOSSES:
            return False
        return arrival.losses >= MOST_LOSSES_PLACED or not _is_placed(arrival)

    def ends_services(self, arrival: Arrival) -> bool:
        """The same for a claim that was in hand, alone, whenever the whole service ended."""
        return arrival.attempts >= MOST_RESTARTS and not _is_placed(arrival)

    def clean(self, pid: int) -> None:
        """Remove the temporaries that the dead worker `pid` left."""
        places = {*self._directories.stagings, *self._directories.claims}
        for entry in itertools.chain.from_iterable(map(_entries, places)):
            # A claim is none, whatever its file was called.
            if files.made_by(entry.name, pid) and claim.parse_name(entry.name) is None:
                files.discard(entry.path)

    def give_up(self, arrival: Arrival) -> Outcome:
        """Set a file aside as `worker-lost`."""
        if self._context is None:
            # The loop asks, which must not wait: what cannot be set aside now is tried again.
            self._context = WorkerContext(self._config, self._directories, self._mode, lock_timeout=0)
        error = str(WorkerLost())
        name = os.path.basename(arrival.path)
        where = setaside.put_aside(
            arrival.key, name, self._context, setaside.Why("worker-lost", error), _without_this(arrival)
        )
        if self._mode == CLAIM:
            claim.release(arrival.key)
        return _gone(arrival)._replace(kind="set-aside", reason="worker-lost", step="read", error=error, dst=where)


def orphans_of(incoming: tuple[str, ...], state: str) -> list[Orphans]:
    """Claims below `state` of directories that are none of `incoming` and that nobody works on."""
    ours = {place for root in incoming for place in claim_directories(root, state)}
    return find(state, ours, is_owned)


def _without_this(arrival: Arrival) -> Arrival:
    """The reason file counts the try that ends here; giving up is none."""
    return arrival._replace(losses=max(0, arrival.losses - 1))


def _is_placed(arrival: Arrival) -> bool:
    """Whether a claim has a second name, in the tree or in set-aside: then what remains is to be repeated."""
    try:
        return os.lstat(arrival.key).st_nlink > 1
    except FileNotFoundError:
        return False


def _entries(directory: str) -> list[os.DirEntry[str]]:
    try:
        with os.scandir(directory) as entries:
            return list(entries)
    except FileNotFoundError:  # Somebody took our directory away.
        return []


def _mark(arrival: Arrival) -> tuple[int, int, bytes]:
    """By what an arrival and its claim are known to be the same; a claim's name may be cut."""
    return arrival.root, arrival.time_ns, os.fsencode(os.path.basename(arrival.path))[:64]


def _gone(arrival: Arrival) -> Outcome:
    return Outcome("vanished", arrival.path, arrival.root, arrival.time_ns, time.time_ns(), size=arrival.size)
