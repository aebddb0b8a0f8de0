"""The servers of a run, each yielded when it is ready."""

from __future__ import annotations

import os
import re
import socket
import subprocess
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path
from typing import Any
from urllib.request import urlopen

import orjson

from listener.benchmark.processes import end
from listener.benchmark.repackers import listener
from listener.benchmark.request import Options
from listener.benchmark.senders import ENVIRONMENT
from listener.benchmark.verify import Unfinished
from listener.benchmark.workdir import RunDirs
from listener.quickstart.processes import accepts
from listener.storescp import RECOMMENDED

_START_SECONDS = 30.0

_SECONDS_OF_STEP = re.compile(r'^listener_stage_duration_seconds_sum\{stage="([a-z]+)"\} (\S+)', re.MULTILINE)


@contextmanager
def storescp(
    place: RunDirs, *more: str, port: int = 0, nodelay: bool = True
) -> Iterator[tuple[subprocess.Popen[bytes], int]]:
    """Run a storescp, on any free port if none is given; yield it and its port once it accepts associations. Without
    `nodelay` it leaves Nagle's algorithm on, as DCMTK does by itself.
    """
    place.incoming.mkdir(exist_ok=True)
    port = port or free_port()
    command = ["storescp", *RECOMMENDED, *more, "-od", str(place.incoming), str(port)]
    variables = ENVIRONMENT if nodelay else {"TCP_NODELAY": "0"}
    with running(command, place.base / "storescp.txt", variables) as process:
        until(lambda: accepts("127.0.0.1", port), process, _START_SECONDS, "storescp does not answer")
        yield process, port


@contextmanager
def service(place: RunDirs, options: Options, *more: str) -> Iterator[tuple[subprocess.Popen[bytes], Path]]:
    """Run `listener run`, with `more` of its options; yield it and the file of its events once it is ready."""
    place.incoming.mkdir()
    events = place.base / "events.ndjson"
    words = ["run", *place.flags(), "--http=127.0.0.1:0", "--min-free=0", f"--fsync={options.fsync}", *more]
    with running(listener(*words, f"--workers={options.workers}"), events) as process:
        until(lambda: b'"ready"' in events.read_bytes(), process, _START_SECONDS, "listener run does not get ready")
        yield process, events


@contextmanager
def route(place: RunDirs, routes: Path) -> Iterator[tuple[subprocess.Popen[bytes], Path]]:
    """Run `listener route` on the collection of a run; yield it and the file of its events once it is ready."""
    events = place.base / "route.ndjson"
    words = ["route", f"--data={place.data}", f"--state={place.state}", f"--routes={routes}"]
    with running(listener(*words, "--http=127.0.0.1:0"), events) as process:
        until(lambda: b'"ready"' in events.read_bytes(), process, _START_SECONDS, "listener route does not get ready")
        yield process, events


@contextmanager
def running(
    command: list[str], output: Path, variables: Mapping[str, str] = ENVIRONMENT
) -> Iterator[subprocess.Popen[bytes]]:
    """Run a program with its output in a file; yield it, and end it with all that it started."""
    with output.open("wb") as sink, output.with_suffix(".stderr").open("wb") as errors:
        process = subprocess.Popen(
            command,
            env={**os.environ, **variables},
            stdin=subprocess.DEVNULL,
            stdout=sink,
            stderr=errors,
            # Like containers, units and terminals, so that the scheduler divides processors among sessions (autogroup).
            start_new_session=True,
        )
    try:
        yield process
    except Unfinished as unfinished:
        said = output.with_suffix(".stderr").read_text(encoding="utf-8", errors="replace").splitlines()[-3:]
        raise Unfinished("\n".join((str(unfinished), *said))) from None
    finally:
        end(process)


def free_port() -> int:
    """Return a port of this machine on which nobody listens."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def until(done: Callable[[], bool], process: subprocess.Popen[bytes], seconds: float, what: str) -> None:
    """Wait until `done()`. Raises Unfinished after `seconds`, or when the process ends."""
    deadline = time.monotonic() + seconds
    while not done():
        if process.poll() is not None or time.monotonic() > deadline:
            raise Unfinished(what)
        time.sleep(0.01)


def lines(events: Path, event: str) -> list[dict[str, Any]]:
    """Return the events of this name; the last line of all may be half written."""
    word = f'"{event}"'.encode()
    whole = events.read_bytes().rpartition(b"\n")[0]
    return [orjson.loads(line) for line in whole.splitlines() if word in line]


def times(events: Path, event: str) -> list[float]:
    """Return when the events of this name were told, in seconds since the epoch."""
    return [datetime.fromisoformat(line["time"]).timestamp() for line in lines(events, event)]


def steps(events: Path) -> dict[str, float]:
    """Return the seconds of all files so far in each step, from the service's metrics."""
    (ready,) = lines(events, "ready")
    with urlopen(f"http://{ready['http']}/metrics", timeout=10) as answer:
        page = answer.read().decode()
    return {name: float(seconds) for name, seconds in _SECONDS_OF_STEP.findall(page)}
