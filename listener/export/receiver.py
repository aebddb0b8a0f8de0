"""What the stage does with a delivery: which generation of which series it is, and what is told of its end."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from threading import Lock
from typing import Any

from listener.diagnostics import log
from listener.errors import LedgerFault, NotTaken, Postponed
from listener.export.due import Due, Superseded, Wants
from listener.export.faults import Changed, Gone, SeriesFault, Stopped, TargetFault
from listener.export.flow import Flow
from listener.export.series import Exported, SeriesExporter
from listener.ledger.reader import reading
from listener.ledger.rows import Delivery
from listener.reasons import internal
from listener.stages.outbox import Outbox

#: Seconds after which a series is tried again whose files the ledger does not know yet as they are.
_SOON = 5.0

#: How often it is, before it fails.
_ATTEMPTS = 4


class SeriesReceiver:
    """See Receiver in listener.ledger.delivery_threads; its threads call it."""

    def __init__(self, state_dir: str, wants: Wants, exporter: SeriesExporter, flow: Flow, outbox: Outbox) -> None:
        self._state_dir, self._exporter, self._flow, self._outbox = state_dir, exporter, flow, outbox
        self._due = Due(state_dir, wants)
        #: Called with each series that was exported, before its delivery is settled. Raises LedgerFault.
        self.keep: Callable[[Exported], None] = lambda _exported: None
        self._lock = Lock()
        self.in_flight = 0
        #: Why the target cannot be used; "" while it can.
        self.fault = ""

    @property
    def is_waited_for(self) -> bool:
        """Return whether a delivery comes again soon that could not be taken for the moment."""
        return self._due.is_waited_for

    def abort(self) -> None:
        """End what is under way."""
        self._flow.abort()

    def take(self, delivery: Delivery, renew: Callable[[], None]) -> None:
        """Export what a delivery tells of. Raises NotTaken and Postponed."""
        if delivery.aside:
            return
        begun = time.monotonic()
        self._add_in_flight(1)
        try:
            self._export(delivery, renew)
        finally:
            self._add_in_flight(-1)
            self._outbox.observe("export_series_duration_seconds", time.monotonic() - begun)

    def _add_in_flight(self, number: int) -> None:
        with self._lock:
            self.in_flight += number

    def _export(self, delivery: Delivery, renew: Callable[[], None]) -> None:
        """Export what a delivery tells of, and tell how that ended."""
        try:
            with self._due.taken(delivery) as batch:
                self._told(self._exporter.export(batch, renew) if batch else [])
        except Superseded:
            self._outbox.count("export_series_total", 1, "superseded")
        except SeriesFault as fault:
            self._refuse(delivery, fault)
        except TargetFault as fault:
            self.fault = str(fault)
            raise NotTaken(self.fault, fault.pause) from None
        except Stopped:
            raise NotTaken("the export stopped meanwhile") from None
        except (LedgerFault, Postponed):
            raise
        except Exception as error:  # A defect that one series meets is that series' own.
            log.error("a series could not be exported: %s", internal(error))
            self._tell_failure(delivery, "internal", internal(error))
            raise NotTaken(internal(error)) from error

    def _told(self, exported: Sequence[Exported]) -> None:
        """Keep and tell what was exported. Raises LedgerFault."""
        if exported:
            self.fault = ""
        self._outbox.count("export_objects_total", max((one.objects for one in exported), default=0))
        for one in exported:
            self.keep(one)
            self._tell(one)

    def _refuse(self, delivery: Delivery, fault: SeriesFault) -> None:
        """Tell that a series cannot be exported, unless that may pass, or a newer generation will be."""
        if isinstance(fault, Gone | Changed):
            if self._is_superseded(delivery):
                self._outbox.count("export_series_total", 1, "superseded")
                return
            if delivery.attempts < _ATTEMPTS:
                raise Postponed(str(fault), _SOON)
        self._tell_failure(delivery, fault.reason, str(fault))
        raise NotTaken(str(fault), is_final=True)

    def _is_superseded(self, delivery: Delivery) -> bool:
        with reading(self._state_dir) as reader:
            if delivery.series and delivery.change:
                series = delivery.series
                now = next((row for row in reader.all_of(series.SeriesInstanceUID) if row.id == series.id), None)
                return bool(now and now.generation > delivery.change.generation)
            study = reader.study(delivery.study.StudyInstanceUID) if delivery.study else None
            return bool(study and study.state == "open")

    # -- told to the loop --------------------------------------------------------------------------------------------

    def _tell(self, exported: Exported) -> None:
        self._outbox.count("export_series_total", 1, "exported")
        told = exported.manifest
        about = {"StudyInstanceUID": told.StudyInstanceUID, "SeriesInstanceUID": told.SeriesInstanceUID}
        more: dict[str, Any] = {"generation": told.generation, "state": told.state, "instances": len(told.entries)}
        more |= {"bytes": told.bytes, "new": len(exported.new), "verified": told.verified}
        self._outbox.event("exported", **about, **more)

    def _tell_failure(self, delivery: Delivery, reason: str, error: str) -> None:
        self._outbox.count("export_series_total", 1, "failed")
        self._outbox.count("export_failures_total", 1, reason)
        series, study = delivery.series, delivery.study
        about = {"StudyInstanceUID": series.StudyInstanceUID if series else study.StudyInstanceUID if study else ""}
        about["SeriesInstanceUID"] = series.SeriesInstanceUID if series else ""
        of = delivery.change or delivery.end
        more = {"generation": of.generation if of else 0, "reason": reason, "error": error}
        self._outbox.event("export-failed", **about, **more)
