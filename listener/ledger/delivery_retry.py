"""When a delivery that was not taken is tried again, and when it is given up: of hooks, webhooks and stages alike."""

from __future__ import annotations

from typing import NamedTuple

from listener.disk.retry import delivery_pause
from listener.errors import NotTaken

#: Seconds at most in which a failing receiver gets no delivery at all.
_LONGEST_PAUSE = 60.0


class Retry(NamedTuple):
    """What follows when a delivery was not taken. `wait`: seconds until it is tried again, None when it is given up;
    `pause`: seconds in which its receiver gets no other one.
    """

    wait: float | None
    pause: float


def retry_of(failure: NotTaken, attempts: int, failures: int, most: int = 0) -> Retry:
    """Decide about a delivery that was tried `attempts` times, by a receiver that failed `failures` times in a row.

    After `most` attempts (0: never) it is given up, as it is where the failure is final. Waits and pauses grow, and are
    no shorter than what the receiver asked for (Retry-After of a webhook).
    """
    pause = max(failure.pause, min(delivery_pause(failures), _LONGEST_PAUSE))
    if failure.is_final or (most and attempts >= most):
        return Retry(None, pause)
    return Retry(max(failure.pause, delivery_pause(attempts)), pause)
