"""PURE. A circuit breaker for what the system refuses (no space, no permission ...).

One refusal says nothing about the next file, so single files are tried, at growing intervals while they fail; the first
that succeeds closes the circuit. What only one file's place refuses is handled by held_up.py.
"""

from __future__ import annotations

from collections.abc import Callable


class CircuitBreaker:
    """`reason` is one of reasons.SYSTEM_REASONS while the system refuses, else "". `pause` returns the seconds to wait
    after a number of refusals in a row.
    """

    def __init__(self, pause: Callable[[int], float]) -> None:
        self._pause = pause
        self._refusals = 0
        self._next = 0.0
        self._half_open = False
        self.reason = ""

    def refused(self, reason: str, now: float) -> bool:
        """Record that the system refused a file; return whether the reason is new."""
        news = reason != self.reason
        self.reason = reason
        # Files that were in hand when it began repeat the same refusal: only trials count.
        if self._half_open or not self._refusals:
            self._half_open = False
            self._refusals += 1
            # The first refusal may be that one file's own: the next is tried at once.
            self._next = now + (self._pause(self._refusals - 1) if self._refusals > 1 else 0.0)
        return news

    def closed(self) -> bool:
        """Record that a file was accepted; return whether the circuit was open."""
        news = bool(self.reason)
        self.reason, self._refusals, self._next, self._half_open = "", 0, 0.0, False
        return news

    def allows(self, working: int, now: float, usual: int) -> int:
        """Return how many files may be handed out now: `usual`, or 1 or 0 while the system refuses."""
        if not self.reason:
            return usual
        if working or now < self._next:
            return 0
        self._half_open = True
        return 1

    def next_try(self) -> float | None:
        """Return when the next single file may be tried; None while nothing is refused or one is being tried."""
        return self._next if self.reason and not self._half_open else None
