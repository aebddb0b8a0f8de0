"""What the stage does with a delivery: which generation of which series it is, and what is told of its end."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from queue import SimpleQueue
from threading import Lock
from typing import Any

from listener.diagnostics import log
from listener.errors import LedgerFault, NotTaken, Postponed, internal
from listener.export.faults import Changed, Gone, SeriesFault, Stopped, TargetFault
from listener.export.flow import Flow
from listener.export.series import Exported, Job, SeriesExporter
from listener.ledger.interests import Interest
from listener.ledger.reader import reading
from listener.ledger.rows import Delivery, SeriesRow

#: Seconds after which a series is tried again whose files the ledger does not know yet as they are.
_SOON = 5.0

#: How often it is, before it fails.
_ATTEMPTS = 4

#: What is told to the loop, from any thread: a function of listener.telemetry.metrics.Exposition or an event.
Told = tuple[str, str, tuple[Any, ...], Mapping[str, Any]]


def interest_in(incomplete: str) -> Interest:
    """Return which deliveries the stage wants; `incomplete` is hold or send."""
    return Interest(("series-complete", *(("series-incomplete",) if incomplete == "send" else ())))


class SeriesReceiver:
    """See Receiver in listener.ledger.taking; its threads call it. `outbox` holds what is to be told, in order."""

    def __init__(self, state_dir: str, exporter: SeriesExporter, flow: Flow, wake: Callable[[], None]) -> None:
        self._state_dir, self._exporter, self._flow, self._wake = state_dir, exporter, flow, wake
        self.outbox: SimpleQueue[Told] = SimpleQueue()
        self._lock = Lock()
        self.in_flight = 0
        #: Why the target cannot be used; "" while it can.
        self.fault = ""

    def count(self, name: str, amount: int, *labels: str) -> None:
        """Count something."""
        self.outbox.put(("add", name, (amount, *labels), {}))

    def answered(self, how: str, seconds: float) -> None:
        """Count a delivery that was answered."""
        self.outbox.put(("answered", how, (seconds,), {}))
        self._wake()

    def abort(self) -> None:
        """End what is under way."""
        self._flow.abort()

    def take(self, delivery: Delivery, renew: Callable[[], None]) -> None:
        """Export what a delivery tells of. Raises NotTaken and Postponed."""
        if delivery.series is None or delivery.change is None:
            return
        begun = time.monotonic()
        self._add_in_flight(1)
        try:
            self._export(delivery, delivery.series, renew)
        finally:
            self._add_in_flight(-1)
            self.outbox.put(("observe", "export_series_duration_seconds", (time.monotonic() - begun,), {}))
            self._wake()

    def _add_in_flight(self, number: int) -> None:
        with self._lock:
            self.in_flight += number

    def _export(self, delivery: Delivery, series: SeriesRow, renew: Callable[[], None]) -> None:
        """Export a series and tell how that ended."""
        try:
            exported = self._attempt(delivery, series, renew)
        except SeriesFault as fault:
            self._refuse(delivery, series, fault)
        except TargetFault as fault:
            self.fault = str(fault)
            raise NotTaken(self.fault, fault.pause) from None
        except Stopped:
            raise NotTaken("the export stopped meanwhile") from None
        except LedgerFault:
            raise
        except Exception as error:  # A defect that one series meets is that series' own.
            log.error("a series could not be exported: %s", internal(error))
            self._tell_failure(delivery, series, "internal", internal(error))
            raise NotTaken(internal(error)) from error
        else:
            self.fault = ""
            self._tell(delivery, series, exported)

    def _attempt(self, delivery: Delivery, series: SeriesRow, renew: Callable[[], None]) -> Exported | None:
        with reading(self._state_dir) as reader:
            rows = reader.instances_of(series)
        if not rows and not series.pruned_ns:  # A correction gave its instances to another study.
            return None
        if not rows:
            raise Gone("it was pruned")
        state = "incomplete" if delivery.event.endswith("incomplete") else "complete"
        generation = delivery.change.generation if delivery.change else 0
        job = Job(series, generation, state, rows, is_repeated=delivery.attempts > 1)
        return self._exporter.export(job, renew)

    def _refuse(self, delivery: Delivery, series: SeriesRow, fault: SeriesFault) -> None:
        """Tell that a series cannot be exported, unless that may pass, or a newer generation will be."""
        if isinstance(fault, Gone | Changed):
            with reading(self._state_dir) as reader:
                now = next((row for row in reader.all_of(series.SeriesInstanceUID) if row.id == series.id), None)
            if now and delivery.change and now.generation > delivery.change.generation:
                self.count("export_series_total", 1, "superseded")
                return
            if delivery.attempts < _ATTEMPTS:
                raise Postponed(str(fault), _SOON)
        self._tell_failure(delivery, series, fault.reason, str(fault))
        raise NotTaken(str(fault), is_final=True)

    def _tell(self, delivery: Delivery, series: SeriesRow, exported: Exported | None) -> None:
        self.count("export_series_total", 1, "exported" if exported else "superseded")
        if exported:
            self.count("export_objects_total", exported.objects)
            more = {"state": exported.manifest.state, "instances": len(exported.manifest.entries)}
            more |= {"bytes": exported.manifest.bytes, "new": len(exported.new), "verified": exported.manifest.verified}
            self._event("exported", delivery, series, **more)

    def _tell_failure(self, delivery: Delivery, series: SeriesRow, reason: str, error: str) -> None:
        self.count("export_series_total", 1, "failed")
        self.count("export_failures_total", 1, reason)
        self._event("export-failed", delivery, series, reason=reason, error=error)

    def _event(self, name: str, delivery: Delivery, series: SeriesRow, **more: Any) -> None:
        about = {"StudyInstanceUID": series.StudyInstanceUID, "SeriesInstanceUID": series.SeriesInstanceUID}
        generation = delivery.change.generation if delivery.change else 0
        self.outbox.put(("event", name, (), {**about, "generation": generation, **more}))
