"""Waits grow, receivers that ask for a pause get it, and after so many attempts it is over."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from listener.errors import NotTaken
from listener.ledger.delivery_retry import retry_of


@pytest.mark.parametrize(
    ("failure", "attempts", "most", "is_over"),
    [
        (NotTaken("no"), 1, 0, False),
        (NotTaken("no"), 10_000, 0, False),
        (NotTaken("no"), 2, 3, False),
        (NotTaken("no"), 3, 3, True),
        (NotTaken("no"), 4, 3, True),
        (NotTaken("never", is_final=True), 1, 0, True),
    ],
)
def test_after_so_many_attempts_or_for_good_it_is_given_up(
    failure: NotTaken, attempts: int, most: int, *, is_over: bool
) -> None:
    assert (retry_of(failure, attempts, 1, most).wait is None) == is_over


@given(st.integers(1, 10_000), st.integers(1, 10_000), st.floats(0, 3600))
def test_waits_are_at_most_ten_minutes_or_what_was_asked_for(attempts: int, failures: int, asked: float) -> None:
    retry = retry_of(NotTaken("no", asked), attempts, failures)
    assert retry.wait is not None
    assert asked <= retry.wait <= max(asked, 600.0)
    assert asked <= retry.pause <= max(asked, 60.0)


@given(st.integers(1, 8))
def test_waits_grow(attempts: int) -> None:
    """Twice as long, and up to a second of chance."""
    first, second = (retry_of(NotTaken("no"), number, number).wait or 0.0 for number in (attempts, attempts + 1))
    assert second > first - 1.0
    assert 2 ** (attempts - 1) <= first <= 2 ** (attempts - 1) + 1.0
