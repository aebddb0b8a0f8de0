"""Loads under way: at most one a frame, however many wait for it."""

from __future__ import annotations

import time
from collections.abc import Sequence
from threading import Event

from listener.frames.reference import InstanceReference

#: Seconds for which an instance is left alone after a load of it failed: doubled each time, up to the second number.
_FIRST_REST, _LONGEST_REST = 1.0, 60.0

#: Instances of which it is known that they failed.
_MOST_RESTS = 1024


class Load:
    """A load of some frames of an instance. `kind` is block, whole or latency; `count` is the number of frames that the
    caller says the instance has (0: not said). `wanted` maps numbers that somebody waits for to their frames, None
    until they are there.
    """

    __slots__ = ("count", "done", "instance", "kind", "numbers", "wanted")

    def __init__(self, kind: str, instance: InstanceReference, numbers: Sequence[int], count: int) -> None:
        self.kind, self.instance, self.numbers, self.count = kind, instance, numbers, count
        self.wanted: dict[int, bytes | None] = {}
        self.done = Event()

    def wait(self, deadline: float) -> None:
        """Wait for its end. Raises TimeoutError at the deadline, which is monotonic."""
        if not self.done.wait(max(0.0, deadline - time.monotonic())):
            raise TimeoutError("frames are still being loaded")


class Loads:
    """The loads that run, and instances that are left alone because a load failed. Not for several threads at once."""

    def __init__(self) -> None:
        self._running: dict[InstanceReference, dict[int, Load]] = {}
        self._all: dict[Load, None] = {}
        self._rests: dict[InstanceReference, tuple[float, float]] = {}

    def of(self, instance: InstanceReference, number: int) -> Load | None:
        """Return the load that a frame is on its way with."""
        return self._running.get(instance, {}).get(number)

    def begin(self, load: Load) -> None:
        """Add a load."""
        self._all[load] = None
        self._running.setdefault(load.instance, {}).update(dict.fromkeys(load.numbers, load))

    def arrived(self, load: Load, number: int, frame: bytes) -> None:
        """A frame of a load is there: hand it to who waits for it. It is on its way no more."""
        if number in load.wanted:
            load.wanted[number] = frame
        numbers = self._running.get(load.instance, {})
        if numbers.get(number) is load:
            del numbers[number]

    def end(self, load: Load, now: float, *, failed: bool) -> None:
        """Remove a load, and let who waits go on. A failed one has its instance left alone for some time."""
        self._all.pop(load, None)
        numbers = self._running.get(load.instance, {})
        for number in load.numbers:
            if numbers.get(number) is load:
                del numbers[number]
        if not numbers:
            self._running.pop(load.instance, None)
        _, before = self._rests.pop(load.instance, (0.0, 0.0))
        if failed:
            seconds = min(before * 2, _LONGEST_REST) or _FIRST_REST
            self._rests[load.instance] = (now + seconds, seconds)
            if len(self._rests) > _MOST_RESTS:
                del self._rests[next(iter(self._rests))]
        load.done.set()

    def rests(self, instance: InstanceReference, now: float) -> bool:
        """Return whether an instance is left alone."""
        return now < self._rests.get(instance, (0.0, 0.0))[0]

    def running(self, instance: InstanceReference | None = None) -> list[Load]:
        """Return the loads that run, of one instance or all."""
        return [load for load in self._all if instance in (None, load.instance)]
