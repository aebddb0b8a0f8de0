"""The ledger's writer, without a thread: series, generations, faults, restarts."""

from __future__ import annotations

import contextlib
import os
import sqlite3
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import orjson
import pytest

from listener.ledger import connection, deliveries, generations
from listener.ledger.completion import UNSEEN, Completion, Flow, Moment, SeriesState
from listener.ledger.connection import open_writer, path_of, transaction
from listener.ledger.evidence import DocumentReader
from listener.ledger.outcome_rows import OutcomeRows
from listener.ledger.reader import Reader, reading
from listener.ledger.rows import SeriesRow
from listener.ledger.writer import LedgerWriter
from listener.records import Outcome
from tests.instances import uid
from tests.ledger_world import World


@pytest.fixture
def world(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[World]:
    monkeypatch.setattr(connection, "BUSY_TIMEOUT", 0.0)
    made = World(tmp_path)
    made.tick()
    yield made
    made.close()


@contextlib.contextmanager
def read(world: World) -> Iterator[Reader]:
    with reading(world.config.state) as reader:
        yield reader


def row(world: World, series: int = 0) -> SeriesRow:
    with read(world) as reader:
        found = reader.series(world.uid(series))
    assert found
    return found


def results(world: World) -> list[tuple[int, int, int, str]]:
    """(generation, instances, expected, result) of each end that was told."""
    return [(one.generation, one.instances, one.expected, one.result) for one in world.told]


# -- generations -------------------------------------------------------------------------------------------------------


def test_everything_that_is_known_of_a_series(world: World) -> None:
    first = world.wall
    world.came(0, 1, 2)
    world.advance(3)
    world.came(0, 3)
    found = row(world)
    assert found.StudyInstanceUID == str(uid("study", 0, 0))
    assert (found.PatientID, found.Modality, found.sender) == ("P0000", "MR", "SENDER")
    assert found.root == world.config.incoming[0]
    assert (found.state, found.generation, found.instances, found.expected) == ("open", 1, 3, 0)
    assert (found.first_ns, found.last_ns) == (first, world.wall)
    size = os.stat(Path(world.config.data, "p/s/0", min(world.described(0)))).st_size
    assert found.bytes == 3 * size
    with contextlib.closing(sqlite3.connect(path_of(world.config.state))) as connection:
        paths = connection.execute("SELECT path FROM files ORDER BY path").fetchall()
    assert [path for (path,) in paths] == [f"p/s/0/{name}" for name in sorted(world.described(0))]


def test_the_expected_number_completes_at_once(world: World) -> None:
    world.promise(0, "2")
    world.came(0, 1)
    assert world.announce() == []
    world.came(0, 2)
    world.announce()
    assert results(world) == [(1, 2, 2, "expected")]


def test_incomplete_and_the_late_instance_completes_generation_two(world: World) -> None:
    world.promise(0, 3)
    world.came(0, 1, 2)
    world.advance(99)
    world.tick()
    assert world.told == []
    world.advance(1)
    world.tick()
    assert results(world) == [(1, 2, 3, "incomplete")]
    assert row(world).state == "incomplete"
    world.came(0, 3)
    world.announce()
    assert results(world)[1:] == [(2, 3, 3, "late")]
    with read(world) as reader:
        states = [(one.generation, one.state) for one in reader.history(world.uid(0))]
    assert states == [(1, "open"), (1, "incomplete"), (2, "open"), (2, "complete")]


def test_a_replay_or_a_duplicate_opens_nothing(world: World) -> None:
    outcome = world.publish(0, 1)
    world.record(outcome)
    world.advance(10)
    world.tick()
    world.record(outcome, outcome._replace(kind="duplicate"))
    world.advance(10)
    world.tick()
    assert results(world) == [(1, 1, 0, "quiet")]
    assert row(world).instances == 1


def test_a_replaced_instance_is_one_instance_and_opens_its_series(world: World) -> None:
    old = world.publish(0, 1)
    world.record(old)
    world.advance(10)
    world.tick()
    # The corrected one has another path, and the old one's document is gone.
    (document,) = world.images(0).iterdir()
    document.unlink()
    new = world.publish(0, 2, superseded=True)
    world.record(new._replace(SOPInstanceUID=old.SOPInstanceUID))
    assert (row(world).state, row(world).generation, row(world).instances) == ("open", 2, 1)
    world.advance(10)
    world.tick()
    assert results(world)[1:] == [(2, 1, 0, "late")]
    with read(world) as reader:
        assert reader.set_aside() == {"superseded": (1, new.size)}
    with contextlib.closing(sqlite3.connect(path_of(world.config.state))) as connection:
        (error,) = connection.execute("SELECT error FROM set_aside").fetchone()
    assert "newer data set" in error, "hooks are told why"


def test_what_is_replaced_within_one_transaction_counts_once_with_its_last_size(world: World) -> None:
    old = world.publish(0, 1)
    new = world.publish(0, 1, superseded=True)._replace(size=old.size + 2)
    world.record(old, new)
    assert (row(world).instances, row(world).bytes) == (1, new.size)


def test_a_study_is_complete_when_all_its_series_are(world: World) -> None:
    def state() -> str:
        with read(world) as reader:
            found = reader.study(str(uid("study", 0, 0)))
        assert found
        return found.state

    world.promise(1, 5)
    world.came(0, 1)
    world.came(1, 1)
    assert state() == "open"
    world.advance(10)
    world.tick()
    assert state() == "open"
    world.advance(90)
    world.tick()
    assert state() == "incomplete"
    world.came(1, 2, 3, 4, 5)
    assert state() == "complete"


# -- expectations ------------------------------------------------------------------------------------------------------


def expect(world: World, number: int, series: int = 0) -> None:
    with contextlib.closing(open_writer(path_of(world.config.state))) as connection, transaction(connection):
        generations.expect(connection, world.uid(series), number, "expect", world.wall)


def test_what_a_person_expects_is_heard_and_beats_a_promise(world: World) -> None:
    world.promise(0, 9)
    world.came(0, 1)
    expect(world, 2)
    world.promise(0, 888)
    world.tick()
    world.came(0, 2)
    world.announce()
    assert results(world) == [(1, 2, 2, "expected")]


def test_a_complete_series_of_which_more_is_expected_is_open_again(world: World) -> None:
    world.came(0, 1)
    world.advance(10)
    world.tick()
    expect(world, 2)
    world.tick()
    assert (row(world).state, row(world).generation) == ("open", 2)
    world.advance(100)
    world.tick()
    assert results(world)[1:] == [(2, 1, 2, "incomplete")]
    expect(world, 1)
    world.tick()
    assert results(world)[2:] == [(3, 1, 1, "late")]


def test_a_series_may_be_expected_before_it_comes(world: World) -> None:
    expect(world, 1)
    world.tick()
    world.came(0, 1)
    world.announce()
    assert results(world) == [(1, 1, 1, "expected")]
    assert row(world).PatientID == "P0000"


def test_what_another_listener_brings_counts(world: World) -> None:
    world.promise(0, 3)
    world.came(0, 1)
    world.publish(0, 2)
    world.publish(0, 3)
    world.advance(0.5)
    world.tick()
    assert world.told == [], "it may be about to be told"
    world.advance(1)
    world.tick()
    assert results(world) == [(1, 3, 3, "expected")]


def test_a_quiet_series_that_another_listener_adds_to_goes_on(world: World) -> None:
    world.came(0, 1)
    world.publish(0, 2)
    world.advance(10)
    world.tick()
    assert world.told == []
    world.advance(10)
    world.tick()
    assert results(world) == [(1, 2, 0, "quiet")]


def test_a_generation_that_somebody_else_ended_is_not_ended_again(world: World) -> None:
    world.came(0, 1)
    ended = Completion(world.uid(0), "", 1, 1, 0, "quiet")
    with contextlib.closing(open_writer(path_of(world.config.state))) as connection, transaction(connection):
        assert generations.end(connection, 1, ended, 5)
        assert not generations.end(connection, 1, ended._replace(result="incomplete"), 6)
        assert not generations.end(connection, 1, ended._replace(generation=2), 7)
    world.advance(10)
    world.tick()
    assert world.told == []
    assert (row(world).state, row(world).changed_ns) == ("complete", 5)


# -- clocks and restarts -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("jump", [-100_000.0, 100_000.0])
def test_a_clock_jump_ends_nothing_and_holds_nothing_up(world: World, jump: float) -> None:
    world.came(0, 1)
    world.advance(1, jump)
    world.tick()
    assert world.told == []
    world.advance(9)
    world.tick()
    assert results(world) == [(1, 1, 0, "quiet")]


def test_what_a_kill_left_out_is_counted_again(world: World) -> None:
    world.came(0, 1)
    world.publish(0, 2)
    world.publish(1, 1)
    world.crash()
    world.tick()
    assert row(world).instances == 2
    assert (row(world, 1).instances, row(world, 1).PatientID, row(world, 1).sender) == (1, "P0000", "SENDER")
    world.advance(10)
    world.tick()
    assert sorted(results(world)) == [(1, 1, 0, "quiet"), (1, 2, 0, "quiet")]


def test_a_clock_that_was_set_back_hides_nothing_from_the_next_start(world: World) -> None:
    world.came(0, 1)
    world.advance(1, -100_000.0)
    world.tick()
    world.publish(0, 2)
    world.crash()
    world.tick()
    assert row(world).instances == 2


def test_only_what_changed_lately_is_counted_again(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    world.came(0, 1)
    world.advance(10_000)
    world.came(1, 1)
    world.crash()
    counted: list[str] = []
    monkeypatch.setattr(OutcomeRows, "recount", lambda _self, uid, *_, **__: counted.append(uid))
    world.tick()
    assert counted == [world.uid(1)]


def test_the_mark_waits_while_something_is_to_be_counted_again(world: World) -> None:
    """Else a second kill would leave it out for good."""
    world.came(0, 1)
    world.publish(0, 2)
    world.advance(10_000)
    world.clerk.pending.recount([world.uid(0)])
    world.came(1, 1)
    world.crash()
    world.tick()
    assert row(world).instances == 2


def test_an_end_that_was_recorded_and_not_told_is_told_at_the_next_start(world: World) -> None:
    world.came(0, 1)
    world.advance(10)
    world.clerk.tick(world.now, world.wall)
    world.crash()
    world.tick()
    assert results(world) == [(1, 1, 0, "quiet")]
    world.crash()
    world.tick()
    assert results(world) == [(1, 1, 0, "quiet")]


def test_time_in_which_nobody_looked_ends_nothing(world: World) -> None:
    world.came(0, 1)
    world.crash()
    world.advance(5, 100_000)
    world.tick()
    world.advance(5)
    world.tick()
    assert world.told == []
    world.advance(5)
    world.tick()
    assert results(world) == [(1, 1, 0, "quiet")]


def test_a_command_that_does_not_wait_judges_by_the_wall_clock(world: World) -> None:
    world.came(0, 1)
    world.advance(6)
    world.came(1, 1)
    world.crash()
    world.advance(0, 6)
    world.tick()
    world.clerk.end_by_wall_clock(world.now, world.wall)
    assert [one.SeriesInstanceUID for one in world.announce()] == [world.uid(0)]


# -- faults ------------------------------------------------------------------------------------------------------------


def test_while_the_ledger_is_locked_series_are_told_and_afterwards_recorded(world: World) -> None:
    lock = open_writer(path_of(world.config.state))
    lock.execute("BEGIN IMMEDIATE")
    world.came(0, 1, 2)
    assert "locked" in world.clerk.access.fault
    world.advance(10)
    world.tick()
    assert results(world) == [(1, 2, 0, "quiet")]
    lock.close()
    world.advance(60)
    world.tick()
    assert world.clerk.access.fault == ""
    assert row(world).instances == 2
    world.advance(10)
    world.tick()
    with read(world) as reader:
        assert [one.state for one in reader.history(world.uid(0))] == ["open", "complete"]


def test_what_is_no_file_is_a_fault_and_series_are_told(tmp_path: Path) -> None:
    world = World(tmp_path)
    os.mkdir(path_of(world.config.state))
    world.came(0, 1)
    assert "cannot be opened or written" in world.clerk.access.fault
    world.advance(10)
    assert [one.result for one in world.tick()] == ["quiet"]
    world.close()


def test_beyond_a_number_only_series_are_remembered(world: World) -> None:
    world.clerk.pending.limit = 3
    lock = open_writer(path_of(world.config.state))
    lock.execute("BEGIN IMMEDIATE")
    world.came(0, 1, 2)
    world.came(1, 1, 2)
    assert world.clerk.pending.outcomes == []
    lock.close()
    world.advance(60)
    world.tick()
    assert (row(world).instances, row(world, 1).instances) == (2, 2)


def test_a_ledger_that_was_taken_away_comes_back(world: World) -> None:
    """A lost transaction: the book knows of a series that the file does not."""
    world.clerk.access.retry = (0.0, 5.0)
    world.came(0, 1)
    world.clerk.access.close()
    Path(path_of(world.config.state)).unlink()
    world.tick()
    world.tick()
    assert row(world).instances == 1


def test_a_defect_of_ours_loses_nothing(world: World) -> None:
    world.clerk.pending.keep([world.publish(0, 1)])
    world.clerk.reset()
    world.tick()
    world.tick()
    assert row(world).instances == 1


# -- one series UID in two studies -------------------------------------------------------------------------------------


def both(world: World) -> list[tuple[str, int, str, int]]:
    """(study, instances, state, generation) of the series of one UID, in the order in which they began."""
    with read(world) as reader:
        found = sorted(reader.all_of(world.uid(0)))
    return [(one.StudyInstanceUID, one.instances, one.state, one.generation) for one in found]


def test_a_series_uid_that_two_studies_have_is_two_series(world: World) -> None:
    with contextlib.closing(open_writer(path_of(world.config.state))) as connection:
        number = deliveries.register(connection, "webhook", world.wall)
        world.record(world.publish(0, 1), world.publish(0, 1, study=1), world.publish(0, 2))
        assert both(world) == [(world.study(), 2, "open", 1), (world.study(1), 1, "open", 1)]
        world.advance(9)
        world.came(0, 2, study=1)
        world.advance(1)
        world.tick()
        assert both(world) == [(world.study(), 2, "complete", 1), (world.study(1), 2, "open", 1)]
        world.advance(9)
        world.tick()
        assert [(one.StudyInstanceUID, one.instances) for one in world.told] == [(world.study(n), 2) for n in (0, 1)]
        found = deliveries.lease(connection, number, world.wall, world.wall + 5, limit=9)
    assert [one.key for one in found] == [f"{world.uid(0)}/1", f"{world.uid(0)}/1/{world.study(1)}"]
    with read(world) as reader:
        studies = [reader.study(world.study(n)) for n in (0, 1)]
        assert [one.series for one in studies if one] == [1, 1]
        assert [len(reader.history(world.uid(0), world.study(n))) for n in (0, 1)] == [2, 2]


def test_a_promise_counts_in_each_study_and_only_in_the_one_that_it_names(world: World) -> None:
    world.came(0, 1)
    world.came(0, 1, study=1)
    with contextlib.closing(open_writer(path_of(world.config.state))) as connection, transaction(connection):
        assert len(generations.expect(connection, world.uid(0), 2, "expect", world.wall)) == 2
    world.tick()
    world.came(0, 2)
    world.announce()
    assert both(world) == [(world.study(), 2, "complete", 1), (world.study(1), 1, "open", 1)]
    world.promise(1, 1)
    path = Path(world.config.log, "seriesData", f"{world.uid(1)}-retrieve.json")
    path.write_bytes(orjson.dumps({"NumberOfSeriesRelatedInstances": 1, "StudyInstanceUID": world.study(1)}))
    world.came(1, 1)
    assert world.announce() == []
    world.came(1, 1, study=1)
    assert [one.StudyInstanceUID for one in world.announce()] == [world.study(1)]


def test_what_was_expected_of_a_uid_is_of_the_study_that_comes_first(world: World) -> None:
    with contextlib.closing(open_writer(path_of(world.config.state))) as connection, transaction(connection):
        generations.expect(connection, world.uid(0), 1, "expect", world.wall)
    world.tick()
    world.came(0, 1, study=1)
    world.announce()
    assert both(world) == [(world.study(1), 1, "complete", 1)]


@pytest.mark.parametrize("recorded", [(), (0,), (1,)])
def test_two_studies_are_counted_again_from_their_documents(world: World, recorded: tuple[int, ...]) -> None:
    for study in (0, 1):
        outcomes = [world.publish(0, number, study=study) for number in (1, 2)]
        world.record(*outcomes[: 1 if study in recorded else 0])
    world.crash()
    world.clerk.pending.recount([world.uid(0)])
    world.tick()
    assert sorted(one[:2] for one in both(world)) == sorted([(world.study(), 2), (world.study(1), 2)])
    world.advance(10)
    world.tick()
    assert sorted(one.StudyInstanceUID for one in world.told) == sorted(world.study(n) for n in (0, 1))


def test_two_studies_are_told_apart_without_a_ledger(world: World) -> None:
    world.clerk.close()
    Path(path_of(world.config.state)).unlink()
    Path(path_of(world.config.state)).mkdir()
    world.came(0, 1)
    world.came(0, 1, 2, study=1)
    world.advance(10)
    world.tick()
    assert [(one.StudyInstanceUID, one.instances) for one in world.told] == [(world.study(), 1), (world.study(1), 2)]


# -- corrections -------------------------------------------------------------------------------------------------------


def renamed(world: World, number: int, of: int) -> Outcome:
    """An instance that came before as number `of`, and lies there under another name now."""
    older = world.publish(0, of)
    return world.publish(0, number)._replace(SOPInstanceUID=older.SOPInstanceUID)


def test_an_instance_with_two_files_is_one_and_completes_nothing(world: World) -> None:
    world.promise(0, 3)
    world.came(0, 1, 2)
    again = renamed(world, 3, 2)
    world.record(again)
    assert world.announce() == []
    assert row(world).instances == 2
    (revision,) = world.clerk.take_revisions()
    ((older, newer),) = revision.doubles
    assert (older[:4], newer[:4]) == ("0002", "0003")
    world.crash()
    world.clerk.pending.recount([world.uid(0)])
    world.tick()
    assert world.announce() == []
    world.advance(100)
    world.tick()
    assert results(world) == [(1, 2, 3, "incomplete")]
    assert len(world.clerk.take_revisions()[0].doubles) == 1, "it is seen again when its series ends"


def test_a_corrected_patient_is_told_and_the_former_one_is_to_be_revised(world: World) -> None:
    world.record(world.publish(0, 1)._replace(PatientID="FORMER"))
    assert row(world).PatientID == "FORMER"
    assert world.clerk.take_revisions() == []
    world.record(world.publish(0, 2))
    assert (row(world).PatientID, row(world).AccessionNumber) == ("P0000", "A00")
    (revision,) = world.clerk.take_revisions()
    assert revision.former == {("FORMER", world.study())}
    assert revision.renews


def test_a_corrected_study_leaves_nothing_in_the_former_one(world: World) -> None:
    old = world.publish(0, 1)
    world.record(old)
    world.advance(10)
    world.tick()
    new = world.publish(0, 1, superseded=True, study=1)._replace(SOPInstanceUID=old.SOPInstanceUID)
    Path(world.images(0), f"{os.path.basename(old.dst)}.json").unlink()
    world.record(new)
    assert both(world) == [(world.study(), 0, "complete", 1), (world.study(1), 1, "open", 1)]
    with read(world) as reader:
        assert reader.study(world.study()) is None
    world.advance(10)
    world.tick()
    assert [(one.StudyInstanceUID, one.instances) for one in world.told] == [(world.study(n), 1) for n in (0, 1)]
    (revision,) = world.clerk.take_revisions()
    assert revision.former == {("P0000", world.study())}
    # One more of the former study: that goes on, too.
    world.came(0, 2)
    assert both(world)[0] == (world.study(), 1, "open", 2)


# -- consumers ---------------------------------------------------------------------------------------------------------


def test_consumers_get_each_end_and_each_set_aside_file_once_and_under_a_lease(world: World) -> None:
    with contextlib.closing(open_writer(path_of(world.config.state))) as connection:
        number = deliveries.register(connection, "webhook", world.wall)
        assert deliveries.register(connection, "webhook", world.wall) == number
        world.came(0, 1)
        bad = world.outcome("set-aside", 1, f"{world.config.state}/set-aside/not-dicom/x")._replace(reason="not-dicom")
        world.record(bad, bad)
        world.advance(10)
        world.tick()
        found = deliveries.lease(connection, number, world.wall, world.wall + 5, limit=9)
        assert [one.event for one in found] == ["series-complete", "set-aside"]
        series, aside = found
        assert aside.aside
        assert aside.aside.path == "not-dicom/x"
        assert series.series
        assert series.change
        assert (series.key, series.attempts, series.change.instances) == (f"{world.uid(0)}/1", 1, 1)
        assert deliveries.lease(connection, number, world.wall + 4, world.wall + 9) == []
        again = deliveries.lease(connection, number, world.wall + 5, world.wall + 9, limit=9)
        assert [one.attempts for one in again] == [2, 2]
        assert not deliveries.settle(connection, series, "delivered", world.wall), "its lease has run out"
        assert deliveries.settle(connection, again[0], "delivered", world.wall)
        assert deliveries.settle(connection, again[1], "pending", world.wall, next_ns=world.wall + 50, error="500")
        assert deliveries.lease(connection, number, world.wall + 49, world.wall + 99) == []
        with read(world) as reader:
            assert [(row.name, row.pending, row.delivered) for row in reader.consumers()] == [("webhook", 1, 1)]
            assert reader.oldest_pending("webhook") > 0
            (told,) = reader.deliveries_of(world.uid(0))
            assert (told.consumer, told.state, told.attempts) == ("webhook", "delivered", 2)
        deliveries.retire(connection, "webhook", world.wall)
        world.came(0, 2)
        world.advance(10)
        world.tick()
        assert connection.execute("SELECT state FROM deliveries").fetchall() == [("failed",), ("delivered",)]


# -- set-aside and days ------------------------------------------------------------------------------------------------


def test_set_aside_is_what_lies_there(world: World) -> None:
    directory = Path(world.config.state, "set-aside", "empty")
    directory.mkdir(parents=True)
    for name in ("a", "b"):
        (directory / name).write_bytes(b"12")
        record = {"reason": "empty", "name": name, "first": "2026-01-01T00:00:00Z"}
        (directory / f"{name}.json").write_bytes(orjson.dumps(record))
        os.utime(directory / name, (1, 1))
    recorded = world.outcome("set-aside", 0, f"{directory}/gone", size=7)._replace(reason="empty")
    world.record(recorded)
    with read(world) as reader:
        assert reader.set_aside() == {"empty": (1, 7)}
    later = (os.stat(directory / "a").st_ctime_ns) + 60 * 10**9
    world.clerk.reconcile_set_aside({"empty": (2, 4)}, world.now, later - 59 * 10**9)
    with read(world) as reader:
        assert reader.set_aside() == {}, "what was put there a moment ago is about to be told"
    world.clerk.reconcile_set_aside({"empty": (2, 4)}, world.now, later)
    with read(world) as reader:
        assert reader.set_aside() == {"empty": (2, 4)}
        assert row_of_days(reader) == {"published": 0, "duplicates": 0, "set_aside": 1}
    (directory / "a").unlink()
    world.clerk.reconcile_set_aside({"empty": (1, 2)}, world.now, later)
    with read(world) as reader:
        assert reader.set_aside() == {"empty": (1, 2)}


def test_a_service_tells_of_set_aside_files_of_a_backfill_after_all_others(world: World) -> None:
    """`once --finish` beside a service puts them there, and the service makes their rows."""
    directory = Path(world.config.state, "set-aside", "empty")
    directory.mkdir(parents=True)
    with contextlib.closing(open_writer(path_of(world.config.state))) as connection:
        deliveries.register(connection, "somebody", 1, wants='{"events": ["set-aside"]}')
        (directory / "a").write_bytes(b"12")
        (directory / "a.json").write_bytes(orjson.dumps({"reason": "empty", "name": "a", "batch": "backfill"}))
        later = os.stat(directory / "a").st_ctime_ns + 60 * 10**9
        world.clerk.reconcile_set_aside({"empty": (1, 2)}, world.now, later)
        world.record(world.outcome("set-aside", 0, f"{directory}/now", size=7)._replace(reason="empty"))
        query = "SELECT path, later FROM deliveries d JOIN set_aside a ON a.id = d.set_aside_id ORDER BY path"
        assert connection.execute(query).fetchall() == [("empty/a", 1), ("empty/now", 0)]


def test_whose_a_set_aside_file_is_stands_in_its_reason_file_too(world: World) -> None:
    """So that a ledger made anew knows it, and counts it among the errors of its series, whichever is found first."""
    directory = Path(world.config.state, "set-aside", "incomplete")
    directory.mkdir(parents=True)
    study = world.study()
    for name, series in (("a", world.uid(0)), ("b", world.uid(0)), ("c", world.uid(7))):
        owner = {"SeriesInstanceUID": series, "StudyInstanceUID": study, "Modality": "CT", "sender": "SCANNER1"}
        (directory / name).write_bytes(b"12")
        (directory / f"{name}.json").write_bytes(orjson.dumps({"reason": "incomplete", "name": name, **owner}))
    later = (os.stat(directory / "c").st_ctime_ns) + 60 * 10**9
    world.clerk.reconcile_set_aside({"incomplete": (3, 6)}, world.now, later)
    with read(world) as reader:
        found = [(row.SeriesInstanceUID, row.errors, row.Modality, row.sender) for row in reader.only_set_aside()]
        assert sorted(found) == sorted([(world.uid(0), 2, "CT", "SCANNER1"), (world.uid(7), 1, "CT", "SCANNER1")])
    world.record(world.publish(0, 1))
    with read(world) as reader:
        assert [row.errors for row in reader.all_of(world.uid(0))] == [2]
        assert [row.SeriesInstanceUID for row in reader.only_set_aside()] == [world.uid(7)]


def row_of_days(reader: Reader) -> dict[str, int]:
    (day,) = reader.days()
    return {name: getattr(day, name) for name in ("published", "duplicates", "set_aside")}


def test_days_are_credited(world: World) -> None:
    outcome = world.publish(0, 1)
    world.record(outcome, outcome._replace(kind="duplicate"))
    world.advance(86_400)
    world.came(0, 2)
    world.advance(10)
    world.tick()
    with read(world) as reader:
        days = reader.days()
    assert [(one.day, one.published, one.duplicates, one.series, one.complete) for one in days] == [
        ("2023-11-14", 1, 1, 1, 0),
        ("2023-11-15", 1, 0, 0, 1),
    ]
    assert {(one.Modality, one.sender) for one in days} == {("MR", "SENDER")}


# -- quiet -------------------------------------------------------------------------------------------------------------


@pytest.fixture
def flowing(world: World) -> World:
    """A world whose intake says how it stands."""
    world.clerk.flow = Flow(world.now)
    return world


def look(world: World, seconds: float, lag: float = 0.0, *, flows: bool = True) -> list[tuple[int, int, int, str]]:
    """So many looks of the loop, one each second; every end that was told."""
    for _ in range(int(seconds)):
        world.advance(1)
        assert world.clerk.flow
        world.clerk.flow = world.clerk.flow.next(world.now, lag, flows=flows)
        world.tick()
    return results(world)


def test_while_its_rest_may_wait_a_series_is_not_quiet(flowing: World) -> None:
    flowing.came(0, 1)
    assert look(flowing, 8) == []
    for waited in range(1, 60):
        assert look(flowing, 1, lag=waited) == [], "a file waits that came before its quiet time was over"
    flowing.came(0, 2)
    assert look(flowing, 9) == []
    assert look(flowing, 1) == [(1, 2, 0, "quiet")]


def test_while_the_system_refuses_time_does_not_count(flowing: World) -> None:
    flowing.came(0, 1)
    flowing.promise(1, 5)
    flowing.came(1, 1)
    look(flowing, 8)
    assert look(flowing, 200, flows=False) == []
    assert look(flowing, 3) == [(1, 1, 0, "quiet")]
    assert look(flowing, 91)[1:] == [(1, 1, 5, "incomplete")]


def test_a_file_that_waits_alone_holds_up_its_own_series_and_no_other(flowing: World) -> None:
    flowing.came(0, 1)
    flowing.came(1, 1)
    assert flowing.clerk.flow
    held = flowing.clerk.flow._replace(held=frozenset({flowing.uid(0)}))
    for second in range(1, 31):
        flowing.advance(1)
        flowing.clerk.flow = held._replace(at=flowing.now, elapsed=float(second))
        flowing.tick()
    assert [one.SeriesInstanceUID for one in flowing.told] == [flowing.uid(1)]
    assert look(flowing, 2)[1:] == [(1, 1, 0, "quiet")], "set aside, or placed after all"


def test_the_expected_number_completes_also_while_files_of_others_wait(flowing: World) -> None:
    flowing.promise(0, 2)
    flowing.came(0, 1, 2)
    assert look(flowing, 1, lag=1000.0, flows=False) == [(1, 2, 2, "expected")]


def test_a_promise_that_is_too_low_makes_one_generation_for_all_that_come_together(world: World) -> None:
    expect(world, 1)
    world.tick()
    for number in range(1, 31):
        world.came(0, number)
        world.advance(1)
        world.tick()
    world.advance(10)
    world.tick()
    assert results(world) == [(1, 1, 1, "expected"), (2, 30, 1, "late")]


def test_instances_that_are_replaced_in_a_series_that_had_all_make_one_generation(world: World) -> None:
    world.promise(0, 5)
    world.came(0, 1, 2, 3, 4, 5)
    world.announce()
    for number in range(1, 6):
        world.record(world.publish(0, number, superseded=True))
        world.advance(1)
        world.tick()
    world.advance(10)
    world.tick()
    assert results(world) == [(1, 5, 5, "expected"), (2, 5, 5, "late")]


def test_more_is_expected_of_a_complete_series_and_its_last_one_completes_it_at_once(world: World) -> None:
    world.came(0, 1)
    world.advance(10)
    world.tick()
    expect(world, 3)
    world.tick()
    world.came(0, 2)
    world.crash()
    world.tick()
    world.came(0, 3)
    world.announce()
    assert results(world)[1:] == [(2, 3, 3, "late")]


def test_what_is_expected_has_its_time_from_when_it_was_said(world: World) -> None:
    world.came(0, 1)
    world.advance(9)
    expect(world, 2)
    world.tick()
    world.advance(99)
    world.tick()
    assert results(world) == []
    world.advance(1)
    world.tick()
    assert results(world) == [(1, 1, 2, "incomplete")]


def test_a_command_gives_an_expected_series_its_time(world: World) -> None:
    world.came(0, 1)
    world.advance(1000)
    expect(world, 2)
    expect(world, 9, series=1)
    world.crash()
    world.clerk.flow = UNSEEN
    world.tick()
    world.clerk.end_by_wall_clock(world.now, world.wall)
    assert world.announce() == []
    world.advance(100)
    world.clerk.end_by_wall_clock(world.now, world.wall)
    assert sorted(one.expected for one in world.announce()) == [2, 9]


# -- series of other listeners -----------------------------------------------------------------------------------------


def test_who_takes_its_files_in_says_when_a_series_is_quiet(tmp_path: Path) -> None:
    other = World(tmp_path / "other")
    other.came(0, 1)
    world = World(tmp_path / "ours", state=other.config.state, log=other.config.log, data=other.config.data)
    asked: list[str] = []
    works = True

    def work_on(root: str) -> bool:
        asked.append(root)
        return works

    world.clerk = LedgerWriter(world.config, is_worked_on=work_on)
    for _ in range(3):
        world.advance(10)
        world.clerk.end_by_wall_clock(world.now, other.wall + 10**12)
        assert world.tick() == []
    assert asked[0] == other.config.incoming[0]
    works = False
    world.advance(20)
    assert [one.result for one in world.tick()] == ["quiet"], "nobody takes in what comes there any more"
    world.close()
    other.close()


def test_the_expected_number_completes_a_series_whoever_takes_its_files_in(tmp_path: Path) -> None:
    other = World(tmp_path / "other")
    other.came(0, 1)
    world = World(tmp_path / "ours", state=other.config.state, log=other.config.log, data=other.config.data)
    world.clerk = LedgerWriter(world.config, flow=UNSEEN, is_worked_on=lambda _: True)
    world.promise(0, 1)
    assert [one.result for one in world.tick()] == ["expected"]
    world.close()
    other.close()


# -- what nothing has come of ------------------------------------------------------------------------------------------


def test_nothing_is_left_of_a_series_that_nobody_expects_any_more(world: World) -> None:
    expect(world, 3)
    world.tick()
    world.advance(101)
    world.tick()
    assert results(world) == [(1, 0, 3, "incomplete")]
    expect(world, 0)
    expect(world, 0, series=7)
    world.tick()
    with contextlib.closing(sqlite3.connect(path_of(world.config.state))) as connection:
        counted = "SELECT (SELECT count(*) FROM series), (SELECT count(*) FROM history)"
        assert connection.execute(counted).fetchone() == (0, 0)


def test_what_comes_of_a_series_that_was_forgotten_is_its_own(world: World) -> None:
    """Its row's number may be another series' by then."""
    expect(world, 3)
    world.tick()
    expect(world, 0)
    world.record(world.publish(1, 1), world.publish(0, 1), world.publish(0, 2))
    assert (row(world).instances, row(world, 1).instances) == (2, 1)
    world.advance(10)
    world.tick()
    assert sorted(results(world)) == [(1, 1, 0, "quiet"), (1, 2, 0, "quiet")]


def test_a_series_that_was_forgotten_and_is_due_ends_no_other_one(world: World) -> None:
    expect(world, 3)
    world.tick()
    expect(world, 0)
    world.came(1, 1)
    one = SeriesState(world.uid(0), id=row(world, 1).id, expected=3)
    world.clerk._recorder.end([one], world.clerk._outcome_rows, Moment(world.now, world.wall, 1e9, 1e9))
    assert world.announce() == []


# -- very many open series ---------------------------------------------------------------------------------------------


def test_promises_are_asked_for_in_turns(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    world.clerk.per_tick = 2
    world.came(0, 1)
    for series in range(1, 6):
        world.came(series, 1)
    asked: list[str] = []
    ask = DocumentReader.promise

    def promise(self: DocumentReader, uid: str, seen: tuple[int, int]) -> tuple[tuple[int, int], dict[str, Any] | None]:
        asked.append(uid)
        return ask(self, uid, seen)

    monkeypatch.setattr(DocumentReader, "promise", promise)
    for second in range(1, 4):
        world.advance(1)
        world.tick()
        assert len(asked) == 2 * second
    assert len(set(asked)) == 6, "each has its turn"


def test_a_promise_is_read_before_a_series_is_taken_for_complete(world: World) -> None:
    world.clerk.per_tick = 0
    world.came(0, 1)
    world.promise(0, 2)
    world.advance(10)
    world.tick()
    assert world.told == []
    world.came(0, 2)
    world.announce()
    assert results(world) == [(1, 2, 2, "expected")]


def test_the_book_is_not_read_each_second_where_that_takes_long(world: World) -> None:
    world.clerk.rereading = (1e9, -1.0)
    world.clerk._read_at = 0.0
    expect(world, 1, series=5)
    world.tick()
    expect(world, 2)
    world.advance(1)
    world.tick()
    assert world.clerk._open_series.get(world.uid(0), world.study()) is None
    # What is told of it meanwhile is recorded as its row says, and so it ends.
    world.came(0, 1)
    world.came(0, 2)
    world.announce()
    assert results(world) == [(1, 2, 2, "expected")]
