"""The ledger as the status document shows it, without patient data."""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

from listener.errors import SET_ASIDE_REASONS, LedgerFault, LedgerMissing, remedy
from listener.ledger.reader import Reader, reading
from listener.ledger.rows import ConsumerRow, shown
from listener.planning.names import instant
from listener.status.document import ENDED, IN_FLIGHT, LedgerView

#: States of a delivery.
DELIVERY_STATES = ("pending", "delivered", "failed")

#: Reasons of files that somebody should look after: nothing is wrong with a superseded one.
TROUBLES = tuple(reason for reason in SET_ASIDE_REASONS if reason != "superseded")


def read(state_dir: str) -> LedgerView:
    """Return the view of the ledger in a state directory; `error` says why it cannot be read."""
    try:
        with reading(state_dir) as reader:
            return LedgerView(
                counts=reader.counts(),
                studies=reader.study_counts(),
                in_flight=[shown(row, phi=False) for row in reader.in_flight(IN_FLIGHT)],
                ended=[shown(row, phi=False) for row in reader.ended(ENDED)],
                hooks={row.name: _hook(reader, row) for row in reader.consumers() if _is_shown(row)},
            )
    except LedgerFault as fault:
        return LedgerView(error=str(fault), missing=isinstance(fault, LedgerMissing))


def set_aside_groups(
    reader: Reader, reasons: Collection[str] = TROUBLES, sender: str = "", study: str = "", limit: int = 1000
) -> list[dict[str, Any]]:
    """Return set-aside files by reason, sender and study, the newest group first, each with its `remedy`. Free of
    patient data. Raises LedgerFault.
    """
    rows = reader.set_aside_groups(reasons, sender, study, limit)
    return [{**shown(row, phi=False), "remedy": remedy(row.reason)} for row in rows]


def _is_shown(row: ConsumerRow) -> bool:
    """Return False for a consumer that is retired, or had no delivery yet."""
    return row.state != "retired" and bool(row.pending or row.delivered or row.failed)


def _hook(reader: Reader, row: ConsumerRow) -> dict[str, Any]:
    why = row.error if row.state == "stopped" else reader.last_error(row.name)
    oldest = instant(row.oldest_ns) if row.oldest_ns else ""
    return {
        "state": row.state,
        **{state: getattr(row, state) for state in DELIVERY_STATES},
        "oldest": oldest,
        "error": why,
    }
