"""List what is set aside, by reason, sender and study, with what to do about it.

It reads the ledger, which a running service keeps in line with the directory.
"""

from __future__ import annotations

import argparse
import os
import sys
import time
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any

from listener.commands._selection import add_selection, reasons_of
from listener.commands._table import table, write_json
from listener.config import Config
from listener.ledger.reader import Reader, reading
from listener.reasons import SETTLING
from listener.repacking import setaside
from listener.status import ledger_view, snapshot
from listener.status.document import is_running
from listener.status.formatting import count, size, span

_HEADS = ("reason", "sender", "modality", "files", "size", "oldest", "newest", "study")

EPILOG = (
    "superseded files, with which nothing is wrong, are listed only with --reason superseded; 'listener retry' puts "
    "files back into incoming, 'listener prune --set-aside' removes old ones; exit status: 0; 1 the ledger cannot be "
    "read, or a reason is unknown"
)


def add_options(parser: argparse.ArgumentParser) -> None:
    """Add its own options."""
    add_selection(parser)
    parser.add_argument("--json", action="store_true", help="one JSON object a group, for programs")


def acts(_: argparse.Namespace) -> bool:
    """Return False: it only prints."""
    return False


def run(config: Config, given: argparse.Namespace) -> int:
    """List the groups that the command line asks for. Return 0; raise a LedgerFault or UnknownReason."""
    reasons = reasons_of(given.reasons)
    with reading(config.state) as reader:
        found = ledger_view.set_aside_groups(reader, reasons or ledger_view.TROUBLES, given.sender, given.study, -1)
        left = "" if reasons else _superseded(reader)
    if given.json:
        write_json(found)
    else:
        sys.stdout.write(rendered(found, datetime.now(UTC)) if found else "nothing is set aside\n")
    sys.stdout.flush()
    sys.stderr.write(left + _difference(config.state))
    return 0


def rendered(groups: Sequence[dict[str, Any]], now: datetime) -> str:
    """Return the table of groups, below it a line a reason with its remedy, and how to put back and remove."""
    rows = [
        [
            one["reason"],
            one["sender"],
            one["Modality"],
            count(one["files"]),
            size(one["bytes"]),
            *(_age(one[key], now) for key in ("oldest", "newest")),
            one["StudyInstanceUID"],
        ]
        for one in groups
    ]
    remedies = dict.fromkeys((one["reason"], one["remedy"]) for one in groups)
    said = [*(f"{reason}: {text}\n" for reason, text in remedies), f"\n{SETTLING}\n"]
    return table(_HEADS, rows) + "\n" + "".join(said)


def _age(instant: str, now: datetime) -> str:
    return f"{span((now - datetime.fromisoformat(instant)).total_seconds())} ago"


def _superseded(reader: Reader) -> str:
    files, _ = reader.set_aside().get("superseded", (0, 0))
    return f"and {count(files)} superseded; --reason superseded lists them\n" if files else ""


def _difference(state_dir: str) -> str:
    """Return a line where the ledger has other files than the directory, as after `listener retry`."""
    with reading(state_dir) as reader:
        recorded = sum(files for files, _ in reader.set_aside().values())
    there = sum(totals.files for totals in setaside.totals(os.path.join(state_dir, "set-aside")).values())
    if there == recorded:
        return ""
    runs = is_running(snapshot.read(state_dir), time.time_ns())
    when = "the running service mends that within a minute or two" if runs else "the next 'listener run' mends that"
    return f"the ledger has {count(recorded)} files, the directory {count(there)}; {when}\n"
