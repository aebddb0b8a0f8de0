"""The feed: each instance once, in order, while somebody follows; nothing at all while nobody does."""

from __future__ import annotations

import contextlib
import os
import socket
import sqlite3
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from listener.ledger import deliveries, feed, thread
from listener.ledger.connection import open_writer, path_of, transaction
from listener.ledger.feed import FeedRow
from listener.ledger.thread import LedgerThread
from listener.ledger.writer import LedgerWriter
from tests.instances import write_instance
from tests.ledger_world import World
from tests.service_process import Places, service
from tests.waiting import until


@pytest.fixture
def ledger(world: World) -> Iterator[sqlite3.Connection]:
    with contextlib.closing(open_writer(path_of(world.config.state))) as connection:
        yield connection


def follower(connection: sqlite3.Connection, name: str = "stage") -> int:
    number = deliveries.register(connection, name, 0)
    feed.follow(connection, number)
    return number


def rows(connection: sqlite3.Connection, after: int = 0) -> list[FeedRow]:
    return feed.rows_after(connection, after, 10_000)


def test_nothing_is_put_down_while_nobody_follows(world: World, ledger: sqlite3.Connection) -> None:
    world.came(0, 1, 2)
    number = deliveries.register(ledger, "stage", 0)
    world.came(0, 3)
    assert rows(ledger) == []
    feed.follow(ledger, number)
    world.came(0, 4)
    deliveries.retire(ledger, "stage", 1)
    world.came(0, 5)
    assert [row.path.rpartition("/")[2][:4] for row in rows(ledger)] == ["0004"]


def test_a_row_says_what_came_from_whom_and_where_it_lies(world: World, ledger: sqlite3.Connection) -> None:
    follower(ledger)
    one = world.publish(0, 1)
    again = one._replace(kind="duplicate", sender="OTHER", arrived_ns=77)
    aside = world.outcome("set-aside", 0, "/nowhere")
    two = world.publish(1, 1, study=1)
    world.record(one, again, aside, two)
    root = world.config.incoming[0]
    first, copy, last = rows(ledger)
    assert first[1:] == (
        *("published", world.uid(0), world.study(), one.SOPInstanceUID),
        *(one.dst.removeprefix(f"{world.config.data}/"), "SENDER", root, one.arrived_ns),
    )
    assert copy == first._replace(seq=copy.seq, kind="duplicate", sender="OTHER", arrived_ns=77)
    assert (last.SeriesInstanceUID, last.StudyInstanceUID) == (world.uid(1), world.study(1))
    assert [first.seq, copy.seq, last.seq] == [1, 2, 3]
    assert (Path(world.config.data) / last.path).is_file()


def test_counts_are_the_same_whether_somebody_follows_or_not(world: World, ledger: sqlite3.Connection) -> None:
    follower(ledger)
    world.came(0, 1, 2, 3)
    world.came(0, 3, 4)
    assert ledger.execute("SELECT instances FROM series").fetchall() == [(4,)]
    assert len(rows(ledger)) == 5


def test_a_duplicate_of_a_series_that_the_ledger_lost_is_told_of_its_study(
    world: World, ledger: sqlite3.Connection
) -> None:
    """The ledger was made anew since: the documents have what it lacks."""
    one = world.publish(0, 1)
    follower(ledger)
    world.record(one._replace(kind="duplicate"))
    (row,) = rows(ledger)
    assert (row.SeriesInstanceUID, row.StudyInstanceUID) == (world.uid(0), world.study())


def test_what_all_have_passed_is_removed(world: World, ledger: sqlite3.Connection) -> None:
    slow, fast = follower(ledger, "slow"), follower(ledger, "fast")
    world.came(0, 1, 2, 3, 4)
    feed.mark_passed(ledger, fast, 4)
    feed.mark_passed(ledger, slow, 2)
    feed.mark_passed(ledger, slow, 1)  # Nobody goes back.
    world.tick()
    assert [row.seq for row in rows(ledger)] == [3, 4]
    deliveries.retire(ledger, "slow", 1)
    world.tick()
    assert rows(ledger) == []
    world.came(0, 5)
    assert [row.seq for row in rows(ledger)] == [5], "a number is never given twice"


def test_what_nobody_fetches_is_bounded_and_seen_as_a_gap(
    world: World, ledger: sqlite3.Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(feed, "MOST", 3)
    monkeypatch.setattr(feed, "PER_REMOVAL", 2)
    follower(ledger)
    world.came(0, *range(1, 10))
    for _ in range(3):
        world.tick()
    assert [row.seq for row in rows(ledger)] == [7, 8, 9]


def test_rows_and_outcomes_are_put_down_together_or_not_at_all(world: World, ledger: sqlite3.Connection) -> None:
    follower(ledger)
    with transaction(ledger):
        ledger.execute("CREATE TRIGGER no BEFORE INSERT ON feed BEGIN SELECT raise(ABORT, 'no'); END")
    world.came(0, 1)
    assert world.clerk.access.fault
    assert ledger.execute("SELECT count(*) FROM instances").fetchone() == (0,)
    with transaction(ledger):
        ledger.execute("DROP TRIGGER no")
    world.advance(60)
    world.tick()
    assert ledger.execute("SELECT count(*) FROM instances").fetchone() == (1,)
    assert [row.seq for row in rows(ledger)] == [1]


def test_who_followed_follows_the_ledger_that_was_made_anew(world: World, ledger: sqlite3.Connection) -> None:
    follower(ledger)
    world.came(0, 1)
    world.tick()
    for name in Path(world.config.state).glob("ledger.sqlite*"):
        name.unlink()
    world.tick()
    world.came(0, 2)
    with contextlib.closing(open_writer(path_of(world.config.state))) as anew:
        assert [row.seq for row in rows(anew)] == [1], "smaller than the one before: the follower sees it"


def test_a_follower_is_woken_and_one_that_is_not_there_disturbs_nobody(
    world: World, ledger: sqlite3.Connection
) -> None:
    follower(ledger, "absent")
    follower(ledger)
    world.came(0, 1)
    with contextlib.closing(feed.listen(world.config.state, "stage")):
        pass  # One that died: its socket is still there.
    world.came(0, 2)
    with contextlib.closing(feed.listen(world.config.state, "stage")) as woken:
        for number in range(3, 1000):  # Nobody reads: what does not fit is dropped.
            world.came(0, number)
        woken.settimeout(60)
        assert woken.recv(16) == b"\0"
    assert not world.clerk.access.fault
    assert len(rows(ledger)) == 999


def test_a_state_directory_may_have_a_long_name(tmp_path: Path) -> None:
    state = tmp_path / ("long" * 50) / "state"
    state.mkdir(parents=True)
    with contextlib.closing(feed.listen(str(state), "stage")) as woken:
        feed.wake(str(state), ["stage"])
        woken.settimeout(60)
        assert woken.recv(16) == b"\0"
    assert os.stat(state / "wake").st_mode & 0o077 == 0


def test_a_lone_outcome_is_put_down_at_once_while_somebody_follows(world: World, ledger: sqlite3.Connection) -> None:
    follower(ledger)
    keeper = LedgerThread(world.config)
    keeper.start()
    keeper.finished([world.publish(0, 1)])
    until(lambda: len(rows(ledger)) == 1, 10)
    best, number = 9.0, 0
    while number < 100 and best >= 0.1:  # A busy machine is seldom quick.
        number += 1
        begun = time.monotonic()
        keeper.finished([world.publish(0, number + 1)])
        until(lambda number=number: rows(ledger, number), 10)  # type: ignore[misc]
        best = min(best, time.monotonic() - begun)
    keeper.close(lambda _: None)
    assert best < 0.1, "without a follower it takes 0.15 s"


@pytest.mark.real
def test_a_follower_of_the_service_is_told_of_each_file(places: Places) -> None:
    with service(places) as running, contextlib.closing(open_writer(path_of(str(places.state)))) as connection:
        follower(connection)
        with contextlib.closing(feed.listen(str(places.state), "stage")) as woken:
            woken.settimeout(60)
            for number in range(3):
                write_instance(places.incoming / f"{number}", number=number)
                wait_for(woken)
            running.wait_for("published", 3)
            until(lambda: len(rows(connection)) == 3, 10)
            assert {row.kind for row in rows(connection)} == {"published"}
            for row in rows(connection):
                assert (places.data / row.path).is_file()


def wait_for(woken: socket.socket) -> None:
    assert woken.recv(16)


def test_who_has_just_begun_to_follow_is_served_at_once(
    world: World, ledger: sqlite3.Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    looked = threading.Event()
    tick = LedgerWriter.tick

    def told(writer: LedgerWriter, now: float, now_ns: int) -> None:
        tick(writer, now, now_ns)
        looked.set()

    monkeypatch.setattr(LedgerWriter, "tick", told)
    keeper = LedgerThread(world.config)
    keeper.start()
    assert looked.wait(10)
    # From now on it looks once an hour, and gathers outcomes for an hour.
    monkeypatch.setattr(thread, "_TICK_SECONDS", 3600.0)
    monkeypatch.setattr(thread, "_GATHER_SECONDS", 3600.0)
    follower(ledger)
    keeper.finished([world.publish(0, 1)])
    until(lambda: len(rows(ledger)) == 1, 10)
    keeper.close(lambda _: None)
