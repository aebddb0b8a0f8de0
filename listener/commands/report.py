"""The accounts: a row a series, or sums by day, month, year, modality, sender or batch."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping
from datetime import UTC, datetime
from typing import Any, NamedTuple

from listener.commands._table import OVERVIEW, add_shape, overview, shape_of, table, write_shaped
from listener.config import Config
from listener.errors import ConfigError
from listener.ledger import accounts
from listener.ledger.reader import Reader, reading
from listener.ledger.rows import SeriesRow, shown, shown_names
from listener.moments import FORMS, LAST, moment_of, no_time
from listener.status.formatting import moment, plain, size

_PAGE = 1000

EPILOG = "times are UTC; exit status: 0; 1 the ledger cannot be read"


def add_options(parser: argparse.ArgumentParser) -> None:
    """Add its own options."""
    parser.add_argument("--since", default="", metavar="TIME", help=f"from then on: {FORMS}")
    parser.add_argument("--until", default="", metavar="TIME", help="until then, the day or month included")
    text = f"sums instead of rows, by one of {', '.join(accounts.BY)}; again for each combination of several"
    parser.add_argument("--by", choices=accounts.BY, action="append", default=[], metavar="WHAT", help=text)
    add_shape(parser, "one JSON object a row")


def acts(_: argparse.Namespace) -> bool:
    """Return False: it only prints."""
    return False


def run(config: Config, given: argparse.Namespace) -> int:
    """Print what the command line asks for. Return 0."""
    return report(config, Request.of(given.since, given.until, given.by, shape_of(given)))


class Request(NamedTuple):
    """From when to when (nanoseconds since the epoch), summed `by` some of accounts.BY (none: a row a series), in
    a `shape`: csv, tsv, json, or "" for a table.
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
                problems.append(no_time(option, plain(text)))
        keys: tuple[str, ...] = ()
        try:
            keys = accounts.keys_of(by)
        except ValueError as error:
            problems.append(f"--by: {error}")
        if problems:
            raise ConfigError(problems)
        return cls(moments[0], moments[1], keys, shape)


def report(config: Config, request: Request) -> int:
    """Print the accounts. Return 0; raise a LedgerFault."""
    with reading(config.state) as reader:
        rows = _rows(reader, request, config.phi)
        if request.shape:
            write_shaped(_head(request.by, config.phi), rows, request.shape)
        elif request.by:
            sys.stdout.write(table(_head(request.by, config.phi), map(_cells, rows)))
        else:
            sys.stdout.write(table(OVERVIEW, map(overview, rows)))
    sys.stdout.flush()
    return 0


def _cells(row: Mapping[str, Any]) -> list[str]:
    """Return the values of a row as people read them."""
    shapes: dict[str, Callable[[Any], str]] = {"bytes": size, accounts.LAST_ARRIVAL: moment}
    return [shapes.get(name, str)(value) for name, value in row.items()]


def _rows(reader: Reader, request: Request, phi: bool) -> Iterable[dict[str, Any]]:
    if request.by:
        return accounts.sums(reader, request.since_ns, request.until_ns, request.by, phi)
    return _series(reader, request, phi)


def _head(by: tuple[str, ...], phi: bool) -> list[str]:
    """Return the names of a row's values, also where there is no row."""
    return accounts.head(by, phi) if by else shown_names(SeriesRow, phi)


def _series(reader: Reader, request: Request, phi: bool) -> Iterator[dict[str, Any]]:
    page = reader.listed(limit=_PAGE, since_ns=request.since_ns, until_ns=request.until_ns)
    while page:
        yield from (shown(row, phi) for row in page)
        after = (page[-1].last_ns, page[-1].id)
        page = reader.listed(after=after, limit=_PAGE, since_ns=request.since_ns, until_ns=request.until_ns)
    yield from (shown(row, phi) for row in reader.only_set_aside(request.since_ns, request.until_ns))
