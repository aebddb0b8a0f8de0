"""Waking the loop: a self-pipe, set by other threads and by the handlers of SIGTERM, SIGINT and SIGHUP."""

from __future__ import annotations

import contextlib
import os
import signal
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType
from typing import NoReturn


class Wakeup:
    """A pipe whose reader the loop waits for; rung any number of times, it wakes the loop once."""

    def __init__(self) -> None:
        self._rung = False
        self.reader, self._writer = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)

    def set(self) -> None:
        """Make the loop come round; from any thread, and from a signal handler. Never raises, never blocks."""
        if not self._rung:
            self._rung = True
            with contextlib.suppress(OSError):
                os.write(self._writer, b"w")

    def clear(self) -> None:
        """The loop is awake; the next ring wakes it again."""
        with contextlib.suppress(BlockingIOError):
            os.read(self.reader, 4096)
        self._rung = False

    def close(self) -> None:
        """Give back the pipe."""
        os.close(self.reader)
        os.close(self._writer)


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
