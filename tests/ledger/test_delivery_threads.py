"""Deliveries under leases. How failures are repeated and told is tried with hooks, in tests/hooks."""

from __future__ import annotations

import contextlib
import sqlite3
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from listener.errors import NotTaken, Postponed
from listener.ledger import deliveries, delivery_retry, delivery_threads, generations
from listener.ledger.completion import Completion
from listener.ledger.connection import open_writer, path_of, transaction
from listener.ledger.delivery_threads import Consumer, DeliveryThread
from listener.ledger.rows import Delivery
from tests.waiting import until


class Scripted:
    """Answers each delivery with the next step; then it takes them."""

    def __init__(self, *steps: Callable[[Delivery, Callable[[], None]], None]) -> None:
        self._steps = list(steps)
        self.taken: list[str] = []

    def take(self, delivery: Delivery, renew: Callable[[], None]) -> None:
        if self._steps:
            self._steps.pop(0)(delivery, renew)
        self.taken.append(delivery.key)

    def abort(self) -> None:
        """Nothing waits."""


@pytest.fixture
def ledger(tmp_path: Path) -> Iterator[sqlite3.Connection]:
    with contextlib.closing(open_writer(path_of(str(tmp_path)))) as connection:
        deliveries.register(connection, "stage", 0)
        yield connection


def end(connection: sqlite3.Connection, uid: str) -> None:
    with transaction(connection):
        row = generations.begin(connection, uid, 1)
        assert generations.end(connection, row.id, Completion(uid, "", 1, 0, 0, "quiet"), 2)


@contextlib.contextmanager
def working(state: Path, receiver: Scripted, *, lease: float = 60, attempts: int = 0) -> Iterator[list[str]]:
    thread = DeliveryThread(Consumer("stage", "stage", "", lease, attempts=attempts), receiver, str(state))
    answers: list[str] = []
    thread.answered = lambda how, _seconds: answers.append(how)
    thread.start()
    try:
        yield answers
    finally:
        thread.stop()


def state_of(connection: sqlite3.Connection) -> tuple[str, int, str]:
    found: tuple[str, int, str] = connection.execute("SELECT state, attempts, error FROM deliveries").fetchone()
    return found


def test_what_is_postponed_waits_without_being_a_failure(tmp_path: Path, ledger: sqlite3.Connection) -> None:
    def later(_delivery: Delivery, _renew: Callable[[], None]) -> None:
        raise Postponed("not all of it is sent", 0.05)

    end(ledger, "1.1")
    receiver = Scripted(later, later)
    with working(tmp_path, receiver, attempts=1) as answers:
        until(lambda: receiver.taken == ["1.1/1"], 10)
        until(lambda: answers == ["postponed", "postponed", "delivered"], 10)
    assert state_of(ledger) == ("delivered", 3, "")


def test_after_so_many_failures_it_is_given_up_or_never(
    tmp_path: Path, ledger: sqlite3.Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fails(_delivery: Delivery, _renew: Callable[[], None]) -> None:
        raise NotTaken("no")

    monkeypatch.setattr(delivery_retry, "delivery_pause", lambda _attempt: 0.01)
    end(ledger, "1.1")
    with working(tmp_path, Scripted(fails, fails, fails), attempts=2) as answers:
        until(lambda: answers == ["postponed", "failed"], 10)
    assert state_of(ledger) == ("failed", 2, "no")
    with transaction(ledger):
        ledger.execute("UPDATE deliveries SET state = 'pending'")
    with working(tmp_path, Scripted(fails, fails, fails)) as answers:
        until(lambda: answers[-1:] == ["delivered"], 10)
    assert state_of(ledger)[0] == "delivered"


def test_a_defect_of_the_receiver_is_a_failure_of_the_delivery_and_ends_no_thread(
    tmp_path: Path, ledger: sqlite3.Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its message may name a patient, so that only type and place are told."""

    def breaks(_delivery: Delivery, _renew: Callable[[], None]) -> None:
        raise ValueError("Doe^Jane")

    monkeypatch.setattr(delivery_retry, "delivery_pause", lambda _attempt: 0.01)
    end(ledger, "1.1")
    receiver = Scripted(breaks, breaks)
    with working(tmp_path, receiver, attempts=2) as answers:
        until(lambda: answers == ["postponed", "failed"], 10)
        end(ledger, "1.2")
        until(lambda: receiver.taken == ["1.2/1"], 10)
    (error,) = ledger.execute("SELECT error FROM deliveries WHERE state = 'failed'").fetchone()
    assert error.startswith("ValueError at test_delivery_threads.py:")


def test_a_lease_lasts_while_it_is_renewed_and_is_lost_otherwise(tmp_path: Path, ledger: sqlite3.Connection) -> None:
    goes_on, may_end = threading.Event(), threading.Event()

    def works(_delivery: Delivery, renew: Callable[[], None]) -> None:
        goes_on.set()
        while not may_end.wait(0.02):
            renew()

    end(ledger, "1.1")
    with working(tmp_path, Scripted(works), lease=0.5) as answers:
        assert goes_on.wait(120)
        (first,) = ledger.execute("SELECT lease_until_ns FROM deliveries").fetchone()
        until(lambda: ledger.execute("SELECT lease_until_ns FROM deliveries").fetchone()[0] > first + 5 * 10**8, 10)
        may_end.set()
        until(lambda: answers == ["delivered"], 10)
    end(ledger, "1.2")
    (held,) = deliveries.lease(ledger, 1, 2**62, 2**62 + 1)
    (other,) = deliveries.lease(ledger, 1, 2**62 + 2, 2**62 + 3)
    assert not deliveries.renew(ledger, held, 2**62 + 9)
    assert deliveries.renew(ledger, other, 2**62 + 9)


@pytest.mark.parametrize("count", [1, 4])
def test_several_threads_take_each_delivery_once(count: int, ledger: sqlite3.Connection, tmp_path: Path) -> None:
    for number in range(30):
        end(ledger, f"1.{number}")
    together = threading.Barrier(count)

    def meet(_delivery: Delivery, _renew: Callable[[], None]) -> None:
        together.wait(20)

    receiver = Scripted(*[meet] * count)
    threads = delivery_threads.DeliveryThreads(count, Consumer("stage", "stage", "", 60.0), receiver, str(tmp_path))
    answers: list[str] = []
    threads.start(lambda how, _seconds: answers.append(how))
    try:
        until(lambda: len(answers) == 30 and threads.is_idle, 20)
        threads.finish()
        until(lambda: not threads.is_working, 20)
    finally:
        threads.stop()
    assert sorted(receiver.taken) == sorted(f"1.{number}/1" for number in range(30))
    assert answers == ["delivered"] * 30


def test_what_failed_for_good_is_given_up_and_the_next_one_is_taken(ledger: sqlite3.Connection, tmp_path: Path) -> None:
    def refuse(_delivery: Delivery, _renew: Callable[[], None]) -> None:
        raise NotTaken("never", is_final=True)

    end(ledger, "1.1")
    end(ledger, "1.2")
    with working(tmp_path, Scripted(refuse)) as answers:
        until(lambda: len(answers) == 2, 10)
    assert answers == ["failed", "delivered"]
    rows = ledger.execute("SELECT state, attempts, error FROM deliveries ORDER BY id").fetchall()
    assert rows == [("failed", 1, "never"), ("delivered", 1, "")]
