"""Work on many items in the threads of a pool, in their order."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable
from concurrent.futures import Executor, Future, wait
from itertools import islice
from typing import TypeVar

_T = TypeVar("_T")
_R = TypeVar("_R")

#: How many items wait for a thread at a time.
_WINDOW = 64


def in_order(
    pool: Executor, function: Callable[[_T], _R], items: Iterable[_T], renew: Callable[[], None], at_once: int = 1
) -> list[_R]:
    """Return what the function makes of each item, in their order; call `renew` about once a second. Of what it raises
    the first is raised here, when nothing is under way any more. A thread takes `at_once` items: several of those that
    take no longer than handing them over.
    """
    results: list[_R] = []
    waiting: deque[Future[list[_R]]] = deque()
    rest = iter(items)
    try:
        while True:
            while len(waiting) < _WINDOW and (taken := list(islice(rest, at_once))):
                waiting.append(pool.submit(_each, function, taken))
            if not waiting:
                return results
            made: list[_R] = _result(waiting.popleft(), renew)
            results += made
    finally:
        for future in waiting:
            future.cancel()
        wait(waiting)


def _each(function: Callable[[_T], _R], items: list[_T]) -> list[_R]:
    return [function(item) for item in items]


def _result(future: Future[_R], renew: Callable[[], None]) -> _R:
    while True:
        renew()
        try:
            return future.result(timeout=1.0)
        except TimeoutError:
            if future.done():  # Just now, or it raised that itself.
                return future.result()
