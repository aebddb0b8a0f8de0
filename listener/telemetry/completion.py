"""Telling which series are complete, from the outcomes of the service and from what `<series>-retrieve.json`
promises.
"""

from __future__ import annotations

import os
import time
from collections.abc import Sequence

from listener.config import Config
from listener.disk import loading
from listener.planning import documents
from listener.records import Outcome
from listener.telemetry.events import Events
from listener.telemetry.metrics import Metrics
from listener.telemetry.series import SeriesBook


class Completions:
    """Keeps the book of series, and tells of each that ends."""

    def __init__(self, config: Config, events: Events, metrics: Metrics) -> None:
        self._log = config.log
        self._events = events
        self._metrics = metrics
        self._book = SeriesBook({"": 60.0, **dict(config.series_quiet)}, config.series_timeout)

    def finished(self, outcomes: Sequence[Outcome], now: float) -> None:
        """Instances were published; `now` on the monotonic clock."""
        for outcome in outcomes:
            if outcome.kind != "published" or not outcome.SeriesInstanceUID:
                continue
            uid = outcome.SeriesInstanceUID
            if self._book.knows(uid):
                self._book.arrived(uid, now)
            else:
                self._book.meet(uid, outcome.StudyInstanceUID, outcome.Modality, self._count(uid), now)

    def _count(self, uid: str) -> int:
        """Instances that have a document: what readers count."""
        try:
            return len(os.listdir(os.path.dirname(f"{self._log}/{documents.instance_path(uid, 'x')}")))
        except OSError:
            return 1

    def tell(self, now: float) -> None:
        """Once a second: look for promises, and tell of the series that end."""
        for uid in self._book.open_series():
            promised = _promised(loading.load_if_readable(f"{self._log}/{documents.retrieve_path(uid)}") or {})
            if promised:
                self._book.expect(uid, promised, self._count(uid))
        for ended in self._book.due(now):
            completion = ended._replace(instances=self._count(ended.SeriesInstanceUID))
            if completion.result != "incomplete":
                self._metrics.add("series_completed_total", 1, completion.result)
            self._events.service("series-complete", time.time_ns(), **completion._asdict())


def _promised(document: dict[str, object]) -> int:
    """NumberOfSeriesRelatedInstances of pypx's flat document; it may be a text."""
    try:
        return max(0, int(str(document.get("NumberOfSeriesRelatedInstances", 0))))
    except ValueError:
        return 0
