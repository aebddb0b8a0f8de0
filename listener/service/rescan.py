"""Rescans: list all incoming directories periodically, and offer the files that events missed."""

from __future__ import annotations

import errno
import os
import time
from collections.abc import Callable, Iterable, Iterator
from heapq import merge
from itertools import islice
from math import inf
from typing import NamedTuple
from zlib import compress, decompress

from listener.planning.names import OWN, is_temporary, printable
from listener.service.emptied import Emptied
from listener.service.engine import Engine

#: Paths that are sorted at once, and those that are compressed together.
RUN = 50_000
BLOCK = 1_000


def ignore(_: object) -> None:
    """Do nothing."""


def walk(
    root: str,
    trouble: Callable[[OSError], None] = ignore,
    empty: Callable[[str], None] = ignore,
    entered: Callable[[str], None] = ignore,
) -> Iterator[str]:
    """Yield every path below `root` that is not a directory and not temporary. Links are not followed.

    Calls `trouble` for a directory that cannot be read (unless it disappeared), `empty` for each empty one below
    `root`, `entered` for each.
    """
    pending = [root]
    while pending:
        directory = pending.pop()
        is_empty = True
        entered(directory)
        try:
            with os.scandir(directory) as entries:
                for entry in entries:
                    is_empty = False
                    if entry.is_dir(follow_symlinks=False):
                        if entry.name != OWN:
                            pending.append(entry.path)
                    elif not is_temporary(entry.name):
                        yield entry.path
            if is_empty and directory != root:
                empty(directory)
        except FileNotFoundError:
            if directory == root:
                trouble(FileNotFoundError(errno.ENOENT, "the directory is not there", root))
        except OSError as error:
            trouble(error)


def in_byte_order(root: str, paths: Iterable[str] | None = None) -> Iterator[str]:
    """Yield every path below `root` (or all of `paths`) of one listing, in byte order; some 15 bytes of memory a path,
    since beyond RUN they are kept in sorted, compressed runs.
    """
    names = map(os.fsencode, walk(root) if paths is None else paths)
    runs: list[list[bytes]] = []
    while len(run := sorted(islice(names, RUN))) == RUN:
        runs.append([compress(b"\0".join(run[at : at + BLOCK]), 1) for at in range(0, RUN, BLOCK)])
    yield from map(os.fsdecode, merge(run, *map(_unpacked, runs)) if runs else run)


def _unpacked(blocks: list[bytes]) -> Iterator[bytes]:
    for block in blocks:
        yield from decompress(block).split(b"\0")


#: Paths that one `step` offers, and paths that it counts, before the loop serves workers again.
_SLICE = 500
_COUNT_SLICE = 5000

#: Most directories that are logged after one pass.
_MOST_LOGGED = 10

#: Interval in which files beyond the queue are counted while a pass waits, in seconds.
_RECOUNT = 60.0


class RescanResult(NamedTuple):
    """A complete pass: how long it took in seconds, the directories that could not be read, and how many there are."""

    seconds: float
    troubles: list[OSError]
    directories: int


class Troubles:
    """Directories that cannot be read, each reported when the pass before did not meet it."""

    def __init__(self, roots: tuple[str, ...], *, phi: bool) -> None:
        self._roots = roots
        self._phi = phi
        self._reported: set[tuple[str, str]] = set()

    def news(self, troubles: list[OSError]) -> list[str]:
        """Return directory and error of what the last pass met and the one before did not, _MOST_LOGGED at most."""
        met = {(str(error.filename or ""), error.strerror or "") for error in troubles}
        new = sorted(met - self._reported)
        self._reported = met
        return [f"{self._place(path)}: {why}" for path, why in new[:_MOST_LOGGED]]

    def _place(self, path: str) -> str:
        if self._phi:
            return f"'{printable(path)}'"
        root = next((root for root in self._roots if path == root or path.startswith(f"{root}/")), "")
        return f"level {path[len(root) :].count('/')} below incoming" if root else "below incoming"


class Rescan:
    """The rescans of one service, one pass every `interval` seconds, in steps. `looked`: all of incoming was listed at
    least once, if only to be counted; `covered`: when the last complete pass began (monotonic): what came before is
    known; `next`: when the next pass is due. `interval` may be changed.
    """

    def __init__(self, roots: tuple[str, ...], engine: Engine, interval: float, emptied: Emptied | None = None) -> None:
        self._roots = roots
        self._engine = engine
        self.interval = interval
        self._source = "startup"
        self._begun = 0.0
        self._paths: Iterator[tuple[int, str]] | None = None
        self._count: Iterator[tuple[int, str]] | None = None
        self._counted = 0
        self._next_count = 0.0
        self._troubles: list[OSError] = []
        self._emptied = emptied or Emptied()
        self._directories = 0
        self.next = 0.0
        self.looked = False
        self.covered = -inf

    @property
    def busy(self) -> bool:
        """Whether `step` has something to do right now."""
        return self._count is not None or (self._paths is not None and not self._engine.backlog.full)

    @property
    def under_way(self) -> bool:
        """Whether a pass has begun and is not complete."""
        return self._paths is not None

    def request(self, now: float) -> None:
        """Begin the next pass at `now`; without effect while one is under way."""
        self.next = now

    def due(self, now: float) -> bool:
        """Return whether the next pass should begin."""
        return self._paths is None and now >= self.next

    def begin(self, now: float) -> None:
        """Begin a pass."""
        self._begun = now
        self._troubles = []
        self._directories = 0
        self._paths = self._walk(self._emptied.found if self._emptied.due(now) else ignore, self._enter)

    def step(self, now: float) -> RescanResult | None:
        """Do the next slice; return the result if that completes the pass, else None."""
        if self._count is not None:
            self._count_on(now)
        if self._paths is None:
            return None
        if self._offer_slice(self._paths):
            return self._complete(now)
        if self._engine.backlog.full and self._count is None and now >= self._next_count:
            self._count, self._counted = self._walk(), 0
        return None

    def _walk(
        self, empty: Callable[[str], None] = ignore, entered: Callable[[str], None] = ignore
    ) -> Iterator[tuple[int, str]]:
        for root, directory in enumerate(self._roots):
            for path in walk(directory, self._troubles.append, empty, entered):
                yield root, path

    def _enter(self, _directory: str) -> None:
        self._directories += 1

    def _offer_slice(self, paths: Iterator[tuple[int, str]]) -> bool:
        backlog = self._engine.backlog
        for _ in range(_SLICE):
            if backlog.full:
                return False
            entry = next(paths, None)
            if entry is None:
                return True
            root, path = entry
            if not backlog.holds(path):
                self._engine.intake.offer(path, root, self._source)
                backlog.set_beyond(backlog.beyond - 1)
        return False

    def _count_on(self, now: float) -> None:
        assert self._count is not None
        for _ in range(_COUNT_SLICE):
            if next(self._count, None) is None:
                self._count = None
                self._next_count = now + _RECOUNT
                self._engine.backlog.set_beyond(self._counted - self._engine.backlog.queued)
                self.looked = True
                return
            self._counted += 1

    def _complete(self, now: float) -> RescanResult:
        self._paths = None
        self.covered = self._begun
        self._source = "rescan"
        self._engine.backlog.set_beyond(0)
        self.next = now + self.interval
        self.looked = True
        if self._emptied.due(now):
            self._emptied.remove(now, time.time_ns())
        return RescanResult(time.monotonic() - self._begun, self._troubles, self._directories)
