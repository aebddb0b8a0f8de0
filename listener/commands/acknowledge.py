"""Say that incomplete studies are known: they need no attention any more, until something of them changes."""

from __future__ import annotations

import argparse
import os
import pwd
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import closing
from datetime import UTC, datetime

from listener.commands._selection import add_acting, check_acting, check_user, is_acting
from listener.commands._table import table, write_json
from listener.config import Config
from listener.errors import ConfigError
from listener.ledger import acknowledgements
from listener.ledger.connection import open_writer, path_of, transaction
from listener.ledger.finding import Search
from listener.ledger.reader import Reader, reading
from listener.ledger.rows import StudyRow, shown
from listener.moments import LAST, PERIODS, period_of
from listener.status.formatting import count, moment, plain, several

_HEADS = ("from", "modality", "series", "instances", "last arrival (UTC)", "study")

EPILOG = (
    "they stay incomplete, and 'listener find --only incomplete' goes on naming them; a series that begins again, or "
    "ends incomplete, takes it back. Exit status: 0; 1 a UID is of no incomplete study, or the "
    "ledger cannot be written"
)


def add_options(parser: argparse.ArgumentParser) -> None:
    """Add its own options."""
    parser.add_argument("uids", nargs="*", metavar="UID", help="a StudyInstanceUID")
    parser.add_argument("--all", action="store_true", help="every incomplete study")
    parser.add_argument("--sender", default="", metavar="AET", help="those of which a series came from it")
    parser.add_argument("--arrived", default="", metavar="PERIOD", help=f"their last instance came then: {PERIODS}")
    parser.add_argument("--undo", action="store_true", help="they need attention again")
    add_acting(parser, acts=True)
    parser.add_argument("--json", action="store_true", help="one JSON object a study, for programs")


def acts(given: argparse.Namespace) -> bool:
    """Return whether it does more than print."""
    return is_acting(given, acts=True)


def run(config: Config, given: argparse.Namespace) -> int:
    """Acknowledge what the command line selects, or take that back. Return 0, or 1 when a UID is of no such study."""
    check_acting(given, "acknowledge")
    search, acting = _search_of(given, datetime.now(UTC)), acts(given)
    if acting:
        check_user(config)
    with reading(config.state) as reader:
        selected = list(_selected(reader, given.uids, search))
    found = [row for row in selected if bool(row.acknowledged_ns) is given.undo]
    changed = _change(config, found, undo=given.undo) if acting else found
    if given.json:
        write_json({**shown(row, phi=False), "done": acting} for row in changed)
    elif changed:
        sys.stdout.write(table(_HEADS, map(_cells, changed)))
    sys.stdout.flush()
    sys.stderr.write(_told(len(changed), acting=acting, undo=given.undo))
    return 1 if len(selected) < len(set(given.uids)) else 0


def _search_of(given: argparse.Namespace, now: datetime) -> Search:
    """Return what the command line selects where it names no study. Raise ConfigError."""
    narrowed = given.all or given.sender or given.arrived
    if given.uids and narrowed:
        raise ConfigError(["acknowledge: UIDs exclude --all, --sender and --arrived; give one of them"])
    if not (given.uids or narrowed):
        raise ConfigError(["acknowledge: nothing is selected; give UIDs, --sender, --arrived or --all"])
    try:
        since_ns, until_ns = period_of(given.arrived, now) if given.arrived else (0, LAST)
    except (ValueError, OverflowError):
        raise ConfigError([f"--arrived: '{plain(given.arrived)}' is no period; give {PERIODS}"]) from None
    return Search(sender=given.sender, state="incomplete", since_ns=since_ns, until_ns=until_ns, limit=0)


def _selected(reader: Reader, uids: Sequence[str], search: Search) -> Iterator[StudyRow]:
    """Yield incomplete studies; name UIDs that are none."""
    yield from reader.find(search) if not uids else ()
    for uid in dict.fromkeys(uids):
        row = reader.study(uid)
        if row and row.state == "incomplete":
            yield row
        else:
            why = f"is {row.state}" if row else "is not known to the ledger"
            sys.stderr.write(f"listener: study {plain(uid)} {why}\n")


def _change(config: Config, found: Sequence[StudyRow], *, undo: bool) -> list[StudyRow]:
    now_ns, by = time.time_ns(), _person()
    with closing(open_writer(path_of(config.state))) as connection, transaction(connection):
        if undo:
            rows = acknowledgements.take_back(connection, found)
            return [row._replace(acknowledged_ns=0, acknowledged_by="") for row in rows]
        rows = acknowledgements.acknowledge(connection, found, now_ns, by)
        return [row._replace(acknowledged_ns=now_ns, acknowledged_by=by) for row in rows]


def _person() -> str:
    """Return the name of who asks: of who called sudo, or else of this process' user (a number where it has none)."""
    user = os.geteuid()
    if user == 0 and os.environ.get("SUDO_USER"):
        return os.environ["SUDO_USER"]
    try:
        return pwd.getpwuid(user).pw_name
    except KeyError:
        return str(user)


def _cells(row: StudyRow) -> list[str]:
    one = shown(row, phi=False)
    lists = [",".join(one[name]) for name in ("senders", "ModalitiesInStudy")]
    complete = f"{row.complete}/{row.series}"
    return [*lists, complete, count(row.instances), moment(one["last"])[:16], row.StudyInstanceUID]


def _told(number: int, *, acting: bool, undo: bool) -> str:
    """Return what was done, or would be."""
    if not number:
        return f"no such study {'is acknowledged' if undo else 'needs attention'}\n"
    what = (
        f"{several(number, 'acknowledgement')} taken back" if undo else f"{several(number, 'study', 'studies')} known"
    )
    return f"{what}{'; --undo takes it back' * (not undo)}\n" if acting else f"{what}, if it were done\n"
