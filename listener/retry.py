"""When what the system refused is tried again: tenacity's exponential back-off with jitter and a cap."""

from __future__ import annotations

import tenacity

#: First and longest pause, in seconds.
FIRST, LONGEST = 0.1, 30.0

_WAIT = tenacity.wait_exponential_jitter(initial=FIRST, max=LONGEST, jitter=FIRST)
_RETRYING = tenacity.Retrying(wait=_WAIT, reraise=True)


def pause(attempt: int, longest: float = LONGEST) -> float:
    """Seconds to wait before try `attempt` + 1 (attempts count from 1), at most `longest`.

    The loop must go on meanwhile, so nothing sleeps here; tenacity only says how long.
    """
    state = tenacity.RetryCallState(_RETRYING, None, (), {})
    # Beyond this the cap holds anyway, and the power would overflow.
    state.attempt_number = min(attempt, 32)
    return min(_WAIT(state), longest)
