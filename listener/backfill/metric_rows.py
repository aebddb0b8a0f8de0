"""PURE. The metrics of a backfill, as a text file for node_exporter or to be pushed: its parts come and go, and nobody
scrapes them.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from listener.backfill.parts import KINDS, STATES, seconds_of
from listener.telemetry.metric_rows import Row

ROWS = (
    Row(
        "backfill_parts", "gauge", (("state", STATES),), "Parts by how they stand; left and silent ones need a person."
    ),
    Row("backfill_files", "gauge", (("end", KINDS),), "Listed files by how they ended; left: they have no end yet."),
    Row("backfill_bytes", "gauge", (), "Bytes that were published."),
    Row("backfill_looked_timestamp_seconds", "gauge", (), "When this was looked at."),
)

_PART = ("part", ())

#: Of one part, when it has ended.
PART_ROWS = (
    Row("backfill_part_files", "gauge", (_PART, ("end", KINDS)), "Listed files of one part by how they ended."),
    Row("backfill_part_bytes", "gauge", (_PART,), "Bytes that one part published."),
    Row("backfill_part_seconds", "gauge", (_PART,), "From the first begin of one part to its end."),
    Row("backfill_part_ended_timestamp_seconds", "gauge", (_PART,), "When one part ended."),
)


def part_exposition(account: Mapping[str, Any]) -> str:
    """Return the metrics of one part (account.account) in Prometheus' text format."""
    ended, begun = seconds_of(account["ended"]), seconds_of(account["begun"])
    label = f'part="{account["part"]}"'
    values: Mapping[str, Mapping[str, float]] = {
        "backfill_part_files": {f'{label},end="{kind}"': account[kind] for kind in KINDS},
        "backfill_part_bytes": {label: account["bytes"]},
        "backfill_part_seconds": {label: round(ended - begun, 3)},
        "backfill_part_ended_timestamp_seconds": {label: round(ended, 3)},
    }
    lines = [
        line
        for row in PART_ROWS
        for line in (*_head(row), *(f"{row.full_name}{{{key}}} {value}" for key, value in values[row.name].items()))
    ]
    return "".join(f"{line}\n" for line in lines)


def exposition(found: Mapping[str, Any], now: float) -> str:
    """Return the metrics of a document (parts.document) in Prometheus' text format; `now`: seconds since the epoch."""
    values: Mapping[str, Mapping[str, float] | float] = {
        "backfill_parts": found["states"],
        "backfill_files": {kind: found[kind] for kind in KINDS},
        "backfill_bytes": found["bytes"],
        "backfill_looked_timestamp_seconds": now,
    }
    return "".join(f"{line}\n" for row in ROWS for line in _lines(row, values[row.name]))


def _head(row: Row) -> tuple[str, str]:
    return f"# HELP {row.full_name} {row.help}", f"# TYPE {row.full_name} {row.kind}"


def _lines(row: Row, value: Mapping[str, float] | float) -> Iterator[str]:
    yield from _head(row)
    if isinstance(value, Mapping):
        for label, number in value.items():
            yield f'{row.full_name}{{{row.label_names[0]}="{label}"}} {number}'
    else:
        yield f"{row.full_name} {value}"
