"""Intake beside other work, a backfill of another incoming directory or a batch of its own on the same tree, or an
export of another collection: what who sends notices of it.
"""

from __future__ import annotations

import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from datetime import datetime
from functools import partial
from math import inf
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import NamedTuple

import orjson

from listener.benchmark import exporting, pacing, servers
from listener.benchmark.backfilling import Archive
from listener.benchmark.corpus import PREFIX, Corpus
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

#: Files of a batch, of the size of the live ones.
BATCH = 10_000

#: Files that are exported, of the size of the live ones, and in how many series.
EXPORTED, _SERIES = 10_000, 10

#: How names of files of a batch begin: not as those that storescp gives.
_OF_BATCH = "B."

#: Live files that must have come while the other work was under way.
_LEAST = 20

#: Seconds until the other work is under way.
_START_SECONDS = 120.0


def intake(workdir: WorkDir, batches: Batches, options: Options, rate: float) -> Sample:
    """Measure the lag of intake while `rate` files come in a second, and nothing else goes on. Raises Unfinished."""
    with _listening(workdir, batches, options) as live:
        return live.sample("intake alone", rate, lambda: inf)


def intake_beside_parts(workdir: WorkDir, batches: Batches, options: Options, rate: float, priority: str) -> Sample:
    """Measure the same beside a backfill by as many parts, of this priority, as the listener has workers."""
    with _listening(workdir, batches, options) as live, _backfill(live.place, options, priority):
        return live.sample(f"intake beside parts, --priority {priority}", rate, partial(first_end, live.place))


def intake_beside_batch(workdir: WorkDir, batches: Batches, options: Options, rate: float) -> Sample:
    """Measure the same beside a batch of BATCH files, a folder that was moved to the same listener."""
    with TemporaryDirectory(dir=workdir.home) as folders:
        batch = Path(folders, "batch.tmp")
        Corpus(replace(batches.shape, files=BATCH)).write(batch, BATCH, seed="batch", prefix=_OF_BATCH)
        with _listening(workdir, batches, options, f"--batches={folders}") as live:
            batch.rename(batch.with_suffix(""))
            has_begun = partial(_is_told, live.events, _named(_OF_BATCH))
            servers.until(has_begun, live.service, _START_SECONDS, "the batch does not begin")
            return live.sample("intake beside a batch", rate, partial(end_of_batch, live.events))


def intake_beside_export(workdir: WorkDir, batches: Batches, options: Options, rate: float) -> Sample:
    """Measure the same beside an exporter at full speed, which has another collection of EXPORTED files."""
    corpus = Corpus(replace(batches.shape, files=EXPORTED, series=_SERIES))
    with (
        TemporaryDirectory(dir=workdir.home) as home,
        exporting.under_way(Path(home), corpus) as ends,
        _listening(workdir, batches, options) as live,
    ):
        return live.sample("intake beside an export", rate, ends)


@contextmanager
def _listening(workdir: WorkDir, batches: Batches, options: Options, *more: str) -> Iterator[_Live]:
    """Run a listener, with `more` of its options, and a storescp in front of it."""
    with (
        workdir.place() as place,
        servers.service(place, options, *more) as (service, events),
        servers.storescp(place) as (_, port),
    ):
        prepare(place, batches)
        yield _Live(place, service, events, port, batches)


class _Live(NamedTuple):
    """A listener with its storescp, and what is to be sent to it."""

    place: RunDirs
    service: subprocess.Popen[bytes]
    events: Path
    port: int
    batches: Batches

    def sample(self, name: str, rate: float, ends: Callable[[], float]) -> Sample:
        """Send, and return the lag of what came before `ends`, in seconds since the epoch. Raises Unfinished."""
        files = self.batches.files
        at_start, begun = so_far(self.service.pid), time.perf_counter()
        pacing.send(self.port, self.batches.paths, rate)
        until_counted(self.service, self.events, files, _named(PREFIX))
        wall, cpu = time.perf_counter() - begun, (so_far(self.service.pid) - at_start) / files
        end, told = ends(), servers.lines(self.events, "published")
        came = [line for line in told if line["src"].startswith(PREFIX)]
        lags = [float(line["lag"]) for line in came if datetime.fromisoformat(line["time"]).timestamp() < end]
        if len(lags) < min(_LEAST, files):
            raise Unfinished(f"the other work was done before {_LEAST} live files had come; give fewer files")
        return Sample(name, files, self.batches.size, cpu, wall, lag=Lag.of(lags))


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


def _named(prefix: str) -> bytes:
    """Return what the event of a published file has whose name begins with `prefix`."""
    return f'"event":"published","src":"{prefix}'.encode()


def _is_told(events: Path, words: bytes) -> bool:
    return words in events.read_bytes()


def end_of_batch(events: Path) -> float:
    """Return when the batch had ended, in seconds since the epoch; infinity while it has not."""
    return min(servers.times(events, "batch-done"), default=inf)


def _has_begun(ends: Path) -> bool:
    return ends.exists() and ends.stat().st_size > 0


def first_end(place: RunDirs) -> float:
    """Return when the first part had ended, in seconds since the epoch; infinity while none has."""
    accounts = [orjson.loads(path.read_bytes()) for path in place.state.glob("parts/*/account.json")]
    return min((datetime.fromisoformat(one["ended"]).timestamp() for one in accounts), default=inf)
