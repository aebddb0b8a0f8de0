"""PURE. What has arrived and is not finished: bounded, without duplicates, in order. Time is an argument.

An arrival waits, is worked on, or waits for another try; each is known by where it lies (Arrival.key), in one state
at most.
"""

from __future__ import annotations

import heapq
from collections import OrderedDict
from collections.abc import Iterable, Iterator
from math import inf

from listener.records import Arrival

#: Files in one message to a worker and behind one barrier, at most; and so few as are not worth waking two workers.
BATCH = 32
_LITTLE = 4

#: What `offer` answers.
NEW, KNOWN, AGAIN, FULL = "new", "known", "again", "full"


#: Files that may wait for another try, each about a kilobyte of memory, before no new ones are taken.
MOST_RETRYING = 50_000

#: So that a batch of large files does not outlast its deadline where they must be copied.
_BATCH_BYTES = 512 * 2**20


def share(queued: int, workers: int) -> int:
    """How many of `queued` files the next of so many idle workers is given."""
    return min(BATCH, max(_LITTLE, -(-queued // workers)))


class Backlog:
    """The bounded queue, what workers hold, and what waits for another try."""

    def __init__(self, capacity: int = 10_000) -> None:
        self._capacity = capacity
        self._waiting: OrderedDict[str, Arrival] = OrderedDict()
        self._working: dict[str, Arrival] = {}
        self._again: set[str] = set()
        self._retrying: dict[str, tuple[float, Arrival]] = {}
        self._due: list[tuple[float, str]] = []
        self._beyond = 0

    def offer(self, arrival: Arrival) -> str:
        """NEW: it waits now. KNOWN: it did already. AGAIN: it is being worked on and will be looked at again. FULL: no
        room; a later sweep finds it.
        """
        key = arrival.key
        if key in self._retrying and arrival.source == "event":
            # It was still being written and now it was closed: no need to wait for the next try.
            _, old = self._retrying.pop(key)
            self._waiting[key] = old._replace(noticed=arrival.noticed) if old.noticed == inf else old
            return AGAIN
        if key in self._waiting or key in self._retrying:
            return KNOWN
        if key in self._working:
            self._again.add(key)
            return AGAIN
        if self.full:
            return FULL
        self._waiting[key] = arrival
        return NEW

    @property
    def full(self) -> bool:
        """Whether the queue has no room."""
        return len(self._waiting) >= self._capacity or len(self._retrying) >= MOST_RETRYING

    @property
    def beyond(self) -> int:
        """How many files wait in incoming that did not fit, as far as a rescan has counted them."""
        return self._beyond

    def set_beyond(self, count: int) -> None:
        """Set the number of files that did not fit; less than 0 counts as 0."""
        self._beyond = max(0, count)

    def holds(self, key: str) -> bool:
        """Whether `key` waits, is worked on, or waits for another try."""
        return key in self._waiting or key in self._working or key in self._retrying

    def take(self, most: int) -> list[Arrival]:
        """The next arrivals, at most `most` and about _BATCH_BYTES, now being worked on. What was begun before comes
        alone, so that a file which kills workers takes no other with it.
        """
        taken: list[Arrival] = []
        size = 0
        while self._waiting and len(taken) < most and size < _BATCH_BYTES:
            first = next(iter(self._waiting.values()))
            alone = bool(first.claim or first.losses)
            if alone and taken:
                break
            self._waiting.popitem(last=False)
            self._working[first.key] = first
            taken.append(first)
            size += first.size
            if alone:
                break
        return taken

    def finish(self, key: str) -> bool:
        """Work on `key` has ended. True when it was offered again meanwhile and must be looked at again."""
        self._working.pop(key, None)
        again = key in self._again
        self._again.discard(key)
        return again

    def exchange(self, arrival: Arrival, other: Arrival) -> Arrival:
        """What is being worked on lies elsewhere now: `other` takes its place, and is returned."""
        del self._working[arrival.key]
        self._working[other.key] = other
        return other

    def put_back(self, arrivals: Iterable[Arrival]) -> None:
        """Arrivals that a dead worker held, or an earlier run left, wait first in line, whatever the capacity."""
        for arrival in reversed(list(arrivals)):
            self._waiting[arrival.key] = arrival
            self._waiting.move_to_end(arrival.key, last=False)

    def defer(self, key: str, arrival: Arrival, due: float, *, alone: bool = False) -> None:
        """Work on `key` was put off: `arrival` (which may lie elsewhere now) is tried again when the clock reads
        `due`. `alone`: what it waits for delays no other file.
        """
        if alone:
            arrival = arrival._replace(noticed=inf)
        self._working.pop(key, None)
        self._again.discard(key)
        self._retrying[arrival.key] = (due, arrival)
        heapq.heappush(self._due, (due, arrival.key))

    def wake(self, now: float) -> int:
        """Let what is due wait in line again; how many."""
        count = 0
        while (due := self.next_due()) is not None and due <= now:
            _, key = heapq.heappop(self._due)
            _, arrival = self._retrying.pop(key)
            self._waiting[key] = arrival._replace(noticed=now) if arrival.noticed == inf else arrival
            count += 1
        return count

    def next_due(self) -> float | None:
        """When the next retry is due."""
        while self._due and not self._is_current(*self._due[0]):
            heapq.heappop(self._due)
        return self._due[0][0] if self._due else None

    def _is_current(self, due: float, key: str) -> bool:
        # What an event woke early has left its old time behind; it may wait for a later one already.
        return key in self._retrying and self._retrying[key][0] == due

    @property
    def waiting(self) -> int:
        """How many wait for a worker, with those beyond the queue."""
        return len(self._waiting) + self._beyond

    @property
    def queued(self) -> int:
        """How many wait in the bounded queue."""
        return len(self._waiting)

    @property
    def working(self) -> int:
        """How many are being worked on."""
        return len(self._working)

    @property
    def retrying(self) -> int:
        """How many wait for another try."""
        return len(self._retrying)

    @property
    def depth(self) -> int:
        """The backlog: all that arrived and is not finished."""
        return self.waiting + self.working + self.retrying

    def oldest_ns(self) -> int:
        """When the oldest unfinished file arrived, in nanoseconds since the epoch; 0 when there is none."""
        return min((arrival.time_ns for arrival in self._all()), default=0)

    def noticed_first(self) -> float:
        """When the oldest unfinished file that delays not only itself was noticed, on the monotonic clock; inf when
        there is none.
        """
        return min((arrival.noticed for arrival in self._all()), default=inf)

    @property
    def bytes(self) -> int:
        """The bytes of what is in the queue, with workers, or waits for another try."""
        return sum(arrival.size for arrival in self._all())

    def _all(self) -> Iterator[Arrival]:
        yield from self._waiting.values()
        yield from self._working.values()
        for _, arrival in self._retrying.values():
            yield arrival
