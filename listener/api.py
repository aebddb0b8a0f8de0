"""For programs of one's own: read the ledger, take its deliveries under a lease, check a message of a hook.

These names stay as they are, and more may come; all other modules may change. Rows hold patient data; `shown` makes of
one what the commands' JSON has. Times are nanoseconds since the epoch, 0: never.
"""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Callable, Iterator, Mapping
from hmac import compare_digest
from typing import Any

import orjson

from listener.errors import (
    ConsumerGone,
    InvalidSignature,
    LedgerFault,
    LedgerMissing,
    ListenerError,
    NotTaken,
    Postponed,
)
from listener.hook_config import require_name
from listener.hooks.payload import key_of, signature
from listener.ledger.connection import path_of
from listener.ledger.delivery_threads import Consumer, DeliveryThread
from listener.ledger.finding import Search
from listener.ledger.interests import ANYTHING, Interest, require_known, text_of
from listener.ledger.reader import Reader, reading
from listener.ledger.rows import Delivery, SeriesRow, SetAsideRow, StudyRow, shown
from listener.reasons import internal

__all__ = [
    "ConsumerGone",
    "Delivery",
    "Interest",
    "InvalidSignature",
    "LedgerFault",
    "LedgerMissing",
    "ListenerError",
    "NotTaken",
    "Postponed",
    "Reader",
    "Search",
    "SeriesRow",
    "SetAsideRow",
    "StudyRow",
    "Take",
    "follow",
    "open_ledger",
    "shown",
    "verify_hook",
]

#: What is done with a delivery; the second argument is called now and then where that takes longer than the lease.
Take = Callable[[Delivery, Callable[[], None]], None]


def open_ledger(state: str) -> contextlib.AbstractContextManager[Reader]:
    """Open the ledger in a state directory to read, for one thread; no service need run. Raises LedgerFault."""
    return reading(state)


@contextlib.contextmanager
def follow(
    state: str, name: str, take: Take, interest: Interest = ANYTHING, *, lease: float = 60.0
) -> Iterator[DeliveryThread]:
    """Call `take` with each delivery to the consumer `name` in the ledger of a state directory, in a thread, as long as
    the block lasts.

    The consumer is registered, and gets what ends from then on, if the `interest` covers it. A delivery is done when
    `take` returns. It is given again after a pause if that raised, after Postponed.seconds if it was that, and when the
    lease (in seconds) ends if the process died meanwhile: do the work so that a repetition changes nothing. After
    ConsumerGone nothing is given until `listener hooks redeliver`. Raises ValueError (or
    TypeError) for a name that no command takes and an interest that covers nothing, LedgerMissing (a LedgerFault)
    before the service has made the ledger.
    """
    require_name(name, "consumer")
    require_known(interest)
    if not os.path.exists(path_of(state)):  # One made here might not be the service user's.
        raise LedgerMissing
    consumer = Consumer(name, f"stage {name}", text_of(interest), lease, f"'listener hooks redeliver {name}' goes on")
    thread = DeliveryThread(consumer, _Receiver(take), state)
    thread.start()
    try:
        yield thread
    finally:
        thread.stop()


class _Receiver:
    """Calls a function with deliveries; what it raises is that delivery's failure."""

    def __init__(self, take: Take) -> None:
        self._take = take

    def take(self, delivery: Delivery, renew: Callable[[], None]) -> None:
        try:
            self._take(delivery, renew)
        except (NotTaken, Postponed):
            raise
        except Exception as error:  # The boundary to another program's code.
            raise NotTaken(internal(error)) from error

    def abort(self) -> None:
        """Nothing: a function cannot be interrupted. Its delivery is given again by the next start."""


def verify_hook(
    body: bytes, headers: Mapping[str, str], secret: bytes, *, tolerance: float = 300.0, now: float | None = None
) -> dict[str, Any]:
    """Return the JSON of a message that a hook sent, by its body and header fields as they came.

    `secret` is the content of the hook's secret file, `tolerance` the seconds by which the message may be older or
    newer than `now` (since the epoch; None: now). Raises InvalidSignature. Source: https://www.standardwebhooks.com.
    """
    fields = {name.lower(): value for name, value in headers.items()}
    key, seconds = key_of(secret), fields.get("webhook-timestamp", "")
    wanted = signature(key, fields.get("webhook-id", ""), seconds, body) if key else b""
    given = fields.get("webhook-signature", "").encode("utf-8", "replace").split()
    if not wanted or not any(compare_digest(wanted, one) for one in given):
        raise InvalidSignature
    # Signed, so this is a number of ours.
    if abs((time.time() if now is None else now) - int(seconds)) > tolerance:
        raise InvalidSignature("it is too old, or a clock is wrong")
    message: dict[str, Any] = orjson.loads(body)
    return message
