"""The accounts: a row a series, or sums by day, modality, sender or batch."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any, NamedTuple

import orjson

from listener.commands._table import OVERVIEW, overview, table, tabs
from listener.config import Config
from listener.errors import ConfigError
from listener.ledger.reader import Reader, reading
from listener.ledger.rows import BatchRow, DayRow, SeriesRow, shown, shown_names

BY = ("day", "modality", "sender", "batch")

_UNITS = {"s": 1, "m": 60, "h": 3600, "d": 86_400, "w": 604_800}
_PAGE = 1000

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)

#: The numbers of a day, which are summed.
_NUMBERS = DayRow._fields[3:]

#: The latest moment that sqlite holds.
_LAST = 2**63 - 1

EPILOG = "times are UTC; exit status: 0; 1 the ledger cannot be read"


def add_options(parser: argparse.ArgumentParser) -> None:
    """Add its own options."""
    since = "a day, an instant, or a time ago: 2026-01-31, 2026-01-31T08:00:00Z, 7d"
    parser.add_argument("--since", default="", metavar="TIME", help=f"from then on; {since}")
    parser.add_argument("--until", default="", metavar="TIME", help="until then, the day included")
    parser.add_argument("--by", choices=("day", "modality", "sender", "batch"), default="", help="sums instead of rows")
    parser.add_argument("--tsv", action="store_true", help="tab-separated values with a head")
    parser.add_argument("--json", action="store_true", help="one JSON object a row")


def acts(_: argparse.Namespace) -> bool:
    """Return False: it only prints."""
    return False


def run(config: Config, given: argparse.Namespace) -> int:
    """Print what the command line asks for. Return 0."""
    period = (given.since, given.until)
    return report(config, Request.of(*period, given.by, tsv=given.tsv, json=given.json))


class Request(NamedTuple):
    """From when to when (nanoseconds since the epoch), summed `by` one of BY ("": a row a series)."""

    since_ns: int
    until_ns: int
    by: str = ""
    tsv: bool = False
    json: bool = False

    @classmethod
    def of(cls, since: str, until: str, by: str, *, tsv: bool, json: bool) -> Request:
        """Read it from the command line; times as `moment_of` reads them. Raise ConfigError."""
        now = datetime.now(UTC)
        problems, moments = [], []
        for option, text, default in (("--since", since, 0), ("--until", until, _LAST)):
            try:
                moments.append(moment_of(text, now, end=option == "--until") if text else default)
            except (ValueError, OverflowError):
                problems.append(f"{option}: '{text}' is no time; give 2026-01-31, 2026-01-31T08:00:00Z, or 7d (ago)")
        if tsv and json:
            problems.append("report: --tsv and --json exclude each other; give one of them")
        if problems:
            raise ConfigError(problems)
        return cls(moments[0], moments[1], by, tsv, json)


def moment_of(text: str, now: datetime, *, end: bool = False) -> int:
    """Return a day (its start, or its `end`), an instant or a time before `now` in nanoseconds since the epoch; UTC
    where no offset is given. Clamp it to what 64 bits hold, from the epoch to 2262. Raise ValueError or OverflowError.
    """
    if text[-1:] in _UNITS and text[:-1].isdecimal():
        found = now - timedelta(seconds=int(text[:-1]) * _UNITS[text[-1]])
    else:
        found = datetime.fromisoformat(text)
    if len(text) == len("2026-01-31") and end:
        found = found.replace(hour=23, minute=59, second=59, microsecond=999_999)
    known = found if found.tzinfo else found.replace(tzinfo=UTC)
    since = known - _EPOCH
    return min(max(0, (since.days * 86_400 + since.seconds) * 10**9 + since.microseconds * 1000), _LAST)


def report(config: Config, request: Request) -> int:
    """Print the accounts. Return 0; raise a LedgerFault."""
    with reading(config.state) as reader:
        rows = _rows(reader, request, config.phi)
        if request.json:
            for row in rows:
                sys.stdout.buffer.write(orjson.dumps(row, option=orjson.OPT_APPEND_NEWLINE))
        elif request.tsv:
            sys.stdout.write(tabs(_head(request.by, config.phi)))
            for row in rows:
                sys.stdout.write(tabs(row.values()))
        elif request.by:
            head = _head(request.by, config.phi)
            sys.stdout.write(table(head, [list(map(str, row.values())) for row in rows]))
        else:
            sys.stdout.write(table(OVERVIEW, map(overview, rows)))
    sys.stdout.flush()
    return 0


def _rows(reader: Reader, request: Request, phi: bool) -> Iterator[dict[str, Any]]:
    if request.by == "batch":
        return (shown(row, phi) for row in reader.batches(request.since_ns, request.until_ns))
    if request.by:
        first, last = (_day(moment) for moment in (request.since_ns, request.until_ns))
        return _sums(reader.days(first, last), request.by)
    return _series(reader, request, phi)


def _head(by: str, phi: bool) -> list[str]:
    """Return the names of a row's values, also where there is no row."""
    if by in ("", "batch"):
        return shown_names(BatchRow if by else SeriesRow, phi)
    return [by, *_NUMBERS]


def _day(moment_ns: int) -> str:
    return datetime.fromtimestamp(min(moment_ns // 10**9, 253_402_300_799), UTC).strftime("%Y-%m-%d")


def _series(reader: Reader, request: Request, phi: bool) -> Iterator[dict[str, Any]]:
    page = reader.listed(limit=_PAGE, since_ns=request.since_ns, until_ns=request.until_ns)
    while page:
        yield from (shown(row, phi) for row in page)
        after = (page[-1].last_ns, page[-1].id)
        page = reader.listed(after=after, limit=_PAGE, since_ns=request.since_ns, until_ns=request.until_ns)
    yield from (shown(row, phi) for row in reader.only_set_aside(request.since_ns, request.until_ns))


def _sums(days: list[DayRow], by: str) -> Iterator[dict[str, Any]]:
    """Yield the numbers of days summed by day, modality or sender, in order."""
    sums: dict[str, list[int]] = {}
    for day in days:
        key = {"day": day.day, "modality": day.Modality, "sender": day.sender}[by]
        so_far = sums.setdefault(key, [0] * len(_NUMBERS))
        sums[key] = [one + other for one, other in zip(so_far, day[3:], strict=True)]
    for key in sorted(sums):
        yield {by: key, **dict(zip(_NUMBERS, sums[key], strict=True))}
