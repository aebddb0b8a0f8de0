"""`listener series`: the series that the ledger knows, or one of them with its history."""

from __future__ import annotations

import sys
from typing import Any, NamedTuple

import orjson

from listener.commands._table import OVERVIEW, overview, table
from listener.config import Config
from listener.errors import UnknownSeries
from listener.ledger.reader import Reader, reading
from listener.ledger.rows import SeriesRow, shown

#: What sqlite counts to.
MOST = 2**63 - 1


class Request(NamedTuple):
    """Which series: those of one `uid` (one a study), or the newest `limit` (0: all) in a state ("": any)."""

    uid: str = ""
    only: str = ""
    limit: int = 50
    json: bool = False


def run(config: Config, request: Request) -> int:
    """Show them; 0. Raises a LedgerFault, and UnknownSeries."""
    with reading(config.state) as reader:
        found = _of_uid(reader, request.uid, config.phi) if request.uid else _several(reader, request, config.phi)
    if request.json:
        for one in found:
            sys.stdout.buffer.write(orjson.dumps(one, option=orjson.OPT_APPEND_NEWLINE))
    elif request.uid:
        for number, one in enumerate(found):
            sys.stdout.write("\n" if number else "")
            _print(one)
    else:
        sys.stdout.write(table(OVERVIEW, map(overview, found)))
    sys.stdout.flush()
    return 0


def _several(reader: Reader, request: Request, phi: bool) -> list[dict[str, Any]]:
    most = request.limit or MOST
    return [shown(row, phi) for row in reader.listed(request.only, limit=most)]


def _of_uid(reader: Reader, uid: str, phi: bool) -> list[dict[str, Any]]:
    """The series of a UID: one, or one a study that has it."""
    rows = reader.all_of(uid)
    if not rows:
        raise UnknownSeries
    return [_one(reader, row, phi) for row in rows]


def _one(reader: Reader, row: SeriesRow, phi: bool) -> dict[str, Any]:
    key = (row.SeriesInstanceUID, row.StudyInstanceUID)
    study = reader.study(row.StudyInstanceUID)
    return {
        **shown(row, phi),
        "study": shown(study, phi) if study else None,
        "history": [shown(one, phi) for one in reader.history(*key)],
        "deliveries": [shown(one, phi) for one in reader.deliveries_of(*key)],
    }


def _print(one: dict[str, Any]) -> None:
    parts = ("study", "history", "deliveries")
    plain = [(name, str(value)) for name, value in one.items() if name not in parts and value not in ("", 0)]
    study = one["study"]
    if study:
        plain.append(("its study", f"{study['state']}, {study['complete']} of {study['series']} series complete"))
    sys.stdout.write(table(("series", one["SeriesInstanceUID"]), plain[1:]))
    for name in parts[1:]:
        rows = one[name]
        if rows:
            names = list(rows[0])
            sys.stdout.write(f"\n{name}\n" + table(names, [[str(row[key]) for key in names] for row in rows]))
