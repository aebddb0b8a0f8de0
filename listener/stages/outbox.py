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
    """Takes from any thread, and lets the loop turn by `wake`."""

    def __init__(self, wake: Callable[[], None]) -> None:
        self._wake = wake
        self._told: SimpleQueue[Callable[[Tools], None]] = SimpleQueue()

    def event(self, name: str, delivery: Delivery, **more: Any) -> None:
        """Tell an event about the series, study or file of a delivery."""
        about: dict[str, Any] = {}
        of = delivery.series or delivery.study or delivery.aside
        for uid in ("StudyInstanceUID", "SeriesInstanceUID"):
            if value := getattr(of, uid, ""):
                about[uid] = value
        if delivery.change:
            about["generation"] = delivery.change.generation
        self._put(lambda tools: tools.events.service(name, time.time_ns(), **about, **more))

    def count(self, name: str, amount: int = 1, *labels: str) -> None:
        """Count something in a metric."""
        self._put(lambda tools: tools.metrics.add(name, amount, *labels))

    def observe(self, name: str, seconds: float) -> None:
        """Put a duration into a histogram."""
        self._put(lambda tools: tools.metrics.observe(name, seconds))

    def answered(self, consumer: str) -> Callable[[str, float], None]:
        """Return what counts the answered deliveries of a consumer: DeliveryThread.answered."""
        return lambda how, seconds: self._put(lambda tools: tools.answered(how, seconds, consumer))

    def _put(self, telling: Callable[[Tools], None]) -> None:
        self._told.put(telling)
        self._wake()

    def empty(self, tools: Tools) -> None:
        """Tell all; in the loop's thread."""
        while True:
            try:
                telling = self._told.get_nowait()
            except Empty:
                return
            telling(tools)
