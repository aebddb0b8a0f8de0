"""The ledger's thread: intake hands over and goes on; what ends is told; a defect is shown and loses nothing."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from pathlib import Path

import pytest

from listener.ledger import thread as module
from listener.ledger.completion import End
from listener.ledger.reader import reading
from listener.ledger.thread import LedgerThread
from listener.ledger.writer import LedgerWriter
from listener.records import Outcome
from tests.ledger_world import World
from tests.waiting import until


@pytest.fixture
def world(tmp_path: Path) -> World:
    return World(tmp_path)


def instances(world: World, series: int = 0) -> int:
    with reading(world.config.state) as reader:
        row = reader.series(world.uid(series))
    return row.instances if row else 0


def nobody(_: Sequence[End]) -> None:
    """Nothing is to be announced."""


def test_what_ends_wakes_the_loop_and_is_told_once(world: World) -> None:
    woken = threading.Event()
    keeper = LedgerThread(world.config, woken.set)
    keeper.start()
    world.promise(0, 2)
    keeper.finished([world.publish(0, 1), world.publish(0, 2)])
    assert woken.wait(120)
    (ended,) = keeper.take()
    assert (ended.result, ended.instances) == ("expected", 2)
    keeper.mark_announced([ended])
    until(lambda: keeper.counts["complete"] == 1, 10)
    keeper.close(nobody)
    again = LedgerThread(world.config)
    again.start()
    told: list[End] = []
    again.close(told.extend)
    assert told == []


def test_the_end_puts_down_what_is_there_and_announces_what_ended(world: World) -> None:
    keeper = LedgerThread(world.config)
    keeper.start()
    world.wall -= 10**9 * 10**6
    keeper.finished([world.publish(0, 1)])
    told: list[End] = []
    keeper.close(told.extend, judges=True)
    assert [one.result for one in told] == ["quiet", "complete"], "by the wall clock series and study are old"
    assert instances(world) == 1


def test_a_defect_of_the_writer_is_told_and_loses_nothing(
    world: World, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    record = LedgerWriter.record

    def broken(clerk: LedgerWriter, outcomes: Sequence[Outcome], now: float, now_ns: int) -> None:
        clerk.pending.keep(outcomes)
        raise RuntimeError("a patient's name")

    monkeypatch.setattr(LedgerWriter, "record", broken)
    keeper = LedgerThread(world.config)
    keeper.start()
    keeper.finished([world.publish(0, 1)])
    until(lambda: "RuntimeError" in keeper.fault, 10)
    monkeypatch.setattr(LedgerWriter, "record", record)
    until(lambda: not keeper.fault, 10)
    until(lambda: instances(world) == 1, 10)
    keeper.close(nobody)
    assert "patient" not in caplog.text + keeper.fault


def test_nothing_waits_for_a_writer_that_hangs(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    go_on, hangs, record = threading.Event(), threading.Event(), LedgerWriter.record

    def hanging(clerk: LedgerWriter, outcomes: Sequence[Outcome], now: float, now_ns: int) -> None:
        hangs.set()
        assert go_on.wait(120)
        record(clerk, outcomes, now, now_ns)

    monkeypatch.setattr(LedgerWriter, "record", hanging)
    monkeypatch.setattr(module, "MAX_PENDING", 3)
    keeper = LedgerThread(world.config)
    keeper.start()
    keeper.finished([world.publish(0, 1)])
    assert hangs.wait(120)
    for number in range(2, 20):
        keeper.finished([world.publish(0, number)])
    assert len(keeper._outcomes) == 3, "what waits is bounded"
    go_on.set()
    until(lambda: instances(world) == 19, 10, what="the rest is counted again from the documents")
    keeper.close(nobody)


def test_a_writer_that_does_not_come_back_does_not_hold_up_the_end(
    world: World, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    go_on, hangs = threading.Event(), threading.Event()

    def hanging(*_: object) -> None:
        hangs.set()
        assert go_on.wait(120)

    monkeypatch.setattr(LedgerWriter, "record", hanging)
    monkeypatch.setattr(module, "CLOSE_TIMEOUT", 0.1)
    keeper = LedgerThread(world.config)
    keeper.start()
    keeper.finished([world.publish(0, 1)])
    assert hangs.wait(120)
    keeper.close(nobody)
    go_on.set()
    keeper._thread.join(120)
    keeper._writer.close()
