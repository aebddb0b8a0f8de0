"""When a study ends: once a generation, over kills, late series, corrections, repairs and a lost ledger."""

from __future__ import annotations

import contextlib
import sqlite3
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from listener.ledger import deliveries, maintenance
from listener.ledger.completion import Flow, StudyEnd
from listener.ledger.connection import migrate, open_writer, path_of
from listener.ledger.interests import STUDY_EVENTS, Interest, text_of
from listener.ledger.maintenance import LedgerRepair
from listener.ledger.waiting_studies import WaitingStudies
from listener.ledger.writer import LedgerWriter
from tests.ledger_world import World

#: Series end after 10 s, studies 30 s after their last instance.
STUDY_QUIET = 30.0
WANTS = text_of(Interest(STUDY_EVENTS))


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    one = World(tmp_path, study_quiet=STUDY_QUIET)
    yield one
    one.close()


def later(world: World, seconds: float, step: float = 1.0) -> list[StudyEnd]:
    """Seconds go by; the studies that ended."""
    before = len(world.studies_told)
    while seconds > 0:
        world.advance(min(step, seconds))
        world.tick()
        seconds -= step
    return world.studies_told[before:]


def ask(world: World, question: str) -> list[tuple[Any, ...]]:
    with contextlib.closing(sqlite3.connect(path_of(world.config.state))) as connection:
        return connection.execute(question).fetchall()


def brief(ends: list[StudyEnd]) -> list[tuple[int, int, int, int, str]]:
    return [(end.generation, end.series, end.complete, end.instances, end.result) for end in ends]


def register(world: World, name: str = "study-webhook", wants: str = WANTS) -> None:
    with contextlib.closing(open_writer(path_of(world.config.state))) as connection:
        deliveries.register(connection, name, world.wall, wants=wants)


# -- the rule ----------------------------------------------------------------------------------------------------------


def test_a_study_ends_once_its_series_have_and_nothing_new_came_for_a_while(world: World) -> None:
    world.came(0, 1, 2)
    later(world, 5)
    world.came(1, 1)
    assert later(world, 29.5) == []
    assert world.told, "its series have ended"
    (end,) = later(world, 1)
    assert (end.StudyInstanceUID, end.event) == (world.study(), "study-complete")
    assert brief([end]) == [(1, 2, 2, 3, "complete")]
    assert later(world, 500) == []


def test_with_no_quiet_it_ends_with_its_last_series(tmp_path: Path) -> None:
    with contextlib.closing(World(tmp_path, study_quiet=0.0)) as world:
        world.promise(0, 2)
        world.came(0, 1)
        world.came(1, 1)
        later(world, 15)
        world.came(0, 2)
        world.announce()
        assert brief(world.studies_told) == [(1, 2, 2, 3, "complete")]


def test_an_open_series_holds_its_study_open_and_no_other(world: World) -> None:
    world.promise(0, 5)
    world.came(0, 1)
    world.came(1, 1)
    world.came(2, 1, study=1)
    assert [end.StudyInstanceUID for end in later(world, 90)] == [world.study(1)]
    (end,) = later(world, 40)
    assert brief([end]) == [(1, 2, 1, 2, "incomplete")], "its timeout is over; it is quiet since long ago"


@pytest.mark.parametrize("series", [0, 1], ids=["an instance", "a series"])
def test_what_comes_late_begins_the_next_generation(world: World, series: int) -> None:
    world.came(0, 1)
    assert brief(later(world, 40)) == [(1, 1, 1, 1, "complete")]
    world.came(series, 2)
    assert brief(later(world, 40)) == [(2, 1 + series, 1 + series, 2, "complete")]


def test_a_late_series_before_the_end_is_waited_for(world: World) -> None:
    world.came(0, 1)
    later(world, 25)
    world.came(1, 1)
    assert later(world, 29) == []
    assert brief(later(world, 2)) == [(1, 2, 2, 2, "complete")]


def test_a_file_that_is_held_up_holds_its_study(world: World) -> None:
    world.clerk.flow = Flow(world.now)
    world.came(0, 1)
    world.came(1, 1)

    def go(seconds: int, held: frozenset[str]) -> None:
        for _ in range(seconds):
            world.advance(1)
            assert world.clerk.flow
            world.clerk.flow = world.clerk.flow.next(world.now, 0.0, flows=True, held=held)
            world.tick()

    go(12, frozenset())
    assert len(world.told) == 2
    go(60, frozenset({world.uid(1)}))
    assert world.studies_told == []
    go(3, frozenset())
    assert brief(world.studies_told) == [(1, 2, 2, 2, "complete")]


def test_time_without_intake_is_not_quiet(world: World) -> None:
    world.came(0, 1)
    later(world, 12)
    world.clerk.flow = Flow(world.now, elapsed=world.now, flows=False)
    assert later(world, 500) == []


def test_the_queue_of_those_that_wait() -> None:
    waiting = WaitingStudies(30.0)
    waiting.keep("a", 10.0)
    waiting.keep("a", 5.0)
    waiting.keep("b", 0.0)
    waiting.keep("", 0.0)
    assert (len(waiting), waiting.is_due(29.9), waiting.due(30.0)) == (2, False, ["b"])
    waiting.postpone("b", 50.0)
    waiting.drop("a")
    assert waiting.due(40.0) == []
    waiting.refresh(["b", "c"], 100.0)
    assert (waiting.due(50.0), waiting.due(129.9), waiting.due(130.0)) == (["b"], [], ["c"])


# -- once, whatever happens --------------------------------------------------------------------------------------------


def test_a_kill_between_record_and_event_announces_it_again(world: World) -> None:
    world.came(0, 1)
    later(world, 29)
    world.advance(2)
    world.clerk.tick(world.now, world.wall)
    world.crash()
    world.tick()
    assert brief(world.studies_told) == [(1, 1, 1, 1, "complete")]
    world.crash()
    world.tick()
    assert len(world.studies_told) == 1
    assert later(world, 100) == []


def test_a_kill_while_it_waits_lets_it_wait_anew(world: World) -> None:
    world.came(0, 1)
    later(world, 25)
    world.crash()
    world.tick()
    assert later(world, 29) == []
    assert brief(later(world, 2)) == [(1, 1, 1, 1, "complete")]


def test_deliveries_are_made_for_those_who_want_them_once(world: World) -> None:
    register(world)
    register(world, "webhook", "")
    register(world, "elsewhere", text_of(Interest(STUDY_EVENTS, modalities=("CT",))))
    register(world, "incomplete", text_of(Interest(STUDY_EVENTS, results=("incomplete",))))
    world.came(0, 1)
    later(world, 40)
    world.crash()
    later(world, 40)
    world.came(1, 1)
    later(world, 40)
    made = ask(
        world,
        "SELECT c.name, d.event, d.generation FROM deliveries d JOIN consumers c ON c.id = d.consumer_id ORDER BY d.id",
    )
    series = [("webhook", "series-complete", 1)]
    study = [("study-webhook", "study-complete", number) for number in (1, 2)]
    assert made == [*series, study[0], *series, study[1]]


def test_its_delivery_has_the_study_as_it_ended(world: World) -> None:
    register(world)
    world.came(0, 1, 2)
    world.came(1, 1)
    later(world, 40)
    world.came(1, 2)
    with contextlib.closing(open_writer(path_of(world.config.state))) as connection:
        (delivery,) = deliveries.lease(connection, 1, world.wall, world.wall + 1, limit=5)
        assert delivery.key == f"study/{world.study()}/1"
        assert delivery.end
        assert delivery.study
        assert (delivery.end.series, delivery.end.instances, delivery.end.result) == (2, 3, "complete")
        assert [one.SeriesInstanceUID for one in delivery.series_of_study] == [world.uid(0), world.uid(1)]
        assert delivery.study.folder == "p/s"
        assert deliveries.settle(connection, delivery, "delivered", world.wall)
        assert not deliveries.lease(connection, 1, world.wall, world.wall + 1)


def test_without_a_ledger_it_waits_for_it(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("listener.ledger.connection.BUSY_TIMEOUT", 0.0)  # Of what is opened again.
    world.came(0, 1)
    later(world, 25)
    with contextlib.closing(open_writer(path_of(world.config.state))) as other:
        other.execute("PRAGMA busy_timeout = 0")
        assert world.clerk.access.connection
        world.clerk.access.connection.execute("PRAGMA busy_timeout = 0")
        other.execute("BEGIN IMMEDIATE")
        assert later(world, 10) == []
        other.execute("ROLLBACK")
    assert brief(later(world, 40)) == [(1, 1, 1, 1, "complete")]


@pytest.mark.parametrize("when", [20, 40], ids=["it waited", "its delivery waited"])
def test_a_ledger_that_is_lost_loses_no_end(world: World, when: int) -> None:
    register(world)
    world.came(0, 1)
    world.came(1, 1)
    later(world, when)
    for file in Path(world.config.state).glob("ledger.sqlite*"):
        file.unlink()
    later(world, 60)
    assert ask(world, "SELECT event, state FROM deliveries") == [("study-complete", "pending")]
    assert ask(world, "SELECT generation, series, instances, announced FROM study_ends") == [(1, 2, 2, 1)]


def test_another_listener_that_takes_its_newest_series_in_decides(tmp_path: Path) -> None:
    working = True
    with contextlib.closing(World(tmp_path, study_quiet=STUDY_QUIET)) as world:
        world.clerk.close()
        world.clerk = LedgerWriter(world.config, is_worked_on=lambda _: working)
        world.came(0, 1)
        later(world, 12)
        with contextlib.closing(sqlite3.connect(path_of(world.config.state))) as other, other:
            other.execute("UPDATE series SET root = '/elsewhere'")
        assert later(world, 100) == []
        working = False
        assert brief(later(world, 20)) == [(1, 1, 1, 1, "complete")]


def test_a_command_judges_by_the_wall_clock(world: World) -> None:
    world.clerk.flow = Flow(world.now, flows=False)
    world.came(0, 1)
    world.came(1, 1, study=1)
    for seconds, ended in ((25, 0), (10, 2)):
        world.advance(seconds)
        world.tick()
        world.clerk.end_by_wall_clock(world.now, world.wall)
        world.announce()
        assert len(world.studies_told) == ended
    assert len(world.told) == 2


# -- what is corrected, repaired, older --------------------------------------------------------------------------------


def test_a_study_that_a_correction_empties_ends_and_nobody_is_told(world: World) -> None:
    register(world)
    world.came(0, 1)
    before = world.publish(0, 1)
    Path(world.images(0), f"{Path(before.dst).name}.json").unlink()
    outcome = world.publish(0, 1, superseded=True, study=1)
    world.record(outcome._replace(SOPInstanceUID=before.SOPInstanceUID))
    later(world, 60)
    states = dict(ask(world, "SELECT StudyInstanceUID, result FROM study_states"))
    assert states == {world.study(0): "recounted", world.study(1): "complete"}
    assert [end.StudyInstanceUID for end in world.studies_told] == [world.study(1)]


def test_a_study_that_a_repair_finds_is_told_to_nobody_until_something_comes(world: World) -> None:
    register(world)
    world.tick()
    for series in (0, 1):
        world.publish(series, 1)
        with contextlib.closing(LedgerRepair(world.config)) as repair:
            repair.count(world.uid(series))
    assert later(world, 100) == []
    assert ask(world, "SELECT state, result, generation FROM study_states") == [("complete", "recounted", 1)]
    world.came(1, 2)
    assert brief(later(world, 40)) == [(1, 2, 2, 3, "complete")]


def test_a_repair_beside_a_service_leaves_a_study_that_waits(world: World) -> None:
    world.came(0, 1)
    later(world, 12)
    world.publish(1, 1)
    with contextlib.closing(LedgerRepair(world.config)) as repair:
        repair.count(world.uid(1))
    assert brief(later(world, 40)) == [(1, 2, 2, 2, "complete")]


def test_of_an_older_ledger_only_what_is_open_or_comes_is_told(world: World, tmp_path: Path) -> None:
    world.clerk.close()
    Path(path_of(world.config.state)).unlink(missing_ok=True)
    with contextlib.closing(sqlite3.connect(path_of(world.config.state), isolation_level=None)) as older:
        migrate(older, 6)
        for series, state, study in ((0, "complete", 0), (1, "complete", 1), (2, "open", 1), (3, "complete", 2)):
            older.execute(
                "INSERT INTO series (SeriesInstanceUID, StudyInstanceUID, state, instances) VALUES (?, ?, ?, 0)",
                (world.uid(series), world.study(study), state),
            )
            older.execute(
                "INSERT INTO history (series_id, generation, at_ns, state, instances, bytes) VALUES (?, 1, 1, ?, 0, 0)",
                (series + 1, "open"),
            )
        older.execute("INSERT INTO consumers (name, since_ns) VALUES ('webhook', 0)")
        older.execute(
            "INSERT INTO deliveries (consumer_id, event, series_id, generation, made_ns) "
            "VALUES (1, 'series-complete', 1, 1, 5)"
        )
    world.crash()
    world.tick()
    ends = later(world, 60)
    assert {end.StudyInstanceUID: end.generation for end in ends} == {world.study(1): 1}
    world.record(world.publish(3, 7, study=2))
    assert {end.StudyInstanceUID: end.generation for end in later(world, 40)} == {world.study(2): 1}
    kept = "SELECT event, made_ns, state FROM deliveries WHERE made_ns = 5"
    assert ask(world, kept) == [("series-complete", 5, "pending")]
    counted = ask(world, "SELECT deliveries FROM delivery_counts WHERE state = 'pending'")
    assert counted == ask(world, "SELECT count(*) FROM deliveries WHERE state = 'pending'"), "its triggers live"


@pytest.mark.parametrize("state", ["pending", "failed"])
def test_a_study_that_was_not_delivered_keeps_its_series_from_prune(world: World, state: str) -> None:
    register(world)
    world.came(0, 1)
    later(world, 40)
    with contextlib.closing(open_writer(path_of(world.config.state))) as connection:
        connection.execute("UPDATE deliveries SET state = ?", (state,))
        assert maintenance.old_series(connection, world.wall + 1) == []
        connection.execute("UPDATE deliveries SET state = 'delivered'")
        assert len(maintenance.old_series(connection, world.wall + 1)) == 1
