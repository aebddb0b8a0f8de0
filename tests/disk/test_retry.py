"""How long to wait before another try: growing, capped, never quite the same, and nobody sleeps for it."""

from __future__ import annotations

import time

from hypothesis import given
from hypothesis import strategies as st

from listener.disk.retry import FIRST, LONGEST, pause


@given(st.integers(1, 10**6), st.floats(0.05, 60))
def test_a_pause_is_never_longer_than_the_cap(attempt: int, longest: float) -> None:
    assert 0 < pause(attempt, longest) <= min(longest, LONGEST)


@given(st.integers(1, 30))
def test_a_pause_doubles_until_the_cap_with_some_jitter(attempt: int) -> None:
    least = min(FIRST * 2 ** (attempt - 1), LONGEST)
    assert least <= pause(attempt) <= min(least + FIRST, LONGEST)


def test_pauses_differ_so_that_refused_files_do_not_come_back_all_at_once() -> None:
    assert len({pause(1) for _ in range(50)}) > 10


def test_nothing_sleeps() -> None:
    begun = time.monotonic()
    pause(50)
    assert time.monotonic() - begun < 60
