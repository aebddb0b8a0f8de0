"""The next sends of a target, in memory, for the threads that send them: by priority, then in the order in which they
were queued, and of a study one at a time.
"""

from __future__ import annotations

import heapq
import time
from collections.abc import Iterable
from threading import Condition

from listener.route.queue import Send

#: Most sends in memory, and how few are left when more are asked for.
SIZE, LOW = 512, 128


class Window:
    """Shared by the loop, which offers and forgets, and the threads of the target, which take and release."""

    def __init__(self) -> None:
        self._changed = Condition()
        self._heap: list[tuple[int, int, int]] = []
        #: By id: what waits, is in hand, or was sent and is not recorded yet.
        self._known: dict[int, Send] = {}
        #: Ids of sends that were taken, and studies of which one is in hand.
        self._taken: set[int] = set()
        self._busy: set[int] = set()
        self._parked: dict[int, list[tuple[int, int, int]]] = {}
        self._is_closed = False

    def __len__(self) -> int:
        return len(self._known)

    # -- the loop ------------------------------------------------------------------------------------------------------

    def offer(self, sends: Iterable[Send]) -> None:
        """Add what is not there yet; a later round takes the place of an earlier one that is not in hand."""
        with self._changed:
            for send in sends:
                known = self._known.get(send.id)
                if known is None or (known.round < send.round and send.id not in self._taken):
                    self._known[send.id] = send
                    heapq.heappush(self._heap, (send.priority, send.id, send.round))
            self._changed.notify_all()

    def forget(self, send: Send) -> None:
        """Drop a send whose answer is recorded: from now on it may be offered anew."""
        with self._changed:
            if self._known.get(send.id) is send:
                del self._known[send.id]
                self._taken.discard(send.id)

    def drop(self, study_id: int) -> None:
        """Drop a study: it goes elsewhere. One that is in hand is not taken again."""
        with self._changed:
            for one in [one for one in self._known.values() if one.study_id == study_id]:
                del self._known[one.id]
                self._taken.discard(one.id)

    def clear(self) -> None:
        """Drop all that waits: it is offered anew as far as it still goes this way."""
        with self._changed:
            for one in [one for one in self._known.values() if one.id not in self._taken]:
                del self._known[one.id]

    def close(self) -> None:
        """Let the threads take nothing more."""
        with self._changed:
            self._is_closed = True
            self._changed.notify_all()

    def wake(self) -> None:
        """Let waiting threads look again at what they do."""
        with self._changed:
            self._changed.notify_all()

    # -- the threads of the target -------------------------------------------------------------------------------------

    def take(self, seconds: float) -> Send | None:
        """Return the next send, None if there is none within so many seconds. Release it afterwards."""
        deadline = time.monotonic() + seconds
        with self._changed:
            while not self._is_closed:
                found = self._next()
                if found:
                    return found
                left = deadline - time.monotonic()
                if left <= 0 or not self._changed.wait(left):
                    return None
        return None

    def rest(self, seconds: float) -> None:
        """Wait for so long, or until something changes."""
        with self._changed:
            if not self._is_closed:
                self._changed.wait(seconds)

    def release(self, send: Send, *, again: bool = False) -> None:
        """Let the next of its study be taken; with `again` this one, which was not answered."""
        with self._changed:
            self._busy.discard(send.study_id)
            for entry in self._parked.pop(send.study_id, ()):
                heapq.heappush(self._heap, entry)
            if again and self._known.get(send.id) is send:
                self._taken.discard(send.id)
                heapq.heappush(self._heap, (send.priority, send.id, send.round))
            self._changed.notify()

    def _next(self) -> Send | None:
        while self._heap:
            entry = heapq.heappop(self._heap)
            send = self._known.get(entry[1])
            if send is None or send.round != entry[2]:
                continue  # Dropped, or replaced by a later round.
            if send.study_id in self._busy:
                self._parked.setdefault(send.study_id, []).append(entry)
                continue
            self._busy.add(send.study_id)
            self._taken.add(send.id)
            return send
        return None
