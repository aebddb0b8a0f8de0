"""PURE. What the system refuses at the moment (no space, no permission ...), and how carefully work goes on meanwhile.

One refusal says nothing about the next file, so single files are tried, at growing intervals while they keep failing;
the first that succeeds lets everything flow again. Permissions hold nobody else back: they are one directory's, of one
patient perhaps (a volume that cannot be written at all is noticed otherwise, see vitals.py).
"""

from __future__ import annotations

from collections.abc import Callable

#: The refusals that concern one directory, and how often they are told, in seconds.
_LOCAL = "permission"
_TOLD_AGAIN = 60.0


class Pressure:
    """`reason` is one of errors.SYSTEM_REASONS while the system refuses, else "". `pause` tells how long to wait after
    how many refusals in a row, in seconds.
    """

    def __init__(self, pause: Callable[[int], float]) -> None:
        self._pause = pause
        self._refusals = 0
        self._next = 0.0
        self._trial = False
        self._told = -_TOLD_AGAIN
        self.reason = ""

    def refused(self, reason: str, now: float) -> bool:
        """The system refused a file; whether that is news."""
        if reason == _LOCAL:
            return self._is_old(now)
        news = reason != self.reason
        self.reason = reason
        # What else was in hand when it began says the same thing once more: only trials count.
        if self._trial or not self._refusals:
            self._trial = False
            self._refusals += 1
            # The first refusal may be that one file's own: the next is tried at once.
            self._next = now + (self._pause(self._refusals - 1) if self._refusals > 1 else 0.0)
        return news

    def _is_old(self, now: float) -> bool:
        """Whether the last word on permissions was long ago; this is the next one then."""
        old = now - self._told >= _TOLD_AGAIN
        if old:
            self._told = now
        return old

    def eased(self) -> bool:
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
