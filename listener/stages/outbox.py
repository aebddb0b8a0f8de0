"""What the threads of a stage have to tell: events and metrics, kept in order until its loop, which alone writes them,
takes them.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from queue import Empty, SimpleQueue
from typing import Any

from listener.ledger.rows import Delivery
from listener.stages.service import Tools


class Outbox:
    """Takes from any thread, and lets the loop turn by `wake` for events and answers; counts wait for its next turn."""

    def __init__(self, wake: Callable[[], None]) -> None:
        self._wake = wake
        self._told: SimpleQueue[Callable[[Tools], None]] = SimpleQueue()

    def event(self, name: str, **fields: Any) -> None:
        """Tell an event."""
        self._told.put(lambda tools: tools.events.service(name, time.time_ns(), **fields))
        self._wake()

    def count(self, name: str, amount: int = 1, *labels: str) -> None:
        """Count something in a metric."""
        self._told.put(lambda tools: tools.metrics.add(name, amount, *labels))

    def observe(self, name: str, seconds: float) -> None:
        """Put a duration into a histogram."""
        self._told.put(lambda tools: tools.metrics.observe(name, seconds))

    def answered(self, consumer: str) -> Callable[[str, float], None]:
        """Return what counts the answered deliveries of a consumer: DeliveryThread.answered."""

        def count(how: str, seconds: float) -> None:
            self._told.put(lambda tools: tools.answered(how, seconds, consumer))
            self._wake()

        return count

    def empty(self, tools: Tools) -> None:
        """Tell all; in the loop's thread."""
        while True:
            try:
                telling = self._told.get_nowait()
            except Empty:
                return
            telling(tools)


def about(delivery: Delivery) -> dict[str, Any]:
    """Return what an event about a delivery says of its subject: UIDs and generation, as far as there are any."""
    of = delivery.series or delivery.study or delivery.aside
    uids = {uid: getattr(of, uid, "") for uid in ("StudyInstanceUID", "SeriesInstanceUID")}
    told: dict[str, Any] = {name: uid for name, uid in uids.items() if uid}
    end = delivery.change or delivery.end
    return {**told, "generation": end.generation} if end else told
