"""`listener notify` as a person runs it, on the directories of one listener, and series that come there."""

from __future__ import annotations

import contextlib
import io
import json
import shutil
import signal
import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from listener.cli import main
from listener.ledger.connection import open_writer, path_of
from tests.instances import uid, write_instance
from tests.service_process import Done, Event, Places, events_of, listener, once, start
from tests.waiting import until

CANARY = "Canary^Patient"

#: How the listener of a ChRIS lays out its tree, and how soon a series of the tests is complete.
CHRIS = ("--layout", "oxidicom", "--series-quiet", "0.5")


def flags(places: Places, *more: str) -> list[str]:
    return ["--state", str(places.state), "--data", str(places.data), *more]


def notify(places: Places, word: str, *more: str) -> Done:
    return listener("notify", word, *(flags(places, *more) if word in ("once", "check") else more))


def said(*args: str) -> str:
    """What a command that succeeds prints; in this process, where another one would only take longer."""
    with contextlib.redirect_stdout(io.TextIOWrapper(io.BytesIO())) as output:
        assert main(list(args)) == 0
    output.flush()
    return output.buffer.getvalue().decode()


def write(places: Places, series: int, number: int, **overrides: Any) -> Path:
    """An instance arrives."""
    given = {"sender": "MY PACS", "PatientName": CANARY, **overrides}
    return write_instance(places.incoming / f"{series}-{number}", series=series, number=number, **given)


def arrive(places: Places, series: int, *numbers: int) -> None:
    """Instances of a series arrive at once: it is not quiet between two of them."""
    given = {"sender": "MY PACS", "PatientName": CANARY}
    made = [write_instance(places.base / f"{series}-{one}", series=series, number=one, **given) for one in numbers]
    for path in made:
        shutil.copyfile(path, places.incoming / path.name)


def make_ledger(places: Places) -> None:
    """A ledger that a stage can follow, in which nothing has happened."""
    with contextlib.closing(open_writer(path_of(str(places.state)))):
        pass


def ended(places: Places, series: int, instances: int = 1) -> None:
    """Wait until a series with so many instances has ended, in a service that runs."""
    state = "SELECT 1 FROM series WHERE SeriesInstanceUID = ? AND state <> 'open' AND instances = ?"
    until(lambda: ask(places, state, series_uid(series), instances), 40, what=f"series {series} has ended")


def bring(places: Places, series: int, *numbers: int, **overrides: Any) -> None:
    """Instances of a series arrive, and what is open ends."""
    for number in numbers:
        write(places, series, number, **overrides)
    done = once(places, "--layout", "oxidicom", "--series-quiet", "0.1", "--workers", "1")
    assert done.status == 0, done.stderr


def series_uid(series: int) -> str:
    return str(uid("series", 0, 0, series))


class Running:
    """The stage as a service: its process, and what it has said."""

    def __init__(self, places: Places, *args: str, http: str = "off") -> None:
        self.process = start("notify", *flags(places, *args, "--http", http))
        self.stdout, self.stderr = b"", ""

    def stop(self, number: int = signal.SIGTERM) -> list[Event]:
        """Send a signal and wait for the end; return all events."""
        if self.process.poll() is None:
            self.process.send_signal(number)
        stdout, stderr = self.process.communicate(timeout=300)
        self.stdout, self.stderr = self.stdout + stdout, self.stderr + stderr.decode()
        return events_of(self.stdout)


@contextmanager
def following(places: Places, *args: str, http: str = "off") -> Iterator[Running]:
    """The stage as a service, stopped at the end."""
    running = Running(places, *args, http=http)
    try:
        yield running
    finally:
        if running.process.poll() is None:
            running.stop()


def ask(places: Places, query: str, *values: object) -> list[tuple[Any, ...]]:
    """What the ledger answers."""
    with sqlite3.connect(path_of(str(places.state))) as connection:
        return connection.execute(query, values).fetchall()


def registered(places: Places, *names: str) -> bool:
    """Whether these consumers are in the ledger."""
    there = {name for (name,) in ask(places, "SELECT name FROM consumers")}
    return there >= set(names)


def pending(places: Places) -> int:
    """How many deliveries are not made."""
    return int(ask(places, "SELECT count(*) FROM deliveries WHERE state <> 'delivered'")[0][0])


def errors(places: Places, consumer: str) -> dict[str, str]:
    """Why deliveries were given up, by series."""
    query = """
        SELECT s.SeriesInstanceUID, d.error FROM deliveries d JOIN series s ON s.id = d.series_id
        JOIN consumers c ON c.id = d.consumer_id WHERE d.state = 'failed' AND c.name = ?
    """
    return dict(ask(places, query, consumer))


def follows(places: Places, *names: str) -> None:
    """Wait until the stage follows; what ends from now on is told."""
    until(lambda: registered(places, *names), 30, what=f"{names} follow")


def standing(places: Places) -> dict[str, Any]:
    """What `status --json` says."""
    found: dict[str, Any] = json.loads(said("notify", "status", "--state", str(places.state), "--json"))
    return found
