"""PURE. Studies whose series have ended, waiting in memory for the moment at which each ends."""

from __future__ import annotations

import heapq
from collections.abc import Iterable
from math import inf


class WaitingStudies:
    """The studies whose series have all ended, as far as was told, in a queue by the moment at which each ends if
    nothing more comes. `quiet` as in CompletionRules.
    """

    def __init__(self, quiet: float) -> None:
        self._quiet = quiet
        self._due: dict[str, float] = {}
        self._queue: list[tuple[float, str]] = []

    def __len__(self) -> int:
        return len(self._due)

    def follow(self, quiet: float) -> None:
        """Let studies wait for so long from now on, those that wait already too."""
        longer, self._quiet = quiet - self._quiet, quiet
        self._due = {uid: moment + longer if quiet else -inf for uid, moment in self._due.items()}
        self._queue = sorted((moment, uid) for uid, moment in self._due.items())

    def keep(self, uid: str, last_activity: float) -> None:
        """Add a study that got its last instance then (quiet clock), or let one that waits wait longer."""
        self.postpone(uid, last_activity + self._quiet if self._quiet else -inf)

    def postpone(self, uid: str, moment: float) -> None:
        """Let a study wait until `moment` at least."""
        if uid:
            self._due[uid] = max(moment, self._due.get(uid, -inf))
            heapq.heappush(self._queue, (self._due[uid], uid))

    def refresh(self, uids: Iterable[str], now: float) -> None:
        """Replace the studies by these; those that were not known got something `now`."""
        before, self._due, self._queue = self._due, {}, []
        for uid in uids:
            self.postpone(uid, before.get(uid, now + self._quiet))

    def is_due(self, horizon: float) -> bool:
        """Return whether due() may have something."""
        return bool(self._queue) and self._queue[0][0] <= horizon

    def due(self, horizon: float) -> list[str]:
        """Return the studies that end once all that came before `horizon` is done; drop or postpone each."""
        ended: dict[str, None] = {}
        while self.is_due(horizon):
            _, uid = heapq.heappop(self._queue)
            if self._due.get(uid, inf) <= horizon:
                ended[uid] = None
        return list(ended)

    def drop(self, uid: str) -> None:
        """Remove a study."""
        self._due.pop(uid, None)
