"""List the batches in the ledger, or show one with its series and errors."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Mapping
from typing import Any, NamedTuple

from listener.commands._studies import add_limit
from listener.commands._table import OVERVIEW, overview, table, write_json
from listener.config import Config
from listener.errors import ConfigError, UnknownBatch
from listener.ledger.batches import STATES
from listener.ledger.reader import reading
from listener.planning.names import printable
from listener.status import ledger_view
from listener.status.formatting import moment, size

EPILOG = (
    "a batch is named by its number; the name of its folder, often an accession number, is shown with --phi. Exit "
    "status: 0; 1 the ledger cannot be read, or knows no such batch"
)

_COLUMNS = ("batch", "state", "generation", "series", "instances", "size", "errors", "begun (UTC)", "ended (UTC)")


def add_options(parser: argparse.ArgumentParser) -> None:
    """Add its own options."""
    parser.add_argument("number", nargs="?", default="", metavar="ID", help="one batch, by its number")
    parser.add_argument("--only", choices=STATES, default="", help="those in this state")
    parser.add_argument("--errors", action="store_true", help="those of which a file did not pass")
    add_limit(parser, 50)
    parser.add_argument("--json", action="store_true", help="one JSON object a batch, for programs")


def acts(_: argparse.Namespace) -> bool:
    """Return False: it only prints."""
    return False


def run(config: Config, given: argparse.Namespace) -> int:
    """Show what the command line asks for. Return 0."""
    if given.number and not (given.number.isascii() and given.number.isdigit() and len(given.number) < 19):
        raise ConfigError([f"batches: '{printable(given.number)}' is no batch's number; 'listener batches' shows them"])
    return show(config, Request(int(given.number or 0), given.only, given.errors, given.limit, given.json))


class Request(NamedTuple):
    """Which batches: the one of a `number`, or the newest `limit` (0: all) in a state ("": any), or `with_errors`."""

    number: int = 0
    only: str = ""
    with_errors: bool = False
    limit: int = 50
    json: bool = False


def show(config: Config, request: Request) -> int:
    """Print batches. Return 0; raise a LedgerFault or UnknownBatch."""
    with reading(config.state) as reader:
        if request.number:
            one = ledger_view.batch_details(reader, request.number, config.phi)
            if one is None:
                raise UnknownBatch
            found = [one]
        else:
            rows = reader.batches_page(request.only, request.with_errors, limit=request.limit or -1)
            found = [ledger_view.batch(row, config.phi) for row in rows]
    if request.json:
        write_json(found)
    elif request.number:
        _print(found[0])
    else:
        names = (*_COLUMNS, "name") if config.phi else _COLUMNS
        sys.stdout.write(table(names, map(_cells, found)))
    sys.stdout.flush()
    return 0


def _cells(one: Mapping[str, Any]) -> list[str]:
    numbers = [str(one[name]) for name in ("batch", "state", "generation", "series", "instances")]
    rest = [size(one["bytes"]), str(one["errors"]), moment(one["started"]), moment(one["finished"])]
    return [*numbers, *rest, *([str(one["name"])] if "name" in one else [])]


def _print(one: Mapping[str, Any]) -> None:
    plain = [(name, str(value)) for name, value in one.items() if name != "batch" and not isinstance(value, list)]
    sys.stdout.write(table(("batch", str(one["batch"])), [row for row in plain if row[1] not in ("", "0")]))
    if one["all_series"]:
        sys.stdout.write("\n" + table(OVERVIEW, map(overview, one["all_series"])))
    if one["all_errors"]:
        names = ("file", "reason", "error")
        sys.stdout.write("\n" + table(names, [[str(error[name]) for name in names] for error in one["all_errors"]]))
