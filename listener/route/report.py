"""How an attempt to send an instance ended, and what becomes of it."""

from __future__ import annotations

import time
from typing import NamedTuple

from listener.disk.retry import delivery_pause
from listener.network import statuses
from listener.network.statuses import Meaning
from listener.route.queue import Send, Settled
from listener.route.schema import DEAD, DELIVERED, NO_STATUS, PENDING

#: Why an instance cannot be sent, whoever is to get it.
OTHER_FILE = "another file lies in its place; 'listener route retry' sends that one"
GONE = "the file is gone"


class Report(NamedTuple):
    """An attempt that was answered, or cannot be made. `outcome` is one of statuses.OUTCOMES, `seconds` how long it
    took, `at_ns` when it ended (since the epoch). `settled` is None where the instance stays as it was: the target is
    full.
    """

    send: Send
    outcome: str
    status: int
    at_ns: int
    seconds: float = 0.0
    settled: Settled | None = None
    is_reencoded: bool = False

    @property
    def hop(self) -> float:
        """Return the seconds from close-write to the answer."""
        return max(0.0, (self.at_ns - self.send.arrived_ns) / 1e9)


def settle(send: Send, found: Meaning, status: int, text: str, now_ns: int) -> Settled:
    """Return how an attempt ended that was answered; `text` is the peer's, or ours where there is no status."""
    error, comment = (text, "") if status == NO_STATUS else ("", text)
    if found.outcome == statuses.DELIVERED:
        return Settled(send, DELIVERED, status)
    attempts = send.attempts + 1
    if found.attempts and attempts >= found.attempts:
        return Settled(send, DEAD, status, error, comment)
    next_ns = now_ns + int(delivery_pause(attempts) * 1e9)
    return Settled(send, PENDING, status, error, comment, next_ns)


def answered(send: Send, found: Meaning, status: int, text: str, begun: float) -> Report:
    """Return the report of an attempt that ended just now; see settle. `begun` is of time.monotonic()."""
    return reported(send, found, status, text, time.time_ns(), time.monotonic() - begun)


def reported(send: Send, found: Meaning, status: int, text: str, at_ns: int, seconds: float) -> Report:
    """Return the report of an attempt that took so many seconds and ended at a time; see settle."""
    return Report(send, found.outcome, status, at_ns, seconds, settle(send, found, status, text, at_ns))


def given_up(send: Send, why: str) -> Report:
    """Return the report that an instance cannot be sent, whoever is to get it."""
    return Report(send, statuses.REFUSED, NO_STATUS, time.time_ns(), 0.0, Settled(send, DEAD, NO_STATUS, why))
