"""Intake beside a backfill of another incoming directory into the same tree: what a live listener notices of it."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from datetime import datetime
from functools import partial
from pathlib import Path

import orjson

from listener.benchmark import pacing, servers
from listener.benchmark.backfilling import Archive
from listener.benchmark.figures import Lag, Sample
from listener.benchmark.processes import so_far
from listener.benchmark.receiving import prepare, until_counted
from listener.benchmark.repackers import listener
from listener.benchmark.request import Options
from listener.benchmark.senders import Batches
from listener.benchmark.verify import Unfinished
from listener.benchmark.workdir import RunDirs, WorkDir, settle

#: Files of the archive for each part: more than a processor takes while live ones come.
EACH = 30_000

#: Live files that must have come while all parts were at work.
_LEAST = 20

#: Seconds until all parts are at work.
_START_SECONDS = 120.0


def intake(workdir: WorkDir, batches: Batches, options: Options, rate: float, priority: str = "") -> Sample:
    """Measure the lag of intake while `rate` files come in a second: alone, or (`priority` of its parts) beside a
    backfill by as many parts as the listener has workers. Raises Unfinished.
    """
    with ExitStack() as stack:
        place = stack.enter_context(workdir.place())
        service, events = stack.enter_context(servers.service(place, options))
        _, port = stack.enter_context(servers.storescp(place))
        prepare(place, batches)
        if priority:
            stack.enter_context(_backfill(place, options, priority))
        at_start, begun = so_far(service.pid), time.perf_counter()
        pacing.send(port, batches.paths, rate)
        until_counted(service, events, batches.files)
        wall, cpu = time.perf_counter() - begun, (so_far(service.pid) - at_start) / batches.files
        end, told = first_end(place), servers.lines(events, "published")
        lags = [float(line["lag"]) for line in told if datetime.fromisoformat(line["time"]).timestamp() < end]
        if len(lags) < min(_LEAST, batches.files):
            raise Unfinished(f"the backfill was done before {_LEAST} live files had come; give fewer files")
        name = f"intake beside parts, --priority {priority}" if priority else "intake alone"
        return Sample(name, batches.files, batches.size, cpu, wall, lag=Lag.of(lags))


@contextmanager
def _backfill(place: RunDirs, options: Options, priority: str) -> Iterator[None]:
    """Run parts on an archive of its own; yield when all are at work, and end them."""
    parts, archive = options.workers, place.base / "archive"
    many = Archive("many small", EACH * parts, 2048)
    many.write(archive, many.files)
    settle(place)
    words = ["once", f"--incoming={archive}", *(word for word in place.flags() if not word.startswith("--incoming"))]
    words += ["--min-free=0", "--workers=1", f"--fsync={options.fsync}", "--events=off", f"--priority={priority}"]
    with ExitStack() as stack:
        for part in range(parts):
            command = listener(*words, f"--part={part}/{parts}")
            process = stack.enter_context(servers.running(command, place.base / f"part-{part}.txt"))
            ends = place.state / f"parts/{part}-of-{parts}/ends"
            servers.until(partial(_has_begun, ends), process, _START_SECONDS, "a part does not begin")
        yield


def _has_begun(ends: Path) -> bool:
    return ends.exists() and ends.stat().st_size > 0


def first_end(place: RunDirs) -> float:
    """Return when the first part had ended, in seconds since the epoch; infinity while none has."""
    accounts = [orjson.loads(path.read_bytes()) for path in place.state.glob("parts/*/account.json")]
    return min((datetime.fromisoformat(one["ended"]).timestamp() for one in accounts), default=float("inf"))
