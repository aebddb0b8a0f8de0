"""What other threads and signal handlers ring to make the loop come round."""

from __future__ import annotations

import contextlib
import os


class Bell:
    """A pipe whose reader the loop waits for; rung any number of times, it wakes the loop once."""

    def __init__(self) -> None:
        self._rung = False
        self.reader, self._writer = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)

    def ring(self) -> None:
        """Make the loop come round; from any thread, and from a signal handler. Never raises, never blocks."""
        if not self._rung:
            self._rung = True
            with contextlib.suppress(OSError):
                os.write(self._writer, b"w")

    def heard(self) -> None:
        """The loop is awake; the next ring wakes it again."""
        with contextlib.suppress(BlockingIOError):
            os.read(self.reader, 4096)
        self._rung = False

    def close(self) -> None:
        """Give back the pipe."""
        os.close(self.reader)
        os.close(self._writer)
