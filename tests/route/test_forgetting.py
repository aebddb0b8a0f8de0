"""What route.sqlite forgets, and what it keeps however old that is."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path

import pytest

from listener.ledger import connection as ledger
from listener.ledger.feed import FeedRow
from listener.route.forgetting import Forgetting
from listener.route.queue import File, Queue
from listener.route.settling import Origin, missing
from listener.route.studies import Studies
from tests.instances import instance
from tests.ledger_world import World as LedgerWorld
from tests.route.world import SECOND, World

DAY = 86_400
_SERIES = "SELECT id, SeriesInstanceUID, StudyInstanceUID, sender, root FROM series"
TABLES = ("sends", "instances", "series", "folders", "studies", "moves", "held", "judged", "unclaimed", "requests")


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    made = World(tmp_path)
    yield made
    made.close()


def forget(world: World, days: float) -> None:
    """What the service does every ten minutes, so many days later."""
    queue = Queue(world.connection)
    now = world.now_ns / SECOND + days * DAY
    forgetting = Forgetting(queue, Studies(queue, 600.0, 30 * DAY, now), 30 * DAY)
    for _ in range(100):
        with queue.writing():
            if not forgetting.turn(now):
                return
    pytest.fail("it does not come to an end")


def left(world: World) -> dict[str, int]:
    """How many rows tables have, but for the empty ones."""
    counts = {table: len(world.rows(f"SELECT 1 FROM {table}")) for table in TABLES}  # noqa: S608 - names of ours
    return {table: count for table, count in counts.items() if count}


def over(world: World) -> None:
    """All series have ended."""
    world.run("UPDATE series SET open = 0")


def test_what_was_delivered_long_ago_is_forgotten_with_all_that_came_of_it(world: World) -> None:
    for number in range(1, 4):
        world.sent(instance(number=number), "stockholm", "gpu1")
    world.moved("stockholm", str(instance().StudyInstanceUID), "gpu2")
    world.came(instance(series=9), "GPU2")
    world.run("UPDATE sends SET state = 'delivered'")
    world.run("INSERT INTO judged SELECT id, 'Modality', 'MR' FROM series")
    world.run("INSERT INTO requests (verb, at_ns, done_ns) VALUES ('send', 1, 2)")
    over(world)
    before = left(world)
    forget(world, 29)
    assert left(world) == before
    forget(world, 31)
    assert left(world) == {}


@pytest.mark.parametrize("state", ["pending", "dead", "held"])
@pytest.mark.parametrize("kind", ["worker", "copy", "result"])
def test_what_was_not_delivered_stays_however_old_with_what_it_needs(kind: str, state: str, world: World) -> None:
    number = world.sent(instance(), "stockholm", "gpu1")
    world.sent(instance(number=2), "stockholm", "gpu1")
    world.run(
        "INSERT INTO sends (instance_id, study_id, kind, target, state) VALUES (?, 1, 'copy', 'sto', ?)", 1, state
    )
    world.run("UPDATE sends SET kind = ? WHERE kind = 'copy'", "copy" if kind == "worker" else kind)
    if kind == "worker":
        world.run("UPDATE sends SET state = iif(kind = 'copy', 'delivered', ?) WHERE instance_id = ?", state, number)
    over(world)
    before = left(world)
    forget(world, 400)
    assert left(world) == before


def test_what_is_held_or_open_stays_and_what_was_decided_goes(world: World) -> None:
    world.came(instance(study=1, series=90), "GPU1")
    world.came(instance(study=2, series=91), "GPU1")
    over(world)
    assert [why for _, why in world.held()] == ["orphan", "orphan"]
    forget(world, 31)
    assert left(world)["held"] == 2
    world.run("UPDATE held SET settled_ns = at_ns, outcome = 'discarded' WHERE id = 1")
    world.run("UPDATE series SET open = 1 WHERE id = 2")
    forget(world, 31)
    assert left(world) == {"held": 1, "instances": 1, "series": 1, "folders": 1}
    world.run("UPDATE held SET settled_ns = at_ns, outcome = 'discarded'")
    forget(world, 31)
    assert left(world) == {"series": 1}, "it has not ended"


def test_thousands_are_forgotten_and_newer_ones_between_them_are_not(world: World) -> None:
    with Queue(world.connection).writing():
        for number in range(2500):
            row = FeedRow(
                0, "published", f"1.{number % 7}", "1", f"2.{number}", f"f{number % 5}/{number}", "A", "/in", 5
            )
            queue = Queue(world.connection)
            queue.instance(row, queue.series_id(row.SeriesInstanceUID, "1")[0], File())
    world.run("UPDATE instances SET arrived_ns = ? WHERE id IN (3, 1700)", world.now_ns + 20 * DAY * SECOND)
    over(world)
    forget(world, 31)
    assert world.rows("SELECT id FROM instances ORDER BY id") == [(3,), (1700,)]
    assert left(world)["folders"] == 2
    assert left(world)["series"] == 2


def test_what_was_forgotten_is_not_taken_for_missed(tmp_path: Path) -> None:
    """A series gets another instance after its first ones were forgotten."""
    collection = LedgerWorld(tmp_path)
    collection.came(0, 1, 2)
    world = World(tmp_path)
    with contextlib.closing(ledger.open_reader(ledger.path_of(str(world.state)))) as reader:
        series = Origin(*reader.execute(_SERIES).fetchone())
        rows = missing(reader, world.connection, series, 0)
        assert len(rows) == 2
        world.now_ns = collection.wall
        queue = Queue(world.connection)
        with queue.writing():
            for row in rows:
                queue.instance(row, queue.series_id(series.SeriesInstanceUID, series.StudyInstanceUID)[0], File())
        assert missing(reader, world.connection, series, 0) == []
        over(world)
        forget(world, 31)
        assert left(world) == {}
        assert missing(reader, world.connection, series, 0) == []
        collection.advance(40 * DAY)
        collection.came(0, 3)
        assert len(missing(reader, world.connection, series, 0)) == 1
    collection.close()
    world.close()
