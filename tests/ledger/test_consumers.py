"""`listener hooks`: who is to be told, how that goes, and what becomes of what was not told."""

from __future__ import annotations

import contextlib
import json
import re
import sqlite3
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from listener import cli
from listener.ledger import consumers, deliveries, generations, maintenance
from listener.ledger.completion import Completion
from listener.ledger.connection import open_writer, path_of, transaction
from listener.ledger.interests import Interest, text_of
from tests.service_process import Places, listener, service


@pytest.fixture
def ledger(tmp_path: Path) -> Iterator[sqlite3.Connection]:
    """A webhook that took a series, missed one and is to hear of one; and a stage that nothing was told yet."""
    with contextlib.closing(open_writer(path_of(str(tmp_path)))) as connection:
        number = deliveries.register(connection, "webhook", 0)
        for uid in ("1.1", "1.2", "1.3"):
            end(connection, uid)
        taken, missed, waiting = deliveries.lease(connection, number, 10, 20, limit=3)
        deliveries.settle(connection, taken, "delivered", 11)
        deliveries.settle(connection, missed, "failed", 12, error="it answered 500")
        deliveries.settle(connection, waiting, "pending", 13, next_ns=2**62, error="nobody there")
        deliveries.register(connection, "stage", 14)
        yield connection


def end(connection: sqlite3.Connection, uid: str) -> None:
    with transaction(connection):
        row = generations.begin(connection, uid, 1)
        assert generations.end(connection, row.id, Completion(uid, "", 1, 0, 0, "quiet"), 2)


def hooks(state: Path, capsys: pytest.CaptureFixture[str], *words: str) -> tuple[int, list[dict[str, Any]], str]:
    """Exit status, what it told, and what it said beside."""
    try:
        status = cli.main(["hooks", *words, "--state", str(state), "--json"])
    except SystemExit as leaving:
        status = int(leaving.code or 0)
    said = capsys.readouterr()
    return status, [json.loads(line) for line in said.out.splitlines()], said.err


def counts(state: Path, capsys: pytest.CaptureFixture[str]) -> dict[str, tuple[str, int, int, int]]:
    status, rows, _ = hooks(state, capsys)
    assert status == 0
    return {row["name"]: (row["state"], row["delivered"], row["pending"], row["failed"]) for row in rows}


def test_a_list_of_who_is_told_and_how_that_goes(
    tmp_path: Path, ledger: sqlite3.Connection, capsys: pytest.CaptureFixture[str]
) -> None:
    consumers.stop(ledger, 2, "it answered 410")
    assert hooks(tmp_path, capsys)[1] == [
        {
            "name": "stage",
            "state": "stopped",
            "delivered": 0,
            "pending": 0,
            "failed": 0,
            "oldest": "",
            "error": "it answered 410",
        },
        {
            "name": "webhook",
            "state": "active",
            "delivered": 1,
            "pending": 1,
            "failed": 1,
            "oldest": "1970-01-01T00:00:00.000000Z",
            "error": "nobody there",
        },
    ]
    assert cli.main(["hooks", "--state", str(tmp_path)]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].split("  ")[0] == "hook"
    assert [line.split()[:2] for line in lines[1:]] == [["stage", "stopped"], ["webhook", "active"]]


@pytest.mark.parametrize(
    ("action", "number", "after"),
    [
        ("retire", 1, ("retired", 1, 0, 2)),
        ("redeliver", 2, ("active", 1, 2, 0)),
        ("forget", 1, ("active", 1, 1, 0)),
    ],
)
def test_an_act_is_shown_and_done_when_it_is_meant(
    tmp_path: Path,
    ledger: sqlite3.Connection,
    capsys: pytest.CaptureFixture[str],
    action: str,
    number: int,
    after: tuple[str, int, int, int],
) -> None:
    before = counts(tmp_path, capsys)
    told = {"name": "webhook", "action": action, "deliveries": number}
    assert hooks(tmp_path, capsys, action, "webhook")[:2] == (0, [{**told, "done": False}])
    assert counts(tmp_path, capsys) == before
    assert hooks(tmp_path, capsys, action, "webhook", "--yes")[:2] == (0, [{**told, "done": True}])
    assert counts(tmp_path, capsys) == {**before, "webhook": after}
    rows = ledger.execute("SELECT state, count(*) FROM deliveries GROUP BY state").fetchall()
    counted = ledger.execute("SELECT state, deliveries FROM delivery_counts WHERE deliveries > 0").fetchall()
    assert sorted(rows) == sorted(counted), "the triggers count what went"


def test_what_is_redelivered_is_due_at_once(
    tmp_path: Path, ledger: sqlite3.Connection, capsys: pytest.CaptureFixture[str]
) -> None:
    consumers.stop(ledger, 1, "it answered 410")
    assert hooks(tmp_path, capsys, "redeliver", "webhook", "--yes")[0] == 0
    assert counts(tmp_path, capsys)["webhook"] == ("active", 1, 2, 0)
    now_ns = time.time_ns()
    due = deliveries.lease(ledger, 1, now_ns, now_ns + 5, limit=9)
    assert [(one.key, one.attempts) for one in due] == [("1.2/1", 1), ("1.3/1", 2)]


@pytest.mark.parametrize(
    ("words", "status", "said"),
    [
        (("retire",), 2, "give retire NAME"),
        (("retire", "nobody"), 1, "knows no such hook; 'listener hooks' lists them: nobody"),
        (("retire", "nobody", "--yes"), 1, "knows no such hook"),
        (
            ("sing", "webhook"),
            2,
            "there is no 'sing'; give a NAME alone, or one of test",
        ),
        (("retire", "webhook", "1.2"), 2, "'1.2' is too much; give retire NAME"),
        (("redeliver", "webhook", "1.2", "x"), 2, "'x' is too much"),
        (("redeliver", "webhook", "9.9"), 1, "told nothing of such a series or study; 'listener series UID' shows"),
        (("redeliver", "webhook", "1.2", "--failed"), 2, "--failed is for 'redeliver NAME' without a UID"),
        (("retire", "webhook", "--failed"), 2, "--failed is for"),
        (("retire", "webhook", "--yes", "--dry-run"), 2, "exclude each other"),
        (("test", "webhook"), 1, "No such hook is configured here"),
        (("nobody",), 1, "knows no such hook"),
    ],
)
def test_what_cannot_be_done_is_said(
    tmp_path: Path,
    ledger: sqlite3.Connection,
    capsys: pytest.CaptureFixture[str],
    words: tuple[str, ...],
    status: int,
    said: str,
) -> None:
    found = hooks(tmp_path, capsys, *words)
    assert (found[0], found[1]) == (status, [])
    assert said in found[2]


def test_only_what_failed_is_redelivered_where_that_is_asked(
    tmp_path: Path, ledger: sqlite3.Connection, capsys: pytest.CaptureFixture[str]
) -> None:
    told = {"name": "webhook", "action": "redeliver", "deliveries": 1, "done": True}
    assert hooks(tmp_path, capsys, "redeliver", "webhook", "--failed", "--yes")[:2] == (0, [told])
    now_ns = time.time_ns()
    assert [one.key for one in deliveries.lease(ledger, 1, now_ns, now_ns + 5, limit=9)] == ["1.2/1"]


def test_a_uid_is_told_again_also_if_it_was_taken(
    tmp_path: Path, ledger: sqlite3.Connection, capsys: pytest.CaptureFixture[str]
) -> None:
    before = counts(tmp_path, capsys)
    told = {"name": "webhook", "action": "redeliver", "deliveries": 1}
    assert hooks(tmp_path, capsys, "redeliver", "webhook", "1.1")[:2] == (0, [{**told, "done": False}])
    assert counts(tmp_path, capsys) == before
    assert hooks(tmp_path, capsys, "redeliver", "webhook", "1.1", "--yes")[:2] == (0, [{**told, "done": True}])
    now_ns = time.time_ns()
    assert [(one.key, one.attempts) for one in deliveries.lease(ledger, 1, now_ns, now_ns + 5)] == [("1.1/1", 1)]


def test_one_with_what_it_wants_and_what_waits(
    tmp_path: Path, ledger: sqlite3.Connection, capsys: pytest.CaptureFixture[str]
) -> None:
    status, (one,), _ = hooks(tmp_path, capsys, "webhook")
    assert (status, one["name"], one["failed"]) == (0, "webhook", 1)
    assert one["wants"]["events"] == ["series-complete", "series-incomplete", "set-aside"]
    assert [(row["subject"], row["state"], row["error"]) for row in one["deliveries"]] == [
        ("1.2", "failed", "it answered 500"),
        ("1.3", "pending", "nobody there"),
    ]
    assert cli.main(["hooks", "webhook", "--state", str(tmp_path)]) == 0
    shown = capsys.readouterr().out
    assert re.search("^events +series-complete, series-incomplete, set-aside$", shown, re.MULTILINE)
    assert "it answered 500" in shown


def test_nothing_is_told_again_to_who_is_retired(
    tmp_path: Path, ledger: sqlite3.Connection, capsys: pytest.CaptureFixture[str]
) -> None:
    assert hooks(tmp_path, capsys, "retire", "webhook", "--yes")[0] == 0
    status, _, said = hooks(tmp_path, capsys, "redeliver", "webhook", "--yes")
    assert status == 1
    assert "is retired" in said
    assert hooks(tmp_path, capsys, "forget", "webhook", "--yes")[0] == 0
    assert counts(tmp_path, capsys)["webhook"] == ("retired", 1, 0, 0)


def test_without_a_ledger_none_is_made(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for words in ((), ("retire", "webhook", "--yes")):
        status, _, said = hooks(tmp_path, capsys, *words)
        assert status == 1
        assert "There is no ledger" in said
    assert not list(tmp_path.iterdir())


def test_what_failed_keeps_its_series_until_it_is_forgotten(ledger: sqlite3.Connection) -> None:
    deliveries.retire(ledger, "stage", 15)

    def free() -> list[str]:
        return [old.SeriesInstanceUID for old in maintenance.old_series(ledger, 100)]

    assert free() == ["1.1"]
    consumers.forget(ledger, 1)
    assert free() == ["1.1", "1.2"], "of the third it is still to hear"


def test_what_was_delivered_is_that_also_when_its_consumer_was_retired_meanwhile(ledger: sqlite3.Connection) -> None:
    consumers.redeliver(ledger, 1, 20)
    failed, delivered = deliveries.lease(ledger, 1, 30, 40, limit=2)
    deliveries.retire(ledger, "webhook", 31)
    assert not deliveries.settle(ledger, failed, "pending", 32, next_ns=33)
    assert deliveries.settle(ledger, delivered, "delivered", 32)
    found = ledger.execute("SELECT state, error FROM deliveries WHERE id <> 1 ORDER BY id").fetchall()
    assert sorted(found) == [("delivered", ""), ("failed", deliveries.RETIRED)]


def test_what_was_missed_while_retired_is_added_by_senders_and_modalities(ledger: sqlite3.Connection) -> None:
    """Also a sender with a comma, and a study that has no series any more: a correction took them."""
    wants = text_of(Interest(("series-complete", "study-complete"), senders=("CT,1",)))
    number = deliveries.register(ledger, "picky", 20, wants=wants)
    seen = consumers.position(ledger, number)
    assert seen
    deliveries.retire(ledger, "picky", 21)
    end(ledger, "1.4")
    ledger.execute("UPDATE series SET sender = 'CT,1' WHERE SeriesInstanceUID = '1.4'")
    with transaction(ledger):
        ledger.execute("INSERT INTO study_states (StudyInstanceUID, state) VALUES ('9', 'complete')")
        ledger.execute("INSERT INTO study_ends VALUES (1, 1, 1, 22, 'complete', 0, 0, 0, 0, 0)")
    consumers.resume(ledger, number, seen, 20, 23)
    assert [one.key for one in deliveries.lease(ledger, number, 30, 40, limit=9)] == ["1.4/1"]


def test_a_delivery_of_which_nothing_is_there_fails(ledger: sqlite3.Connection) -> None:
    """Whoever removes rows by hand ends no thread."""
    consumers.redeliver(ledger, 1, 20)
    ledger.execute("DELETE FROM series WHERE SeriesInstanceUID = '1.2'")
    assert [one.key for one in deliveries.lease(ledger, 1, 30, 40, limit=9)] == ["1.3/1"]
    rows = ledger.execute("SELECT state FROM deliveries ORDER BY id").fetchall()
    assert [state for (state,) in rows] == ["delivered", "failed", "pending"]


def test_each_listener_owns_its_own(ledger: sqlite3.Connection) -> None:
    here, there = consumers.owner_of(["/a", "/b"]), consumers.owner_of(["/b"])
    assert here != there
    assert consumers.served_by(ledger, here) == {"webhook"}, "nobody knows whose it is"
    deliveries.register(ledger, "webhook", 20, owner=here)
    assert consumers.served_by(ledger, here) == {"webhook"}
    assert consumers.served_by(ledger, there) == set()
    deliveries.register(ledger, "webhook", 20, owner=there, takes_over=False)
    assert consumers.served_by(ledger, here) == {"webhook"}, "a command that serves it for a moment takes nothing over"
    deliveries.retire(ledger, "webhook", 21)
    assert consumers.served_by(ledger, here) == set()


@pytest.mark.real
def test_a_running_service_registers_its_hook_again_and_the_command_says_so(places: Places) -> None:
    with service(places, "--on-series-complete", "http://127.0.0.1:9/") as running:
        done = listener("hooks", "retire", "webhook", "--yes", "--state", str(places.state))
        assert done.status == 1
        assert "take its option away" in done.stderr
        assert "registered again" in running.stderr
    done = listener("hooks", "retire", "webhook", "--yes", "--state", str(places.state))
    assert done.status == 0, done.stderr
