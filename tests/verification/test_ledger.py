"""`listener verify` on the ledger: it has what the logs describe, or is brought in line, or is made anew."""

from __future__ import annotations

import contextlib
import os
import sqlite3
import time
from dataclasses import replace
from pathlib import Path

import orjson
import pytest

from listener.ledger import deliveries, maintenance
from listener.ledger.connection import migrate, open_writer, path_of
from listener.ledger.reader import reading
from listener.ledger.rows import SeriesRow
from listener.ledger.writer import LedgerWriter
from listener.verification import verify
from tests.instances import uid
from tests.workbench import Bench

SERIES = str(uid("series", 0, 0, 0))


@pytest.fixture
def bench(tmp_path: Path) -> Bench:
    """Three instances of one series and one of another, recorded; all of it lies there for a while."""
    made = Bench(tmp_path)
    outcomes = [made.publish(f"a{number}", number=number) for number in (1, 2, 3)]
    outcomes.append(made.publish("b", series=1))
    clerk = LedgerWriter(made.config)
    clerk.record(outcomes, 0.0, time.time_ns())
    clerk.close()
    _age(made)
    return made


def _age(bench: Bench, seconds: int = 100_000) -> None:
    long_ago = time.time() - seconds
    for folder, _, names in os.walk(bench.log):
        for path in (*(os.path.join(folder, name) for name in names), folder):
            os.utime(path, (long_ago, long_ago))


def _old(bench: Bench) -> list[SeriesRow]:
    with contextlib.closing(open_writer(path_of(bench.config.state))) as connection:
        return maintenance.old_series(connection, time.time_ns() + 10**9)


def found(
    bench: Bench, capsys: pytest.CaptureFixture[str], *, repair: bool = False
) -> list[tuple[str, int, bool | None]]:
    """(difference, instances, repaired) of each line."""
    status = verify.run(bench.config, verify.Request(repair=repair, json=True))
    lines = [orjson.loads(line) for line in capsys.readouterr().out.splitlines()]
    told = [(line["difference"], line["count"], line.get("repaired")) for line in lines]
    assert status == int(any(not one[2] for one in told))
    return told


def execute(bench: Bench, *statements: str) -> None:
    with contextlib.closing(open_writer(path_of(bench.config.state))) as connection:
        for statement in statements:
            connection.execute(statement)


def recorded(bench: Bench) -> dict[str, tuple[str, str, int, str, str]]:
    with reading(bench.config.state) as reader:
        return {
            row.SeriesInstanceUID: (row.state, row.result, row.instances, row.PatientID, row.sender)
            for row in reader.listed()
        }


def test_a_ledger_that_is_right_is_no_difference(bench: Bench, capsys: pytest.CaptureFixture[str]) -> None:
    assert found(bench, capsys) == []
    assert found(bench, capsys, repair=True) == []


def test_what_it_lacks_and_what_it_has_too_much_is_told_and_mended(
    bench: Bench, capsys: pytest.CaptureFixture[str]
) -> None:
    execute(
        bench,
        "DELETE FROM instances WHERE series_id = 1 AND name LIKE '0001%'",
        "INSERT INTO instances VALUES (2, '1.9', 1, '0009-1.9.dcm', 5, 0)",
    )
    assert sorted(found(bench, capsys)) == [("not-in-ledger", 1, None), ("only-in-ledger", 1, None)]
    assert len(found(bench, capsys, repair=True)) == 2
    assert found(bench, capsys) == []
    assert recorded(bench)[SERIES][2] == 3


@pytest.mark.parametrize("change", ["PatientID = 'FORMER'", "AccessionNumber = 'FORMER'"])
def test_another_patient_or_accession_is_told_and_mended(
    change: str, bench: Bench, capsys: pytest.CaptureFixture[str]
) -> None:
    before = recorded(bench)
    execute(bench, f"UPDATE series SET {change} WHERE id = 1")  # noqa: S608 -- two texts of ours
    assert found(bench, capsys) == [("wrong-in-ledger", 1, None)]
    assert found(bench, capsys, repair=True) == [("wrong-in-ledger", 1, True)]
    assert found(bench, capsys) == []
    assert recorded(bench) == before


@pytest.mark.parametrize(
    "change",
    [
        "UPDATE series SET patient_id = 0",
        "UPDATE patients SET PatientName = 'Former'",
        "UPDATE series SET SeriesDescription = 'former'",
    ],
)
def test_what_headers_say_is_compared_and_mended(change: str, bench: Bench, capsys: pytest.CaptureFixture[str]) -> None:
    with reading(bench.config.state) as reader:
        before = [row[1:] for row in reader.studies()], [row[1:] for row in reader.listed()]
    execute(bench, f"{change} WHERE id = 1")
    assert ("wrong-in-ledger", 1, None) in found(bench, capsys)
    found(bench, capsys, repair=True)
    assert found(bench, capsys) == []
    with reading(bench.config.state) as reader:
        assert before == ([row[1:] for row in reader.studies()], [row[1:] for row in reader.listed()])


def test_an_older_ledger_is_brought_up_with_what_headers_say(bench: Bench, capsys: pytest.CaptureFixture[str]) -> None:
    path, older = path_of(bench.config.state), path_of(bench.config.state) + ".older"
    with reading(bench.config.state) as reader:
        before = [row[1:] for row in reader.studies()], [row[1:] for row in reader.listed()]
    with contextlib.closing(sqlite3.connect(older, isolation_level=None)) as connection:
        migrate(connection, 6)
        connection.execute("ATTACH ? AS newer", (path,))
        for table in ("series", "instances", "folders", "history"):
            names = connection.execute("SELECT name FROM pragma_table_info(?, 'main')", (table,)).fetchall()
            columns = ", ".join(name for (name,) in names)
            connection.execute(f"INSERT INTO main.{table} SELECT {columns} FROM newer.{table}")  # noqa: S608 -- ours
    for ending in ("-wal", "-shm"):
        Path(path + ending).unlink(missing_ok=True)
    os.replace(older, path)
    assert ("bad-ledger", 1, None) in found(bench, capsys)
    found(bench, capsys, repair=True)
    with reading(bench.config.state) as reader:
        assert before == ([row[1:] for row in reader.studies()], [row[1:] for row in reader.listed()])
    assert found(bench, capsys) == []


def test_one_instance_uid_in_two_series_is_told(bench: Bench, capsys: pytest.CaptureFixture[str]) -> None:
    outcome = bench.publish("c", series=1, number=7, SOPInstanceUID=str(uid("instance", 0, 0, 0, 1)))
    clerk = LedgerWriter(bench.config)
    clerk.record([outcome], 0.0, time.time_ns())
    clerk.close()
    _age(bench)
    assert found(bench, capsys) == [("duplicate", 1, None)]
    assert found(bench, capsys, repair=True) == [("duplicate", 1, False)]


def test_a_series_that_is_gone_is_told_and_one_that_was_pruned_is_not(
    bench: Bench, capsys: pytest.CaptureFixture[str]
) -> None:
    execute(bench, "INSERT INTO series (SeriesInstanceUID, instances, pruned_ns) VALUES ('1.8', 5, 7)")
    assert found(bench, capsys) == []
    execute(
        bench,
        "INSERT INTO series (id, SeriesInstanceUID, instances) VALUES (77, '1.7', 1)",
        "INSERT INTO instances VALUES (77, '1.7.1', 1, 'x.dcm', 5, 0)",
    )
    assert found(bench, capsys) == [("only-in-ledger", 1, None)]
    assert found(bench, capsys, repair=True) == [("only-in-ledger", 1, True)]
    assert found(bench, capsys) == []


@pytest.mark.parametrize("lost", [False, True], ids=["moved", "made anew"])
def test_the_ledger_points_to_the_tree_that_it_was_repaired_from(bench: Bench, *, lost: bool) -> None:
    moved = bench.data.rename(bench.data.with_name("elsewhere"))
    if lost:
        Path(path_of(bench.config.state)).unlink()
    assert verify.run(replace(bench.config, data=str(moved)), verify.Request(repair=True)) == 0
    with reading(bench.config.state) as reader:
        assert reader.data_dir() == str(moved)


@pytest.mark.parametrize("age", [100_000, 0], ids=["old", "restored just now"])
def test_a_lost_ledger_is_made_anew_and_tells_nobody_of_the_past(
    bench: Bench, capsys: pytest.CaptureFixture[str], age: int
) -> None:
    _age(bench, age)
    (bench.log / "seriesData" / f"{uid('series', 0, 0, 1)}-retrieve.json").write_text(
        '{"NumberOfSeriesRelatedInstances": "2"}'
    )
    before = recorded(bench)
    Path(path_of(bench.config.state)).unlink()
    assert found(bench, capsys) == [], "nobody knows whether there should be one"
    with contextlib.closing(open_writer(path_of(bench.config.state))) as connection:
        deliveries.register(connection, "webhook", 0)
    assert all(one[2] for one in found(bench, capsys, repair=True))
    with contextlib.closing(sqlite3.connect(path_of(bench.config.state))) as connection:
        assert not connection.execute("SELECT 1 FROM deliveries").fetchall()
    assert [old.SeriesInstanceUID for old in _old(bench)] == [SERIES], "nobody is to take it, so it may go"
    Path(path_of(bench.config.state)).unlink()
    status = verify.run(bench.config, verify.Request(repair=True))
    assert status == 0
    assert "made anew: 2 series" in capsys.readouterr().err
    after = recorded(bench)
    assert {name: row[2:] for name, row in after.items()} == {name: row[2:] for name, row in before.items()}
    assert after[SERIES][:2] == ("complete", "recounted")
    assert after[str(uid("series", 0, 0, 1))][:2] == ("incomplete", "incomplete")
    with contextlib.closing(sqlite3.connect(path_of(bench.config.state))) as connection:
        assert not connection.execute("SELECT 1 FROM history WHERE announced = 0").fetchall()
    assert found(bench, capsys) == []


def test_without_a_state_directory_no_ledger_is_made_and_that_is_told(
    bench: Bench, capsys: pytest.CaptureFixture[str]
) -> None:
    """Who moves over from another program, and mistypes --state, would else wait for a ledger in vain."""
    config = replace(bench.config, state=f"{bench.state}/mistyped")
    assert verify.run(config, verify.Request(repair=True)) == 0
    assert "no ledger is made: the directory" in capsys.readouterr().err
    assert not os.path.exists(config.state)
    assert verify.run(config, verify.Request(repair=False)) == 0
    assert "no ledger is made" not in capsys.readouterr().err


def test_a_damaged_ledger_is_told_kept_and_made_anew(bench: Bench, capsys: pytest.CaptureFixture[str]) -> None:
    path = Path(path_of(bench.config.state))
    path.write_bytes(b"nonsense" * 999)
    assert found(bench, capsys) == [("bad-ledger", 1, None)]
    assert found(bench, capsys, repair=True) == [("bad-ledger", 1, True)]
    assert recorded(bench)[SERIES][2] == 3
    (kept,) = path.parent.glob("ledger.sqlite.damaged-*")
    assert kept.read_bytes() == b"nonsense" * 999


def test_a_layout_whose_names_hold_no_uid_is_counted_by_headers(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    bench = Bench(tmp_path, image_template="%SeriesInstanceUID-%InstanceNumber")
    outcome = bench.publish("a", number=4)
    _age(bench)
    verify.run(bench.config, verify.Request(repair=True))
    with contextlib.closing(sqlite3.connect(path_of(bench.config.state))) as connection:
        assert connection.execute("SELECT SOPInstanceUID FROM instances").fetchall() == [(outcome.SOPInstanceUID,)]
