"""`listener bench`: measure this machine. `once` over a synthetic corpus, side by side with px-repack and rx-repack.

The cost of one file is the slope between a small and a large run, so that start-up does not count. Programs take turns
within one call, and figures are medians: read the ratios, for a machine's speed drifts. A run that did not produce
every instance and every document is a failure, never a figure.
"""

from __future__ import annotations

import os
import resource
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import NamedTuple

import orjson

from listener.config import Config
from listener.quickstart.synthetic import Look, make_series

#: What listener takes over from; measured when they are on PATH.
PREDECESSORS = ("rx-repack", "px-repack")

#: The large run has so many times the files of the small one.
_SPREAD = 4

#: So many files are enough to know what a process a file costs.
_FEW = 10


class Request(NamedTuple):
    """`files` in the large run, with `kib` KiB of header each, `repeat` times; `directory` is where it happens."""

    files: int
    kib: int
    repeat: int
    directory: str
    as_json: bool


class Program(NamedTuple):
    """What is measured: `run` gets the directory of a run and one file; `a_file`: it is a process a file."""

    name: str
    run: Callable[[Path, Path], None]
    a_file: bool


class Run(NamedTuple):
    """One run of one program: files, processor seconds of all its processes, and seconds on the wall."""

    files: int
    cpu: float
    wall: float


class Figure(NamedTuple):
    """What one program costs: processor microseconds a file, and files a second."""

    program: str
    cpu_us: float
    files_a_second: float


class Unfinished(Exception):
    """A run did not produce everything."""


def run(config: Config, request: Request) -> int:
    """Print the figures; 0, or 1 when a run did not produce everything."""
    with tempfile.TemporaryDirectory(prefix="listener-bench-", dir=request.directory or None) as home:
        try:
            figures = measure(config, request, Path(home))
        except Unfinished as error:
            print(f"listener: {error}", file=sys.stderr)
            return 1
    _show(figures, request)
    return 0


def measure(config: Config, request: Request, home: Path) -> list[Figure]:
    """Every program's figure; programs take turns."""
    runs: dict[str, list[tuple[Run, Run]]] = {}
    for number in range(request.repeat):
        _tell(f"round {number + 1} of {request.repeat}")
        for program in _programs(config):
            whole = min(request.files, _FEW) if program.a_file else request.files
            pair = [_once(program, count, request, home) for count in (max(1, whole // _SPREAD), whole)]
            runs.setdefault(program.name, []).append((pair[0], pair[1]))
    return [_figure(name, pairs) for name, pairs in runs.items()]


def _programs(config: Config) -> list[Program]:
    programs = [
        Program(f"listener once --fsync {level}", partial(_listener, level=level, workers=config.workers), a_file=False)
        for level in ("none", "batch")
    ]
    found = [name for name in PREDECESSORS if shutil.which(name)]
    return programs + [Program(name, partial(_predecessor, name=name), a_file=True) for name in found]


def _listener(home: Path, _: Path, *, level: str, workers: int) -> None:
    where = [f"--{name}={home / name}" for name in ("incoming", "data", "log", "state")]
    command = [
        sys.executable,
        "-m",
        "listener",
        "once",
        *where,
        "--min-free=0",
        f"--fsync={level}",
        f"--workers={workers}",
    ]
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)


def _predecessor(home: Path, file: Path, *, name: str) -> None:
    where = ["--xcrdir", str(file.parent), "--xcrfile", file.name, "--datadir", str(home / "data")]
    more = ["--logdir", str(home / "log"), "--verbosity", "0"]
    subprocess.run([name, *where, *more], check=True, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL)


def _once(program: Program, count: int, request: Request, home: Path) -> Run:
    """One run in a directory that nothing was deleted from: ext4 looks past inodes that were freed lately."""
    here = Path(tempfile.mkdtemp(dir=home))
    files = make_series(here / "incoming", instances=count, look=Look(private_bytes=request.kib * 1024))
    before, begun = _cpu(), time.perf_counter()
    for file in files if program.a_file else files[:1]:
        program.run(here, file)
    done = Run(count, _cpu() - before, time.perf_counter() - begun)
    _verify(here, count)
    shutil.rmtree(here)
    return done


def _cpu() -> float:
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def _verify(home: Path, count: int) -> None:
    instances = sum(1 for _ in (home / "data").rglob("*.dcm"))
    documents = sum(1 for _ in (home / "log").glob("seriesData/*-img/*"))
    if (instances, documents) != (count, count):
        raise Unfinished(f"of {count} files {instances} instances and {documents} documents came out")


def _figure(name: str, pairs: list[tuple[Run, Run]]) -> Figure:
    slopes = [(large.cpu - small.cpu) / max(1, large.files - small.files) for small, large in pairs]
    return Figure(
        name, statistics.median(slopes) * 1e6, statistics.median(large.files / large.wall for _, large in pairs)
    )


def _show(figures: list[Figure], request: Request) -> None:
    least = figures[0].cpu_us
    if request.as_json:
        rows = [{**figure._asdict(), "ratio": figure.cpu_us / least} for figure in figures]
        sys.stdout.write(orjson.dumps(rows, option=orjson.OPT_INDENT_2 | orjson.OPT_APPEND_NEWLINE).decode())
        return
    print(f"{'program':32} {'CPU us a file':>14} {'ratio':>8} {'files/s':>9}")
    for figure in figures:
        ratio = figure.cpu_us / least
        print(f"{figure.program:32} {figure.cpu_us:14.0f} {ratio:8.1f} {figure.files_a_second:9.0f}")
    missing = [name for name in PREDECESSORS if not shutil.which(name)]
    if missing:
        print(f"not on PATH, so not measured: {', '.join(missing)}")
    print(
        f"{request.files} files, {os.cpu_count()} processors, medians of {request.repeat}; files/s includes the start"
    )


def _tell(text: str) -> None:
    if sys.stderr.isatty():
        print(text, file=sys.stderr)
