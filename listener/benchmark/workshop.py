"""Where runs happen: directories that nothing was deleted from, all removed at the end.

ext4 looks past inodes that were freed lately: making a file where many were deleted costs ten times as much. Runs are
therefore kept until the end where there is room for all of them; where there is not, each is removed, and that is told.
"""

from __future__ import annotations

import ctypes
import os
import shutil
import sys
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

from listener.benchmark.corpus import Corpus
from listener.benchmark.request import Shape


class Place(NamedTuple):
    """The directories of one run; `data` may be on another mount."""

    base: Path
    data: Path

    @property
    def incoming(self) -> Path:
        """Where files arrive."""
        return self.base / "incoming"

    @property
    def log(self) -> Path:
        """The root of the documents."""
        return self.base / "log"

    def flags(self) -> list[str]:
        """The options of `run` and `once` that name them."""
        named = {"incoming": self.incoming, "data": self.data, "log": self.log, "state": self.base / "state"}
        return [f"--{name}={path}" for name, path in named.items()]


class Workshop:
    """Places for runs below `home`, filled with files of the corpus."""

    def __init__(self, home: Path, shape: Shape) -> None:
        self.home = home
        self.corpus = Corpus(shape)
        self.crowded = False
        self._number = 0

    def reckon(self, wanted: Iterable[tuple[int, float]]) -> None:
        """Find out whether there is room to keep all that is to come: so many files of so many bytes each."""
        free = shutil.disk_usage(self.home).free
        self.crowded = sum(files * (size + 2 * 4096) for files, size in wanted) > 0.9 * free
        if self.crowded:
            tell("little room: each run is removed before the next, which makes ext4 slower; see --dir")

    @contextmanager
    def place(self, data: str = "") -> Iterator[Place]:
        """A new one; its tree below `data` when that is given."""
        self._number += 1
        base = self.home / f"run-{self._number}"
        base.mkdir()
        beside = Path(data) / f"{self.home.name}-{self._number}" if data else base / "data"
        try:
            yield Place(base, beside)
        finally:
            if self.crowded:
                shutil.rmtree(base)
            if data:
                shutil.rmtree(beside, ignore_errors=True)


def settle(place: Place) -> None:
    """Write to the disk what was made for a run, so that it is not written while the run is measured."""
    fd = os.open(place.base, os.O_RDONLY)
    try:
        ctypes.CDLL(None).syncfs(fd)
    finally:
        os.close(fd)


def tell(text: str) -> None:
    """Progress, to standard error; dim on a terminal."""
    dim, plain = ("\x1b[2m", "\x1b[0m") if sys.stderr.isatty() else ("", "")
    print(f"{dim}{text}{plain}", file=sys.stderr, flush=True)
