"""`listener notify` with a real Redis and NATS: what a registered series costs beside Celery's send_task alone, how
soon CUBE's queue has it, what open series cost that grow, and the lag of intake while both brokers hang.
"""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path
from typing import Any, NamedTuple

from listener.benchmark import pacing, servers
from listener.benchmark.corpus import Corpus
from listener.benchmark.figures import Lag, Sample
from listener.benchmark.processes import Watcher, so_far
from listener.benchmark.receiving import until_counted, until_quiet
from listener.benchmark.repackers import finish, listener
from listener.benchmark.request import Options
from listener.benchmark.stage_runs import directories
from listener.benchmark.verify import Unfinished
from listener.benchmark.workdir import RunDirs, WorkDir, settle
from listener.ledger.connection import open_writer, path_of
from listener.quickstart.processes import accepts

#: Seconds that a broker may take to answer, and all series until they are told.
_START, _SECONDS = 20.0, 1800.0

#: Series that end in a second, and at most in all, where it is measured how soon they are told.
ENDS, _MOST_ENDS = 20.0, 400

#: Seconds after which a series ends.
_QUIET = 1.0

#: Open series that grow, every so many seconds, and the seconds for which that is measured.
_OPEN, _GROWTH, _WATCHED = 1000, 0.25, 15.0

#: Files a second of all senders, senders, files of a round and of a series where brokers hang.
RATE, _SENDERS, _ROUND, _OF_SERIES = 200.0, 4, 600, 25

#: Seconds until what was stopped has caught up.
_AGAIN = 1.0

#: Celery's own sender in a loop: it says when it begins, and in the end the processor seconds of what it did.
_ALONE = """
import sys, time
from celery import Celery
app = Celery(broker=sys.argv[1], set_as_current=False, fixups=[])
names = "PatientID StudyDate StudyInstanceUID SeriesInstanceUID pacs_name path PatientName PatientBirthDate PatientSex"
told = dict.fromkeys(names.split(), "a text of twenty bytes") | {"ndicom": 1, "PatientAge": 3652}
told |= dict.fromkeys("AccessionNumber Modality ProtocolName StudyDescription SeriesDescription".split(), "a text")
def send():
    app.send_task("pacsfiles.tasks.register_pacs_series", kwargs=told, queue="main2", retry=False, ignore_result=True)
send()
begun, wall = time.process_time(), time.perf_counter()
for _ in range(int(sys.argv[2])):
    send()
print(time.process_time() - begun, time.perf_counter() - wall)
"""


def can_notify() -> bool:
    """Return whether what is measured is there: the extra chris, redis-server and nats-server."""
    return all(map(find_spec, ("celery", "nats"))) and bool(_program("redis-server") and _program("nats-server"))


class Brokers(NamedTuple):
    """A Redis and a NATS that run: their processes, and the options that name them."""

    processes: tuple[subprocess.Popen[bytes], subprocess.Popen[bytes]]
    celery: str
    nats: str

    @property
    def options(self) -> list[str]:
        """Return the options of both."""
        return [f"--celery={self.celery}", f"--nats={self.nats}"]

    def signal(self, number: int) -> None:
        """Send a signal to both."""
        for process in self.processes:
            process.send_signal(number)


class Notifying:
    """Measures the stage on collections below a WorkDir; those that wait to be told are made once."""

    def __init__(self, workdir: WorkDir, files: int, options: Options) -> None:
        self._workdir, self._files, self._options = workdir, files, options
        self._ready: RunDirs | None = None

    # -- what a series costs -------------------------------------------------------------------------------------------

    def alone(self) -> Sample:
        """Measure Celery's send_task in a loop, a message a series, without its start."""
        with self._workdir.place() as place, _brokers(place) as brokers:
            command = [sys.executable, "-c", _ALONE, brokers.celery, str(self._files)]
            done = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, timeout=_SECONDS, check=False)
            if done.returncode:
                raise Unfinished("Celery.send_task failed")
            cpu, wall = map(float, done.stdout.split())
            return Sample("Celery.send_task alone", self._files, 0, cpu / self._files, wall)

    def registering(self) -> Sample:
        """Measure the stage with series of one file each that wait for CUBE, from its start on, until the broker has
        all.
        """
        return self._registering("notify, to CUBE", lambda brokers: brokers.options[:1])

    def telling(self) -> Sample:
        """Measure the same where NATS is told too."""
        return self._registering("notify, to CUBE and NATS", lambda brokers: brokers.options)

    def _registering(self, name: str, options: Callable[[Brokers], list[str]]) -> Sample:
        ready = self._collection()
        with self._workdir.place() as place, _brokers(place) as brokers:
            shutil.copytree(ready.state, place.state)
            settle(place)
            with _notify(place, ready.data, *options(brokers)) as (stage, told), Watcher(stage.pid) as watcher:
                at_start, begun = so_far(stage.pid), time.perf_counter()
                until_counted(stage, told, self._files, b'"registered"')
                wall, cpu = time.perf_counter() - begun, so_far(stage.pid) - at_start
            return Sample(name, self._files, 0, cpu / self._files, wall, *watcher.peak)

    def _collection(self) -> RunDirs:
        """Publish a corpus of series of one file, which ended after the stage had followed for the first time."""
        if self._ready is None:
            place = RunDirs(self._workdir.home / "to-be-told")
            self._publish(place, 0, _QUIET)
            with _brokers(place) as brokers:
                finish(listener("notify", "once", *directories(place), *brokers.options, "--http=off"))
            self._publish(place, self._files, _QUIET)
            time.sleep(_QUIET)
            self._publish(place, 0, _QUIET)
            self._ready = place
        return self._ready

    def _publish(self, place: RunDirs, count: int, quiet: float) -> None:
        """Publish so many series of one file; series without a new file for `quiet` seconds end."""
        place.incoming.mkdir(parents=True, exist_ok=True)
        if count:
            self._corpus(count, 1).write(place.incoming, count)
        words = ("--layout=oxidicom", f"--series-quiet={quiet}", "--min-free=0", "--fsync=none", "--events=off")
        finish(listener("once", *place.flags(), *words))

    def _corpus(self, files: int, of_series: int) -> Corpus:
        shape = self._workdir.corpus.shape
        return Corpus(replace(shape, files=files, patients=1, series=max(1, files // of_series)))

    # -- how soon it is told -------------------------------------------------------------------------------------------

    def told(self) -> Sample:
        """Measure the seconds from the end of a series in the ledger until the broker has it, as the stage tells them,
        with ENDS ends a second.
        """
        count = min(self._files, _MOST_ENDS)
        with self._workdir.place() as place, _brokers(place) as brokers, _intake(place, self._options) as intake:
            paths = _written(self._corpus(count, 1), place.base / "sent", count)
            with _notify(place, place.data, *brokers.options) as (stage, told), Watcher(stage.pid) as watcher:
                _until_ready(stage, told)
                at_start, begun = so_far(stage.pid), time.perf_counter()
                pacing.send(intake.port, paths, ENDS)
                until_counted(stage, told, count, b'"registered"')
                wall, cpu = time.perf_counter() - begun, so_far(stage.pid) - at_start
            seconds = [float(line["seconds"]) for line in servers.lines(told, "registered")]
            return Sample("notify", count, 0, cpu / count, wall, *watcher.peak, lag=Lag.of(seconds))

    # -- what it costs to look -----------------------------------------------------------------------------------------

    def idle(self) -> Sample:
        """Measure the stage while nothing happens."""
        return self._watched("nothing to do", grows=False)

    def growing(self) -> Sample:
        """Measure the stage while _OPEN series grow, all of them four times a second."""
        return self._watched(f"{_OPEN:,} open series that grow", grows=True)

    def _watched(self, name: str, *, grows: bool) -> Sample:
        with self._workdir.place() as place, _brokers(place) as brokers:
            self._publish(place, _OPEN if grows else 0, 3600.0)
            with _notify(place, place.data, *brokers.options) as (stage, told), Watcher(stage.pid) as watcher:
                _until_ready(stage, told)
                time.sleep(_AGAIN)
                at_start, begun = so_far(stage.pid), time.perf_counter()
                if grows:
                    _grow(place, begun + _WATCHED)
                else:
                    time.sleep(_WATCHED)
                wall, cpu = time.perf_counter() - begun, so_far(stage.pid) - at_start
            files = _OPEN if grows else 0
            return Sample(name, files, 0, cpu / max(1, files), wall, *watcher.peak, busy=cpu / wall)

    # -- brokers that hang ---------------------------------------------------------------------------------------------

    def hanging(self) -> tuple[Sample, Sample]:
        """Measure the lag of intake from senders that keep a pace: alone, and with the stage beside while Redis and
        NATS are stopped. Both take turns, each with a collection of its own; lags are those of all turns together.
        """
        turns = max(1, self._files // _ROUND)
        with ExitStack() as stack:
            places = [stack.enter_context(self._workdir.place()) for _ in range(2)]
            alone, beside = (stack.enter_context(_intake(place, self._options)) for place in places)
            brokers = stack.enter_context(_brokers(places[1]))
            stage, told = stack.enter_context(_notify(places[1], places[1].data, *brokers.options))
            _until_ready(stage, told)
            brokers.signal(signal.SIGSTOP)
            try:
                walls = self._turns(turns, (alone, beside), stage)
            finally:  # What is stopped does not end.
                stage.send_signal(signal.SIGCONT)
                brokers.signal(signal.SIGCONT)
            names = ("intake alone", "intake, brokers of notify hang")
            files = turns * _ROUND
            made = [
                Sample(name, files, 0, 0.0, wall, lag=Lag.of([float(line["lag"]) for line in intake.published()]))
                for name, wall, intake in zip(names, walls, (alone, beside), strict=True)
            ]
            return made[0], made[1]

    def _turns(self, turns: int, sides: tuple[Intake, Intake], stage: subprocess.Popen[bytes]) -> list[float]:
        """Let files come to both sides in turns, to the first while the stage is stopped; return seconds of each."""
        walls = [0.0, 0.0]
        for turn in range(turns):
            for side in (0, 1) if turn % 2 else (1, 0):
                stage.send_signal(signal.SIGCONT if side else signal.SIGSTOP)
                folder = sides[side].place.base / f"sent-{turn}"
                paths = _written(self._corpus(_ROUND, _OF_SERIES), folder, _ROUND, f"{turn}-{side}")
                settle(sides[side].place)
                time.sleep(_AGAIN)
                begun = time.perf_counter()
                _send(sides[side].port, paths)
                until_counted(sides[side].service, sides[side].events, (turn + 1) * _ROUND)
                walls[side] += time.perf_counter() - begun
        return walls


class Intake(NamedTuple):
    """A storescp and `listener run` behind it, with its events."""

    place: RunDirs
    port: int
    service: subprocess.Popen[bytes]
    events: Path

    def published(self) -> list[dict[str, Any]]:
        """Return its events of files."""
        return servers.lines(self.events, "published")


def _send(port: int, paths: list[Path]) -> None:
    """Send files at RATE by as many senders."""
    with ThreadPoolExecutor(_SENDERS) as pool:
        sent = [pool.submit(pacing.send, port, paths[one::_SENDERS], RATE / _SENDERS) for one in range(_SENDERS)]
        for each in sent:
            each.result()


def _grow(place: RunDirs, end: float) -> None:
    """Let every series grow until then, by what a listener writes of it into the ledger."""
    connection = open_writer(path_of(str(place.state)))
    try:
        while (left := end - time.perf_counter()) > 0:
            connection.execute("UPDATE series SET instances = instances + 1")
            time.sleep(min(_GROWTH, left))
    finally:
        connection.close()


def _written(corpus: Corpus, folder: Path, count: int, seed: str = "") -> list[Path]:
    corpus.write(folder, count, seed)
    return sorted(folder.iterdir())


# -- what runs -------------------------------------------------------------------------------------------------------


@contextmanager
def _intake(place: RunDirs, options: Options) -> Iterator[Intake]:
    more = ("--layout=oxidicom", f"--series-quiet={_QUIET}")
    with servers.service(place, options, *more) as (service, events), servers.storescp(place) as (_, port):
        until_quiet(service)
        yield Intake(place, port, service, events)


@contextmanager
def _notify(place: RunDirs, data: Path, *more: str) -> Iterator[tuple[subprocess.Popen[bytes], Path]]:
    """Run the stage; yield it and the file of its events once it has started."""
    told = place.base / "notify.ndjson"
    words = ["notify", f"--state={place.state}", f"--data={data}", *more, "--http=127.0.0.1:0"]
    with servers.running(listener(*words), told) as process:
        servers.until(lambda: b'"started"' in told.read_bytes(), process, _START, "listener notify does not start")
        yield process, told


def _until_ready(stage: subprocess.Popen[bytes], told: Path) -> None:
    servers.until(lambda: b'"ready"' in told.read_bytes(), stage, _START, "listener notify is not ready")


@contextmanager
def _brokers(place: RunDirs) -> Iterator[Brokers]:
    """Run a Redis without persistence, and a NATS."""
    place.base.mkdir(parents=True, exist_ok=True)
    redis, nats = servers.free_port(), servers.free_port()
    commands = (
        [_program("redis-server"), "--bind", "127.0.0.1", "--port", str(redis), "--save", "", "--dir", str(place.base)],
        [_program("nats-server"), "-a", "127.0.0.1", "-p", str(nats)],
    )
    with ExitStack() as stack:
        found = []
        for command, port in zip(commands, (redis, nats), strict=True):
            name = os.path.basename(command[0])
            process = stack.enter_context(servers.running(command, place.base / f"{name}.txt"))
            servers.until(lambda port=port: accepts("127.0.0.1", port), process, _START, f"{name} does not answer")  # type: ignore[misc]
            found.append(process)
        yield Brokers((found[0], found[1]), f"redis://127.0.0.1:{redis}/0", f"nats://127.0.0.1:{nats}")


def _program(name: str) -> str:
    return shutil.which(name) or shutil.which(name, path="/usr/sbin") or ""
