"""SIGTERM, SIGINT and SIGHUP: a handler only leaves a note, the loop acts."""

from __future__ import annotations

import signal
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType
from typing import NoReturn

_STOPPING = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)


class Signals:
    """Counts requests to stop: the first asks to drain, the second to stop at once. `wake` makes the loop look."""

    def __init__(self, wake: Callable[[], None]) -> None:
        self._wake = wake
        self.count = 0
        self._before = {number: signal.signal(number, self._note) for number in _STOPPING}
        # A lease that somebody breaks announces itself by SIGIO, whose default is to kill.
        self._before[signal.SIGIO] = signal.signal(signal.SIGIO, signal.SIG_IGN)

    def _note(self, _number: int, _frame: FrameType | None) -> None:
        self.count += 1
        self._wake()

    def restore(self) -> None:
        """Put the former handlers back."""
        for number, handler in self._before.items():
            signal.signal(number, handler)


@contextmanager
def leaving_at_once() -> Iterator[None]:
    """While nothing is in hand yet a signal simply ends the process, with status 0; process 1 would ignore it by
    default.
    """
    before = {number: signal.signal(number, _leave) for number in _STOPPING}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _leave(_number: int, _frame: FrameType | None) -> NoReturn:
    sys.exit(0)
