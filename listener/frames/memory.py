"""PURE. Frames and other bytes in memory, at most so many bytes, of which the least recently used go first."""

from __future__ import annotations

from collections import OrderedDict

from listener.frames.reference import InstanceReference

#: A frame of an instance, or bytes of others by their own name.
Key = tuple[InstanceReference, int] | str


#: Seconds after which it is time to look whether an instance was replaced.
_FRESH = 1.0


class Held:
    """What is known of an instance that has frames in memory: the stamp of its origin, their numbers, and when to look
    at the stamp again (monotonic).
    """

    __slots__ = ("look_at", "numbers", "stamp")

    def __init__(self, stamp: object) -> None:
        self.stamp = stamp
        self.numbers: set[int] = set()
        self.look_at = 0.0


class Memory:
    """Not for several threads at once. `limit` is in bytes, None for none; `used` is what the values have."""

    def __init__(self, limit: int | None) -> None:
        self.limit = limit
        self.used = 0
        self._values: OrderedDict[Key, bytes] = OrderedDict()
        self._held: dict[InstanceReference, Held] = {}

    def __contains__(self, key: Key) -> bool:
        return key in self._values

    def get(self, key: Key) -> bytes | None:
        """Return a value, which thereby is the last that goes; None where it is not in memory."""
        value = self._values.get(key)
        if value is not None and self.limit is not None:
            self._values.move_to_end(key)
        return value

    def put(self, key: Key, value: bytes) -> bool:
        """Keep a value; return False where it alone is larger than the limit."""
        self.remove(key)
        if self.limit is not None and len(value) > self.limit:
            return False
        self._values[key] = value
        self.used += len(value)
        while self.limit is not None and self.used > self.limit:
            self.remove(next(iter(self._values)))
        return True

    def put_frame(self, instance: InstanceReference, number: int, frame: bytes, stamp: object) -> bool:
        """Keep a frame of an instance with this stamp (None: not known); return False where it alone is larger than the
        limit. Frames of another stamp go.
        """
        held = self._held.get(instance)
        if held and held.stamp != stamp and None not in (held.stamp, stamp):
            self.forget(instance, held.stamp)
        if not self.put((instance, number), frame):
            return False
        held = self._held.get(instance)
        if held is None:
            held = self._held[instance] = Held(stamp)
        held.stamp = stamp if held.stamp is None else held.stamp
        held.numbers.add(number)
        return True

    def remove(self, key: Key) -> None:
        """Remove a value, if it is there."""
        value = self._values.pop(key, None)
        if value is None:
            return
        self.used -= len(value)
        if not isinstance(key, str):
            numbers = self._held[key[0]].numbers
            numbers.discard(key[1])
            if not numbers:
                del self._held[key[0]]

    def forget(self, instance: InstanceReference, stamp: object) -> None:
        """Remove every frame of an instance with this stamp."""
        held = self._held.get(instance)
        if held and held.stamp == stamp:
            for number in list(held.numbers):
                self.remove((instance, number))

    def is_due(self, instance: InstanceReference, now: float) -> bool:
        """Return whether it is time to look whether an instance with frames in memory was replaced."""
        held = self._held.get(instance)
        return held is not None and held.look_at <= now

    def looked(self, instance: InstanceReference, now: float) -> object:
        """Return the stamp of an instance with frames in memory (None without any), which is looked at now: the next
        time is a second later.
        """
        held = self._held.get(instance)
        if held is None:
            return None
        held.look_at = now + _FRESH
        return held.stamp
