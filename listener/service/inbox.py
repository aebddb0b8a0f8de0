"""What the watchdog thread and signal handlers leave for the loop."""

from __future__ import annotations

import contextlib
import os
from collections import deque

_CAPACITY = 100_000


class Inbox:
    """Paths from the watchdog thread to the loop; bounded, and it wakes the loop through a pipe."""

    def __init__(self, capacity: int = _CAPACITY) -> None:
        self._paths: deque[str] = deque()
        self._capacity = capacity
        self._signalled = False
        self.overflowed = False
        self.reader, self._writer = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)

    def put(self, path: str) -> None:
        """From any thread; never raises, never blocks. What does not fit is left to the sweep."""
        if len(self._paths) >= self._capacity:
            self.overflowed = True
        else:
            self._paths.append(path)
        self.wake()

    def wake(self) -> None:
        """Make the loop come round; also from a signal handler."""
        if not self._signalled:
            self._signalled = True
            with contextlib.suppress(OSError):
                os.write(self._writer, b"w")

    def drain(self) -> list[str]:
        """Everything that came since the last call, in order, each path once."""
        with contextlib.suppress(BlockingIOError):
            os.read(self.reader, 4096)
        # Lowered before the deque is emptied: a path put in between raises it again, none is left lying unseen.
        self._signalled = False
        paths = self._paths
        taken = [paths.popleft() for _ in range(len(paths))]
        return list(dict.fromkeys(taken)) if len(taken) > 1 else taken

    def close(self) -> None:
        """Give back the pipe."""
        os.close(self.reader)
        os.close(self._writer)
