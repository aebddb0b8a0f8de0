"""The accounts: a row a series, or sums by day, month, modality, sender or batch."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any, NamedTuple

import orjson

from listener.commands._moments import FORMS, LAST, moment_of
from listener.commands._table import OVERVIEW, commas, moment, overview, table, tabs
from listener.config import Config
from listener.errors import ConfigError
from listener.ledger.reader import Reader, reading
from listener.ledger.rows import BatchRow, DayRow, SeriesRow, shown, shown_names
from listener.planning.names import instant
from listener.status.formatting import plain, size

BY = ("day", "month", "modality", "sender", "batch")

_PAGE = 1000

#: The numbers of a day, which are summed.
_NUMBERS = DayRow._fields[3:]

#: What a row by sender alone has besides.
_LAST_ARRIVAL = "last"

EPILOG = "times are UTC; exit status: 0; 1 the ledger cannot be read"


def add_options(parser: argparse.ArgumentParser) -> None:
    """Add its own options."""
    parser.add_argument("--since", default="", metavar="TIME", help=f"from then on: {FORMS}")
    parser.add_argument("--until", default="", metavar="TIME", help="until then, the day or month included")
    text = f"sums instead of rows, by one of {', '.join(BY)}; again for each combination of several"
    parser.add_argument("--by", choices=BY, action="append", default=[], metavar="WHAT", help=text)
    shape = parser.add_mutually_exclusive_group()
    shape.add_argument("--csv", action="store_true", help="comma-separated values with a head, for spreadsheets")
    shape.add_argument("--tsv", action="store_true", help="tab-separated values with a head")
    shape.add_argument("--json", action="store_true", help="one JSON object a row")


def acts(_: argparse.Namespace) -> bool:
    """Return False: it only prints."""
    return False


def run(config: Config, given: argparse.Namespace) -> int:
    """Print what the command line asks for. Return 0."""
    shape = next((name for name in ("csv", "tsv", "json") if getattr(given, name)), "")
    return report(config, Request.of(given.since, given.until, given.by, shape))


class Request(NamedTuple):
    """From when to when (nanoseconds since the epoch), summed `by` some of BY (none: a row a series), in a `shape`:
    csv, tsv, json, or "" for a table.
    """

    since_ns: int
    until_ns: int
    by: tuple[str, ...] = ()
    shape: str = ""

    @classmethod
    def of(cls, since: str, until: str, by: Iterable[str] = (), shape: str = "") -> Request:
        """Read it from the command line; times as `moment_of` reads them. Raise ConfigError."""
        now = datetime.now(UTC)
        problems, moments = [], []
        for option, text, default in (("--since", since, 0), ("--until", until, LAST)):
            try:
                moments.append(moment_of(text, now, end=option == "--until") if text else default)
            except (ValueError, OverflowError):
                problems.append(f"{option}: '{plain(text)}' is no time; give {FORMS}")
        keys = tuple(dict.fromkeys(by))
        if "batch" in keys and len(keys) > 1:
            problems.append("--by: a batch has series of many days and senders; give 'batch' alone")
        if problems:
            raise ConfigError(problems)
        return cls(moments[0], moments[1], keys, shape)


def report(config: Config, request: Request) -> int:
    """Print the accounts. Return 0; raise a LedgerFault."""
    with reading(config.state) as reader:
        rows = _rows(reader, request, config.phi)
        if request.shape == "json":
            for row in rows:
                sys.stdout.buffer.write(orjson.dumps(row, option=orjson.OPT_APPEND_NEWLINE))
        elif request.shape:
            line = commas if request.shape == "csv" else tabs
            sys.stdout.write(line(_head(request.by, config.phi)))
            for row in rows:
                sys.stdout.write(line(row.values()))
        elif request.by:
            sys.stdout.write(table(_head(request.by, config.phi), map(_cells, rows)))
        else:
            sys.stdout.write(table(OVERVIEW, map(overview, rows)))
    sys.stdout.flush()
    return 0


def _cells(row: Mapping[str, Any]) -> list[str]:
    """Return the values of a row as people read them."""
    shapes: dict[str, Callable[[Any], str]] = {"bytes": size, _LAST_ARRIVAL: moment}
    return [shapes.get(name, str)(value) for name, value in row.items()]


def _rows(reader: Reader, request: Request, phi: bool) -> Iterator[dict[str, Any]]:
    if request.by == ("batch",):
        return (shown(row, phi) for row in reader.batches(request.since_ns, request.until_ns))
    if not request.by:
        return _series(reader, request, phi)
    first, last = (_day(moment_ns) for moment_ns in (request.since_ns, request.until_ns))
    sums = summed(reader.days(first, last), request.by)
    if request.by != ("sender",):
        return iter(sums)
    arrivals = reader.last_arrivals()
    return (
        {**row, _LAST_ARRIVAL: instant(arrivals[name]) if (name := row["sender"]) in arrivals else ""} for row in sums
    )


def _head(by: tuple[str, ...], phi: bool) -> list[str]:
    """Return the names of a row's values, also where there is no row."""
    if by in ((), ("batch",)):
        return shown_names(BatchRow if by else SeriesRow, phi)
    return [*by, *_NUMBERS, *([_LAST_ARRIVAL] if by == ("sender",) else [])]


def _day(moment_ns: int) -> str:
    return datetime.fromtimestamp(min(moment_ns // 10**9, 253_402_300_799), UTC).strftime("%Y-%m-%d")


def _series(reader: Reader, request: Request, phi: bool) -> Iterator[dict[str, Any]]:
    page = reader.listed(limit=_PAGE, since_ns=request.since_ns, until_ns=request.until_ns)
    while page:
        yield from (shown(row, phi) for row in page)
        after = (page[-1].last_ns, page[-1].id)
        page = reader.listed(after=after, limit=_PAGE, since_ns=request.since_ns, until_ns=request.until_ns)
    yield from (shown(row, phi) for row in reader.only_set_aside(request.since_ns, request.until_ns))


def summed(days: Iterable[DayRow], by: Sequence[str]) -> list[dict[str, Any]]:
    """Return the numbers of days summed by each combination of day, month, modality and sender, in order."""
    sums: dict[tuple[str, ...], list[int]] = {}
    for day in days:
        keys = {"day": day.day, "month": day.day[:7], "modality": day.Modality, "sender": day.sender}
        so_far = sums.setdefault(tuple(keys[name] for name in by), [0] * len(_NUMBERS))
        so_far[:] = [one + other for one, other in zip(so_far, day[3:], strict=True)]
    return [
        {**dict(zip(by, key, strict=True)), **dict(zip(_NUMBERS, numbers, strict=True))}
        for key, numbers in sorted(sums.items())
    ]
