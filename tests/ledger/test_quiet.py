"""The clock by which series are quiet: histories of a loop as data."""

from __future__ import annotations

from math import inf

import pytest

from listener.ledger.completion import LONGEST_GAP, UNSEEN, Flow

#: Looks of the loop (second, lag, flows), and what the clock and its horizon read at the last of them.
HISTORIES: dict[str, tuple[list[tuple[float, float, bool]], float, float]] = {
    "flows": ([(1.0, 0.0, True), (2.0, 0.0, True)], 2.0, 2.0),
    "a file waits": ([(1.0, 0.0, True), (2.0, 0.5, True)], 2.0, 1.5),
    "the system refuses for a second": ([(1.0, 0.0, False), (2.0, 0.0, False), (3.0, 0.0, True)], 1.0, 1.0),
    "the process was stopped": ([(1.0, 0.0, True), (61.0, 0.0, True)], 1.0 + LONGEST_GAP, 1.0 + LONGEST_GAP),
    "a clock that goes back": ([(1.0, 0.0, True), (0.5, 0.0, True)], 1.0, 1.0),
    "not all of incoming is known": ([(1.0, inf, True), (2.0, inf, True)], 2.0, -inf),
}


@pytest.mark.parametrize("name", HISTORIES)
def test_the_clock_reads_the_seconds_in_which_intake_flowed(name: str) -> None:
    looks, reading, horizon = HISTORIES[name]
    flow = Flow(0.0)
    for now, lag, flows in looks:
        flow = flow.next(now, lag, flows=flows)
    assert (flow.elapsed, flow.horizon) == (reading, horizon)


def test_between_two_looks_the_reading_goes_on_and_the_horizon_waits() -> None:
    flow = Flow(10.0, elapsed=5.0)
    assert [flow.moment(now) for now in (9.0, 10.5, 99.0)] == [5.0, 5.5, 5.0 + LONGEST_GAP]
    assert flow.horizon == 5.0
    assert flow._replace(flows=False).moment(99.0) == 5.0


def test_of_what_nobody_saw_nothing_is_quiet() -> None:
    assert UNSEEN.horizon == -inf
    assert UNSEEN.moment(1e9) == 0.0
