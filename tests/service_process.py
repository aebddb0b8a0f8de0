"""The program as a person runs it: `listener run`, `once` and `repack` as processes on directories of the test's own.

Standard output and standard error of a service go to files beside its directories: nothing that it says is lost when
it is killed, and no thread is needed to read it.
"""

from __future__ import annotations

import http.client
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import orjson
import pytest
from prometheus_client.parser import text_string_to_metric_families

from tests.conftest import PROJECT
from tests.dicomnet import kill_group
from tests.waiting import PATIENCE, alive, until

Event = dict[str, Any]
#: The page as (name, labels) -> value; labels as sorted (name, value) pairs.
Scrape = dict[tuple[str, tuple[tuple[str, str], ...]], float]

#: How long a service may take to start, and to stop after a signal: seconds, and PATIENCE times that.
START = 20.0
STOP = 45.0


@dataclass(frozen=True, slots=True)
class Places:
    """The four directories of one listener. Everything lies below `base`, and so does what must not be touched."""

    base: Path
    incomings: tuple[Path, ...]
    data: Path
    log: Path
    state: Path

    @property
    def incoming(self) -> Path:
        return self.incomings[0]

    @property
    def roots(self) -> tuple[Path, ...]:
        return (*self.incomings, self.data, self.log, self.state)

    def beside(self, name: str) -> Places:
        """A second listener's: its own incoming and state, the same data and log."""
        area = self.data.parent
        return Places(self.base, (area / f"incoming-{name}",), self.data, self.log, area / f"state-{name}").make()

    def make(self) -> Places:
        for path in self.roots:
            path.mkdir(parents=True, exist_ok=True)
        return self

    def flags(self) -> list[str]:
        """The options that name the directories."""
        incoming = [part for path in self.incomings for part in ("--incoming", str(path))]
        return [*incoming, *self.outputs(), "--state", str(self.state)]

    def outputs(self) -> list[str]:
        """The options that `repack` needs: where the tree and the logs are."""
        return ["--data", str(self.data), "--log", str(self.log)]


def make_places(base: Path, incomings: int = 1) -> Places:
    """Directories some levels below `base`, so that what climbs out of them by `..` is still seen."""
    area = base / "around" / "area"
    names = ("incoming", *(f"incoming{number}" for number in range(2, incomings + 1)))
    return Places(base, tuple(area / name for name in names), area / "data", area / "log", area / "state").make()


def environment(**more: str) -> dict[str, str]:
    """The variables of a listener that is run from this checkout."""
    return {**os.environ, "PYTHONPATH": str(PROJECT), "PYTHONDONTWRITEBYTECODE": "1", **more}


def command(*args: str) -> list[str]:
    return [sys.executable, "-m", "listener", *args]


def events_of(data: bytes) -> list[Event]:
    """The whole lines of NDJSON."""
    return [orjson.loads(line) for line in data.splitlines(keepends=True) if line.endswith(b"\n")]


# -- commands that leave -----------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Done:
    """A command that has ended."""

    status: int
    stdout: bytes
    stderr: str

    @property
    def events(self) -> list[Event]:
        return events_of(self.stdout)

    def kinds(self) -> list[str]:
        """What happened to each file, sorted."""
        return sorted(event["event"] for event in self.events)


def start(*args: str, cwd: Path | None = None) -> subprocess.Popen[bytes]:
    """Start a command; finish() waits for it."""
    return subprocess.Popen(
        command(*args),
        env=environment(),
        cwd=cwd,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        process_group=0,
    )


def finish(process: subprocess.Popen[bytes], seconds: float = 50) -> Done:
    """What it said, and its exit status; AssertionError after PATIENCE times `seconds`, and then it is killed."""
    seconds *= PATIENCE
    try:
        stdout, stderr = process.communicate(timeout=seconds)
    except subprocess.TimeoutExpired:
        kill_group(process.pid)
        stdout, stderr = process.communicate()
        raise AssertionError(f"not done in {seconds:g} s: {process.args!r}\n{stderr.decode()}") from None
    finally:
        kill_group(process.pid)
    return Done(process.returncode, stdout, stderr.decode(errors="backslashreplace"))


def listener(*args: str, seconds: float = 50) -> Done:
    """Run any command of the program to its end."""
    return finish(start(*args), seconds)


def once(places: Places, *args: str, seconds: float = 50) -> Done:
    """`listener once` with two workers."""
    return listener("once", *places.flags(), "--min-free", "0", "--workers", "2", *args, seconds=seconds)


def repack(places: Places, *args: str, seconds: float = 50) -> Done:
    """`listener repack`."""
    return listener("repack", *places.outputs(), *args, seconds=seconds)


# -- the service -------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Answer:
    """What the HTTP endpoint said."""

    status: int
    body: bytes

    def json(self) -> Any:
        return orjson.loads(self.body)


class Service:
    """A `listener run` that was started. Made by service()."""

    def __init__(self, places: Places, args: Iterable[str], through: Iterable[str] = ()) -> None:
        number = len(list(places.base.glob("events-*.ndjson")))
        self.places = places
        self._stdout = places.base / f"events-{number}.ndjson"
        self._stderr = places.base / f"stderr-{number}.txt"
        arguments = ("run", *places.flags(), "--http", "127.0.0.1:0", "--min-free", "0", "--workers", "2", *args)
        with self._stdout.open("wb") as stdout, self._stderr.open("wb") as stderr:
            self.process = subprocess.Popen(
                [*through, *command(*arguments)],
                env=environment(),
                stdin=subprocess.DEVNULL,
                stdout=stdout,
                stderr=stderr,
                process_group=0,
            )

    # -- what it said

    @property
    def stdout(self) -> bytes:
        return self._stdout.read_bytes()

    @property
    def stderr(self) -> str:
        return self._stderr.read_text(encoding="utf-8", errors="backslashreplace")

    def events(self, *names: str) -> list[Event]:
        """All events so far, or those with these names."""
        return [event for event in events_of(self.stdout) if not names or event["event"] in names]

    def wait_for(self, name: str, count: int = 1, seconds: float = 30) -> list[Event]:
        """Until there are `count` events of this name."""

        def there() -> list[Event]:
            ended = self.process.poll() is not None
            found = self.events(name)
            if ended and len(found) < count:
                pytest.fail(f"it ended before {count} times {name}; {self}")
            return found if len(found) >= count else []

        try:
            return until(there, seconds, what=f"{count} times {name}")
        except AssertionError as error:
            raise AssertionError(f"{error}; {self}") from None

    def __str__(self) -> str:
        kinds: dict[str, int] = {}
        for event in self.events():
            kinds[event["event"]] = kinds.get(event["event"], 0) + 1
        return f"events: {kinds}; standard error:\n{self.stderr[-4000:]}"

    # -- the endpoint

    @property
    def address(self) -> str:
        return str((self.events("standby") or self.wait_for("started", seconds=START))[0]["http"])

    def get(self, path: str) -> Answer:
        host, _, port = self.address.rpartition(":")
        connection = http.client.HTTPConnection(host, int(port), timeout=120)
        try:
            connection.request("GET", path)
            response = connection.getresponse()
            return Answer(response.status, response.read())
        finally:
            connection.close()

    def page(self) -> str:
        answer = self.get("/metrics")
        assert answer.status == 200, answer
        return answer.body.decode()

    def scrape(self) -> Scrape:
        return parse_page(self.page())

    # -- its processes

    @property
    def pid(self) -> int:
        return self.process.pid

    def workers(self) -> list[int]:
        """Its children that are workers."""
        return [pid for pid in children(self.pid) if b"listener.service.worker" in command_line(pid)]

    def stop(self, number: int = signal.SIGTERM, seconds: float = STOP) -> int:
        """Send a signal, wait for the end; the exit status."""
        if self.process.poll() is None:
            self.process.send_signal(number)
        return self.wait(seconds)

    def wait(self, seconds: float = STOP) -> int:
        seconds *= PATIENCE
        try:
            return self.process.wait(seconds)
        except subprocess.TimeoutExpired:
            raise AssertionError(f"still running after {seconds:g} s; {self}") from None

    def kill(self) -> None:
        """SIGKILL to the parent alone; its workers must find out by themselves."""
        workers = self.workers()
        self.process.kill()
        self.process.wait()
        until(lambda: not any(alive(pid) for pid in workers), 15, what="the workers of a killed service have ended")


@contextmanager
def service(places: Places, *args: str, ready: bool = True, through: Iterable[str] = ()) -> Iterator[Service]:
    """A running service (ready, unless told otherwise); stopped when the block is left.

    `through` is a command that starts the rest of its arguments in its own place, such as setpriv.
    """
    running = Service(places, args, through)
    try:
        if ready:
            running.wait_for("ready", seconds=START)
        yield running
        if running.process.poll() is None:
            status = running.stop()
            assert status == 0, f"exit status {status}; {running}"
    finally:
        kill_group(running.pid)
        running.process.wait()


def rss(pid: int) -> int:
    """Resident bytes of a process."""
    pages = int(Path(f"/proc/{pid}/statm").read_text(encoding="ascii").split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE")


def processor_seconds(pid: int) -> float:
    """What a process has used so far: user and system time, as proc(5) has them behind the name."""
    fields = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8").rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def children(pid: int) -> list[int]:
    """The living children of a process."""
    found = []
    for path in Path(f"/proc/{pid}/task").glob("*/children"):
        try:
            found += [int(child) for child in path.read_text().split()]
        except OSError:
            continue
    return [child for child in found if alive(child)]


def command_line(pid: int) -> bytes:
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes()
    except OSError:
        return b""


# -- metrics -----------------------------------------------------------------------------------------------------------


def parse_page(text: str) -> Scrape:
    """A page in the text format, by Prometheus's own client."""
    return {
        (sample.name, tuple(sorted(sample.labels.items()))): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }


def value(scrape: Mapping[tuple[str, tuple[tuple[str, str], ...]], float], name: str, **labels: str) -> float:
    """The sum of all series of `listener_<name>` that carry these labels; KeyError when there is none."""
    wanted = set(labels.items())
    found = [number for (full, pairs), number in scrape.items() if full == f"listener_{name}" and wanted <= set(pairs)]
    if not found:
        raise KeyError(name, labels)
    return sum(found)


def settled(running: Service, files: int, seconds: float = 40) -> Scrape:
    """Until that many files are processed since the start and nothing is pending; the page then."""

    def there() -> Scrape | None:
        scrape = running.scrape()
        done, pending = value(scrape, "files_processed_total"), value(scrape, "pending_files")
        assert (done, pending) == (files, 0), f"processed {done:g} of {files}, pending {pending:g}"
        return scrape

    try:
        found = until(there, seconds, what=f"{files} files processed and none pending")
    except AssertionError as error:
        raise AssertionError(f"{error}; {running}") from None
    assert found is not None
    return found


def rescan_on(running: Service, rescans: int = 3) -> None:
    """Until incoming was scanned so many times more."""
    before = value(running.scrape(), "rescan_duration_seconds_count")
    until(
        lambda: value(running.scrape(), "rescan_duration_seconds_count") > before + rescans,
        20,
        what=f"{rescans} rescans",
    )


def until_value(running: Service, wanted: float, name: str, **labels: str) -> None:
    """Until the page tells this sum (gauges are set once a second, not with each file)."""

    def told() -> bool:
        found = value(running.scrape(), name, **labels)
        assert found == wanted, found
        return True

    until(told, 10, what=f"{name}{labels} is {wanted:g}")


def now() -> float:
    """Seconds since the epoch, as gauges tell them."""
    return time.time()
