"""storescp, unmodified, with its own senders: alone, with `listener run` behind it, or starting predecessors
with -xcr.
"""

from __future__ import annotations

import os
import shlex
import subprocess
import time
from collections.abc import Mapping, Sequence
from datetime import datetime
from pathlib import Path
from typing import NamedTuple

import orjson

from listener.benchmark import servers
from listener.benchmark.energy import Meter
from listener.benchmark.figures import Lag, Sample
from listener.benchmark.processes import Peak, Watcher, busy, end, reap, so_far, spent
from listener.benchmark.repackers import repack_words
from listener.benchmark.request import Options
from listener.benchmark.senders import Batches
from listener.benchmark.verify import Unfinished, verify
from listener.benchmark.workdir import RunDirs, WorkDir, settle

#: Seconds without a published file after which a run has failed.
_STALL_SECONDS = 60.0

#: A service is idle when it took less processor time (s) than the first in the second (s).
_QUIET = 0.02
_QUIET_SECONDS = 0.3


class Received(NamedTuple):
    """Result of a run: the time of each arrival (seconds); lag and seconds in each step, if there are any."""

    arrivals: Sequence[float]
    size: int
    lag: Lag | None = None
    steps: Mapping[str, float] | None = None


class Spent(NamedTuple):
    """Cost of a run: seconds, processor seconds of the listener and of storescp, memory, joules."""

    wall: float
    ours: float
    receiver: float
    peak: Peak
    joules: float | None


def alone(workdir: WorkDir, batches: Batches, name: str, rate: float = 0.0) -> Sample:
    """Measure storescp with nothing behind it."""
    with workdir.place() as place, servers.storescp(place) as (storescp, port):
        prepare(place, batches)
        meter, total, begun = Meter(), spent(), time.perf_counter()
        with Watcher(storescp.pid) as watcher:
            senders = batches.send(port, rate)
        wall, joules = time.perf_counter() - begun, meter.joules()
        receiver = end_of(storescp, total) - senders
        received = repacked(place, batches.files)
        return sample_of(name, batches.files, received, Spent(wall, 0.0, receiver, watcher.peak, joules))


def behind(workdir: WorkDir, batches: Batches, options: Options, name: str, rate: float = 0.0) -> Sample:
    """Measure storescp with `listener run` behind it, without the start of the service."""
    with (
        workdir.place() as place,
        servers.service(place, options) as (service, events),
        servers.storescp(place) as (storescp, port),
    ):
        until_quiet(service)
        prepare(place, batches)
        at_start, meter, total, begun = so_far(service.pid), Meter(), spent(), time.perf_counter()
        with Watcher(service.pid) as watcher:
            senders = batches.send(port, rate)
            until_counted(service, events, batches.files)
        wall, joules = time.perf_counter() - begun, meter.joules()
        ours, steps = so_far(service.pid) - at_start, servers.steps(events)
        receiver = end_of(storescp, total) - senders
        end(service)
        received = _reported(events)._replace(steps=steps)
        verify(place.data, place.log, batches.files, received.size)
        return sample_of(name, batches.files, received, Spent(wall, ours, receiver, watcher.peak, joules))


def starting(workdir: WorkDir, batches: Batches, program: str, name: str) -> Sample:
    """Measure storescp -xcr, which starts a predecessor for each file. The costs of both cannot be separated."""
    with workdir.place() as place:
        words = " ".join(map(shlex.quote, [program, *repack_words(place)]))
        with servers.storescp(place, "-xcr", f"{words} --xcrdir #p --xcrfile #f") as (storescp, port):
            prepare(place, batches)
            meter, total, begun = Meter(), spent(), time.perf_counter()
            with Watcher(without=batches.pids) as watcher:
                senders = batches.send(port)
                _until_idle(storescp)
            wall, joules = time.perf_counter() - begun, meter.joules()
            receiver = end_of(storescp, total) - senders
            received = repacked(place, batches.files)
            verify(place.data, place.log, batches.files, received.size)
            return sample_of(name, batches.files, received, Spent(wall, 0.0, receiver, watcher.peak, joules))


def prepare(place: RunDirs, batches: Batches) -> None:
    """Let nothing else of a run be written while it is measured."""
    settle(place, batches.size)


def end_of(storescp: subprocess.Popen[bytes], before: float) -> float:
    """Stop storescp; return the processor seconds of all that has ended since `before`, orphans too."""
    end(storescp)
    return spent() - before


# -- the end of a run --------------------------------------------------------------------------------------------------


def until_counted(service: subprocess.Popen[bytes], events: Path, files: int, event: bytes = b'"published"') -> None:
    """Wait until there is an event for each file. Raises Unfinished after a stall."""
    counted, changed = 0, time.monotonic()
    with events.open("rb") as stream:
        while counted < files:
            more = sum(event in line for line in stream)
            counted += more
            if more:
                changed = time.monotonic()
            elif service.poll() is not None or time.monotonic() > changed + _STALL_SECONDS:
                raise Unfinished(f"{event.decode().strip(chr(34))}: {counted} of {files} files")
            time.sleep(0.005)


def until_quiet(service: subprocess.Popen[bytes]) -> None:
    """Wait until a ready service is idle: its workers load pydicom while nothing arrives."""
    seen, since = so_far(service.pid), time.monotonic()

    def quiet() -> bool:
        nonlocal seen, since
        now = so_far(service.pid)
        if now - seen > _QUIET:
            seen, since = now, time.monotonic()
        return time.monotonic() - since > _QUIET_SECONDS

    servers.until(quiet, service, _STALL_SECONDS, "listener run does not come to rest")


def _until_idle(storescp: subprocess.Popen[bytes]) -> None:
    """Wait until only storescp itself lives below this process."""

    def idle() -> bool:
        reap(storescp.pid)
        return not busy(os.getpid(), (os.getpid(), storescp.pid))

    servers.until(idle, storescp, _STALL_SECONDS * 10, "what storescp started does not end")


def repacked(place: RunDirs, files: int) -> Received:
    """Return what storescp wrote when nothing takes it away. Raises Unfinished."""
    found = [path.stat() for path in place.incoming.iterdir()]
    if len(found) != files:
        raise Unfinished(f"storescp received {len(found)} of {files} files")
    return Received([status.st_ctime for status in found], sum(status.st_size for status in found))


def _reported(events: Path) -> Received:
    """Return what the events report."""
    lines = (orjson.loads(line) for line in events.read_bytes().splitlines() if b'"published"' in line)
    arrivals, lags, size = [], [], 0
    for line in lines:
        lags.append(float(line["lag"]))
        arrivals.append(datetime.fromisoformat(line["time"]).timestamp() - lags[-1])
        size += line["size"]
    return Received(arrivals, size, Lag.of(lags))


def sample_of(name: str, files: int, received: Received, took: Spent) -> Sample:
    """Return the sample of a run."""
    seconds = max(received.arrivals) - min(received.arrivals)
    return Sample(
        name,
        files,
        received.size,
        took.ours / files,
        took.wall,
        *took.peak,
        took.joules,
        received.lag,
        receiver=took.receiver / files,
        rate=(files - 1) / seconds if seconds > 0 else None,
        steps={name: each / files for name, each in received.steps.items()} if received.steps else None,
    )
