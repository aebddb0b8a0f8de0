"""When a delivery that was not taken is tried again, and when it is given up: of hooks, webhooks and stages alike."""

from __future__ import annotations

from email.message import Message
from email.utils import formatdate, parsedate_to_datetime
from http import HTTPStatus
from typing import NamedTuple

from listener.disk.retry import delivery_pause
from listener.errors import NotTaken

#: Seconds at most in which a failing receiver gets no delivery at all.
_LONGEST_PAUSE = 60.0

#: The longest Retry-After that is obeyed, in seconds.
LONGEST_ASKED = 86_400.0

#: Statuses of answers whose Retry-After is obeyed.
NOT_NOW = (HTTPStatus.TOO_MANY_REQUESTS, HTTPStatus.SERVICE_UNAVAILABLE)


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


def retry_after(head: Message) -> float:
    """Return the seconds in an answer's Retry-After (RFC 9110, 10.2.3); 0 if it is absent or invalid. A date is
    compared with that of the answer, so that clocks need not agree.
    """
    text = head.get("Retry-After", "").strip()
    try:
        if text.isascii() and text.isdigit():
            seconds = float(text)
        else:
            now = parsedate_to_datetime(head.get("Date") or formatdate(usegmt=True))
            seconds = (parsedate_to_datetime(text) - now).total_seconds()
    except (ValueError, TypeError, OverflowError):
        return 0.0
    return min(max(0.0, seconds), LONGEST_ASKED)
