"""How carefully work goes on while the system refuses: histories as data."""

from __future__ import annotations

import pytest

from listener.reasons import SYSTEM_REASONS
from listener.service.breaker import CircuitBreaker

USUAL = 32


def pressure() -> CircuitBreaker:
    return CircuitBreaker(lambda refusals: float(10 * refusals))


def test_nothing_is_held_back_while_nothing_is_refused() -> None:
    assert pressure().allows(5, 0.0, USUAL) == USUAL
    assert pressure().reason == ""


def test_a_full_disk_lets_single_files_try_at_growing_intervals() -> None:
    one = pressure()
    assert one.refused("no-space", 0.0)
    assert one.reason == "no-space"
    assert one.allows(0, 0.0, USUAL) == 1, "the next file is tried at once: the first refusal may be its own"
    assert not one.refused("no-space", 1.0)
    assert one.allows(0, 2.0, USUAL) == 0
    assert one.allows(0, 11.0, USUAL) == 1
    one.refused("no-space", 11.0)
    assert one.allows(0, 30.0, USUAL) == 0
    assert one.allows(0, 31.0, USUAL) == 1


def test_a_batch_that_is_refused_counts_once() -> None:
    one = pressure()
    for _ in range(32):
        one.refused("no-space", 0.0)
    assert one.allows(0, 0.0, USUAL) == 1


def test_no_second_file_is_tried_beside_the_first() -> None:
    one = pressure()
    one.refused("no-space", 0.0)
    assert one.allows(1, 100.0, USUAL) == 0


@pytest.mark.parametrize("reason", SYSTEM_REASONS)
def test_the_first_that_goes_through_lets_everything_flow(reason: str) -> None:
    one = pressure()
    one.refused(reason, 0.0)
    one.closed()
    assert one.reason == ""
    assert one.allows(0, 0.0, USUAL) == USUAL
    assert one.next_try() is None
