"""`listener notify` with real brokers: CUBE is told what oxidicom tells it, and nothing is forgotten."""

from __future__ import annotations

import json
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from listener.cli import main
from tests.dicomnet import free_port, storescp, storescu
from tests.notify.servers import Cube, cube_of, messages, nats_server, redis_server, subscriber
from tests.notify.stage import (
    CHRIS,
    bring,
    ended,
    errors,
    flags,
    following,
    follows,
    make_ledger,
    notify,
    pending,
    said,
    series_uid,
    standing,
    write,
)
from tests.reloading import reloading
from tests.service_process import Places, service, settled
from tests.waiting import until

pytestmark = [pytest.mark.real, pytest.mark.slow]


@pytest.fixture
def broker() -> Iterator[str]:
    with redis_server() as (url, _):
        yield url


def test_the_message_is_that_of_oxidicom(places: Places, broker: str, sag_anon: Path, oracle: Path) -> None:
    expected = json.loads((oracle / "oxidicom-4/register_pacs_series.json").read_bytes())
    uid = expected["kwargs"]["SeriesInstanceUID"]
    with (
        nats_server() as (nats, _),
        reloading(places, "--layout", "oxidicom", series_quiet="3600") as (running, change),
        storescp(places.incoming) as receiver,
        subscriber(nats) as ear,
        following(places, "--celery", broker, "--nats", nats),
    ):
        follows(places, "notify-nats", "notify-cube")
        storescu(receiver.port, sorted(sag_anon.glob("*.dcm")), "-aet", "MYPACS")
        settled(running, 192)
        change(series_quiet="0.2")
        until(lambda: messages(broker), 40)
        until(lambda: ("done",) in ear.of(uid), 20)
    (message,) = messages(broker)
    assert message == {name: expected[name] for name in message}
    told = ear.of(uid)
    numbers = [message[1] for message in told if message[0] == "number"]
    assert numbers == sorted(numbers)
    assert told[-2:] == [("number", 192), ("done",)]
    assert {subject.split(".")[1] for subject, _, _ in ear.told} == {"MYPACS"}


def test_each_end_is_told_once_and_what_fails_is_named(places: Places, broker: str) -> None:
    bring(places, 0, 1)
    assert notify(places, "once", "--celery", broker).status == 0
    assert messages(broker) == [], "what ended before the first start is not told"
    write(places, 2, 1, StudyDate="")
    bring(places, 1, 1, 2)
    done = notify(places, "once", "--celery", broker)
    assert done.status == 1, "one cannot be registered"
    assert [message["kwargs"]["SeriesInstanceUID"] for message in messages(broker)] == [series_uid(1)]
    (failed,) = [event for event in done.events if event["event"] == "notify-failed"]
    assert (failed["SeriesInstanceUID"], failed["reason"]) == (series_uid(2), "cube-needs StudyDate")
    (told,) = [event for event in done.events if event["event"] == "registered"]
    assert (told["instances"], told["generation"]) == (2, 1)
    status = standing(places)
    assert status["targets"]["notify-cube"]["failed"] == 1
    assert "1 series" in said("notify", "again", series_uid(0), "--state", str(places.state))
    notify(places, "once", "--celery", broker)
    assert [message["kwargs"]["SeriesInstanceUID"] for message in messages(broker)] == [series_uid(1), series_uid(0)]
    for output in (done.stdout, done.stderr.encode(), json.dumps(status).encode()):
        assert b"Canary" not in output


def test_a_broker_that_is_away_loses_nothing(places: Places) -> None:
    port = free_port()
    make_ledger(places)
    with redis_server(port) as (url, _):
        assert notify(places, "once", "--celery", url).status == 0
    bring(places, 1, 1)
    assert notify(places, "once", "--celery", url).status == 1
    with redis_server(port) as (url, _), following(places, "--celery", url):
        until(lambda: messages(url), 30)
        assert [message["kwargs"]["SeriesInstanceUID"] for message in messages(url)] == [series_uid(1)]


def test_an_incomplete_series_is_registered_only_where_that_is_wanted(places: Places, broker: str) -> None:
    with service(places, *CHRIS, "--series-timeout", "1"):
        write(places, 0, 1)
        ended(places, 0)
        for series, register in ((1, "all"), (2, "complete")):
            assert notify(places, "once", "--celery", broker, "--register", register).status == 0
            said("expect", series_uid(series), "5", "--state", str(places.state))
            write(places, series, 1)
            ended(places, series)
    assert [message["kwargs"]["SeriesInstanceUID"] for message in messages(broker)] == [series_uid(1)]
    assert "1 series" in said("notify", "again", "--since", "1d", "--state", str(places.state))
    assert notify(places, "once", "--celery", broker).status == 0
    assert [message["kwargs"]["SeriesInstanceUID"] for message in messages(broker)] == [series_uid(1), series_uid(0)]


@pytest.fixture
def login(tmp_path: Path) -> Path:
    """The file of --cube-login."""
    path = tmp_path / "login"
    path.write_text("secret\n")
    path.chmod(0o600)
    return path


def confirmed(cube: Cube, broker: str, login: Path, after: int) -> tuple[str, ...]:
    """Options with which CUBE is asked."""
    return ("--celery", broker, "--cube", cube.url, "--cube-login", str(login), "--confirm-after", str(after))


def test_cube_confirms_each_series_though_its_worker_is_killed(
    places: Places, broker: str, login: Path, tmp_path: Path
) -> None:
    make_ledger(places)
    with (
        service(places, *CHRIS),
        cube_of(broker, places.data, tmp_path) as cube,
        following(places, *confirmed(cube, broker, login, 2)) as stage,
    ):
        assert "ok:" in said("notify", "check", *flags(places, *confirmed(cube, broker, login, 2)))
        follows(places, "notify-cube")
        with cube.hold():
            write(places, 1, 1)
            until(lambda: series_uid(1) in cube.begun, 30, what="the worker has begun")
            cube.kill_worker()  # It had acknowledged.
        stage.process.send_signal(signal.SIGSTOP)  # It asks a few times only, and a worker may be long in coming.
        cube.start_worker()
        stage.process.send_signal(signal.SIGCONT)
        until(lambda: pending(places) == 0, 30)
        write(places, 1, 2)  # CUBE never adds what comes later.
        ended(places, 1, 2)
        until(lambda: pending(places) == 0, 30)
        write(places, 2, 1)
        ended(places, 2)
        until(lambda: pending(places) == 0, 30)
        events = stage.stop()
    assert {row["SeriesInstanceUID"]: row["ndicom"] for row in cube.registered} == {series_uid(1): 1, series_uid(2): 1}
    found = [
        (event["event"], event["SeriesInstanceUID"], event["generation"])
        for event in events
        if event["event"] in ("registered", "unconfirmed", "late")
    ]
    # A busy worker may be asked more than once.
    assert list(dict.fromkeys(found)) == [
        ("unconfirmed", series_uid(1), 1),
        ("registered", series_uid(1), 1),
        ("late", series_uid(1), 2),
        ("registered", series_uid(2), 1),
    ]


def test_what_cube_does_not_register_fails_with_what_is_known(
    places: Places, broker: str, login: Path, tmp_path: Path
) -> None:
    make_ledger(places)
    elsewhere = tmp_path / "elsewhere"
    with cube_of(broker, elsewhere, tmp_path) as cube, following(places, *confirmed(cube, broker, login, 1)) as stage:
        follows(places, "notify-cube")
        cube.status = 403
        bring(places, 1, 1, PatientSex="W")
        until(lambda: "pacs_users" in standing(places)["targets"]["notify-cube"]["fault"], 30)
        assert pending(places) == 1, "nothing is given up for that"
        cube.status = 200
        until(lambda: errors(places, "notify-cube"), 60)
        events = stage.stop()
    (failed,) = [event for event in events if event["event"] == "notify-failed"]
    assert (failed["SeriesInstanceUID"], failed["reason"]) == (series_uid(1), "not-registered")
    assert "5 times of 1 instances; adjusted: PatientSex" in failed["error"]
    assert len([event for event in events if event["event"] == "unconfirmed"]) == 4
    assert stage.stderr.count("pacs_users; what was sent waits") == 1, stage.stderr
    assert cube.refused == {(series_uid(1), "counts differ")}


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
def test_what_cannot_work_is_said_at_once_without_secrets(
    places: Places, given: tuple[str, ...], said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["notify", "check", *flags(places, *given)]) == 2
    error = capsys.readouterr().err
    assert said in error
    assert "secret" not in error
