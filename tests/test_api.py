"""`listener.api`: what programs of others may use; the example of the documents runs as it stands there."""

from __future__ import annotations

import inspect
import os
import re
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import orjson
import pytest

from listener import api
from listener.hooks.payload import Payload, header_fields, key_of
from listener.ledger.connection import open_writer, path_of
from tests.conftest import PROJECT
from tests.instances import uid, write_instance
from tests.ledger_bench import HEADER, LedgerBench
from tests.service_process import Places, environment, service
from tests.waiting import until

EXAMPLE = re.findall(r"```python\n(.*?)```", (PROJECT / "docs/ledger.md").read_text(encoding="utf-8"), re.DOTALL)[0]


def test_every_name_is_there_and_told() -> None:
    assert sorted(api.__all__, key=str.casefold) == sorted(set(api.__all__), key=str.casefold)
    for name in api.__all__:
        if name != "Take":
            assert inspect.getdoc(getattr(api, name)), name


def test_studies_series_and_files_are_found(tmp_path: Path) -> None:
    bench = LedgerBench(tmp_path)
    bench.receive("a", number=1, **HEADER)
    bench.receive("b", number=2, **HEADER)
    with api.open_ledger(str(bench.state)) as ledger:
        (study,) = ledger.find(api.Search(name="muller", dates=("20260101", "")))
        (series,) = ledger.series_of(study)
        paths = [bench.data / path for path in ledger.paths_of(series)]
    assert len(paths) == 2
    assert all(path.is_file() for path in paths)
    assert api.shown(study, phi=True)["PatientName"] == "Müller^Änne"
    bench.clerk.close()


# -- deliveries --------------------------------------------------------------------------------------------------------


def delivered(bench: LedgerBench) -> list[tuple[str, int, str]]:
    connection = open_writer(path_of(str(bench.state)))
    rows = connection.execute("SELECT state, attempts, error FROM deliveries ORDER BY id").fetchall()
    connection.close()
    return rows


def registered(bench: LedgerBench) -> bool:
    connection = open_writer(path_of(str(bench.state)))
    found = connection.execute("SELECT 1 FROM consumers WHERE name = 'mine'").fetchone()
    connection.close()
    return bool(found)


def end_a_series(bench: LedgerBench) -> None:
    until(lambda: registered(bench), 30, what="the consumer to be registered")
    bench.receive("a", number=1, **HEADER)
    bench.tick(11.0)


def test_what_is_taken_is_delivered_and_what_raises_is_tried_again(tmp_path: Path) -> None:
    bench = LedgerBench(tmp_path)
    seen: list[api.Delivery] = []
    ready = threading.Event()

    def take(delivery: api.Delivery, renew: Callable[[], None]) -> None:
        seen.append(delivery)
        renew()
        if len(seen) == 1:
            raise RuntimeError("a defect of mine, with a name in it: Müller")
        ready.set()

    with api.follow(str(bench.state), "mine", take):
        end_a_series(bench)
        assert ready.wait(120)
        until(lambda: [row[:2] for row in delivered(bench)] == [("delivered", 2)], 30, what="the delivery")
    first, second = seen
    assert first.key == second.key
    assert first.series
    assert first.series.SeriesDescription == "t1 ax"
    assert (first.attempts, second.attempts) == (1, 2)
    bench.clerk.close()


def test_a_failure_is_told_without_its_text(tmp_path: Path) -> None:
    bench = LedgerBench(tmp_path)

    def take(delivery: api.Delivery, _: Callable[[], None]) -> None:
        assert delivery.series
        raise KeyError(delivery.series.PatientID)

    with api.follow(str(bench.state), "mine", take):
        end_a_series(bench)
        until(lambda: any(error for *_, error in delivered(bench)), 30, what="the failure")
    ((state, _, error),) = delivered(bench)
    assert state == "pending"
    assert "KeyError" in error
    assert "M 17" not in error
    bench.clerk.close()


@pytest.mark.parametrize(
    ("name", "interest", "told"),
    [
        ("Export", api.Interest(), "no name"),
        ("retire", api.Interest(), "no name"),
        ("export", api.Interest(("study-done",)), "no 'study-done'; give some of series-complete"),
        ("export", api.Interest(results=("done",)), "no 'done'; give some of expected"),
        ("export", api.Interest("study-complete"), "events: 'study-complete' is one text"),  # type: ignore[arg-type]
        ("export", api.Interest(senders="CT1"), "senders: 'CT1' is one text"),  # type: ignore[arg-type]
    ],
)
def test_what_would_never_be_told_is_refused(tmp_path: Path, name: str, interest: api.Interest, told: str) -> None:
    with (
        pytest.raises((TypeError, ValueError), match=told),
        api.follow(str(tmp_path), name, lambda _, __: None, interest),
    ):
        pass


def test_following_makes_no_ledger(tmp_path: Path) -> None:
    with pytest.raises(api.LedgerMissing), api.follow(str(tmp_path), "export", lambda _, __: None):
        pass
    assert not list(tmp_path.iterdir())


@contextmanager
def stage(places: Places, target: Path) -> Iterator[subprocess.Popen[bytes]]:
    """The example of the documents, as a program."""
    program = places.base / "export.py"
    program.write_text(EXAMPLE, encoding="utf-8")
    command = [sys.executable, str(program), str(places.state), str(places.data), str(target)]
    with subprocess.Popen(command, env=environment(PYTHONPATH=str(PROJECT))) as running:
        try:
            yield running
        finally:
            running.kill()


def exported(target: Path) -> set[str]:
    return {path.name for path in target.rglob("*.dcm")}


def bring(places: Places, series: int, count: int) -> None:
    for number in range(1, count + 1):
        path = write_instance(places.base / f"{series}-{number}", series=series, number=number)
        os.rename(path, places.incoming / path.name)


@pytest.mark.real
def test_the_example_takes_each_study_over_a_kill_and_late_series(places: Places, tmp_path: Path) -> None:
    target = tmp_path / "exported"
    with service(places, "--series-quiet=0.2", "--study-quiet=0.2") as running:
        with stage(places, target) as first:
            until(lambda: _is_registered(places), 30, what="the stage to register")
            bring(places, 0, 3)
            bring(places, 1, 2)
            until(lambda: len(exported(target)) == 5, 60, what="the first five")
            first.send_signal(signal.SIGKILL)
        bring(places, 2, 4)
        running.wait_for("study-complete", 2)
        assert len(exported(target)) == 5
        (folder,) = target.iterdir()
        assert folder.name == str(uid("study", 0, 0))
        with stage(places, target) as second:
            until(lambda: len(exported(target)) == 9, 60, what="what came meanwhile")
            second.send_signal(signal.SIGTERM)
            assert second.wait(120) == 0
    there = {path.name: path.read_bytes() for path in Path(places.data).rglob("*.dcm")}
    assert {path.name: path.read_bytes() for path in target.rglob("*.dcm")} == there
    assert not list(target.rglob("*.part"))


def _is_registered(places: Places) -> bool:
    connection = open_writer(path_of(str(places.state)))
    found = connection.execute("SELECT 1 FROM consumers WHERE name = 'export'").fetchone()
    connection.close()
    return bool(found)


# -- signatures --------------------------------------------------------------------------------------------------------

SECRET = b"whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw\n"
BODY = orjson.dumps({"event": "series-complete", "key": "1.2/1"})
NOW = 1_700_000_000


def fields(secret: bytes = SECRET, body: bytes = BODY, seconds: int = NOW) -> dict[str, str]:
    return header_fields(Payload("1.2/1", "series-complete", body), key_of(secret), seconds)


def test_a_signed_message_is_read() -> None:
    assert api.verify_hook(BODY, fields(), SECRET, now=NOW + 299) == orjson.loads(BODY)
    lower = {name.lower(): value for name, value in fields().items()}
    assert api.verify_hook(BODY, lower, SECRET, now=NOW)
    rotated = {**lower, "webhook-signature": f"v1,AAAA {lower['webhook-signature']} v2,x"}
    assert api.verify_hook(BODY, rotated, SECRET, now=NOW), "one of several signatures suffices"
    assert api.verify_hook(BODY, fields(seconds=int(time.time())), SECRET)


@pytest.mark.parametrize(
    ("body", "changed", "secret", "now"),
    [
        (BODY + b" ", {}, SECRET, NOW),
        (BODY, {"Webhook-Id": "1.2/2"}, SECRET, NOW),
        (BODY, {"Webhook-Timestamp": str(NOW + 1)}, SECRET, NOW),
        (BODY, {"Webhook-Signature": ""}, SECRET, NOW),
        (BODY, {"Webhook-Signature": "v1,\udcff"}, SECRET, NOW),
        (BODY, {}, b"another", NOW),
        (BODY, {}, b"", NOW),
        (BODY, {}, SECRET, NOW + 301),
        (BODY, {}, SECRET, NOW - 301),
    ],
)
def test_any_other_is_refused(body: bytes, changed: dict[str, Any], secret: bytes, now: int) -> None:
    with pytest.raises(api.InvalidSignature):
        api.verify_hook(body, {**fields(), **changed}, secret, now=now)


def test_no_secret_is_no_signature() -> None:
    with pytest.raises(api.InvalidSignature):
        api.verify_hook(BODY, fields(b""), b"", now=NOW)
