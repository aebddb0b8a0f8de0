"""What the stage does with a delivery: which generation of which series it is, and what is told of its end."""

from __future__ import annotations

import time
from collections.abc import Callable
from threading import Lock
from typing import Any

from listener.diagnostics import log
from listener.errors import LedgerFault, NotTaken, Postponed, internal
from listener.export.faults import Changed, Gone, SeriesFault, Stopped, TargetFault
from listener.export.flow import Flow
from listener.export.series import Batch, Exported, Job, SeriesExporter
from listener.ledger.interests import Interest
from listener.ledger.reader import Reader, reading
from listener.ledger.rows import Delivery, SeriesRow
from listener.stages.outbox import Outbox

#: Seconds after which a series is tried again whose files the ledger does not know yet as they are.
_SOON = 5.0

#: How often it is, before it fails.
_ATTEMPTS = 4


def interest_in(what: str, incomplete: str) -> Interest:
    """Return which deliveries the stage wants: of series or studies (`what`); `incomplete` is hold or send."""
    return Interest((f"{what}-complete", *((f"{what}-incomplete",) if incomplete == "send" else ())))


class _Superseded(Exception):
    """A newer generation exports what this one had, or nothing is left of it."""


class SeriesReceiver:
    """See Receiver in listener.ledger.taking; its threads call it."""

    def __init__(self, state_dir: str, exporter: SeriesExporter, flow: Flow, outbox: Outbox) -> None:
        self._state_dir, self._exporter, self._flow, self._outbox = state_dir, exporter, flow, outbox
        #: Called with each series that was exported, before its delivery is settled. Raises LedgerFault.
        self.keep: Callable[[Exported], None] = lambda _exported: None
        self._lock = Lock()
        self.in_flight = 0
        #: Why the target cannot be used; "" while it can.
        self.fault = ""

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
            exported = self._exporter.export(self._batch(delivery), renew)
        except _Superseded:
            self._outbox.count("export_series_total", 1, "superseded")
        except SeriesFault as fault:
            self._refuse(delivery, fault)
        except TargetFault as fault:
            self.fault = str(fault)
            raise NotTaken(self.fault, fault.pause) from None
        except Stopped:
            raise NotTaken("the export stopped meanwhile") from None
        except LedgerFault:
            raise
        except Exception as error:  # A defect that one series meets is that series' own.
            log.error("a series could not be exported: %s", internal(error))
            self._tell_failure(delivery, "internal", internal(error))
            raise NotTaken(internal(error)) from error
        else:
            self.fault = ""
            self._outbox.count("export_objects_total", max((one.objects for one in exported), default=0))
            for one in exported:
                self.keep(one)
                self._tell(one)

    def _batch(self, delivery: Delivery) -> Batch:
        """Return what is to be exported. Raises _Superseded, Gone and LedgerFault."""
        is_repeated = delivery.attempts > 1
        with reading(self._state_dir) as reader:
            if delivery.series and delivery.change:
                jobs = [_job(reader, delivery.series, delivery.change.generation, delivery.event)]
                uids = (delivery.series.StudyInstanceUID, delivery.series.SeriesInstanceUID)
                return Batch(*uids, delivery.change.generation, jobs, is_repeated)
            if delivery.study is None or delivery.end is None or delivery.study.state == "open":
                raise _Superseded
            uid, every = delivery.study.StudyInstanceUID, delivery.series_of_study
            jobs = [_job(reader, one, one.generation, one.state) for one in every if one.instances]
            return Batch(uid, uid, delivery.end.generation, jobs, is_repeated)

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


def _job(reader: Reader, series: SeriesRow, generation: int, state: str) -> Job:
    """Return a series with its instances. Raises Gone, and _Superseded where a correction left it without any."""
    rows = reader.instances_of(series)
    if not rows:
        raise Gone("it was pruned") if series.pruned_ns else _Superseded
    return Job(series, generation, "incomplete" if state.endswith("incomplete") else "complete", rows)
