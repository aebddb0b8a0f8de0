"""What the ledger says, as the status document shows it. Patient data stays behind."""

from __future__ import annotations

from typing import Any

from listener.errors import LedgerFault, LedgerMissing
from listener.ledger.reading import Reader, reading
from listener.ledger.rows import shown
from listener.status.document import ENDED, IN_FLIGHT, Accounts

#: What becomes of a delivery.
DELIVERY_STATES = ("pending", "delivered", "failed")


def look(state: str) -> Accounts:
    """The accounts of a state directory. A ledger that cannot be read is told in `error`."""
    try:
        with reading(state) as reader:
            return Accounts(
                counts=reader.counts(),
                in_flight=[shown(row, phi=False) for row in reader.in_flight(IN_FLIGHT)],
                ended=[shown(row, phi=False) for row in reader.ended(ENDED)],
                hooks={name: _hook(reader, name, counts) for name, counts in reader.delivery_counts().items()},
            )
    except LedgerFault as fault:
        return Accounts(error=str(fault), missing=isinstance(fault, LedgerMissing))


def _hook(reader: Reader, name: str, counts: dict[str, int]) -> dict[str, Any]:
    return {**{state: counts.get(state, 0) for state in DELIVERY_STATES}, "error": reader.last_error(name)}
