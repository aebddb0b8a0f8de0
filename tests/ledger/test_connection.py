"""Opening the ledger: new, older, newer, damaged, locked, read-only; and that no question scans what grows."""

from __future__ import annotations

import contextlib
import os
import random
import re
import sqlite3
import stat
import time
from pathlib import Path

import pytest

from listener.errors import LedgerCorrupt, LedgerFault, LedgerLocked, LedgerMissing, LedgerNewer, LedgerUnusable
from listener.ledger import (
    batches,
    connection,
    consumers,
    deliveries,
    descriptions,
    feed,
    generations,
    listing,
    maintenance,
    schema,
    studies,
    tables,
    writer,
)
from listener.ledger import reader as ledger_reader
from listener.ledger.connection import migrate, open_reader, open_writer, path_of, transaction
from listener.ledger.evidence import DocumentReader
from listener.ledger.listing import Page
from listener.ledger.reader import Reader
from listener.records import Outcome
from tests.workbench import make_config, need_root, tmpfs


def tables_of(connection: sqlite3.Connection) -> list[tuple[str, str]]:
    return connection.execute("SELECT name, sql FROM sqlite_master ORDER BY name").fetchall()


def test_a_new_ledger_is_ours_alone_and_of_the_newest_version(tmp_path: Path) -> None:
    path = path_of(str(tmp_path))
    with contextlib.closing(open_writer(path)) as connection:
        assert connection.execute("PRAGMA journal_mode").fetchone() == ("wal",)
        assert connection.execute("PRAGMA user_version").fetchone() == (schema.VERSION,)
        assert stat.S_IMODE(os.stat(path).st_mode) == 0o600
        with contextlib.closing(open_reader(path)) as reader:
            assert Reader(reader).counts() == {"open": 0, "complete": 0, "incomplete": 0}


def test_no_writer_shares_memory_with_another_machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """WAL needs memory that all writers share. Whoever opens the ledger to write asks which file system it lies on."""
    path = path_of(str(tmp_path))
    monkeypatch.setattr(connection, "is_network", lambda directory: directory == str(tmp_path))
    with contextlib.closing(open_writer(path)) as opened:
        assert opened.execute("PRAGMA journal_mode").fetchone() == ("truncate",)


@pytest.mark.parametrize("version", range(1, schema.VERSION))
def test_an_older_ledger_is_brought_up_with_what_it_holds(tmp_path: Path, version: int) -> None:
    path = path_of(str(tmp_path))
    with contextlib.closing(sqlite3.connect(path, isolation_level=None)) as older:
        migrate(older, version)
        for uid, state in (("1.1", "open"), ("1.2", "complete"), ("1.3", "complete")):
            older.execute("INSERT INTO series (SeriesInstanceUID, state) VALUES (?, ?)", (uid, state))
        older.execute("INSERT INTO set_aside (path, reason, name, size) VALUES ('empty/a', 'empty', 'a', 5)")
    with pytest.raises(LedgerUnusable, match="older version"):
        open_reader(path)
    with contextlib.closing(open_writer(path)) as connection:
        reader = Reader(connection)
        assert reader.counts() == {"open": 1, "complete": 2, "incomplete": 0}
        assert reader.set_aside() == {"empty": (1, 5)}
        with contextlib.closing(open_writer(str(tmp_path / "fresh"))) as fresh:
            assert tables_of(connection) == tables_of(fresh)


def test_what_refers_to_a_series_refers_to_it_after_a_migration(tmp_path: Path) -> None:
    path = path_of(str(tmp_path))
    with contextlib.closing(sqlite3.connect(path, isolation_level=None)) as older:
        migrate(older, 3)
        older.execute("INSERT INTO series (id, SeriesInstanceUID, StudyInstanceUID) VALUES (7, '1.1', '1')")
        older.execute("INSERT INTO folders VALUES (1, 'p')")
        older.execute("INSERT INTO instances VALUES (7, '1.1.1', 1, 'a.dcm', 5, 6)")
        older.execute("INSERT INTO batches (id, name) VALUES (1, 'b')")
        older.execute("INSERT INTO batch_series VALUES (1, 7)")
    with contextlib.closing(open_writer(path)) as connection:
        connection.execute(
            "INSERT INTO series (SeriesInstanceUID, StudyInstanceUID, state) VALUES ('1.1', '2', 'open')"
        )
        with pytest.raises(sqlite3.IntegrityError):
            connection.execute("INSERT INTO series (SeriesInstanceUID, StudyInstanceUID) VALUES ('1.1', '1')")
        assert connection.execute("SELECT path, StudyInstanceUID FROM files").fetchall() == [("p/a.dcm", "1")]
        assert connection.execute("PRAGMA foreign_key_check").fetchall() == []
        assert [one.series for one in Reader(connection).batches()] == [1]
        assert Reader(connection).counts()["open"] == 2


def test_a_migration_that_is_cut_short_leaves_the_older_ledger(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = path_of(str(tmp_path))
    with contextlib.closing(sqlite3.connect(path, isolation_level=None)) as older:
        migrate(older, 1)
        before = tables_of(older)
    monkeypatch.setattr(schema, "STEPS", (*schema.STEPS[:2], "CREATE TABLE half (id INTEGER);\nCREATE NONSENSE;\n"))
    with pytest.raises(LedgerFault):
        open_writer(path)
    with contextlib.closing(sqlite3.connect(path)) as older:
        assert tables_of(older) == before
        assert older.execute("PRAGMA user_version").fetchone() == (1,)


@pytest.mark.parametrize("opened", [open_writer, open_reader])
def test_what_is_no_ledger_of_ours_is_named(tmp_path: Path, opened: type[sqlite3.Connection]) -> None:
    damaged, foreign, newer = (str(tmp_path / name) for name in ("damaged", "foreign", "newer"))
    Path(damaged).write_bytes(b"not a database at all" * 500)
    with contextlib.closing(sqlite3.connect(foreign)) as connection:
        connection.execute("CREATE TABLE mine (id INTEGER)")
    open_writer(newer).close()
    with contextlib.closing(sqlite3.connect(newer)) as connection:
        connection.execute(f"PRAGMA user_version = {schema.VERSION + 1}")
    for path, fault in ((damaged, LedgerCorrupt), (foreign, LedgerCorrupt), (newer, LedgerNewer)):
        before = Path(path).read_bytes()
        with pytest.raises(fault):
            opened(path)
        assert Path(path).read_bytes() == before, "it is not touched"


def test_a_page_that_was_overwritten_is_damage(tmp_path: Path) -> None:
    path = path_of(str(tmp_path))
    open_writer(path).close()
    with open(path, "r+b") as file:
        file.seek(4096)
        file.write(os.urandom(4096 * 3))
    with pytest.raises(LedgerCorrupt), contextlib.closing(open_writer(path)) as connection, transaction(connection):
        generations.begin(connection, "1.2", 0)


def test_a_reader_makes_no_ledger(tmp_path: Path) -> None:
    with pytest.raises(LedgerMissing):
        open_reader(path_of(str(tmp_path)))
    assert list(tmp_path.iterdir()) == []


def test_a_locked_ledger_is_named_and_read_all_the_same(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connection, "BUSY_TIMEOUT", 0.0)
    path = path_of(str(tmp_path))
    with contextlib.closing(open_writer(path)) as holder, contextlib.closing(open_writer(path)) as other:
        holder.execute("BEGIN IMMEDIATE")
        with pytest.raises(LedgerLocked), transaction(other):
            pass
        with ledger_reader.reading(str(tmp_path)) as reader:
            assert reader.counts()["open"] == 0


@pytest.mark.real
def test_a_volume_that_cannot_be_written_is_read(tmp_path: Path) -> None:
    need_root()
    with tmpfs(tmp_path / "volume") as volume:
        open_writer(path_of(str(volume))).close()
        os.system(f"mount -o remount,ro {volume}")  # noqa: S605 -- a path of ours
        with ledger_reader.reading(str(volume)) as reader:
            assert reader.counts() == {"open": 0, "complete": 0, "incomplete": 0}
        with pytest.raises(LedgerUnusable), contextlib.closing(open_writer(path_of(str(volume)))) as connection:
            migrate(connection)


# -- flat --------------------------------------------------------------------------------------------------------------

#: Parts of questions.
PARTS = ("_FROM_SERIES", "_BATCHES", "_STATE", "_DELIVERIES", "_LEFT", "SERIES_COLUMNS", "STUDIES")

#: Questions that are asked while the service works, or by `status` and the pages: (text, how many values).
MODULES = (
    batches,
    ledger_reader,
    generations,
    tables,
    deliveries,
    consumers,
    feed,
    writer,
    maintenance,
    descriptions,
    studies,
)
ASKED = {
    name: text
    for module in MODULES
    for name, text in vars(module).items()
    if isinstance(text, str) and "SELECT" in text and "{" not in text and name not in PARTS
}

#: Those that may look at more than they return, and why.
SCANS = {
    "_SHARED": "the same: one UID in two series",
    "_RECORDED": "a verify, by a person: every series",
    "BATCHES": "sums over a batch's series: a report that a person asks for",
    "ONLY_SET_ASIDE": "the same report: set-aside files of which something was read",
    "_OLD": "a prune, by a person: every complete series of that age",
    "_INTERRUPTED": "the same: what was pruned",
    "_SAMPLE": "the same: a few, whichever come first",
    "_AWAITED": "the same: every delivery that waits",
    "_OWED": "once for a ledger that was lost: the studies that did not end",
    "CONSUMERS": "a row a consumer and state",
    "_FOLLOWERS": "the same",
    "_PASSED": "the same",
    "_LAST": "a row a table",
    "HOW_MANY_UNDESCRIBED": "once after an upgrade: the series that it brings up",
    "COUNTS": "three rows",
    "DATA_DIRECTORY": "a row a listener",
    "ALL_STUDIES": "2 ms for 100,000, for the page, once a second at most",
    "SET_ASIDE": "a row a reason",
    "_ENDED_SINCE": "a notify again, by a person: every series since then",
}

#: Those that may sort, and what.
SORTS = dict.fromkeys(
    ("STUDY", "_STUDY", "_SERIES"), "the series of one study: its newest, their modalities and senders"
)
SORTS["_OPEN_SERIES"] = "the series that end with their batches"
SORTS["SERIES_OF_BATCH"] = "the series of one batch"
SORTS["FILES_AND_UIDS"] = "the files of one series"
SORTS["FILES_OF_INSTANCE"] = "the files of one instance"
SORTS["FILES"] = "the files of one series"
SORTS["_OF_UID"] = "the deliveries of one study, by a person"
SORTS["_OF_ENDED"] = "the series of one UID"
SORTS["_FROM_BACKFILL"] = "the series of one study"
SORTS["_ENDED_SINCE"] = "series since a moment, by a person"
SORTS["MIDDLE_FILE"] = "the files of one series by name, when somebody looks at its image"

#: What a step may go through: results of another step, an index in order up to a LIMIT, an index of the few that
#: are not told, or not complete.
BOUNDED = (")", "CONSTANT ROW", "series_ended", "unannounced", "studies_unfinished", "study_states_open")


@pytest.mark.parametrize("name", ASKED)
def test_no_question_scans_what_grows(tmp_path: Path, name: str) -> None:
    """By the plan, not by the clock: every table is searched through an index."""
    text = ASKED[name]
    with contextlib.closing(open_writer(path_of(str(tmp_path)))) as connection:
        numbered = [int(number) for number in re.findall(r"\?(\d)", text)]
        values = [1] * (max(numbered) if numbered else text.count("?"))
        plan = connection.execute(f"EXPLAIN QUERY PLAN {text}", values).fetchall()
    steps = [step for *_, step in plan]
    scans = [step for step in steps if step.startswith("SCAN") and not step.endswith(BOUNDED)]
    sorts = [step for step in steps if "TEMP B-TREE" in step]
    if name in SCANS:
        return
    assert scans == [], steps
    assert sorts == [] or name in SORTS, steps


#: Pages of series, and the index of arrivals that each goes along: of the column that few have.
INDEXES = {
    Page(): "series_last (last_ns",
    Page(state="open"): "series_state (state=? AND last_ns",
    Page(state="complete"): "series_state (state=? AND last_ns",
    Page(state="incomplete", sender="A"): "series_state (state=? AND last_ns",
    Page(state="open", modality="CT"): "series_state (state=? AND last_ns",
    Page(state="complete", sender="A"): "series_sender_last (sender=? AND last_ns",
    Page(state="complete", modality="CT"): "series_modality_last (Modality=? AND last_ns",
    Page(sender="A"): "series_sender_last (sender=? AND last_ns",
    Page(modality="CT"): "series_modality_last (Modality=? AND last_ns",
    Page(sender="A", modality="CT"): "series_sender_last (sender=? AND last_ns",
}


@pytest.mark.parametrize("page", INDEXES, ids=repr)
def test_a_page_goes_along_an_index_of_arrivals(tmp_path: Path, page: Page) -> None:
    question, values = listing.series(page)
    with contextlib.closing(open_writer(path_of(str(tmp_path)))) as connection:
        steps = [step for *_, step in connection.execute(f"EXPLAIN QUERY PLAN {question}", values)]
    assert INDEXES[page] in steps[0], steps
    assert not [step for step in steps if step.startswith("SCAN") or "TEMP B-TREE" in step], steps


def fill(path: str, series: int, each: int) -> None:
    """A ledger of so many series with so many instances each, as the writer lays them; most of them ended."""
    with contextlib.closing(open_writer(path)) as connection:
        connection.execute("PRAGMA synchronous = OFF")
        for start in range(0, series, 2000):
            with transaction(connection):
                numbers = range(start, min(start + 2000, series))
                connection.executemany(
                    "INSERT INTO series (id, SeriesInstanceUID, StudyInstanceUID, Modality, sender, state, generation, "
                    "instances, bytes, first_ns, last_ns, changed_ns) VALUES (?, ?, ?, 'MR', 'S', ?, 1, ?, ?, ?, ?, ?)",
                    [
                        (
                            n + 1,
                            f"1.2.840.{n}",
                            f"1.2.{n // 4}",
                            "open" if n >= series - 200 else "complete",
                            each,
                            *[n] * 4,
                        )
                        for n in numbers
                    ],
                )
                connection.executemany(
                    "INSERT INTO instances VALUES (?, ?, 1, ?, 1000, ?)",
                    (
                        (n + 1, f"1.2.840.113619.{n}.{i}", f"{i:04d}-1.2.840.113619.{n}.{i}.dcm", n)
                        for n in numbers
                        for i in range(each)
                    ),
                )


def ask_everything(state: str, series: int) -> float:
    """All that `status` and the page ask at once, from opening to closing; seconds."""
    begun = time.perf_counter()
    with ledger_reader.reading(state) as reader:
        reader.in_flight()
        reader.ended()
        reader.counts()
        reader.set_aside()
        reader.consumers()
        uid = f"1.2.840.{random.randrange(series)}"
        reader.series(uid)
        reader.history(uid)
        reader.study("1.2.7")
        reader.listed("complete", limit=100)
    return time.perf_counter() - begun


def cost(base: Path, files: int = 40_000, together: int = 1000) -> float:
    """CPU of recording files, 200 a series, in the ledger that lies there; microseconds a file."""
    config = make_config(base)
    for path in (config.data, config.log, config.state):
        os.makedirs(path, exist_ok=True)
    keeper = writer.LedgerWriter(config)
    spent = 0.0
    for start in range(0, files, together):
        outcomes = [_outcome(config.data, number) for number in range(start, start + together)]
        begun = time.thread_time()
        keeper.record(outcomes, float(start), time.time_ns())
        spent += time.thread_time() - begun
    keeper.close()
    return spent / files * 1e6


def _outcome(data: str, number: int) -> Outcome:
    series, sop = number // 200, f"1.2.826.0.1.3680043.10.1470.{10**28 + number}"
    folder = f"{data}/P{series}-Name_Of^Patient-19700101/Description-A-20240101/00001-Description-{series:07x}"
    uids = (sop, f"1.2.826.0.1.3680043.10.1470.{10**27 + series}", f"1.2.826.0.1.3680043.10.1470.{10**26 + series}")
    dst = f"{folder}/{number % 200:04d}-{sop}.dcm"
    return Outcome("published", "/in/x", 0, number, number, 0, 0.0, 5, "", "", "", dst, *uids, sender="S")


@pytest.mark.soak
def test_ten_million_instances(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The status answers within 0.2 s, and a file costs what it costs in an empty ledger."""
    state = tmp_path / "full" / "state"
    state.mkdir(parents=True)
    fill(path_of(str(state)), 100_000, 100)
    with contextlib.closing(sqlite3.connect(path_of(str(state)))) as connection:
        assert connection.execute("SELECT count(*) FROM instances").fetchone() == (10_000_000,)
    seconds = [ask_everything(str(state), 100_000) for _ in range(5)]
    print(f"status of ten million instances: {[round(one, 4) for one in seconds]} s")
    assert max(seconds) < 0.2
    for told in ("names", "count"):
        monkeypatch.setattr(DocumentReader, told, lambda *_: None)  # There are no documents here.
    empty, full = (cost(tmp_path / name) for name in ("empty", "full"))
    print(f"CPU a file: {empty:.1f} us in an empty ledger, {full:.1f} us among ten million")
    assert full < 2 * empty
