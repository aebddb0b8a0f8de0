"""How fast an export may write, and when it stops."""

from __future__ import annotations

import time
from threading import Event, Lock

from listener.export.faults import Stopped


class Flow:
    """Lets bytes pass, at most `rate` a second over all threads (0: as fast as it goes), until abort()."""

    def __init__(self, rate: int = 0) -> None:
        self._rate = rate
        self._lock = Lock()
        self._free_at = 0.0
        self._aborted = Event()

    def pace(self, size: int) -> None:
        """Wait until `size` bytes may be written. Raises Stopped."""
        self.tick()
        if not self._rate:
            return
        with self._lock:
            begin = max(time.monotonic(), self._free_at)
            self._free_at = begin + size / self._rate
        self.wait(begin - time.monotonic())

    def wait(self, seconds: float) -> None:
        """Wait so long. Raises Stopped."""
        if seconds > 0:
            self._aborted.wait(seconds)
        self.tick()

    def tick(self) -> None:
        """Raise Stopped if what is under way is to end."""
        if self._aborted.is_set():
            raise Stopped

    def abort(self) -> None:
        """End what is under way."""
        self._aborted.set()
