"""The accounts: sums by day, month, year, modality, sender or batch, for `listener report` and the API."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import UTC, datetime
from functools import lru_cache
from typing import Any

from listener.ledger.reader import Reader
from listener.ledger.rows import BatchRow, DayRow
from listener.moments import moment_of
from listener.planning.names import instant

_PERIODS = ("day", "month", "year")

#: What may be summed by.
BY = (*_PERIODS, "modality", "sender", "batch")

#: The numbers of a day, which are summed.
_NUMBERS = DayRow._fields[3:]

#: Columns of a row by batch: Sendit's, then ours.
_OF_BATCH = (
    "batch_id",
    "status",
    "size_mb",
    "start_time",
    "finish_time",
    "total_time_sec",
    "total_time_min",
    "has_error",
    "series",
    "instances",
    "errors",
    "generation",
)

#: What a row by sender has besides, if not by modality as well: the last arrival, of which a modality is not known.
LAST_ARRIVAL = "last"


def keys_of(by: Iterable[str]) -> tuple[str, ...]:
    """Return each of BY once. Raise ValueError that says what to give."""
    keys = tuple(dict.fromkeys(by))
    if not set(keys) <= set(BY):
        raise ValueError(f"give some of {', '.join(BY)}")
    if "batch" in keys and len(keys) > 1:
        raise ValueError("a batch has series of many days and senders; give 'batch' alone")
    return keys


def sums(reader: Reader, since_ns: int, until_ns: int, by: tuple[str, ...], phi: bool = False) -> list[dict[str, Any]]:
    """Return a row for each combination of the keys in a period, in whole days. Raises LedgerFault."""
    if by == ("batch",):
        return [of_batch(row, phi) for row in reader.batches(since_ns, until_ns)]
    days, names = (_day(since_ns), _day(until_ns)), (*by, *_NUMBERS)
    rows = [dict(zip(names, row, strict=True)) for row in reader.sums(by, *days)]
    if _has_last(by):
        for row in rows:
            moment_ns = reader.last_arrival(row["sender"], *_bounds(row, days)) if row["sender"] else 0
            row[LAST_ARRIVAL] = instant(moment_ns) if moment_ns else ""
    return rows


def of_batch(row: BatchRow, phi: bool) -> dict[str, Any]:
    """Return a batch as Sendit tells of one, times in seconds since the epoch ("": not yet), and what it does not tell.
    The name of its folder only with `phi`: it often is an accession number.
    """
    start, finish = row.started_ns, row.finished_ns
    seconds = round((finish - start) / 1e9, 3) if start and finish else ""
    minutes = round((finish - start) / 6e10, 3) if start and finish else ""
    times = (round(start / 1e9, 3) or "", round(finish / 1e9, 3) or "", seconds, minutes)
    ours = (row.errors > 0, row.series, row.instances, row.errors, row.generation)
    values = (row.id, row.state, round(row.bytes / 1e6, 3), *times, *ours)
    return dict(zip(_OF_BATCH, values, strict=True)) | ({"name": row.name} if phi else {})


def head(by: tuple[str, ...], phi: bool) -> list[str]:
    """Return the names of the values of a row of sums(), also where there is no row."""
    if by == ("batch",):
        return [*_OF_BATCH, "name"] if phi else list(_OF_BATCH)
    return [*by, *_NUMBERS, *([LAST_ARRIVAL] if _has_last(by) else [])]


def _has_last(by: tuple[str, ...]) -> bool:
    return "sender" in by and "modality" not in by


def _bounds(row: Mapping[str, Any], days: tuple[str, str]) -> tuple[int, int]:
    """Return the first and last moment that a row sums: its shortest period, within the first and the last day."""
    period = next((row[name] for name in _PERIODS if name in row), "")
    edges = [_edges(*days), *([_edges(period, period)] if period else [])]
    return max(first for first, _ in edges), min(last for _, last in edges)


@lru_cache(maxsize=1000)
def _edges(first: str, last: str) -> tuple[int, int]:
    """Return the first moment of a day, month or year, and the last of another."""
    now = datetime(1970, 1, 1, tzinfo=UTC)  # It counts for nothing here.
    return moment_of(first, now), moment_of(last, now, end=True)


def _day(moment_ns: int) -> str:
    return datetime.fromtimestamp(min(moment_ns // 10**9, 253_402_300_799), UTC).strftime("%Y-%m-%d")
