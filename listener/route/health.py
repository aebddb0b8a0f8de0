"""PURE. Whether a target can be sent to: up, down or full, when it is tried again, and when its studies go elsewhere.

Times are seconds on the monotonic clock, given by the caller.
"""

from __future__ import annotations

from typing import NamedTuple

#: States of a target; UNKNOWN: nothing was tried yet.
UNKNOWN, UP, DOWN, FULL = STATES = ("", "up", "down", "full")

#: Least failures, one after the other, of a target that is down.
_FAILURES = 2

#: Seconds between two attempts while it is not sure that a target is down; the longest while it is; and those that a
#: full one rests.
_SOON, _LONGEST = 0.5, 10.0
_REST, _LONGEST_REST = 1.0, 30.0


class Standing(NamedTuple):
    """How a target stands: `cause` and `detail` are of the last failure, `since` of the first of those that go on.
    `on_trial`: it was down, and has stored nothing since.
    """

    state: str = UNKNOWN
    since: float = 0.0
    cause: str = ""
    detail: str = ""
    on_trial: bool = False

    @property
    def takes_studies(self) -> bool:
        """Return whether a new study may be given to it."""
        return self.state in (UNKNOWN, UP)

    def lets_go(self, now: float, down_after: float) -> bool:
        """Return whether its live studies are to move."""
        return self.state == DOWN or (self.state == FULL and now - self.since >= down_after)


class Health:
    """What is known of a target. `down_after` is for how many seconds every attempt must have failed. `is_down`: it was
    so when the last service ended.
    """

    def __init__(self, down_after: float, *, is_down: bool = False) -> None:
        self._down_after = down_after
        self._failures = self._rests = 0
        self.standing = Standing(DOWN, on_trial=True) if is_down else Standing()

    def failed(self, now: float, cause: str, detail: str) -> float:
        """Take in that it was not available; return the seconds until it is tried again. An AE title that it rejects is
        a matter of configuration: down at once.
        """
        before = self.standing
        since = before.since if self._failures else now
        self._failures += 1
        is_down = before.state == DOWN or cause == "title"
        is_down |= self._failures >= _FAILURES and (before.on_trial or now - since >= self._down_after)
        state = DOWN if is_down else before.state
        self.standing = Standing(state, since, cause, detail, before.on_trial or is_down)
        if is_down:
            return min(_LONGEST, 2.0 ** min(self._failures - 1, 10) * _SOON)
        return min(_SOON, max(0.05, self._down_after / 6))

    def full(self, now: float, detail: str) -> float:
        """Take in that it had no room for an instance; return for how many seconds it rests."""
        before = self.standing
        self._failures = 0
        self._rests += 1
        since = before.since if before.state == FULL else now
        self.standing = Standing(FULL, since, "full", detail, before.on_trial)
        return min(_LONGEST_REST, _REST * 2.0 ** min(self._rests - 1, 10))

    def answered(self, now: float, *, stored: bool) -> None:
        """Take in that it answered: to a C-ECHO, or (`stored`) to a C-STORE, with whatever status but that of a full
        one. An echo does not show that there is room, but that it may be tried.
        """
        before = self.standing
        if stored or not before.on_trial:  # Some echo and hang: that is no news of one on trial.
            self._failures = 0
        if stored:
            self._rests = 0
        since = before.since if before.state == UP else now
        self.standing = Standing(UP, since, on_trial=not stored and (before.on_trial or before.state == FULL))
