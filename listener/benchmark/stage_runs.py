"""What benchmarks of stages share: a collection whose series wait for a stage, and a program that is measured over a
part of its run.
"""

from __future__ import annotations

import os
import subprocess
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from listener.benchmark import servers
from listener.benchmark.corpus import Corpus
from listener.benchmark.energy import Meter
from listener.benchmark.processes import Watcher, end, so_far, spent
from listener.benchmark.repackers import finish, listener
from listener.benchmark.verify import Unfinished
from listener.benchmark.workdir import RunDirs

#: Seconds that a program may take.
_SECONDS = 1800.0

#: Seconds after which the series end that a stage waits for.
_QUIET = 1.0


class Ready(NamedTuple):
    """A collection whose series wait for a stage: its directories, how many files and bytes, how many series."""

    place: RunDirs
    files: int
    size: int
    series: int


class Span(NamedTuple):
    """The part of a run that is measured: from the `first`th line with `begins` (empty: from its start) to the `last`th
    with `ends` (empty: to its end).
    """

    begins: bytes = b""
    ends: bytes = b""
    first: int = 1
    last: int = 1


class Took(NamedTuple):
    """Cost of a run: processor seconds, seconds, and what else a sample has (memory, processes, joules)."""

    cpu: float
    wall: float
    rest: tuple[int, int, int, float | None]


def publish(place: RunDirs, corpus: Corpus, register: Sequence[str]) -> Ready:
    """Publish a corpus in directories of this run; its series wait for the stage that `register` makes known before."""
    place.incoming.mkdir(parents=True)
    finish(listener("once", *place.flags(), "--min-free=0"))
    finish(listener(*register, *directories(place)))
    shape = corpus.shape
    size = corpus.write(place.incoming, shape.files)
    finish(listener("once", *place.flags(), "--min-free=0", "--fsync=none"))
    time.sleep(_QUIET)
    finish(listener("once", *place.flags(), "--min-free=0", f"--series-quiet={_QUIET}"))
    return Ready(place, shape.files, size, shape.patients * shape.series)


def measured(command: Sequence[str], said: Path, span: Span, environment: Mapping[str, str]) -> Took:
    """Run a program, its output in the file `said`, and measure a part of its run. Raises Unfinished."""
    total, meter, begun = spent(), Meter(), time.perf_counter()
    with said.open("wb") as output, said.with_suffix(".stderr").open("wb") as errors:
        process = subprocess.Popen(
            command, env=environment, stdin=subprocess.DEVNULL, stdout=output, stderr=errors, start_new_session=True
        )
    at_start = 0.0
    try:
        with Watcher(process.pid) as watcher:
            if span.begins:
                _wait(process, said, span.begins, span.first)
                at_start, begun = so_far(process.pid), time.perf_counter()
            if span.ends:
                _wait(process, said, span.ends, span.last)
            else:
                process.wait(_SECONDS)
            wall, joules = time.perf_counter() - begun, meter.joules()
            cpu = so_far(process.pid) if span.ends else spent() - total
    finally:
        end(process)
    if not span.ends and process.returncode:
        raise Unfinished(f"{os.path.basename(command[0])} left with status {process.returncode}")
    return Took(cpu - at_start, wall, (*watcher.peak, joules))


def _wait(process: subprocess.Popen[bytes], said: Path, line: bytes, times: int) -> None:
    """Wait until a program has said something so many times. Raises Unfinished."""
    what = f"{os.path.basename(str(process.args[0]))} did not say {line.decode()} {times} times"  # type: ignore[index]
    servers.until(lambda: said.read_bytes().count(line) >= times, process, _SECONDS, what)


def directories(place: RunDirs) -> list[str]:
    """Return the options that tell a stage where its collection is."""
    return [f"--state={place.state}", f"--data={place.data}"]
