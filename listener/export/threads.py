"""Work on many items in the threads of a pool, in their order."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable
from concurrent.futures import Executor, Future, wait
from typing import TypeVar

_T = TypeVar("_T")
_R = TypeVar("_R")

#: How many items wait for a thread at a time.
_WINDOW = 64


def in_order(pool: Executor, function: Callable[[_T], _R], items: Iterable[_T], renew: Callable[[], None]) -> list[_R]:
    """Return what the function makes of each item, in their order; call `renew` about once a second. Of what it raises
    the first is raised here, when nothing is under way any more.
    """
    results: list[_R] = []
    waiting: deque[Future[_R]] = deque()
    rest = iter(items)
    try:
        while True:
            for item in rest:
                waiting.append(pool.submit(function, item))
                if len(waiting) >= _WINDOW:
                    break
            if not waiting:
                return results
            results.append(_result(waiting.popleft(), renew))
    finally:
        for future in waiting:
            future.cancel()
        wait(waiting)


def _result(future: Future[_R], renew: Callable[[], None]) -> _R:
    while True:
        renew()
        try:
            return future.result(timeout=1.0)
        except TimeoutError:
            if future.done():  # Just now, or it raised that itself.
                return future.result()
