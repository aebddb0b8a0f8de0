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
    """A pipe whose reader the loop waits for; set any number of times, it wakes the loop once."""

    def __init__(self) -> None:
        self._is_set = False
        self.reader, self._writer = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)

    def set(self) -> None:
        """Wake the loop, from any thread or signal handler. Never raises, never blocks."""
        if not self._is_set:
            self._is_set = True
            with contextlib.suppress(OSError):
                os.write(self._writer, b"w")

    def clear(self) -> None:
        """Empty the pipe, so that the next `set` wakes the loop again."""
        with contextlib.suppress(BlockingIOError):
            os.read(self.reader, 4096)
        self._is_set = False

    def close(self) -> None:
        """Close the pipe."""
        os.close(self.reader)
        os.close(self._writer)


_STOPPING = (signal.SIGTERM, signal.SIGINT)


class Signals:
    """Counts requests to stop: the first drains, the second stops at once. `asks_reload`: SIGHUP came; to be cleared.
    `wake` wakes the loop.
    """

    def __init__(self, wake: Callable[[], None]) -> None:
        self._wake = wake
        self.count = 0
        self.asks_reload = False
        self._before = {number: signal.signal(number, self._note) for number in (*_STOPPING, signal.SIGHUP)}
        # A lease that is broken raises SIGIO, which by default ends the process.
        self._before[signal.SIGIO] = signal.signal(signal.SIGIO, signal.SIG_IGN)

    def _note(self, number: int, _frame: FrameType | None) -> None:
        if number == signal.SIGHUP:
            self.asks_reload = True
        else:
            self.count += 1
        self._wake()

    def restore(self) -> None:
        """Restore the former handlers."""
        for number, handler in self._before.items():
            signal.signal(number, handler)


@contextmanager
def leaving_at_once() -> Iterator[None]:
    """End the process with status 0 at a signal while no file is in hand; process 1 would ignore it by default. SIGHUP
    is ignored from then on: nothing of it is in use that could be read again.
    """
    signal.signal(signal.SIGHUP, signal.SIG_IGN)
    before = {number: signal.signal(number, _leave) for number in _STOPPING}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _leave(_number: int, _frame: FrameType | None) -> NoReturn:
    sys.exit(0)
