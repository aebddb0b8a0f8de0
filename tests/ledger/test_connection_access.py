"""The ledger's file goes, or its volume fills up, while it is written: logged once, opened anew, nothing is lost."""

from __future__ import annotations

import contextlib
import os
import sqlite3
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from listener.ledger import connection, deliveries
from listener.ledger.connection import WriterConnection, open_writer, path_of
from listener.ledger.maintenance import LedgerRepair
from listener.ledger.outcome_rows import OutcomeRows
from listener.ledger.reader import reading
from listener.ledger.rows import SeriesRow
from tests.ledger_world import World
from tests.workbench import tmpfs


@pytest.fixture
def world(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[World]:
    monkeypatch.setattr(connection, "BUSY_TIMEOUT", 0.0)
    made = World(tmp_path)
    made.tick()
    yield made
    made.close()


def rows(world: World) -> dict[str, SeriesRow]:
    with reading(world.config.state) as reader:
        return {row.SeriesInstanceUID: row for row in reader.listed()}


def live(world: World, seconds: int) -> None:
    """The service goes on: a look a second."""
    for _ in range(seconds):
        world.advance(1)
        world.tick()


def errors(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [record.getMessage() for record in caplog.records if record.levelname == "ERROR"]


# -- the file goes -----------------------------------------------------------------------------------------------------


def ledger_files(path: str) -> list[Path]:
    return [Path(path + ending) for ending in ("", "-wal", "-shm") if os.path.exists(path + ending)]


def remove(path: str) -> None:
    for file in ledger_files(path):
        file.unlink()


def remove_the_database_alone(path: str) -> None:
    os.unlink(path)


def remove_the_log_alone(path: str) -> None:
    for file in ledger_files(path)[1:]:
        file.unlink()


def cut_off(path: str) -> None:
    os.truncate(path, 0)
    remove_the_log_alone(path)


def move_away(path: str) -> None:
    """As `verify --repair` does with a damaged one."""
    for file in ledger_files(path):
        file.rename(f"{file}.damaged")


def make_anew(path: str) -> None:
    move_away(path)
    open_writer(path).close()


@pytest.mark.parametrize(
    "harm",
    [remove, remove_the_database_alone, remove_the_log_alone, cut_off, move_away, make_anew],
    ids=lambda harm: harm.__name__,
)
def test_a_ledger_whose_file_goes_is_opened_anew_with_what_is_known(
    world: World, harm: Callable[[str], None], caplog: pytest.LogCaptureFixture
) -> None:
    """One series was told long ago, one is open, one ended that a hook did not take, and one comes after the harm."""
    caplog.set_level("INFO", "listener")
    with contextlib.closing(open_writer(path_of(world.config.state))) as connection:
        number = deliveries.register(connection, "webhook", world.wall)
        world.came(0, 1)
        live(world, 12)
        (taken,) = deliveries.lease(connection, number, world.wall, world.wall + 5)
        assert deliveries.settle(connection, taken, "delivered", world.wall)
        world.came(1, 1)
        live(world, 12)
        world.came(2, 1)
        live(world, 2)
    world.told.clear()
    harm(path_of(world.config.state))
    world.came(3, 1)
    live(world, 1)
    found = rows(world)
    assert {found[world.uid(series)].state for series in (2, 3)} == {"open"}
    live(world, 15)
    found = rows(world)
    assert {found[world.uid(series)].state for series in (1, 2, 3)} == {"complete"}
    assert world.clerk.access.fault == ""
    assert {one.SeriesInstanceUID for one in world.told} >= {world.uid(2), world.uid(3)}
    assert world.uid(0) not in {one.SeriesInstanceUID for one in world.told}, "it was taken"
    with contextlib.closing(open_writer(path_of(world.config.state))) as connection:
        number = deliveries.register(connection, "webhook", world.wall)
        due = deliveries.lease(connection, number, world.wall, world.wall + 5, limit=9)
        assert {one.key for one in due} == {f"{world.uid(series)}/1" for series in (1, 2, 3)}
    assert len(errors(caplog)) == 1
    assert "removed or replaced while in use" in errors(caplog)[0]
    assert "the ledger is written again" in caplog.text


def put_a_directory_there(path: str) -> None:
    remove(path)
    os.mkdir(path)


def replace_by_rubbish(path: str) -> None:
    remove(path)
    Path(path).write_bytes(b"rubbish" * 9000)


def write_over(path: str) -> None:
    with contextlib.closing(open_writer(path)) as connection:
        connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        with open(path, "r+b") as file:
            file.write(b"rubbish" * 9000)


@pytest.mark.parametrize(
    "harm", [put_a_directory_there, replace_by_rubbish, write_over], ids=lambda harm: harm.__name__
)
def test_one_that_cannot_be_opened_any_more_is_told_once_and_ends_are_announced_once(
    world: World, harm: Callable[[str], None], caplog: pytest.LogCaptureFixture
) -> None:
    path = path_of(world.config.state)
    world.came(0, 1)
    live(world, 2)
    harm(path)
    world.came(1, 1)
    live(world, 60)
    assert sorted(one.SeriesInstanceUID for one in world.told) == sorted([world.uid(0), world.uid(1)])
    assert world.clerk.access.fault
    assert len(errors(caplog)) <= 2, "why it was given up, and why it cannot be opened, a minute apart at least"
    move_away(path)
    live(world, 8)
    assert world.clerk.access.fault == ""
    assert {row.state for row in rows(world).values()} == {"complete"}
    assert len(world.told) == 2, "they were announced"


def test_what_came_meanwhile_is_told_also_where_a_repair_was_faster(world: World) -> None:
    """A series that was told long ago and is repaired as an old one; and one that only the writer knows of yet."""
    world.came(0, 1)
    live(world, 12)
    path = path_of(world.config.state)
    replace_by_rubbish(path)
    live(world, 1)
    world.came(1, 1)
    world.came(2, 1)
    live(world, 12)
    with contextlib.closing(LedgerRepair(world.config)) as mending:
        for series in (0, 1, 2):
            mending.count(world.uid(series))
        deliveries.register(mending._connection, "webhook", world.wall)
    world.came(2, 2)
    live(world, 25)
    assert world.clerk.access.fault == ""
    with contextlib.closing(sqlite3.connect(path)) as connection:
        due = connection.execute(
            "SELECT SeriesInstanceUID FROM deliveries d JOIN series s ON s.id = d.series_id ORDER BY 1"
        ).fetchall()
    assert due == sorted([(world.uid(1),), (world.uid(2),)])
    assert {row.state for row in rows(world).values()} == {"complete"}
    assert rows(world)[world.uid(0)].result == "recounted"


@pytest.mark.parametrize("repaired", [False, True])
def test_what_a_run_could_not_record_at_all_is_told_by_the_next(world: World, repaired: bool) -> None:
    """The ledger is damaged, one series ends, and the service stops before anybody repairs it."""
    path = path_of(world.config.state)
    world.came(0, 1)
    live(world, 12)
    world.advance(120)
    live(world, 1)
    replace_by_rubbish(path)
    live(world, 1)
    world.came(1, 1)
    live(world, 12)
    world.crash()
    live(world, 3)
    if repaired:
        with contextlib.closing(LedgerRepair(world.config)) as mending:
            for series in (0, 1):
                mending.count(world.uid(series))
    else:
        remove(path)
    world.told.clear()
    live(world, 20)
    assert {one.SeriesInstanceUID for one in world.told} == {world.uid(1)}
    assert rows(world)[world.uid(1)].state == "complete"
    assert not list(Path(world.config.state).glob("ledger.behind*"))


def test_consumers_stay_known_and_hear_nothing_of_old_files(world: World) -> None:
    """In a ledger that was made anew: a stage that registered once, and three files that lay in set-aside before, of
    which it took two.
    """
    folder = Path(world.config.state, "set-aside", "empty")
    folder.mkdir(parents=True)
    with contextlib.closing(open_writer(path_of(world.config.state))) as connection:
        number = deliveries.register(connection, "stage", world.wall)
        for name in ("a", "b", "c"):
            (folder / name).write_bytes(b"")
            world.record(world.outcome("set-aside", 0, str(folder / name))._replace(reason="empty"))
        for one in deliveries.lease(connection, number, world.wall, world.wall + 5, limit=2):
            deliveries.settle(connection, one, "delivered", world.wall)
    world.wall = os.stat(folder / "c").st_ctime_ns + 60 * 10**9
    live(world, 2)
    remove(path_of(world.config.state))
    live(world, 1)
    world.clerk.reconcile_set_aside({"empty": (3, 0)}, world.now, world.wall)
    with contextlib.closing(sqlite3.connect(path_of(world.config.state))) as connection:
        found = connection.execute(
            "SELECT c.name, a.path, d.state FROM deliveries d JOIN consumers c ON c.id = d.consumer_id "
            "JOIN set_aside a ON a.id = d.set_aside_id"
        ).fetchall()
    assert found == [("stage", "empty/c", "pending")]


def test_an_older_copy_that_was_put_back_is_brought_up_to_date(world: World) -> None:
    path = path_of(world.config.state)
    world.came(0, 1)
    live(world, 1)
    with contextlib.closing(sqlite3.connect(path)) as connection:
        connection.execute("VACUUM INTO ?", (f"{path}.copy",))
    world.came(0, 2)
    world.came(1, 1)
    live(world, 12)
    assert len(world.told) == 2
    remove(path)
    os.rename(f"{path}.copy", path)
    live(world, 15)
    assert {uid: row.instances for uid, row in rows(world).items()} == {world.uid(0): 2, world.uid(1): 1}


def test_no_ledger_is_made_below_a_volume_that_was_unmounted(tmp_path: Path) -> None:
    state, away = tmp_path / "state", tmp_path / "away"
    state.mkdir()
    one = WriterConnection(str(state))
    assert one.open(0.0)
    state.rename(away)
    state.mkdir()
    fault = one.file_fault()
    assert fault
    one.abandon(fault, 1.0)
    assert one.open(1.0) is None
    assert "mount its volume again" in one.fault
    assert not list(state.iterdir())
    state.rmdir()
    away.rename(state)
    assert one.open(60.0)
    one.close()


# -- it cannot be written ----------------------------------------------------------------------------------------------


@pytest.mark.real
def test_a_full_volume_is_told_once_and_ends_are_announced_once(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """The file opens and is read, but not a page more can be written."""
    world = World(tmp_path)
    with tmpfs(Path(world.config.state), size="2m"):
        world.crash()
        world.tick()
        with contextlib.closing(open_writer(path_of(world.config.state))) as connection:
            deliveries.register(connection, "webhook", world.wall)
        world.came(0, 1)
        live(world, 1)
        ballast = Path(world.config.state, "ballast")
        with contextlib.suppress(OSError), ballast.open("wb", buffering=0) as file:
            while True:
                file.write(bytes(4096))
        for series in range(1, 40):
            world.came(series, *range(1, 9))
            live(world, 2)
        live(world, 60)
        assert "full" in world.clerk.access.fault
        told = [one.SeriesInstanceUID for one in world.told]
        assert sorted(told) == sorted(world.uid(series) for series in range(40)), "each once"
        assert len(errors(caplog)) == 1
        ballast.unlink()
        live(world, 20)
        assert world.clerk.access.fault == ""
        assert len(world.told) == 40, "none is announced again"
        assert {row.state for row in rows(world).values()} == {"complete"}
        with contextlib.closing(sqlite3.connect(path_of(world.config.state))) as connection:
            assert connection.execute("SELECT count(*) FROM deliveries").fetchone() == (40,)
        world.close()


def fail(one: WriterConnection, now: float, error: str) -> None:
    with one.translating_faults(now):
        raise sqlite3.OperationalError(error)


def test_another_error_is_logged_after_a_while(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    one = WriterConnection(str(tmp_path))
    for now, error in ((0.0, "a"), (1.0, "b"), (2.0, "a"), (61.0, "c"), (62.0, "d")):
        fail(one, now, error)
    assert [text.rpartition(": ")[2].split()[0] for text in errors(caplog)] == ["a", "c"]
    assert one.fault.endswith("d")
    one.mark_working()
    fail(one, 63.0, "d")
    assert len(errors(caplog)) == 3


def test_a_folder_whose_transaction_was_taken_back_is_not_remembered(world: World) -> None:
    """Else the next new folder gets the same id, and instances lie in another one than the ledger says."""
    with contextlib.closing(open_writer(path_of(world.config.state))) as connection:
        posting = OutcomeRows(connection, world.clerk._open_series, world.clerk._documents, world.clerk._paths)
        with contextlib.suppress(RuntimeError), posting.transaction():
            posting.tables.folder("a")
            raise RuntimeError
        with posting.transaction():
            posting.tables.folder("b")
            posting.tables.folder("a")
        found = dict(connection.execute("SELECT path, id FROM folders"))
    assert len(set(found.values())) == 2
    assert posting.tables.folder("a") == found["a"]
