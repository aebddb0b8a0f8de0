"""List the series in the ledger, or show one with its history."""

from __future__ import annotations

import argparse
import sys
from typing import Any, NamedTuple

from listener.commands._studies import add_limit, series_table, terminal_width
from listener.commands._table import table, write_json
from listener.config import Config
from listener.diagnostics import log
from listener.errors import LedgerFault, UnknownSeries
from listener.ledger.reader import Reader, reading
from listener.ledger.rows import shown
from listener.planning.names import instant
from listener.status import ledger_view

EPILOG = (
    "it shows patients, for whoever may read the ledger. Exit status: 0; 1 the ledger cannot be read, or knows no such "
    "series"
)


def add_options(parser: argparse.ArgumentParser) -> None:
    """Add its own options."""
    parser.add_argument("uid", nargs="?", default="", metavar="UID", help="one series, by its SeriesInstanceUID")
    parser.add_argument("--only", choices=("open", "complete", "incomplete"), default="", help="those in this state")
    add_limit(parser, 50)
    parser.add_argument("--json", action="store_true", help="one JSON object a series, for programs")


def acts(_: argparse.Namespace) -> bool:
    """Return False: it only prints."""
    return False


def run(config: Config, given: argparse.Namespace) -> int:
    """Show what the command line asks for. Return 0."""
    return show(config, Request(given.uid, given.only, given.limit, given.json))


class Request(NamedTuple):
    """Which series: those of one `uid` (one a study), or the newest `limit` (0: all) in a state ("": any)."""

    uid: str = ""
    only: str = ""
    limit: int = 50
    json: bool = False


def show(config: Config, request: Request) -> int:
    """Print series. Return 0; raise a LedgerFault or UnknownSeries."""
    with reading(config.state) as reader:
        found = _of_uid(reader, request.uid) if request.uid else _several(reader, request)
    if request.uid:
        _add_exports(config.state, request.uid, found)
    if request.json:
        write_json(found)
    elif request.uid:
        for number, one in enumerate(found):
            sys.stdout.write("\n" if number else "")
            _print(one)
    else:
        sys.stdout.write(series_table(found, terminal_width()))
    sys.stdout.flush()
    return 0


def _several(reader: Reader, request: Request) -> list[dict[str, Any]]:
    data_dir = reader.data_dir()
    return [shown(row, True, data_dir) for row in reader.listed(request.only, limit=request.limit or -1)]


def _of_uid(reader: Reader, uid: str) -> list[dict[str, Any]]:
    """Return the series of a UID: one for each study that has it. Raise UnknownSeries."""
    found = ledger_view.series_details(reader, uid, True, reader.data_dir())
    if not found:
        raise UnknownSeries
    return found


def _add_exports(state: str, uid: str, found: list[dict[str, Any]]) -> None:
    """Add to each series where its generations were exported, if any was (the service's API does not know stages); a
    stage's file that cannot be read is told.
    """
    from listener.export.places import places_of

    try:
        places = places_of(state, uid)
    except LedgerFault as fault:
        log.warning("where it was exported is not known: %s", fault)
        return
    for one in found if places else ():
        one["exports"] = [
            {
                "generation": place.generation,
                "target": place.target,
                "manifest": place.manifest,
                "instances": place.instances,
                "verified": place.verified,
                "at": instant(place.at_ns),
            }
            for place in places
            if place.StudyInstanceUID == one["StudyInstanceUID"]
        ]


def _print(one: dict[str, Any]) -> None:
    parts = ("study", "history", "deliveries", "exports")
    plain = [(name, str(value)) for name, value in one.items() if name not in parts and value not in ("", 0)]
    study = one["study"]
    if study:
        known = ("PatientName", "PatientID", "PatientBirthDate", "StudyDate", "StudyDescription")
        plain += [(name, study[name]) for name in known if study[name] and name not in one]
        plain.append(("its study", f"{study['state']}, {study['complete']} of {study['series']} series complete"))
    sys.stdout.write(table(("series", one["SeriesInstanceUID"]), plain[1:]))
    for name in parts[1:]:
        rows = one.get(name)
        if rows:
            names = list(rows[0])
            sys.stdout.write(f"\n{name}\n" + table(names, [[str(row[key]) for key in names] for row in rows]))
