from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from threading import Event

import pytest

from listener.export.flow import Budget, Flow, Turns


def test_one_thread_at_a_time_has_the_turn() -> None:
    turns, inside, most = Turns(patience=60), [0], [0]

    def work(_: int) -> None:
        with turns.taken():
            inside[0] += 1
            most[0] = max(most[0], inside[0])
            Event().wait(0.0005)
            inside[0] -= 1

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(work, range(100)))
    assert most == [1]


def test_a_thread_that_waits_for_a_disk_holds_the_others_up_for_a_moment_only() -> None:
    turns, goes_on = Turns(patience=0.01), Event()

    def slow() -> None:
        with turns.taken():
            goes_on.wait(60)

    def quick() -> bool:
        with turns.taken():
            return not goes_on.is_set()

    with ThreadPoolExecutor(2) as pool:
        waits = pool.submit(slow)
        assert pool.submit(quick).result(60), "it went on without the turn"
        goes_on.set()
        waits.result(60)


def test_bytes_pass_at_a_rate(monkeypatch: pytest.MonkeyPatch) -> None:
    flow = Flow(1000)
    waited: list[float] = []
    monkeypatch.setattr(flow, "wait", waited.append)
    for size in (500, 1000, 0):
        flow.pace(size)
    assert waited[0] <= 0
    assert 0.4 < waited[1] <= 0.5
    assert 1.4 < waited[2] <= 1.5


def test_so_many_bytes_are_held_at_once() -> None:
    budget = Budget(10)
    with budget.held(6), budget.held(4):
        pass
    with budget.held(100):
        pass
    with budget.held(10):
        pass
    with budget.held(4, 8) as most, budget.held(2, 8) as rest:
        assert (most, rest) == (8, 2)
