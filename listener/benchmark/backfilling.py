"""`listener bench --capacity`: three archives brought in by parts, in the seconds that docs/scale.md's formula predicts
from what was measured just before and after.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from functools import partial
from pathlib import Path
from statistics import mean
from typing import NamedTuple

import orjson

from listener.benchmark import processes
from listener.benchmark.capacity import HEADS, OPERATIONS, OPERATIONS_COPIED, Check, Constants, Load, predict, row
from listener.benchmark.corpus import Corpus
from listener.benchmark.repackers import listener, make_places
from listener.benchmark.request import Shape
from listener.benchmark.table import aligned, number
from listener.benchmark.verify import Unfinished, verify
from listener.benchmark.workdir import RunDirs, print_progress, settle
from listener.disk import files

#: The share of an archive that is brought in before and after it, for what a file costs.
_SHARE = 3

#: Files of one directory, and of the trials of metadata for each process.
_EACH, _TRIED = 50, 2000

#: Files of which every part gets some, for what a start costs.
_FEW = 16

#: What the first run of a process copies, so that its own start weighs little, in bytes.
_COPIED = 256 * 2**20


class Archive(NamedTuple):
    """An archive: its name, files, bytes of each, files of one directory (0: all in one), and whether it is copied."""

    name: str
    files: int
    size: int
    each: int = _EACH
    copies: bool = False

    @property
    def words(self) -> list[str]:
        """Return options of its parts."""
        return [*(() if self.each else ("--part-by=name",)), *(("--keep-source",) if self.copies else ())]

    def write(self, folder: Path, count: int) -> int:
        """Write `count` of its files; return the bytes written."""
        folders = max(1, count // self.each) if self.each else 1
        corpus = Corpus(Shape(files=count, size=self.size, header=0, series=max(1, count // _EACH)))
        if not self.each:
            return corpus.write(folder, count)
        return sum(corpus.write(folder / f"D{place}", count, step=(place, folders)) for place in range(folders))


def archives(many: int) -> list[Archive]:
    """Return the archives: `many` small files, in directories and in one, and a few large ones."""
    large = max(2, many // 200)
    return [
        Archive("many small", many, 2048),
        Archive("one folder", many, 2048, each=0),
        Archive("few large, copied", large, 16 * 2**20, each=max(1, large // 20), copies=True),
    ]


def run(directory: str, many: int, rounds: int, at_once: int, *, as_json: bool) -> int:
    """Print predicted and measured seconds. Return 0, or 1 where a part did not do its work."""
    processes.adopt()
    with tempfile.TemporaryDirectory(prefix="listener-bench-", dir=directory or None) as home:
        measuring = _Measuring(Path(home), at_once)
        try:
            checks = [[measuring.check(archive) for archive in archives(many)] for _ in range(rounds)]
        except Unfinished as error:
            print(f"listener: {error}", file=sys.stderr)
            return 1
    rows = [row(each) for each in zip(*checks, strict=True)]
    if as_json:
        sys.stdout.write(orjson.dumps(rows, option=orjson.OPT_INDENT_2 | orjson.OPT_APPEND_NEWLINE).decode())
        return 0
    cells = [[one[head] if isinstance(one[head], str) else number(one[head]) for head in HEADS] for one in rows]
    print(aligned([list(HEADS), *cells]), end="")
    print("- each round, predicted / measured: " + "; ".join(f"{one['corpus']} {one['ratios']}" for one in rows))
    return 0


class _Run(NamedTuple):
    """All parts of one archive: processor seconds, those of their parents alone, wall seconds, and the processors that
    they had: what others used was not there for them.
    """

    cpu: float
    loop: float
    wall: float
    processors: float


class _Measuring:
    """Measures in directories below `home`; those of small files are left until the end, as ext4 wants it (WorkDir)."""

    def __init__(self, home: Path, at_once: int) -> None:
        self._home, self._at_once = home, at_once
        self._number = 0

    def check(self, archive: Archive) -> Check:
        """Bring in an archive, and predict it from a third of it and from trials, both before and after it."""
        least = max(1, archive.files // _SHARE)
        few = Archive("few", self._at_once * _FEW, 2048, each=0)
        start = self._run(few, few.files)
        before, tried = self._run(archive, least), self._trials(archive)
        large = self._run(archive, archive.files)
        operations, moved = (mean(pair) for pair in zip(tried, self._trials(archive), strict=True))
        after = self._run(archive, least)
        constants = Constants(
            start.cpu / self._at_once,
            max(0.0, (before.cpu + after.cpu) / 2 - start.cpu) / least,
            max(0.0, (before.loop + after.loop) / 2 - start.loop) / least,
            operations,
            moved,
            large.processors,
        )
        load = Load(
            archive.files,
            2.0 * archive.size if archive.copies else 0.0,
            OPERATIONS_COPIED if archive.copies else OPERATIONS,
            self._at_once,
        )
        made = Check(archive.name, load, constants, predict(load, constants), large.wall)
        print_progress(f"{archive.name}: {made.prediction.seconds:.1f} s predicted, {made.seconds:.1f} measured")
        return made

    def _run(self, archive: Archive, count: int) -> _Run:
        """Bring in `count` files of an archive by parts. Raises Unfinished unless all came out."""
        self._number += 1
        place = RunDirs(self._home / f"run-{self._number}")
        make_places(place)
        size = archive.write(place.incoming, count)
        settle(place)
        spent, others, begun = processes.spent(), processes.idle(), time.perf_counter()
        with ThreadPoolExecutor(self._at_once) as pool:
            loops = list(pool.map(partial(self._part, place, archive.words), range(self._at_once)))
        wall = time.perf_counter() - begun
        cpu, idle = processes.spent() - spent, processes.idle() - others
        verify(place.data, place.log, count, size)
        if archive.copies:  # Large: they would fill the disk, and few inodes are freed.
            shutil.rmtree(place.base)
        return _Run(cpu, sum(loops), wall, min(float(self._at_once), (cpu + idle) / wall))

    def _part(self, place: RunDirs, words: Sequence[str], part: int) -> float:
        """Do one part; return the processor seconds of its parent process."""
        options = ("--min-free=0", "--fsync=none", "--workers=1", "--events=off", "--priority=normal", *words)
        process = subprocess.Popen(
            listener("once", *place.flags(), *options, f"--part={part}/{self._at_once}"), stderr=subprocess.DEVNULL
        )
        os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOWAIT)
        seconds = processes.own(process.pid)
        if process.wait():
            raise Unfinished(f"once --part left with status {process.returncode}")
        return seconds

    def _trials(self, archive: Archive) -> tuple[float, float]:
        """Return metadata operations and moved bytes a second, by as many processes as parts at once."""
        self._number += 1
        folder = self._home / f"trials-{self._number}"
        folder.mkdir()
        operations = self._at_once * _TRIED * OPERATIONS / self._trial(folder, "names")
        if not archive.copies:
            return operations, float("inf")
        moved = self._at_once * _COPIED * 2 / self._trial(folder, "bytes")
        shutil.rmtree(folder)
        return operations, moved

    def _trial(self, folder: Path, what: str) -> float:
        """Return the seconds that the processes took, without their starts: the slowest counts."""
        words = [sys.executable, "-m", __name__, str(folder), what]
        started = [
            subprocess.Popen([*words, str(one)], stdout=subprocess.PIPE, text=True) for one in range(self._at_once)
        ]
        told = [process.communicate()[0] for process in started]
        if any(process.returncode for process in started):
            raise Unfinished(f"a trial of {what} failed")
        return max(map(float, told))


# -- the trials, each in a process of its own --------------------------------------------------------------------------


def names(folder: Path) -> None:
    """Do what a part does to names, OPERATIONS a file: create, look, rename, link and unlink."""
    one, other, third, document, beside = (str(folder / name) for name in ("a", "b", "c", "d", "e"))
    begun = time.perf_counter()
    for _ in range(_TRIED):
        os.close(os.open(one, os.O_CREAT | os.O_WRONLY))
        os.lstat(one)
        os.rename(one, other)
        os.link(other, third)
        os.unlink(other)
        os.close(os.open(beside, os.O_CREAT | os.O_WRONLY))
        os.rename(beside, document)
        os.lstat(document)
        os.rename(third, one)
    print(time.perf_counter() - begun)


def copies(folder: Path) -> None:
    """Copy as a part does."""
    size = 16 * 2**20
    source = folder / "source"
    source.write_bytes(os.urandom(size))
    staging = files.StagingDir(str(folder))
    begun = time.perf_counter()
    with open(source, "rb") as file:
        for place in range(_COPIED // size):
            os.close(staging.copy(file.fileno(), size, str(folder / str(place)))[1])
    print(time.perf_counter() - begun)


def _try(folder: Path, what: str) -> None:
    folder.mkdir()
    (copies if what == "bytes" else names)(folder)


if __name__ == "__main__":
    with suppress(KeyboardInterrupt):
        _try(Path(sys.argv[1]) / "-".join(sys.argv[2:]), sys.argv[2])
