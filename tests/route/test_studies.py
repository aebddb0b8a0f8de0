"""Studies on routes and their workers, as route.sqlite keeps them."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from listener.ledger.feed import FeedRow
from listener.route.assignment import Worker
from listener.route.queue import File, NewSend, Queue, Settled
from listener.route.routes_file import Route
from listener.route.schema import DELIVERED, ROUTE, WORKER
from listener.route.studies import MOST_MOVES, Studies, live_of
from listener.stages.database import open_writer

DAY = 86_400.0
ALL = Route("all", sender=("*",), workers=("gpu1", "gpu2"))
ANSWERED = ALL._replace(name="answered", results=("sto",))
WORKERS = {name: Worker(name) for name in ALL.workers}
NOW = 1_000 * DAY


class Book:
    """A queue with studies, which can be made anew as after a restart."""

    def __init__(self, state: Path) -> None:
        self.queue = Queue(open_writer(str(state), ROUTE))
        self.now = NOW
        self.restart()

    def restart(self) -> None:
        self.studies = Studies(self.queue, 600.0, 30 * DAY, self.now)
        self.studies.workers = WORKERS

    def came(self, study: int, number: int, route: Route = ALL) -> tuple[int, str]:
        uid = f"1.{study}"
        row = FeedRow(number, "published", f"{uid}.1", uid, f"{uid}.1.{number}", f"a/{study}/{number}", "S", "/in", 1)
        with self.queue.writing():
            series, _ = self.queue.series_id(row.SeriesInstanceUID, uid)
            instance, *_ = self.queue.instance(row, series, File(1, 1, 1))
            number, worker = self.studies.take(route, uid, ("S", "/in"), self.now)
            count = self.queue.add(
                NewSend(instance, number, WORKER, worker, 1), int(self.now * 1e9), again=True, changed=False
            )
            self.studies.queued(number, count, self.now)
            self.studies.flush()
        return number, worker

    def deliver(self, target: str) -> None:
        with self.queue.writing():
            for send in self.queue.due(target, int(self.now * 1e9), 100):
                self.queue.settle(Settled(send, DELIVERED, 0), 1)
                self.studies.queued(send.study_id, -1, self.now)
            self.studies.flush()

    def end(self, study: int, route: Route = ALL) -> None:
        with self.queue.writing():
            self.queue.close_series(f"1.{study}.1", f"1.{study}")
            self.studies.series_changed(f"1.{study}", [route.name], self.now)

    def live(self, worker: str) -> list[str]:
        """What is live, in memory and by the state alone."""
        found = [uid for _, (_, uid) in self.studies.live(worker, self.now)]
        assert found == [one.StudyInstanceUID for one in live_of(self.queue.connection, worker, int(self.now * 1e9))]
        return found


@pytest.fixture
def book(tmp_path: Path) -> Iterator[Book]:
    made = Book(tmp_path)
    yield made
    made.queue.connection.close()


def test_a_study_keeps_its_worker_over_restarts_also_when_it_is_long_over(book: Book) -> None:
    number, worker = book.came(1, 1)
    _, other = book.came(2, 1)
    assert (worker, other) == ("gpu1", "gpu2")
    book.deliver(worker)
    book.end(1)
    book.now += 20 * DAY
    book.restart()
    assert ("all", "1.1") not in book.studies.assignments.studies, "not in memory"
    assert book.came(1, 2) == (number, worker)


def test_it_is_live_while_something_is_unsent_or_its_series_is_open(book: Book) -> None:
    book.came(1, 1)
    assert book.live("gpu1") == ["1.1"]
    book.deliver("gpu1")
    assert book.live("gpu1") == ["1.1"], "its series is open"
    book.restart()
    assert book.live("gpu1") == ["1.1"]
    book.end(1)
    assert book.live("gpu1") == []


def test_one_that_awaits_a_result_is_live_until_it_comes_or_for_so_long(book: Book) -> None:
    for study in (1, 3):
        assert book.came(study, 1, ANSWERED)[1] == ("gpu1" if study == 1 else "gpu2")
    for worker in ("gpu1", "gpu2"):
        book.deliver(worker)
    for study in (1, 3):
        book.end(study, ANSWERED)
    assert (book.live("gpu1"), book.live("gpu2")) == (["1.1"], ["1.3"])
    with book.queue.writing():
        book.studies.answered("answered", "1.1", book.now)
        book.studies.flush()
    assert book.live("gpu1") == []
    book.now += 601
    assert book.live("gpu2") == []


def test_without_a_worker_it_waits_and_gets_all_that_came_meanwhile(book: Book) -> None:
    book.studies.workers = {name: one._replace(is_up=False) for name, one in WORKERS.items()}
    number, worker = book.came(1, 1)
    book.came(1, 2)
    assert worker == ""
    with book.queue.writing():
        assert list(book.studies.assign_waiting({"all": ALL}, book.now)) == []
    book.restart()
    assert book.studies.waiting == {("all", "1.1")}
    with book.queue.writing():
        assert list(book.studies.assign_waiting({"all": ALL}, book.now)) == [(number, "gpu1", 2)]
        book.studies.flush()
    assert len(book.queue.due("gpu1", int(book.now * 1e9), 10)) == 2
    assert book.live("gpu1") == ["1.1"]


def test_a_worker_on_trial_gets_one_study_at_a_time(book: Book) -> None:
    book.studies.workers = {"gpu1": WORKERS["gpu1"]}
    book.studies.on_trial = frozenset({"gpu1"})
    assert book.came(1, 1)[1] == "gpu1"
    assert book.came(2, 1)[1] == ""
    book.studies.on_trial = frozenset()
    assert book.came(2, 2)[1] == "gpu1"


def test_a_move_queues_all_of_it_anew_and_is_counted(book: Book) -> None:
    number, worker = book.came(1, 1)
    book.came(1, 2)
    book.deliver(worker)
    for turn in range(MOST_MOVES):
        assert book.studies.may_move(number, book.now)
        with book.queue.writing():
            assert book.studies.move(number, "gpu2" if turn % 2 == 0 else "gpu1", "down", book.now) == 2
            book.studies.flush()
    assert not book.studies.may_move(number, book.now)
    assert book.studies.may_move(number, book.now + 3601)
    stored = book.queue.connection.execute("SELECT origin, worker, stored FROM moves ORDER BY id").fetchall()
    assert stored == [("gpu1", "gpu2", 2), ("gpu2", "gpu1", 0), ("gpu1", "gpu2", 0)]
    assert book.live("gpu2") == ["1.1"]
    book.restart()
    assert book.came(1, 3)[1] == "gpu2"


def test_a_worker_that_left_gets_nothing_more_of_a_study_that_was_its_own(book: Book) -> None:
    number, worker = book.came(1, 1)
    book.deliver(worker)
    book.end(1)
    book.studies.workers = {"gpu2": WORKERS["gpu2"]}
    assert book.came(1, 2) == (number, "gpu2")
    assert len(book.queue.due("gpu2", int(book.now * 1e9), 10)) == 2, "whole"


def test_old_studies_are_forgotten_and_live_ones_are_not(book: Book) -> None:
    book.came(1, 1)
    book.came(2, 1)
    book.deliver("gpu1")
    book.end(1)
    book.now += 31 * DAY
    with book.queue.writing():
        assert book.studies.forget(book.now) == 1
    left = book.queue.connection.execute("SELECT StudyInstanceUID FROM studies").fetchall()
    assert left == [("1.2",)]
    assert book.queue.connection.execute("SELECT count(*) FROM sends").fetchone() == (1,)


def test_what_a_command_queues_is_counted(book: Book) -> None:
    _, worker = book.came(1, 1)
    book.deliver(worker)
    book.end(1)
    assert book.live(worker) == []
    book.queue.connection.execute("UPDATE sends SET state = 'pending', round = round + 1")
    book.studies.recount(book.now)
    assert book.live(worker) == ["1.1"]


def test_an_assignment_among_a_hundred_thousand_is_quick(book: Book) -> None:
    """By the processor time of a thousand: it is bounded, whatever is remembered."""
    at_ns = int((NOW - 2 * DAY) * 1e9)
    rows = (("all", f"2.{number}", "gpu1", at_ns, at_ns) for number in range(100_000))
    with book.queue.writing():
        book.queue.connection.executemany(
            "INSERT INTO studies (route, StudyInstanceUID, worker, began_ns, last_ns) VALUES (?, ?, ?, ?, ?)", rows
        )
    book.restart()
    begun = time.process_time()
    for number in range(1000):
        book.came(number, 1)
    assert time.process_time() - begun < 20
    assert len(book.studies.assignments.studies) == 1000
