"""Retry after refusals of the system: tenacity's exponential back-off with jitter and a cap."""

from __future__ import annotations

import errno
from collections.abc import Callable
from typing import TypeVar

import tenacity

_T = TypeVar("_T")

#: First and longest pause, in seconds.
FIRST, LONGEST = 0.1, 30.0

#: Transient errors: they pass without a change of configuration.
_PASSING = frozenset({errno.ENOSPC, errno.EDQUOT, errno.ESTALE, errno.EBUSY, errno.EMFILE, errno.ENFILE, errno.ENOMEM})

#: First and longest pause for deliveries, in seconds: a receiver takes longer to recover.
DELIVERY_FIRST, DELIVERY_LONGEST = 1.0, 600.0

_WAIT = tenacity.wait_exponential(multiplier=FIRST, max=LONGEST) + tenacity.wait_random(0, FIRST)
_DELIVERY_WAIT = tenacity.wait_exponential(multiplier=DELIVERY_FIRST, max=DELIVERY_LONGEST) + tenacity.wait_random(
    0, DELIVERY_FIRST
)
_RETRYING = tenacity.Retrying(wait=_WAIT, reraise=True)


def pause(attempt: int, longest: float = LONGEST) -> float:
    """Return the seconds to wait before attempt `attempt` + 1 (counted from 1), at most `longest`.

    Does not sleep: the event loop must go on. tenacity only computes the time.
    """
    return min(_WAIT(_after(attempt)), longest, LONGEST)


def delivery_pause(attempt: int) -> float:
    """Return the seconds to wait before a delivery is repeated that failed `attempt` times."""
    return min(_DELIVERY_WAIT(_after(attempt)), DELIVERY_LONGEST)


def _after(attempt: int) -> tenacity.RetryCallState:
    state = tenacity.RetryCallState(_RETRYING, None, (), {})
    # Beyond this the cap holds anyway, and the exponent would overflow.
    state.attempt_number = min(attempt, 32)
    return state


def is_transient(error: BaseException) -> bool:
    """Return whether an error of the system is likely to pass by itself (a full volume, a stale handle)."""
    return isinstance(error, OSError) and error.errno in _PASSING


def retry_while_transient(operation: Callable[[], _T], report: Callable[[str], None]) -> _T:
    """Repeat `operation` while it fails with transient errors; call `report` with a message for each."""

    def refused(state: tenacity.RetryCallState) -> None:
        error = state.outcome.exception() if state.outcome else None
        pause_ = state.next_action.sleep if state.next_action else 0.0
        report(f"the system refuses ({getattr(error, 'strerror', '')}); trying again in {pause_:.1f} s")

    return tenacity.Retrying(
        wait=_WAIT, retry=tenacity.retry_if_exception(is_transient), before_sleep=refused, reraise=True
    )(operation)
