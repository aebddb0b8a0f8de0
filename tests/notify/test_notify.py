"""`listener notify` with real brokers: CUBE is told what oxidicom tells it, and nothing is forgotten."""

from __future__ import annotations

import json
import signal
import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from listener.ledger.connection import path_of
from tests.dicomnet import free_port, storescp, storescu
from tests.instances import uid, write_instance
from tests.notify.servers import Cube, Subscriber, messages, nats_server, redis_server
from tests.service_process import Done, Places, listener, once, service, start
from tests.waiting import until

pytestmark = [pytest.mark.real, pytest.mark.slow]

CANARY = "Canary^Patient"


def flags(places: Places, *more: str) -> list[str]:
    return ["--state", str(places.state), "--data", str(places.data), *more]


def notify(places: Places, word: str, *more: str) -> Done:
    return listener("notify", word, *(flags(places, *more) if word in ("once", "check") else more))


def bring(places: Places, series: int, *numbers: int, **overrides: Any) -> None:
    """Instances of a series arrive, and what is open ends."""
    for number in numbers:
        overrides = {"sender": "MY PACS", "PatientName": CANARY, **overrides}
        write_instance(places.incoming / f"{series}-{number}", series=series, number=number, **overrides)
    done = once(places, "--layout", "oxidicom", "--series-quiet", "0.1")
    assert done.status == 0, done.stderr


def series_uid(series: int) -> str:
    return str(uid("series", 0, 0, series))


@pytest.fixture
def broker() -> Iterator[str]:
    with redis_server() as (url, _):
        yield url


@contextmanager
def following(places: Places, *args: str) -> Iterator[Any]:
    """The stage as a service."""
    process = start("notify", *flags(places, *args, "--http", "off"))
    try:
        yield process
    finally:
        process.send_signal(signal.SIGTERM)
        process.communicate(timeout=40)


def registered(places: Places, name: str) -> bool:
    """Whether a consumer is in the ledger."""
    with sqlite3.connect(path_of(str(places.state))) as connection:
        return connection.execute("SELECT 1 FROM consumers WHERE name = ?", (name,)).fetchone() is not None


def test_the_message_is_that_of_oxidicom(places: Places, broker: str, sag_anon: Path, oracle: Path) -> None:
    expected = json.loads((oracle / "oxidicom-4/register_pacs_series.json").read_bytes())
    quiet = ("--layout", "oxidicom", "--series-quiet", "2")
    with nats_server() as (nats, _), service(places, *quiet), storescp(places.incoming) as receiver:
        subscriber = Subscriber(nats)
        try:
            with following(places, "--celery", broker, "--nats", nats):
                until(lambda: registered(places, "notify-nats") and registered(places, "notify-cube"))
                storescu(receiver.port, sorted(sag_anon.glob("*.dcm")), "-aet", "MYPACS")
                until(lambda: messages(broker), 40)
                until(lambda: ("done",) in subscriber.of(expected["kwargs"]["SeriesInstanceUID"]), 20)
        finally:
            subscriber.close()
    (message,) = messages(broker)
    assert message == {name: expected[name] for name in message}
    told = subscriber.of(expected["kwargs"]["SeriesInstanceUID"])
    numbers = [message[1] for message in told if message[0] == "number"]
    assert numbers == sorted(numbers)
    assert told[-2:] == [("number", 192), ("done",)]
    assert {subject.split(".")[1] for subject, _, _ in subscriber.told} == {"MYPACS"}


def test_each_end_is_told_once_and_what_fails_is_named(places: Places, broker: str) -> None:
    bring(places, 0, 1)
    assert notify(places, "once", "--celery", broker).status == 0
    assert messages(broker) == [], "what ended before the first start is not told"
    bring(places, 1, 1, 2)
    bring(places, 2, 1, StudyDate="")
    done = notify(places, "once", "--celery", broker)
    assert done.status == 1, "one cannot be registered"
    assert [message["kwargs"]["SeriesInstanceUID"] for message in messages(broker)] == [series_uid(1)]
    (failed,) = [event for event in done.events if event["event"] == "notify-failed"]
    assert (failed["SeriesInstanceUID"], failed["reason"]) == (series_uid(2), "cube-needs StudyDate")
    (told,) = [event for event in done.events if event["event"] == "registered"]
    assert (told["instances"], told["generation"]) == (2, 1)
    status = notify(places, "status", "--state", str(places.state), "--json")
    assert json.loads(status.stdout)["targets"]["notify-cube"]["failed"] == 1
    assert notify(places, "again", series_uid(0), "--state", str(places.state)).status == 0
    notify(places, "once", "--celery", broker)
    assert [message["kwargs"]["SeriesInstanceUID"] for message in messages(broker)] == [series_uid(1), series_uid(0)]
    for output in (done.stdout, done.stderr.encode(), status.stdout):
        assert b"Canary" not in output


def test_a_broker_that_is_away_loses_nothing(places: Places) -> None:
    port = free_port()
    with redis_server(port) as (url, _):
        assert notify(places, "once", "--celery", url).status in (0, 2)
        bring(places, 0, 1)
        assert notify(places, "once", "--celery", url).status == 0
    bring(places, 1, 1)
    assert notify(places, "once", "--celery", url).status == 1
    with redis_server(port) as (url, _), following(places, "--celery", url):
        until(lambda: messages(url), 30)
        assert [message["kwargs"]["SeriesInstanceUID"] for message in messages(url)] == [series_uid(1)]


def test_cube_confirms_each_series_or_it_fails_by_name(places: Places, broker: str, tmp_path: Path) -> None:
    login = tmp_path / "login"
    login.write_text("secret\n")
    login.chmod(0o600)
    bring(places, 0, 1)
    cube = Cube(broker, places.data)
    told = ("--celery", broker, "--cube", cube.url, "--cube-login", str(login), "--confirm-after", "1")
    try:
        assert notify(places, "check", *told).status == 0
        with following(places, *told):
            until(lambda: registered(places, "notify-cube"))
            cube.loses = 2  # Its worker is killed with a message in hand, twice.
            bring(places, 1, 1, 2)
            until(lambda: series_uid(1) in cube.registered, 30)
            until(lambda: _pending(places) == 0, 30)
            bring(places, 1, 3)  # CUBE never adds what comes later.
            until(lambda: _pending(places) == 0, 30)
        assert cube.refused == []
        assert cube.registered[series_uid(1)]["ndicom"] == 2
    finally:
        cube.close()


def _pending(places: Places) -> int:
    with sqlite3.connect(path_of(str(places.state))) as connection:
        query = "SELECT count(*) FROM deliveries WHERE state <> 'delivered'"
        return int(connection.execute(query).fetchone()[0])


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ((), "nobody is to be told"),
        (("--celery", "http://x"), "is no broker"),
        (("--celery", "redis://user:secret@x"), "--celery-file"),
        (("--nats", "nats://secret@x"), "--nats-file"),
        (("--celery", "redis://x", "--cube", "http://user:secret@x"), "--cube-login"),
        (("--nats", "redis://x"), "is no NATS server"),
        (("--celery-queue", "a\tb"), "is no name"),
        (("--celery", "redis://x", "--cube", "http://x"), "give both"),
        (("--nats", "nats://x", "--cube", "http://x", "--cube-login", "/nowhere"), "give --celery"),
    ],
)
def test_what_cannot_work_is_said_at_once_without_secrets(places: Places, given: tuple[str, ...], said: str) -> None:
    done = notify(places, "check", *given)
    assert done.status == 2
    assert said in done.stderr
    assert "secret" not in done.stderr
