"""PURE. What the system refuses at the moment (no space, no permission ...), and how carefully work goes on meanwhile.

One refusal says nothing about the next file, so single files are tried, at growing intervals while they keep failing;
the first that succeeds lets everything flow again. What only one file's place refuses is no matter of this module (see
heldup.py).
"""

from __future__ import annotations

from collections.abc import Callable


class CircuitBreaker:
    """`reason` is one of errors.SYSTEM_REASONS while the system refuses, else "". `pause` tells how long to wait after
    how many refusals in a row, in seconds.
    """

    def __init__(self, pause: Callable[[int], float]) -> None:
        self._pause = pause
        self._refusals = 0
        self._next = 0.0
        self._trial = False
        self.reason = ""

    def refused(self, reason: str, now: float) -> bool:
        """The system refused a file; whether that is news."""
        news = reason != self.reason
        self.reason = reason
        # What else was in hand when it began says the same thing once more: only trials count.
        if self._trial or not self._refusals:
            self._trial = False
            self._refusals += 1
            # The first refusal may be that one file's own: the next is tried at once.
            self._next = now + (self._pause(self._refusals - 1) if self._refusals > 1 else 0.0)
        return news

    def closed(self) -> bool:
        """A file went through; whether that is news."""
        news = bool(self.reason)
        self.reason, self._refusals, self._next, self._trial = "", 0, 0.0, False
        return news

    def allows(self, working: int, now: float, usual: int) -> int:
        """How many files may be handed out now: `usual`, or while the system refuses a single one at its time."""
        if not self.reason:
            return usual
        if working or now < self._next:
            return 0
        self._trial = True
        return 1

    def next_try(self) -> float | None:
        """When a single file may be tried again; None while nothing is refused, and once it may."""
        return self._next if self.reason and not self._trial else None
