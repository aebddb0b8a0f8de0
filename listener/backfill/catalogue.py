"""PURE. The metrics of a backfill, as a text file for node_exporter or to be pushed: its parts come and go, and nobody
scrapes them.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from listener.backfill.parts import KINDS, STATES
from listener.telemetry.catalogue import Row

ROWS = (
    Row(
        "backfill_parts", "gauge", (("state", STATES),), "Parts by how they stand; left and silent ones need a person."
    ),
    Row("backfill_files", "gauge", (("end", KINDS),), "Listed files by how they ended; left: they have no end yet."),
    Row("backfill_bytes", "gauge", (), "Bytes that were published."),
    Row("backfill_looked_timestamp_seconds", "gauge", (), "When this was looked at."),
)


def exposition(found: Mapping[str, Any], now: float) -> str:
    """Return the metrics of a document (parts.document) in Prometheus' text format; `now`: seconds since the epoch."""
    values: Mapping[str, Mapping[str, float] | float] = {
        "backfill_parts": found["states"],
        "backfill_files": {kind: found[kind] for kind in KINDS},
        "backfill_bytes": found["bytes"],
        "backfill_looked_timestamp_seconds": now,
    }
    return "".join(f"{line}\n" for row in ROWS for line in _lines(row, values[row.name]))


def _lines(row: Row, value: Mapping[str, float] | float) -> Iterator[str]:
    yield f"# HELP {row.full_name} {row.help}"
    yield f"# TYPE {row.full_name} {row.kind}"
    if isinstance(value, Mapping):
        for label, number in value.items():
            yield f'{row.full_name}{{{row.label_names[0]}="{label}"}} {number}'
    else:
        yield f"{row.full_name} {value}"
