"""`listener series`, `expect`, `report` and `prune`, as people and programs run them."""

from __future__ import annotations

import contextlib
import csv
import io
import itertools
import os
import sqlite3
import time
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import orjson
import pytest

from listener import cli
from listener.commands import expect, prune, report, series
from listener.commands._table import commas
from listener.config import Config
from listener.errors import ConfigError, LedgerMissing, UnknownSeries
from listener.ledger import accounts, batches, deliveries, maintenance
from listener.ledger.connection import migrate, open_writer, path_of, transaction
from listener.ledger.reader import Reader, reading
from listener.ledger.rows import shown
from listener.moments import LAST, moment_of
from tests.instances import uid
from tests.ledger_bench import LedgerBench
from tests.service_process import listener
from tests.workbench import Bench, contents

DAY = 86_400 * 10**9


@pytest.fixture
def kept(tmp_path: Path) -> Iterator[LedgerBench]:
    made = LedgerBench(tmp_path)
    yield made
    made.clerk.close()


@pytest.fixture
def filled(kept: LedgerBench) -> LedgerBench:
    """Three series: a complete one of two, an open CT one, and a file that was set aside."""
    kept.receive("a1", number=1, sent_by="PACS\tONE")
    kept.receive("a2", number=2, sent_by="PACS\tONE")
    kept.tick(10)
    kept.receive("b1", series=1, Modality="CT", PatientID="SECRET")
    bad = kept.incoming / "bad"
    bad.write_bytes(b"nothing of the kind")
    kept.clerk.record([kept.outcome(bad)], kept.now, time.time_ns())
    kept.tick()
    return kept


def lines(text: str) -> list[dict[str, object]]:
    return [orjson.loads(line) for line in text.splitlines()]


# -- series ------------------------------------------------------------------------------------------------------------


def test_series_are_listed_newest_first(filled: LedgerBench, capsys: pytest.CaptureFixture[str]) -> None:
    assert series.show(filled.config, series.Request()) == 0
    head, newest, older = capsys.readouterr().out.splitlines()
    assert head.split()[-1] == "series"
    assert {"CT", "SENDER", str(uid("series", 0, 0, 1))} <= set(newest.split())
    assert "complete" in older
    assert "PACS\N{REPLACEMENT CHARACTER}ONE" in older, "a name moves no cursor"
    series.show(filled.config, series.Request(only="complete", limit=0, json=True))
    (one,) = lines(capsys.readouterr().out)
    assert (one["instances"], one["result"], one["PatientID"]) == (2, "quiet", "P0000")
    assert "id" not in one


def test_one_series_with_its_history_and_its_patient(filled: LedgerBench, capsys: pytest.CaptureFixture[str]) -> None:
    asked = series.Request(str(uid("series", 0, 0, 0)), json=True)
    assert series.show(filled.config, asked) == 0
    (one,) = lines(capsys.readouterr().out)
    assert (one["PatientID"], one["AccessionNumber"]) == ("P0000", "A00")
    assert [step["state"] for step in one["history"]] == ["open", "complete"]  # type: ignore[attr-defined]
    assert one["study"]["state"] == "open"  # type: ignore[index]
    assert series.show(filled.config, asked._replace(json=False)) == 0
    shown = capsys.readouterr().out
    assert "history" in shown
    assert "P0000" in shown
    with pytest.raises(UnknownSeries, match="no such series"):
        series.show(filled.config, series.Request("1.2.3"))


def test_without_a_ledger_it_says_so(tmp_path: Path) -> None:
    done = listener("series", "--state", str(tmp_path))
    assert done.status == 1
    assert "There is no ledger" in done.stderr
    assert list(tmp_path.iterdir()) == []


def test_repack_records_where_it_has_a_state_directory(tmp_path: Path) -> None:
    bench = Bench(tmp_path)
    for number in (1, 2):
        bench.put(f"a{number}", number=number)
    (bench.incoming / "bad").write_bytes(b"nothing of the kind")
    named = ("--data", str(bench.data), "--log", str(bench.log))
    done = listener("repack", str(bench.incoming), *named, "--state", str(bench.state))
    assert done.status == 1, done.stderr
    with reading(str(bench.state)) as reader:
        (row,) = reader.listed()
        assert (row.instances, row.state, row.root) == (2, "open", "")
        assert reader.set_aside() == {}
    assert listener("repack", str(bench.incoming), *named).status == 1


# -- expect ------------------------------------------------------------------------------------------------------------


def test_an_expectation_is_put_down(filled: LedgerBench, capsys: pytest.CaptureFixture[str]) -> None:
    assert expect.expect(filled.config, str(uid("series", 0, 0, 1)), 1) == 0
    assert "1 instances are expected; 1 are there, and the series is open" in capsys.readouterr().err
    filled.tick()
    series.show(filled.config, series.Request(only="complete", json=True))
    assert [one["result"] for one in lines(capsys.readouterr().out)] == ["expected", "quiet"]


@pytest.mark.parametrize(("asked", "number"), [("../x", 1), ("1.2", -1), ("", 1), ("1" * 65, 1), ("1.2", 10**10)])
def test_a_bad_expectation_is_refused(filled: LedgerBench, asked: str, number: int) -> None:
    with pytest.raises(ConfigError):
        expect.expect(filled.config, asked, number)


# -- report ------------------------------------------------------------------------------------------------------------


def ask(since: str = "", until: str = "", by: str = "", shape: str = "") -> report.Request:
    return report.Request.of(since, until, by.split(), shape)


def test_the_accounts_as_tab_separated_values(filled: LedgerBench, capsys: pytest.CaptureFixture[str]) -> None:
    assert report.report(filled.config, ask("1d", shape="tsv")) == 0
    head, *rows = [line.split("\t") for line in capsys.readouterr().out.splitlines()]
    assert len(rows) == 2
    assert all(len(row) == len(head) for row in rows), "no value breaks a line or a column"
    told = dict(zip(head, rows[1], strict=True))
    assert (told["state"], told["instances"], told["Modality"]) == ("complete", "2", "MR")
    assert "PatientID" not in head
    report.report(filled.config, ask(until="2001-01-01", shape="tsv"))
    assert capsys.readouterr().out.splitlines() == ["\t".join(head)], "a head, also where there is no row"


@pytest.mark.parametrize("by", accounts.BY)
def test_sums_of_nothing_have_their_head(filled: LedgerBench, capsys: pytest.CaptureFixture[str], by: str) -> None:
    for shape in ("csv", "tsv", ""):
        report.report(filled.config, ask("2200-01-01", by=by, shape=shape))
        (head,) = capsys.readouterr().out.splitlines()
        assert head.replace(",", " ").split()[0] == ("batch_id" if by == "batch" else by)


#: Command lines with numbers and dates that sqlite, or the calendar, does not go on to; and their exit status.
FAR = {
    "report --since 9999-12-31": 0,
    "report --until 9999-12-31": 0,
    "report --until 9999-12-31 --by day": 0,
    "report --since 9999-12-31T23:59:59-12:00 --by batch": 0,
    "report --since 2262-04-12": 0,
    "report --since 0001-01-01": 0,
    "report --since 0001-01-01 --by day": 0,
    "report --since 0001-01-01T00:00:00+14:00": 0,
    "report --since 99999999999w": 2,
    "series --limit 99999999999999999999": 2,
    "series --limit -1": 2,
    "series --limit 0": 0,
    "series 1.2.3.4.5": 1,
    "expect 1.2 99999999999999999999": 2,
    "expect 1.2 -1": 2,
    "prune --series 1e308": 2,
    "prune --set-aside nan": 2,
}


@pytest.mark.parametrize("line", FAR)
def test_a_number_or_a_date_too_far_is_no_defect(
    filled: LedgerBench, capsys: pytest.CaptureFixture[str], line: str
) -> None:
    try:
        status = cli.main([*line.split(), "--state", filled.config.state])
    except SystemExit as left:
        status = int(left.code or 0)
    assert status == FAR[line]
    said = capsys.readouterr().err
    assert bool(said) == bool(status)
    assert "service cannot go on" not in said


@pytest.mark.parametrize(
    ("by", "expected"),
    [
        ("modality", [("", 0, 1, 0), ("CT", 1, 0, 0), ("MR", 2, 0, 1)]),
        ("day", [(datetime.now(UTC).strftime("%Y-%m-%d"), 3, 1, 1)]),
        ("sender", [("", 0, 1, 0), ("PACS\tONE", 2, 0, 1), ("SENDER", 1, 0, 0)]),
        ("month", [(datetime.now(UTC).strftime("%Y-%m"), 3, 1, 1)]),
    ],
)
def test_sums(
    filled: LedgerBench, capsys: pytest.CaptureFixture[str], by: str, expected: list[tuple[str, int, int, int]]
) -> None:
    assert report.report(filled.config, ask(by=by, shape="json")) == 0
    told = lines(capsys.readouterr().out)
    assert [(one[by], one["published"], one["set_aside"], one["complete"]) for one in told] == expected
    assert report.report(filled.config, ask(by=by)) == 0
    assert len(capsys.readouterr().out.splitlines()) == len(expected) + 1


def test_sums_of_several_kinds_are_those_of_each_combination(
    filled: LedgerBench, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["report", f"--state={filled.config.state}", "--by", "month", "--by", "modality", "--since", "this-month"]
    assert cli.main([*words, "--csv"]) == 0
    head, *rows = csv.reader(io.StringIO(capsys.readouterr().out))
    month = datetime.now(UTC).strftime("%Y-%m")
    assert head[:3] == ["month", "modality", "published"]
    assert [row[:3] for row in rows] == [[month, "", "0"], [month, "CT", "1"], [month, "MR", "2"]]


@pytest.fixture(scope="module")
def days() -> Iterator[Reader]:
    """A ledger with totals of four days alone."""
    with contextlib.closing(sqlite3.connect(":memory:", isolation_level=None)) as connection:
        migrate(connection)
        for day in ("2024-07-01", "2025-12-31", "2026-01-01", "2026-01-31"):
            for key in itertools.product(("CT", "MR"), ("A", "B")):
                connection.execute("INSERT INTO days VALUES (?, ?, ?, 1, 10, 0, 0, 1, 0, 0)", (day, *key))
        yield Reader(connection)


@pytest.mark.parametrize("by", [*itertools.permutations(("day", "month", "year", "modality", "sender"), 2)])
def test_sums_keep_the_whole_and_the_order_of_their_keys(days: Reader, by: tuple[str, str]) -> None:
    rows = accounts.sums(days, 0, LAST, by)
    assert (sum(row["published"] for row in rows), sum(row["bytes"] for row in rows)) == (16, 160)
    keys = [tuple(row[name] for name in by) for row in rows]
    assert keys == sorted(set(keys))
    assert [*rows[0]] == accounts.head(by, phi=False)


def test_a_year_is_the_sum_of_its_days(days: Reader) -> None:
    rows = accounts.sums(days, 0, LAST, ("year",))
    assert [(row["year"], row["published"]) for row in rows] == [("2024", 4), ("2025", 4), ("2026", 8)]


def test_senders_have_their_last_arrival(filled: LedgerBench, capsys: pytest.CaptureFixture[str]) -> None:
    assert report.report(filled.config, ask(by="sender", shape="json")) == 0
    told = {one["sender"]: one["last"] for one in lines(capsys.readouterr().out)}
    with reading(filled.config.state) as reader:
        series_ = reader.listed()
    assert told == {"": "", **{row.sender: shown(row, phi=False)["last"] for row in series_}}
    assert report.report(filled.config, ask(by="sender")) == 0
    head, *_, row = capsys.readouterr().out.splitlines()
    assert head.endswith("last")
    assert row.endswith(str(told["SENDER"])[:19].replace("T", " "))


#: Arrivals of a sender: of a series in January and of one in March, and of a set-aside file in February.
ARRIVED = {"2026-01": "2026-01-20T10:00:00", "2026-02": "2026-02-03T04:05:06", "2026-03": "2026-03-31T23:59:59"}

LAST_OF = [
    (("sender",), 0, LAST, {"A": "2026-03"}),
    (("sender",), 0, moment_of("2026-02", datetime.now(UTC), end=True), {"A": "2026-02"}),
    (("month", "sender"), 0, LAST, {"2026-01": "2026-01", "2026-02": "2026-02", "2026-03": "2026-03"}),
    (("sender", "year"), 0, LAST, {"A": "2026-03"}),
    (("day", "sender"), 0, LAST, {"2026-01-20": "2026-01", "2026-02-03": "2026-02", "2026-03-31": "2026-03"}),
]


@pytest.mark.parametrize(("by", "since", "until", "expected"), LAST_OF)
def test_the_last_arrival_of_a_sender_is_that_in_the_period_of_its_row(
    by: tuple[str, ...], since: int, until: int, expected: dict[str, str]
) -> None:
    moments = {month: moment_of(f"{text}Z", datetime.now(UTC)) for month, text in ARRIVED.items()}
    with contextlib.closing(sqlite3.connect(":memory:", isolation_level=None)) as connection:
        migrate(connection)
        for text in ARRIVED.values():
            connection.execute("INSERT INTO days (day, Modality, sender) VALUES (?, 'CT', 'A')", (text[:10],))
        for month in ("2026-01", "2026-03"):
            row = (f"1.{month[-1]}", moments[month])
            connection.execute("INSERT INTO series (SeriesInstanceUID, sender, last_ns) VALUES (?, 'A', ?)", row)
        aside = "INSERT INTO set_aside (path, reason, name, sender, arrived_ns) VALUES ('x', 'empty', 'x', 'A', ?)"
        connection.execute(aside, (moments["2026-02"],))
        rows = accounts.sums(Reader(connection), since, until, by)
    assert {row[by[0]]: row["last"][:19] for row in rows} == {key: ARRIVED[month] for key, month in expected.items()}


def test_a_row_by_modality_has_no_last_arrival(days: Reader) -> None:
    assert "last" not in accounts.sums(days, 0, LAST, ("modality", "sender"))[0]


@pytest.mark.parametrize(
    ("value", "written"),
    [
        ("=1+2", "'=1+2"),
        ("+49", "'+49"),
        ("@SUM(A1)", "'@SUM(A1)"),
        (-3, "-3"),
        ('a,"b"', '"a,""b"""'),
        ("a\nb", "a\ufffdb"),
    ],
)
def test_no_text_of_a_sender_is_a_formula_or_breaks_a_line(value: object, written: str) -> None:
    assert commas([value, 1]) == f"{written},1\n"


def test_batches_have_accounts(filled: LedgerBench, capsys: pytest.CaptureFixture[str]) -> None:
    with contextlib.closing(open_writer(path_of(filled.config.state))) as connection, transaction(connection):
        shares = [batches.SeriesShare(number, 2, 10**6) for (number,) in connection.execute("SELECT id FROM series")]
        account = batches.Account(5, shares, [batches.FileError("a/b", "not-dicom", "no")])
        batches.end_files(connection, batches.BatchKey("", b"export 1"), account, time.time_ns())
    report.report(filled.config, ask(by="batch", shape="json"))
    (one,) = lines(capsys.readouterr().out)
    found = (one["batch_id"], one["status"], one["size_mb"], one["series"], one["instances"], one["errors"])
    assert found == (1, "processing", 2.0, 2, 4, 1)
    assert "name" not in one


NOW = datetime(2026, 2, 3, 4, 5, 6, tzinfo=UTC)


@pytest.mark.parametrize(
    ("text", "end", "moment"),
    [
        ("2026-01-31", False, "2026-01-31T00:00:00+00:00"),
        ("2026-01-31", True, "2026-01-31T23:59:59.999999+00:00"),
        ("2026-01-31T08:00:00Z", True, "2026-01-31T08:00:00+00:00"),
        ("2026-01-31T08:00:00+02:00", False, "2026-01-31T06:00:00+00:00"),
        ("2d", False, "2026-02-01T04:05:06+00:00"),
        ("90s", False, "2026-02-03T04:03:36+00:00"),
        ("today", False, "2026-02-03T00:00:00+00:00"),
        ("today", True, "2026-02-03T23:59:59.999999+00:00"),
        ("yesterday", False, "2026-02-02T00:00:00+00:00"),
        ("this-month", False, "2026-02-01T00:00:00+00:00"),
        ("this-month", True, "2026-02-28T23:59:59.999999+00:00"),
        ("last-month", False, "2026-01-01T00:00:00+00:00"),
        ("last-month", True, "2026-01-31T23:59:59.999999+00:00"),
        ("this-year", True, "2026-12-31T23:59:59.999999+00:00"),
        ("2024-02", True, "2024-02-29T23:59:59.999999+00:00"),
        ("2025-12", True, "2025-12-31T23:59:59.999999+00:00"),
    ],
)
def test_times(text: str, end: bool, moment: str) -> None:
    found = datetime.fromisoformat(moment)
    assert moment_of(text, NOW, end=end) == int(found.timestamp()) * 10**9 + found.microsecond * 1000


def test_what_is_no_time_is_refused_by_name() -> None:
    with pytest.raises(ConfigError) as raised:
        ask("whenever", "99999999999w", by="batch day")
    assert len(raised.value.problems) == 3


# -- prune -------------------------------------------------------------------------------------------------------------


def removing(config: Config, **request: object) -> int:
    given = {"set_aside": None, "series": None, "yes": True, **request}
    return prune.prune(config, prune.Request(**given))  # type: ignore[arg-type]


def tree(kept: LedgerBench) -> dict[str, bytes]:
    return {**contents(kept.data), **contents(kept.log)}


def test_of_set_aside_files_some_are_removed(filled: LedgerBench, capsys: pytest.CaptureFixture[str]) -> None:
    words = [f"--{name}={getattr(filled.config, name)}" for name in ("state", "data", "log")]
    assert removing(filled.config, set_aside=0, reasons=("empty",)) == 0
    assert filled.set_aside("not-dicom")
    assert cli.main(["prune", *words, "--set-aside=0", "--reason=not-dicom", "--yes", "--dry-run"]) == 2
    assert cli.main(["prune", *words, "--series=0", "--reason=not-dicom"]) == 2
    assert cli.main(["prune", *words, "--set-aside=0", "--reason=bored"]) == 1
    assert cli.main(["prune", *words, "--set-aside=0", "--reason=not-dicom", "--dry-run"]) == 0
    assert "would be removed" in capsys.readouterr().err
    assert filled.set_aside("not-dicom")
    assert removing(filled.config, set_aside=0, reasons=("not-dicom",)) == 0
    assert set(filled.set_aside("not-dicom")) <= {".lock"}


@pytest.mark.parametrize(("chosen", "left"), [({"sender": "CT1"}, 1), ({"sender": "CT2"}, 2), ({"study": "1.2"}, 1)])
def test_of_set_aside_files_those_of_one_sender_or_study_are_removed(
    filled: LedgerBench, chosen: dict[str, str], left: int
) -> None:
    directory = filled.state / "set-aside" / "incomplete"
    directory.mkdir(exist_ok=True)
    for name, told in (("one", {"sender": "CT1", "StudyInstanceUID": "1.2"}), ("two", {"sender": "CT3"})):
        (directory / name).write_bytes(b"piece")
        (directory / f"{name}.json").write_bytes(orjson.dumps(told))
    assert removing(filled.config, set_aside=0, **chosen) == 0
    assert len([path for path in directory.iterdir() if path.suffix == ".json"]) == left
    assert filled.set_aside("not-dicom"), "of another sender"
    words = [f"--{name}={getattr(filled.config, name)}" for name in ("state", "data", "log")]
    assert cli.main(["prune", *words, "--series=0", "--sender=CT1"]) == 2


def test_where_nothing_is_to_go_that_is_said(filled: LedgerBench, capsys: pytest.CaptureFixture[str]) -> None:
    assert removing(filled.config, set_aside=0, reasons=("empty",), yes=False) == 0
    assert capsys.readouterr() == ("", "nothing is to go\n")


def test_without_yes_nothing_is_removed(filled: LedgerBench, capsys: pytest.CaptureFixture[str]) -> None:
    before, aside = tree(filled), filled.set_aside("not-dicom")
    assert removing(filled.config, series=0, set_aside=0, yes=False, json=True) == 0
    told = capsys.readouterr()
    assert [(one["what"], one["files"], one["removed"]) for one in lines(told.out)] == [
        ("set-aside", 1, False),
        ("series", 2, False),
    ]
    assert "--yes does it" in told.err
    assert (tree(filled), filled.set_aside("not-dicom")) == (before, aside)


def test_complete_series_go_with_their_documents_and_stay_in_the_accounts(
    filled: LedgerBench, capsys: pytest.CaptureFixture[str]
) -> None:
    first = str(uid("series", 0, 0, 0))
    assert removing(filled.config, series=0) == 0
    left = tree(filled)
    assert not [name for name in left if first in name]
    assert len([name for name in left if name.endswith(".dcm")]) == 1, "the open series stays"
    assert not [path for path, folders, names in os.walk(filled.data) if not folders and not names and ".l" not in path]
    capsys.readouterr()
    series.show(filled.config, series.Request(first, json=True))
    (one,) = lines(capsys.readouterr().out)
    assert (one["state"], one["instances"]) == ("complete", 2)
    assert one["pruned"]
    removing(filled.config, series=0)
    assert "nothing is to go" in capsys.readouterr().err


def test_an_instance_that_comes_after_all_begins_the_next_generation(filled: LedgerBench) -> None:
    removing(filled.config, series=0)
    filled.receive("a3", number=3)
    filled.tick()
    connection = open_writer(path_of(filled.config.state))
    with contextlib.closing(connection):
        found = connection.execute("SELECT state, generation, instances, pruned_ns FROM series WHERE id = 1").fetchone()
    assert found == ("open", 2, 1, 0)


def test_what_is_young_or_a_consumer_has_not_taken_stays(
    filled: LedgerBench, capsys: pytest.CaptureFixture[str]
) -> None:
    with contextlib.closing(open_writer(path_of(filled.config.state))) as connection:
        number = deliveries.register(connection, "webhook", time.time_ns())
        filled.receive("a3", number=3)
        filled.tick(10)
        before = tree(filled)
        removing(filled.config, series=0)
        removing(filled.config, series=1, set_aside=1)
        now_ns = time.time_ns()
        held = tree(filled)
        assert {name for name in before if name.endswith(".dcm")} == {name for name in held if name.endswith(".dcm")}
        for one in deliveries.lease(connection, number, now_ns, now_ns + 10**9, limit=9):
            deliveries.settle(connection, one, "delivered", now_ns)
        removing(filled.config, series=0)
    assert not [name for name in tree(filled) if name.endswith(".dcm")]


def test_an_interrupted_prune_is_ended_by_the_next(filled: LedgerBench, monkeypatch: pytest.MonkeyPatch) -> None:
    def killed(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(maintenance, "finish", killed)
    with pytest.raises(KeyboardInterrupt):
        removing(filled.config, series=0)
    monkeypatch.undo()
    assert removing(filled.config, series=0) == 0
    with contextlib.closing(open_writer(path_of(filled.config.state))) as connection:
        assert connection.execute("SELECT count(*) FROM instances WHERE series_id = 1").fetchone() == (0,)


def test_set_aside_files_go_with_their_reasons(filled: LedgerBench, capsys: pytest.CaptureFixture[str]) -> None:
    assert removing(filled.config, set_aside=0) == 0
    assert list(filled.set_aside("not-dicom")) == [".lock"]
    with contextlib.closing(open_writer(path_of(filled.config.state))) as connection:
        assert connection.execute("SELECT count(*) FROM set_aside WHERE gone_ns = 0").fetchone() == (0,)


def test_another_tree_is_not_pruned(filled: LedgerBench, tmp_path: Path) -> None:
    from dataclasses import replace

    (tmp_path / "other").mkdir()
    before = tree(filled)
    with pytest.raises(ConfigError, match="holds no instance"):
        removing(replace(filled.config, data=str(tmp_path / "other")), series=0)
    assert tree(filled) == before


@pytest.mark.parametrize("days", [-1.0, float("nan"), float("inf"), 1e9])
def test_what_is_no_age_is_refused(filled: LedgerBench, days: float) -> None:
    with pytest.raises(ConfigError, match="no age"):
        removing(filled.config, set_aside=days)


def test_nothing_selected_is_refused(filled: LedgerBench, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="nothing is selected"):
        removing(filled.config)
    with pytest.raises(LedgerMissing):
        prune.prune(Bench(tmp_path / "empty").config, prune.Request(1, None))
