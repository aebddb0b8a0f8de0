"""PURE. Files that have arrived and are not finished: bounded, without duplicates, in order. Time is an argument.

An arrival waits, is worked on, or waits for another try: in one of these states at most, by its path (Arrival.key).
"""

from __future__ import annotations

import heapq
from collections import OrderedDict
from collections.abc import Iterable, Iterator
from math import inf

from listener.records import Arrival

#: Most files in one message to a worker and behind one barrier; and so few that waking a second worker does not pay.
BATCH = 32
_LITTLE = 4

#: What `offer` returns.
NEW, KNOWN, AGAIN, FULL = "new", "known", "again", "full"


#: Most files that wait for another try, about a kilobyte of memory each; beyond them no new ones are taken.
MOST_RETRYING = 50_000

#: Bytes of a batch, so that it keeps its deadline where large files must be copied.
_BATCH_BYTES = 512 * 2**20


def share(queued: int, workers: int, most: int = BATCH) -> int:
    """Return how many of `queued` files to give to the next of `workers` idle workers, at most `most`."""
    return min(most, max(_LITTLE, -(-queued // workers)))


class Backlog:
    """The bounded queue, what workers hold, and what waits for another try."""

    def __init__(self, capacity: int = 10_000) -> None:
        self.capacity = capacity
        self._waiting: OrderedDict[str, Arrival] = OrderedDict()
        self._working: dict[str, Arrival] = {}
        self._again: set[str] = set()
        self._retrying: dict[str, tuple[float, Arrival]] = {}
        self._due: list[tuple[float, str]] = []
        self._beyond = 0

    def offer(self, arrival: Arrival) -> str:
        """Queue an arrival. Return NEW if it waits now, KNOWN if it did already, AGAIN if it is being worked on and is
        to be offered again or its retry is made early, FULL if it does not fit and a later rescan has to find it.
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
        """Whether no more arrivals fit."""
        return len(self._waiting) >= self.capacity or len(self._retrying) >= MOST_RETRYING

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
        """Move the next arrivals, at most `most` and about _BATCH_BYTES, to those being worked on, and return them. One
        that was begun before comes alone, so that a file which kills workers takes no other with it.
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
        """End work on `key`; return True if it was offered again meanwhile."""
        self._working.pop(key, None)
        again = key in self._again
        self._again.discard(key)
        return again

    def exchange(self, arrival: Arrival, other: Arrival) -> Arrival:
        """Replace an arrival that is being worked on by `other`, its new path, and return that."""
        del self._working[arrival.key]
        self._working[other.key] = other
        return other

    def put_back(self, arrivals: Iterable[Arrival]) -> None:
        """Queue first, whatever the capacity, what a dead worker held or an earlier run left."""
        for arrival in reversed(list(arrivals)):
            self._waiting[arrival.key] = arrival
            self._waiting.move_to_end(arrival.key, last=False)

    def defer(self, key: str, arrival: Arrival, due: float, *, alone: bool = False) -> None:
        """End work on `key`, and queue `arrival` (which may have another path now) again at `due` (monotonic). `alone`:
        what it waits for delays no other file.
        """
        if alone:
            arrival = arrival._replace(noticed=inf)
        self._working.pop(key, None)
        self._again.discard(key)
        self._retrying[arrival.key] = (due, arrival)
        heapq.heappush(self._due, (due, arrival.key))

    def wake(self, now: float) -> int:
        """Queue the retries that are due, and return how many."""
        count = 0
        while (due := self.next_due()) is not None and due <= now:
            _, key = heapq.heappop(self._due)
            _, arrival = self._retrying.pop(key)
            self._waiting[key] = arrival._replace(noticed=now) if arrival.noticed == inf else arrival
            count += 1
        return count

    def next_due(self) -> float | None:
        """Return when the next retry is due; None if there is none."""
        while self._due and not self._is_current(*self._due[0]):
            heapq.heappop(self._due)
        return self._due[0][0] if self._due else None

    def _is_current(self, due: float, key: str) -> bool:
        # A retry that an event made early leaves its old time in the heap.
        return key in self._retrying and self._retrying[key][0] == due

    @property
    def waiting(self) -> int:
        """How many files wait for a worker, in the queue and beyond it."""
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
        """The backlog: how many files arrived and are not finished."""
        return self.waiting + self.working + self.retrying

    def oldest_ns(self) -> int:
        """Return when the oldest unfinished file arrived, in nanoseconds since the epoch; 0 if there is none."""
        return min((arrival.time_ns for arrival in self._all()), default=0)

    def noticed_first(self) -> float:
        """Return when the oldest unfinished file that delays others was noticed (monotonic); inf if there is none."""
        return min((arrival.noticed for arrival in self._all()), default=inf)

    @property
    def bytes(self) -> int:
        """Bytes of the files in the queue, with workers, and waiting for another try."""
        return sum(arrival.size for arrival in self._all())

    def _all(self) -> Iterator[Arrival]:
        yield from self._waiting.values()
        yield from self._working.values()
        for _, arrival in self._retrying.values():
            yield arrival
