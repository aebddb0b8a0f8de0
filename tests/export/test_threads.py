from __future__ import annotations

import time
from concurrent.futures import ThreadPoolExecutor
from threading import Event, get_ident

import pytest

from listener.export.threads import in_order


def test_results_are_in_the_order_of_the_items_however_long_each_takes() -> None:
    def work(item: int) -> int:
        time.sleep(0.001 * (item % 3))
        return item

    with ThreadPoolExecutor(4) as pool:
        assert in_order(pool, work, range(200), lambda: None) == list(range(200))


def test_a_thread_may_take_several_items() -> None:
    threads: dict[int, int] = {}

    def work(item: int) -> int:
        threads[item] = get_ident()
        return -item

    with ThreadPoolExecutor(4) as pool:
        assert in_order(pool, work, range(203), lambda: None, at_once=8) == [-item for item in range(203)]
    assert len({threads[item] for item in range(200, 203)}) == 1


@pytest.mark.parametrize("error", [TimeoutError("its own"), ValueError("its own")])
def test_what_is_raised_first_is_raised_when_nothing_is_under_way(error: Exception) -> None:
    done: list[int] = []

    def work(item: int) -> None:
        if item == 1:
            raise error
        done.append(item)

    with ThreadPoolExecutor(2) as pool:
        with pytest.raises(type(error), match="its own"):
            in_order(pool, work, range(100), lambda: None)
        before = len(done)
        pool.submit(int).result()
        assert len(done) == before


def test_the_lease_is_renewed_while_one_item_takes_long() -> None:
    renewed, release = [0], Event()

    def renew() -> None:
        renewed[0] += 1
        if renewed[0] == 2:  # It waits for the item still.
            release.set()

    with ThreadPoolExecutor(1) as pool:
        assert in_order(pool, lambda _item: release.wait(120), [1], renew) == [True]
    assert renewed[0] >= 2
