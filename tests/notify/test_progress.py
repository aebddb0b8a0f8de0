"""Progress over NATS, decoded by the tests' own subscriber: early, never falling, not too often, and ended."""

from __future__ import annotations

import contextlib
import signal
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.dicomnet import free_port, storescp
from tests.instances import uid, write_instance
from tests.notify.servers import Subscriber, nats_server, subscriber
from tests.notify.stage import (
    CANARY,
    CHRIS,
    Running,
    ask,
    ended,
    following,
    follows,
    make_ledger,
    notify,
    said,
    series_uid,
    write,
)
from tests.reloading import reloading
from tests.service_process import Places, listener, service, settled
from tests.waiting import until

pytestmark = [pytest.mark.real, pytest.mark.slow]


@pytest.fixture
def nats() -> Iterator[str]:
    with nats_server() as (url, _):
        yield url


@pytest.fixture
def ear(nats: str) -> Iterator[Subscriber]:
    with subscriber(nats) as made:
        yield made


@pytest.fixture
def stage(places: Places, nats: str) -> Iterator[Running]:
    """The stage, which follows a collection."""
    make_ledger(places)
    with following(places, "--nats", nats) as made:
        follows(places, "notify-nats")
        yield made


def numbers(ear: Subscriber, series: str) -> list[int]:
    return [message[1] for message in ear.of(series) if message[0] == "number"]


def send(places: Places, folder: Path, senders: int, per_series: int) -> list[str]:
    """Eight senders at once, each four series in one association; the UIDs of all series."""
    for sender in range(senders):
        for series in range(4):
            for number in range(1, per_series + 1):
                name = folder / f"s{sender}" / f"{series}-{number}"
                name.parent.mkdir(parents=True, exist_ok=True)
                write_instance(name, patient=1, study=sender, series=series, number=number, PatientName=CANARY)
    titles = ["A.B", "A*B", "A>B", "A B", "PLAIN", "X_Y", "Z-1", "Q"]
    with storescp(places.incoming) as receiver:
        command = ["storescu", "+sd", "-aet"]
        target = ["127.0.0.1", str(receiver.port)]
        running = [
            subprocess.Popen([*command, titles[sender % 8], *target, str(folder / f"s{sender}")], text=True)
            for sender in range(senders)
        ]
        assert [process.wait(120) for process in running] == [0] * senders
    return [str(uid("series", 1, sender, series)) for sender in range(senders) for series in range(4)]


def test_eight_senders_at_once(places: Places, ear: Subscriber, stage: Running, tmp_path: Path) -> None:
    with reloading(places, "--layout", "oxidicom", series_quiet="3600") as (running, change):
        series = send(places, tmp_path / "sent", 8, 5)
        settled(running, 8 * 4 * 5)
        change(series_quiet="0.2")
        for one in series:
            until(lambda one=one: ("done",) in ear.of(one), 40, what=f"{one} is done")  # type: ignore[misc]
    for one in series:
        told = ear.of(one)
        assert told[-2:] == [("number", 5), ("done",)]
        assert told.count(("done",)) == 1
        assert numbers(ear, one) == sorted(numbers(ear, one))
    subjects = {subject.split(".")[1] for subject, _, _ in ear.told}
    assert subjects == {"A_B", "PLAIN", "X_Y", "Z-1", "Q"}
    events = stage.stop()
    assert CANARY.encode() not in stage.stdout + stage.stderr.encode()
    assert CANARY not in str(ear.told)
    assert events


def test_numbers_come_early_and_not_too_often(places: Places, ear: Subscriber, stage: Running) -> None:
    with service(places, "--layout", "oxidicom", "--series-quiet", "3600"):
        begun, number = time.monotonic(), 0
        while number < 30 or len(numbers(ear, series_uid(1))) < 3:  # They are told while others still come.
            number += 1
            write(places, 1, number)
            time.sleep(0.1)  # A sender is not faster.
        assert listener("expect", series_uid(1), str(number), "--state", str(places.state)).status == 0
        until(lambda: ("done",) in ear.of(series_uid(1)), 30)
    timed = ear.timed(series_uid(1))
    assert timed[0][0][0] == "number"
    progress = [at for message, at in timed[:-2] if message[0] == "number"]
    # Half a second lies between two; on its way to this process each may be held up for itself.
    assert len(progress) - 1 <= (timed[-1][1] - begun) / 0.5
    assert numbers(ear, series_uid(1)) == sorted(numbers(ear, series_uid(1)))
    assert [message for message, _ in timed[-2:]] == [("number", number), ("done",)]


def test_how_a_series_may_end(places: Places, ear: Subscriber, stage: Running) -> None:
    """One file; a second generation; one that lacks instances; a file that is set aside."""
    with service(places, *CHRIS, "--series-timeout", "1") as intake:
        write(places, 1, 1)
        until(lambda: ear.of(series_uid(1))[-2:] == [("number", 1), ("done",)], 40)
        write(places, 1, 2)
        until(lambda: ear.of(series_uid(1))[-2:] == [("number", 2), ("done",)], 40)
        said("expect", series_uid(2), "5", "--state", str(places.state))
        write(places, 2, 1)
        until(lambda: ("error", "incomplete: 1 of 5 instances") in ear.of(series_uid(2)), 40)
        assert ("done",) not in ear.of(series_uid(2))
        whole = write_instance(places.base / "whole", series=3, sender="MY PACS", PatientName=CANARY).read_bytes()
        (places.incoming / "cut").write_bytes(whole[:-10])
        until(lambda: ear.of(series_uid(3)), 40)
        (places.incoming / "nothing").write_bytes(b"no DICOM")
        until(lambda: len(intake.events("set-aside")) == 2, 40)
        write(places, 4, 1)
        until(lambda: ("done",) in ear.of(series_uid(4)), 40)
        aside = intake.events("set-aside")[0]
    assert ear.of(series_uid(3)) == [("error", f"a file was set aside: {aside['reason']}")]
    assert {subject.split(".")[1] for subject, _, _ in ear.told} == {"MY_PACS"}
    assert not any("UNKNOWN" in subject for subject, _, _ in ear.told)
    stage.stop()
    assert CANARY.encode() not in stage.stdout + stage.stderr.encode()
    assert CANARY not in str(ear.told)


def test_open_series_are_said_again_after_nats_was_away(places: Places) -> None:
    make_ledger(places)
    port = free_port()
    with service(places, "--layout", "oxidicom", "--series-quiet", "3600"), contextlib.ExitStack() as stack:
        with nats_server(port) as (url, _):
            ear = stack.enter_context(subscriber(url))
            stage = stack.enter_context(following(places, "--nats", url))
            follows(places, "notify-nats")
            for series in (1, 2):
                write(places, series, 1)
                until(lambda series=series: numbers(ear, series_uid(series)) == [1], 40)  # type: ignore[misc]
        stage.process.send_signal(signal.SIGSTOP)  # It connects when the subscriber has.
        write(places, 1, 2)
        grown = "SELECT 1 FROM series WHERE SeriesInstanceUID = ? AND instances = 2"
        until(lambda: ask(places, grown, series_uid(1)), 40)
        stack.enter_context(nats_server(port))
        ear.close()
        ear = stack.enter_context(subscriber(url))
        stage.process.send_signal(signal.SIGCONT)
        until(lambda: [numbers(ear, series_uid(series)) for series in (1, 2)] == [[2], [1]], 60)


def test_once_tells_what_is_due(places: Places, nats: str, ear: Subscriber) -> None:
    make_ledger(places)
    assert notify(places, "once", "--nats", nats).status == 0
    with service(places, *CHRIS):
        for series in (1, 2):
            write(places, series, 1)
            ended(places, series)
            done = notify(places, "once", "--nats", nats)
            assert done.status == 0, done.stderr
            told = [("number", 1), ("done",)]
            until(lambda series=series, told=told: ear.of(series_uid(series)) == told)  # type: ignore[misc]
