"""Programs that repack a directory: `listener once`, and px-repack and rx-repack, one process a file."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import NamedTuple

from listener.backfill.request import NAME
from listener.benchmark.corpus import Corpus
from listener.benchmark.energy import Meter
from listener.benchmark.figures import Sample
from listener.benchmark.processes import Peak, Watcher, reap, spent
from listener.benchmark.request import SPREAD, Options
from listener.benchmark.verify import Unfinished, verify
from listener.benchmark.workdir import RunDirs, WorkDir, settle

#: Predecessors, and how many times `--few` files are enough to measure each.
PREDECESSORS = {"rx-repack": 10, "px-repack": 1}

#: Parts of a backfill.
BACKFILL_PARTS = 16

#: Files of a folder, where a backfill is divided by folders: as those of a series.
_IN_A_FOLDER = 50


def predecessors() -> list[str]:
    """Return the predecessors on PATH."""
    return [name for name in PREDECESSORS if shutil.which(name)]


def listener(*words: str) -> list[str]:
    """Return the command line of listener, run by this Python."""
    # A file of options that lies about would change what is measured, and have its hooks called.
    return [sys.executable, "-m", "listener", *words, f"--config={os.devnull}"]


def finish(command: list[str]) -> None:
    """Run a command line of listener to its end. Raises Unfinished with the last line of what it said."""
    done = subprocess.run(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, check=False)
    if done.returncode:
        last = done.stderr.decode(errors="replace").splitlines()[-1:]
        raise Unfinished(f"listener {command[3]} left with status {done.returncode}: {' '.join(last)}")


def make_places(place: RunDirs) -> None:
    """Make the directories of a run, which a part of a backfill does not make."""
    for directory in (place.incoming, place.data, place.log, place.state):
        directory.mkdir(parents=True, exist_ok=True)


def repack_words(place: RunDirs) -> list[str]:
    """Return the options that tell both predecessors where to write."""
    return ["--datadir", str(place.data), "--logdir", str(place.log), "--verbosity", "0"]


def once(workdir: WorkDir, corpus: Corpus, options: Options, name: str) -> Sample:
    """Measure `listener once`."""
    return _slope(workdir, corpus, partial(_once, options), name)


def in_parts(workdir: WorkDir, corpus: Corpus, options: Options, by: str, name: str) -> Sample:
    """Measure a backfill in BACKFILL_PARTS `by` name or directory (where the same files lie in folders), each with one
    worker, as many at once as `once` has workers.
    """
    return _slope(workdir, corpus, partial(_in_parts, options, by), name, _lay_into_folders if by != NAME else None)


def _slope(
    workdir: WorkDir,
    corpus: Corpus,
    work: Callable[[RunDirs], None],
    name: str,
    arrange: Callable[[Path], None] | None = None,
) -> Sample:
    """Return cost and time of a file: the slope between a small run and the large one.

    Where files are too few for a slope, the start is included: that never flatters.
    """
    files = corpus.shape.files
    small = _measure(workdir, corpus, files // SPREAD, work, arrange=arrange)
    large = _measure(workdir, corpus, files, work, arrange=arrange)
    more = files - files // SPREAD
    cpu, wall = (large.cpu - small.cpu) / more, (large.wall - small.wall) / more * files
    return _sample(name, large._replace(wall=wall if wall > 0 else large.wall), cpu if cpu > 0 else large.cpu / files)


def a_file(workdir: WorkDir, corpus: Corpus, program: str, files: int, jobs: int) -> Sample:
    """Measure a predecessor, one process a file, `jobs` at once: most of its cost is the start."""

    def work(place: RunDirs) -> None:
        with ThreadPoolExecutor(jobs) as pool:
            list(pool.map(partial(_start, program, place), sorted(os.listdir(place.incoming))))

    large = _measure(workdir, corpus, files, work)
    return _sample(f"{program}, {jobs} at once" if jobs > 1 else program, large, large.cpu / files)


def copying(workdir: WorkDir, corpus: Corpus) -> Sample:
    """Measure `cp -r` of the same files: the least that copying costs."""

    def work(place: RunDirs) -> None:
        subprocess.run(["cp", "-r", str(place.incoming), str(place.data)], check=True)

    large = _measure(workdir, corpus, corpus.shape.files, work, proof=_copied)
    return _sample("cp -r", large, large.cpu / corpus.shape.files)


class _Run(NamedTuple):
    """One run: files, processor seconds, wall seconds, bytes, memory, joules."""

    files: int
    cpu: float
    wall: float
    size: int
    peak: Peak
    joules: float | None


def _measure(
    workdir: WorkDir,
    corpus: Corpus,
    files: int,
    work: Callable[[RunDirs], None],
    proof: Callable[[Path, Path, int, int], None] = verify,
    arrange: Callable[[Path], None] | None = None,
) -> _Run:
    with workdir.place() as place:
        size = corpus.write(place.incoming, files)
        if arrange:
            arrange(place.incoming)
        settle(place)
        meter, before, begun = Meter(), spent(), time.perf_counter()
        with Watcher() as watcher:
            try:
                work(place)
            except subprocess.CalledProcessError as error:
                raise Unfinished(f"{_name(error.cmd)} left with status {error.returncode}") from None
            wall = time.perf_counter() - begun
        reap()
        cpu, joules = spent() - before, meter.joules()
        proof(place.data, place.log, files, size)
        return _Run(files, cpu, wall, size, watcher.peak, joules)


def _once(options: Options, place: RunDirs, *more: str) -> None:
    words = ["once", *more, *place.flags(), "--min-free=0", f"--fsync={options.fsync}", f"--workers={options.workers}"]
    command = listener(*words, *(["--keep-source"] if options.keep_source else []))
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)


def _lay_into_folders(incoming: Path) -> None:
    for number, name in enumerate(sorted(os.listdir(incoming))):
        folder = incoming / f"{number // _IN_A_FOLDER}"
        folder.mkdir(exist_ok=True)
        (incoming / name).rename(folder / name)


def _in_parts(options: Options, by: str, place: RunDirs) -> None:
    make_places(place)

    def work(part: int) -> None:
        one = f"--part={part}/{BACKFILL_PARTS}"
        _once(replace(options, workers=1), place, f"--part-by={by}", "--priority=normal", one)

    with ThreadPoolExecutor(options.workers) as pool:
        list(pool.map(work, range(BACKFILL_PARTS)))


def _start(program: str, place: RunDirs, name: str) -> None:
    command = [program, "--xcrdir", str(place.incoming), "--xcrfile", name, *repack_words(place)]
    subprocess.run(command, check=True, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)


def _copied(data: Path, _log: Path, files: int, size: int) -> None:
    found = [path.stat().st_size for path in data.iterdir()]
    if (len(found), sum(found)) != (files, size):
        raise Unfinished(f"cp copied {len(found)} of {files} files")


def _sample(name: str, run: _Run, cpu: float) -> Sample:
    return Sample(name, run.files, run.size, cpu, run.wall, *run.peak, run.joules)


def _name(command: Iterable[str]) -> str:
    """Return the program's name and its command, without paths."""
    words = list(command)
    return " ".join(["listener", words[3]] if words[1:3] == ["-m", "listener"] else [os.path.basename(words[0])])
