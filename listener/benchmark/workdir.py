"""Directories of runs, from which nothing is deleted until the end.

ext4 avoids inodes that were freed lately: making a file where many were deleted costs ten times as much. So runs are
kept until the end where they all fit; where not, each is removed, with a message.
"""

from __future__ import annotations

import ctypes
import mmap
import os
import shutil
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

from listener.benchmark.corpus import Corpus
from listener.benchmark.request import Shape
from listener.checks.system import memory_limit
from listener.diagnostics import in_colour

#: Bytes of memory for each byte of a file: page cache, and the file system's image where that is in memory too.
_SHARE = 2.5


class RunDirs(NamedTuple):
    """The directories of one run."""

    base: Path

    @property
    def incoming(self) -> Path:
        """Return where files arrive."""
        return self.base / "incoming"

    @property
    def data(self) -> Path:
        """Return the tree."""
        return self.base / "data"

    @property
    def log(self) -> Path:
        """Return the log directory."""
        return self.base / "log"

    @property
    def state(self) -> Path:
        """Return the state directory."""
        return self.base / "state"

    def flags(self) -> list[str]:
        """Return the options of `run` and `once` that name them."""
        named = {"incoming": self.incoming, "data": self.data, "log": self.log, "state": self.state}
        return [f"--{name}={path}" for name, path in named.items()]


class WorkDir:
    """Directories of runs below `home`, filled with files of the corpus."""

    def __init__(self, home: Path, shape: Shape) -> None:
        self.home = home
        self.corpus = Corpus(shape)
        self.crowded = False
        self._number = 0

    def estimate_space(self, files: float) -> None:
        """Find out whether all runs, of so many files together, fit on the disk."""
        free = shutil.disk_usage(self.home).free
        self.crowded = files * (self.corpus.mean_size + 2 * 4096) > 0.9 * free
        if self.crowded:
            print_progress("little room: each run is removed before the next, which makes ext4 slower; see --dir")

    @contextmanager
    def place(self) -> Iterator[RunDirs]:
        """Make the directories of a run."""
        self._number += 1
        base = self.home / f"run-{self._number}"
        base.mkdir()
        try:
            yield RunDirs(base)
        finally:
            if self.crowded:
                shutil.rmtree(base)


def settle(place: RunDirs, size: int = 0) -> None:
    """Sync a run's files, so that they are not written while the run is measured; touch the memory that files of `size`
    bytes in all will fill.
    """
    fd = os.open(place.base, os.O_RDONLY)
    try:
        ctypes.CDLL(None).syncfs(fd)
    finally:
        os.close(fd)
    touch(size)


def touch(size: int) -> None:
    """Touch and free the memory that files of `size` bytes in all will fill.

    The host of a virtual machine may have taken back what was free for some seconds. Using such a page again costs 10
    us, twice as much as receiving a file's share of it, and would be measured in one run and not in the next.
    """
    free = os.sysconf("SC_AVPHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    length = int(min(_SHARE * size, free / 2, (memory_limit() or free) / 2))
    if length:
        mmap.mmap(-1, length, mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS | mmap.MAP_POPULATE).close()


def print_progress(text: str) -> None:
    """Print progress to standard error; dim on a terminal."""
    dim, plain = ("\x1b[2m", "\x1b[0m") if in_colour(sys.stderr) else ("", "")
    print(f"{dim}{text}{plain}", file=sys.stderr, flush=True)
