"""What wakes the loop."""

from __future__ import annotations

import select
import threading
from collections.abc import Iterator

import pytest

from listener.wakeup import Wakeup


@pytest.fixture
def bell() -> Iterator[Wakeup]:
    made = Wakeup()
    yield made
    made.close()


def rung(bell: Wakeup, seconds: float = 0.0) -> bool:
    return bool(select.select([bell.reader], [], [], seconds)[0])


def test_however_often_it_is_rung_it_wakes_once(bell: Wakeup) -> None:
    assert not rung(bell)
    for _ in range(100_000):  # more than a pipe takes
        bell.set()
    assert rung(bell)
    bell.clear()
    assert not rung(bell)
    bell.clear()
    bell.set()
    assert rung(bell)


def test_no_ring_is_lost(bell: Wakeup) -> None:
    """Rings from other threads race with hearing: whatever was left before a ring is seen after the next waking."""
    left: list[int] = []
    seen = 0

    def leave() -> None:
        for number in range(2000):
            left.append(number)
            bell.set()

    threads = [threading.Thread(target=leave) for _ in range(2)]
    for thread in threads:
        thread.start()
    while seen < 4000:
        assert rung(bell, 5), "something was left and nobody was woken"
        bell.clear()
        seen = len(left)
    for thread in threads:
        thread.join()
