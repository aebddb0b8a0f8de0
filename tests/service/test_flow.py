"""How far intake has come: what waits, what nobody knows of yet, and what delays only itself."""

from __future__ import annotations

import selectors
import time
from collections.abc import Iterator
from contextlib import contextmanager
from math import inf
from pathlib import Path

import pytest

from listener.service.engine import Engine
from listener.service.flow import FlowMeter
from listener.service.rescan import Rescan
from listener.service.watch import Watch
from tests.holders import writer
from tests.service.engines import Ear, drained, turn_until
from tests.workbench import Bench

pytestmark = pytest.mark.real


class Loop:
    """The parts of a service that know how far intake has come, and a moment that tests move."""

    def __init__(self, base: Path, *, polling: bool = False, settle: float = 0.0) -> None:
        self.bench = Bench(base, rescan=0.2)
        roots = self.bench.config.incoming
        self.engine = Engine(self.bench.config, self.bench.directories, Ear())
        self.watch = Watch(roots, selectors.DefaultSelector(), lambda: None, polling=polling)
        self.watch.ensure()
        self.scanner = Rescan(roots, self.engine, 30.0)
        self.meter = FlowMeter(self.engine, self.scanner, self.watch, settle)
        self.now = time.monotonic()
        self.look()

    def look(self, seconds: float = 0.0, *, sees: bool = True) -> float:
        """The lag, so many seconds later."""
        self.now += seconds
        return round(self.meter.measure(self.now, sees=sees).lag, 1)

    def rescan(self) -> None:
        self.scanner.begin(self.now)
        while not self.scanner.step(self.now):
            pass

    def offer(self, path: Path) -> str:
        return self.engine.intake.offer(str(path), 0, "event")

    def close(self) -> None:
        self.watch.close()
        self.engine.close(at_once=True)


@contextmanager
def loop(base: Path, *, polling: bool = False, settle: float = 0.0) -> Iterator[Loop]:
    made = Loop(base, polling=polling, settle=settle)
    try:
        yield made
    finally:
        made.close()


def test_before_the_first_rescan_is_complete_nothing_is_known(tmp_path: Path) -> None:
    with loop(tmp_path) as one:
        assert one.look(5) == inf
        one.rescan()
        assert one.look() == 0.0


def test_a_file_that_waits_holds_the_clock_up_until_it_is_done(tmp_path: Path) -> None:
    with loop(tmp_path) as one:
        one.rescan()
        one.look()
        one.engine.pause("test")
        one.offer(one.bench.put())
        assert one.look(1) >= 1.0
        assert one.look(9) >= 10.0
        assert not one.meter.measure(one.now, sees=True).flows
        one.engine.resume("test")
        turn_until(one.engine, drained(one.engine))
        assert one.look(1) == 0.0


def test_what_is_noticed_after_a_pause_may_have_come_at_its_begin(tmp_path: Path) -> None:
    with loop(tmp_path) as one:
        one.rescan()
        one.look()
        one.engine.pause("test")
        one.offer(one.bench.put())
        one.now = time.monotonic()
        one.meter.measure(one.now - 60.0, sees=True)
        assert one.look() >= 60.0


def test_a_file_that_is_still_written_delays_only_itself(tmp_path: Path) -> None:
    with loop(tmp_path) as one:
        one.rescan()
        path = one.bench.put()
        with writer(path):
            one.offer(path)
            turn_until(one.engine, lambda: one.engine.backlog.retrying)
            assert one.look(9) == 0.0
            one.engine.pause("test")
        one.offer(path)
        one.now = time.monotonic()
        assert one.look(5) >= 5.0, "now it was closed, and waits"


def test_what_found_no_room_is_known_after_a_rescan_that_began_later(tmp_path: Path) -> None:
    with loop(tmp_path) as one:
        one.engine.pause("test")
        one.rescan()
        one.look()
        one.engine.backlog.capacity = 1
        one.offer(one.bench.put("a"))
        assert one.offer(one.bench.put("b")) == "full"
        one.engine.backlog.capacity = 9
        one.engine.backlog.take(9)
        one.engine.backlog.finish(str(one.bench.incoming / "a"))
        one.now = time.monotonic() + 5
        assert one.look() >= 5.0
        one.rescan()
        assert one.look(1) > 1.0, "and waits"


@pytest.mark.parametrize("fault", ["events were lost", "incoming is gone", "the watch died"])
def test_while_arrivals_are_not_seen_the_clock_waits_for_a_rescan(tmp_path: Path, fault: str) -> None:
    with loop(tmp_path) as one:
        one.rescan()
        assert one.look() == 0.0
        if fault == "events were lost":
            one.meter.missed(one.now + 1)
        elif fault == "the watch died":
            one.watch.stop()
        assert one.look(5, sees=fault != "incoming is gone") == 5.0
        one.watch.ensure()
        assert one.look(5) == 10.0
        one.rescan()
        assert one.look() == 0.0


def test_where_rescans_alone_find_files_nothing_is_known_after_the_last_one_began(tmp_path: Path) -> None:
    with loop(tmp_path, polling=True, settle=2.0) as one:
        one.rescan()
        assert one.look(7) == 9.0


def test_a_rescan_counts_the_directories_that_it_found(tmp_path: Path) -> None:
    with loop(tmp_path) as one:
        (one.bench.incoming / "study" / "series").mkdir(parents=True)
        (one.bench.incoming / ".listener").mkdir(exist_ok=True)
        one.scanner.begin(one.now)
        scanned = one.scanner.step(one.now)
        assert scanned
        assert scanned.directories == 3
