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
        #: Ids of sends that were taken, those of them that are only prepared, and of studies how many are in hand.
        self._taken: set[int] = set()
        self._prepared: set[int] = set()
        self._busy: dict[int, int] = {}
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
        """Drop all that waits or is prepared: it is offered anew as far as it still goes this way."""
        with self._changed:
            for one in [one for one in self._known.values() if one.id not in self._taken or one.id in self._prepared]:
                del self._known[one.id]
                self._taken.discard(one.id)

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

    def prepare(self, send: Send, most: int) -> list[Send]:
        """Return those that go behind `send`, which is in hand and stays so, of its study and priority: at most so many
        of what is there now. begin() and release() each, in this order.
        """
        found: list[Send] = []
        with self._changed:
            self._unpark(send.study_id)
            while len(found) < most and not self._is_closed:
                first = self._first()
                if first is None or (first.study_id, first.priority) != (send.study_id, send.priority):
                    break
                found.append(self._take(first))
            self._prepared.update(one.id for one in found)
        return found

    def begin(self, send: Send) -> bool:
        """Return whether one that was prepared is still the one to be sent: it was not dropped, and nothing came that
        goes before it.
        """
        with self._changed:
            if self._heap and self._heap[0][0] < send.priority:
                return False
            self._prepared.discard(send.id)
            return self._known.get(send.id) is send

    def rest(self, seconds: float) -> None:
        """Wait for so long, or until something changes."""
        with self._changed:
            if not self._is_closed:
                self._changed.wait(seconds)

    def release(self, send: Send, *, again: bool = False) -> None:
        """Let the next of its study be taken; with `again` this one, which was not answered."""
        with self._changed:
            self._prepared.discard(send.id)
            self._busy[send.study_id] -= 1
            if not self._busy[send.study_id]:
                del self._busy[send.study_id]
                self._unpark(send.study_id)
            if again and self._known.get(send.id) is send:
                self._taken.discard(send.id)
                heapq.heappush(self._heap, (send.priority, send.id, send.round))
            self._changed.notify()

    def _unpark(self, study_id: int) -> None:
        for entry in self._parked.pop(study_id, ()):
            heapq.heappush(self._heap, entry)

    def _first(self) -> Send | None:
        """Return the first of what waits."""
        while self._heap:
            _, number, round_ = self._heap[0]
            send = self._known.get(number)
            if send and send.round == round_:
                return send
            heapq.heappop(self._heap)  # Dropped, or replaced by a later round.
        return None

    def _next(self) -> Send | None:
        """Take the first whose study is not in hand."""
        while send := self._first():
            if send.study_id not in self._busy:
                return self._take(send)
            self._parked.setdefault(send.study_id, []).append(heapq.heappop(self._heap))
        return None

    def _take(self, first: Send) -> Send:
        heapq.heappop(self._heap)
        self._busy[first.study_id] = self._busy.get(first.study_id, 0) + 1
        self._taken.add(first.id)
        return first
