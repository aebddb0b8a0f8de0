"""How fast an export may write, how much it may hold, who reads, and when it stops."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from threading import Condition, Event, Lock

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


#: Seconds after which a thread reads though another one still does: that waits for a disk.
_PATIENCE = 0.05


class Turns:
    """One thread at a time reads small files. Several would take the interpreter's lock from each other at each system
    call: with ten of them that was 26 switches and a third of the processor time of a file of 23 KiB. On a slow disk,
    where a thread waits for more than it computes, none waits long for another.
    """

    def __init__(self, patience: float = _PATIENCE) -> None:
        self._patience = patience
        self._lock = Lock()

    @contextmanager
    def taken(self) -> Iterator[None]:
        """Have the turn, or go without it after a while."""
        has = self._lock.acquire(timeout=self._patience)
        try:
            yield
        finally:
            if has:
                self._lock.release()


class Budget:
    """So many bytes may be held at once; who comes first gets them first."""

    def __init__(self, size: int) -> None:
        self._size = self._free = size
        self._changed = Condition()
        self._next = self._served = 0

    @contextmanager
    def held(self, least: int, most: int = 0) -> Iterator[int]:
        """Hold `least` bytes, or all there are where that is less; wait until they are free. Yield how many are held:
        up to `most`, if more are free.
        """
        least = min(least, self._size)
        with self._changed:
            ticket, self._next = self._next, self._next + 1
            self._changed.wait_for(lambda: self._served == ticket and self._free >= least)
            self._served += 1
            size = max(least, min(most, self._free))
            self._free -= size
            self._changed.notify_all()
        try:
            yield size
        finally:
            with self._changed:
                self._free += size
                self._changed.notify_all()
