"""The accounts: sums by day, month, modality, sender or batch, for `listener report` and the API."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import UTC, datetime
from typing import Any

from listener.ledger.reader import Reader
from listener.ledger.rows import BatchRow, DayRow, shown, shown_names
from listener.planning.names import instant

#: What may be summed by.
BY = ("day", "month", "modality", "sender", "batch")

#: The numbers of a day, which are summed.
_NUMBERS = DayRow._fields[3:]

#: What a row by sender alone has besides: its last arrival.
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
    """Return a row for each combination of the keys in a period. Raises LedgerFault."""
    if by == ("batch",):
        return [shown(row, phi) for row in reader.batches(since_ns, until_ns)]
    rows = summed(reader.days(_day(since_ns), _day(until_ns)), by)
    if by != ("sender",):
        return rows
    arrivals = reader.last_arrivals()
    return [
        {**row, LAST_ARRIVAL: instant(arrivals[name]) if (name := row["sender"]) in arrivals else ""} for row in rows
    ]


def head(by: tuple[str, ...], phi: bool) -> list[str]:
    """Return the names of the values of a row of sums(), also where there is no row."""
    if by == ("batch",):
        return shown_names(BatchRow, phi)
    return [*by, *_NUMBERS, *([LAST_ARRIVAL] if by == ("sender",) else [])]


def summed(days: Iterable[DayRow], by: Sequence[str]) -> list[dict[str, Any]]:
    """Return the numbers of days summed by each combination of day, month, modality and sender, in order."""
    found: dict[tuple[str, ...], list[int]] = {}
    for day in days:
        keys = {"day": day.day, "month": day.day[:7], "modality": day.Modality, "sender": day.sender}
        so_far = found.setdefault(tuple(keys[name] for name in by), [0] * len(_NUMBERS))
        so_far[:] = [one + other for one, other in zip(so_far, day[3:], strict=True)]
    return [
        {**dict(zip(by, key, strict=True)), **dict(zip(_NUMBERS, numbers, strict=True))}
        for key, numbers in sorted(found.items())
    ]


def _day(moment_ns: int) -> str:
    return datetime.fromtimestamp(min(moment_ns // 10**9, 253_402_300_799), UTC).strftime("%Y-%m-%d")
