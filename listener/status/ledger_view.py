"""The ledger as status document, pages, API and commands show it: one shape for all of them."""

from __future__ import annotations

import contextlib
import os
import re
from collections.abc import Collection
from typing import Any

from listener.errors import LedgerFault, LedgerMissing
from listener.ledger.reader import Reader, reading
from listener.ledger.rows import BatchErrorRow, BatchRow, ConsumerRow, SeriesRow, shown
from listener.planning.names import instant
from listener.reasons import SET_ASIDE_REASONS, remedy
from listener.status import snapshot
from listener.status.attention import READERS
from listener.status.document import ENDED, IN_FLIGHT, LedgerView, Snapshot
from listener.telemetry.metric_rows import DELIVERY_STATES

#: A stage's name is that of its directory in the state directory.
_is_stage = re.compile(r"[a-z0-9][a-z0-9-]*").fullmatch

#: Reasons of files that somebody should look after: nothing is wrong with a superseded one.
TROUBLES = tuple(reason for reason in SET_ASIDE_REASONS if reason != "superseded")


def read(state_dir: str) -> LedgerView:
    """Return the view of the ledger in a state directory; `error` says why it cannot be read."""
    try:
        with reading(state_dir) as reader:
            return LedgerView(
                counts=reader.counts(),
                studies=reader.study_counts(),
                batches=_batch_counts(reader),
                in_flight=[shown(row, phi=False) for row in reader.in_flight(IN_FLIGHT)],
                ended=[shown(row, phi=False) for row in reader.ended(ENDED)],
                hooks={
                    row.name: _hook(row, _current_error(reader, row)) for row in reader.consumers() if _is_shown(row)
                },
                stages={
                    row.name: live
                    for row in reader.consumers()
                    if row.state != "retired" and (live := _live(state_dir, row.name)) is not None
                }
                | {name: live for name in READERS if (live := _live(state_dir, name)) is not None},
            )
    except LedgerFault as fault:
        return LedgerView(error=str(fault), missing=isinstance(fault, LedgerMissing))


def _live(state_dir: str, name: str) -> Snapshot | None:
    """Return what a stage wrote of itself last; None for a consumer that is none of ours, or wrote nothing readable. A
    stage takes deliveries under its own name, or as several consumers STAGE-TARGET.
    """
    for stage in dict.fromkeys((name, name.partition("-")[0])):
        with contextlib.suppress(OSError):
            if _is_stage(stage) and (live := snapshot.read(os.path.join(state_dir, stage))) is not None:
                return live
    return None


def set_aside_groups(
    reader: Reader, reasons: Collection[str] = TROUBLES, sender: str = "", study: str = "", limit: int = 1000
) -> list[dict[str, Any]]:
    """Return set-aside files by reason, sender and study, the newest group first, each with its `remedy`. Free of
    patient data. Raises LedgerFault.
    """
    rows = reader.set_aside_groups(reasons, sender, study, limit)
    return [{**shown(row, phi=False), "remedy": remedy(row.reason)} for row in rows]


def series_details(reader: Reader, uid: str, phi: bool, data: str = "") -> list[dict[str, Any]]:
    """Return the series of a Series Instance UID (one for each study that has it), the newest arrival first, each with
    its study, history and deliveries; `data` as rows.shown takes it. Raises LedgerFault.
    """
    found = []
    for row in reader.all_of(uid):
        study = reader.study(row.StudyInstanceUID)
        found.append({**_series(reader, row, phi, data), "study": shown(study, phi, data) if study else None})
    return found


def study_details(reader: Reader, uid: str, phi: bool, data: str = "") -> dict[str, Any] | None:
    """Return a study with its history, its deliveries, and its series with theirs; None if there is none; `data` as
    rows.shown takes it. Raises LedgerFault.
    """
    study = reader.study(uid)
    if study is None:
        return None
    return {
        **shown(study, phi, data),
        "history": [shown(one, phi) for one in reader.study_history(study)],
        "deliveries": [shown(one, phi) for one in reader.study_deliveries(study)],
        "all_series": [_series(reader, row, phi, data) for row in reader.series_of(study)],
    }


def _series(reader: Reader, row: SeriesRow, phi: bool, data: str) -> dict[str, Any]:
    key = (row.SeriesInstanceUID, row.StudyInstanceUID)
    return {
        **shown(row, phi, data),
        "history": [shown(one, phi) for one in reader.history(*key)],
        "deliveries": [shown(one, phi) for one in reader.deliveries_of(*key)],
    }


def batch(row: BatchRow, phi: bool) -> dict[str, Any]:
    """Return a batch by its number; the name of its folder, often an accession number, only with `phi`."""
    found = shown(row, phi)
    name = found.pop("name")
    return {"batch": row.id, **found, "has_error": row.errors > 0, **({"name": name} if phi else {})}


def batch_details(reader: Reader, number: int, phi: bool) -> dict[str, Any] | None:
    """Return a batch with its series and the files that did not pass; None if there is none. Raises LedgerFault."""
    row = reader.batch(number)
    if row is None:
        return None
    return {
        **batch(row, phi),
        "all_series": [shown(one, phi) for one in reader.series_of_batch(number)],
        "all_errors": [_batch_error(one, phi) for one in reader.errors_of_batch(number)],
    }


def _batch_error(row: BatchErrorRow, phi: bool) -> dict[str, Any]:
    name = row.path if phi else row.path.rpartition("/")[2]
    return {"file": name, "reason": row.reason, "error": row.error, "SeriesInstanceUID": row.SeriesInstanceUID}


def hooks(reader: Reader) -> list[dict[str, Any]]:
    """Return every hook and stage that was ever registered, by name. Raises LedgerFault."""
    return [hook(row) for row in reader.consumers()]


def hook(row: ConsumerRow) -> dict[str, Any]:
    """Return a hook or stage, with the last error, also one of what was given up."""
    return {"name": row.name, **_hook(row, row.error)}


def _batch_counts(reader: Reader) -> dict[str, int]:
    counts, with_error = reader.batch_counts()
    return {**counts, "with_error": with_error}


def _is_shown(row: ConsumerRow) -> bool:
    """Return False for a consumer that is retired, or had no delivery yet."""
    return row.state != "retired" and bool(row.pending or row.delivered or row.failed)


def _current_error(reader: Reader, row: ConsumerRow) -> str:
    """Return why the last attempt failed, "" where nothing is pending; what was given up long ago is no news."""
    return row.error if row.state == "stopped" else reader.last_error(row.name)


def _hook(row: ConsumerRow, error: str) -> dict[str, Any]:
    return {
        "state": row.state,
        **{state: getattr(row, state) for state in DELIVERY_STATES},
        "oldest": instant(row.oldest_ns) if row.oldest_ns else "",
        "error": error,
    }
