from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from listener.errors import LedgerCorrupt
from listener.ledger import deliveries, feed
from listener.ledger.connection import open_writer, path_of, transaction
from listener.stages.follower import Batch, Cursor, Follower
from tests.ledger_world import World

Follow = Callable[..., Follower]


@pytest.fixture
def follow(world: World) -> Iterator[Follow]:
    with contextlib.ExitStack() as stack:

        def make(cursor: Cursor = Cursor()) -> Follower:  # noqa: B008
            return stack.enter_context(contextlib.closing(Follower(world.config.state, "stage", cursor)))

        yield make


def numbers(batch: Batch) -> list[int]:
    return [row.seq for row in batch.rows]


def test_the_first_time_it_is_told_that_it_knows_nothing(world: World, follow: Follow) -> None:
    world.came(0, 1)
    one = follow()
    first = one.take()
    assert (first.rows, first.is_broken) == ([], True)
    world.came(0, 2, 3)
    batch = one.take(1)
    assert (numbers(batch), batch.is_broken) == ([1], False)
    assert (numbers(one.take()), one.take().rows) == ([2], [])


def test_the_next_one_goes_on_behind_the_cursor(world: World, follow: Follow) -> None:
    one = follow()
    one.take()
    world.came(0, 1, 2)
    cursor = one.take(1).cursor
    one.close()
    world.came(0, 3)
    batch = follow(cursor).take()
    assert (numbers(batch), batch.is_broken) == ([2, 3], False)


def test_rows_that_went_before_they_were_read_are_told(world: World, follow: Follow) -> None:
    one = follow()
    one.take()
    world.came(0, 1, 2, 3)
    with contextlib.closing(open_writer(path_of(world.config.state))) as ledger, transaction(ledger):
        ledger.execute("DELETE FROM feed WHERE seq < 3")
    batch = one.take()
    assert (numbers(batch), batch.is_broken) == ([3], True)
    assert not one.take().is_broken


def test_a_ledger_made_anew_is_told(world: World, follow: Follow) -> None:
    one = follow()
    one.take()
    world.came(0, 1, 2)
    cursor = one.take().cursor
    world.tick()
    for path in Path(world.config.state).glob("ledger.sqlite*"):
        path.unlink()
    world.advance(1)
    world.tick()
    world.came(0, 3, 4, 5)
    batch = one.take()
    assert batch.is_broken
    assert batch.cursor.since_ns != cursor.since_ns
    assert numbers(batch) == [1, 2, 3], "who followed follows"


def test_who_was_retired_meanwhile_is_told(world: World, follow: Follow) -> None:
    one = follow()
    one.take()
    world.came(0, 1)
    cursor = one.take().cursor
    one.close()
    with contextlib.closing(open_writer(path_of(world.config.state))) as ledger:
        deliveries.retire(ledger, "stage", 1)
    world.came(0, 2)
    again = follow(cursor)
    assert again.take().is_broken
    world.came(0, 3)
    assert len(again.take().rows) == 1


def test_it_is_woken(world: World, follow: Follow) -> None:
    one = follow()
    one.take()
    world.came(0, 1)
    assert os.read(one.fileno(), 1)
    world.came(0, 2)
    assert numbers(one.take()) == [1, 2]
    with pytest.raises(BlockingIOError):
        os.read(one.fileno(), 1)


def test_it_reports_once_a_second_what_it_needs_no_more(world: World, follow: Follow) -> None:
    one = follow()
    one.take()
    for number in (1, 2, 3):
        world.came(0, number)
        one.report(one.take().cursor)
    world.tick()
    with contextlib.closing(open_writer(path_of(world.config.state))) as ledger:
        assert [row.seq for row in feed.rows_after(ledger, 0, 10)] == [2, 3]
        one.report(one.take().cursor, at_once=True)
        world.tick()
        assert feed.rows_after(ledger, 0, 10) == []


def test_a_ledger_that_cannot_be_used_is_tried_again(world: World, follow: Follow) -> None:
    one = follow()
    one.take()
    world.close()
    path = Path(path_of(world.config.state))
    whole = path.read_bytes()
    for other in path.parent.glob("ledger.sqlite-*"):
        other.unlink()
    path.unlink()
    path.write_bytes(b"no ledger" * 1000)
    for _ in range(2):
        with pytest.raises(LedgerCorrupt):
            one.take()
    path.unlink()
    path.write_bytes(whole)
    assert one.take().rows == []
