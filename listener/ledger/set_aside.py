"""Set-aside files that came and went unrecorded: a crash, `listener retry`, a person's hand. The directory is right."""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Mapping
from datetime import datetime
from typing import Any

from listener.disk import json_file
from listener.ledger.outcome_rows import Places
from listener.ledger.tables import Tables
from listener.planning.names import printable
from listener.records import Outcome
from listener.repacking.setaside import KNOWN, reason_file
from listener.repacking.setaside import entries as lying_in

#: What was put there a moment ago is about to be told, in nanoseconds.
_FRESH = 30 * 10**9


def differing(connection: sqlite3.Connection, lying: Mapping[str, tuple[int, int]]) -> list[str]:
    """The reasons of which the ledger has other numbers than were counted."""
    found = {reason: (files, size) for reason, files, size in connection.execute("SELECT * FROM set_aside_counts")}
    return [reason for reason in {**lying, **found} if lying.get(reason, (0, 0)) != found.get(reason, (0, 0))]


def reconcile(entries: Tables, places: Places, reason: str, now_ns: int, owed: set[str]) -> None:
    """Within a transaction: bring the rows of one reason in line with what lies in its directory. Consumers are told
    of what was set aside since they are there, and of `owed`, paths that they did not take from a ledger that is gone.
    """
    there = {f"{reason}/{printable(entry.name)}": entry for entry in lying_in(os.path.join(places.aside, reason))}
    known = entries.lying(reason)
    entries.taken_away(known - there.keys(), now_ns)
    for path in there.keys() - known:
        try:
            status = there[path].stat(follow_symlinks=False)
        except FileNotFoundError:
            continue
        if now_ns - status.st_ctime_ns >= _FRESH:
            record = json_file.load_if_readable(reason_file(there[path].path)) or {}
            outcome = _outcome(reason, record, status.st_size, status.st_ctime_ns)
            root = str(record.get("incoming", ""))
            root = root if root in places.roots else ""
            entries.put_aside(path, reason, outcome, root, found=path not in owed)


def _outcome(reason: str, record: dict[str, Any], size: int, moment_ns: int) -> Outcome:
    arrived = _ns(record.get("first")) or moment_ns
    name, error = str(record.get("name", "")), str(record.get("error", ""))
    sop, series, study, modality, sender = (str(record.get(key, "")) for key in KNOWN.values())
    outcome = Outcome("set-aside", name, 0, arrived, moment_ns, size=size, reason=reason, error=error, sender=sender)
    return outcome._replace(SOPInstanceUID=sop, SeriesInstanceUID=series, StudyInstanceUID=study, Modality=modality)


def _ns(text: Any) -> int:
    try:
        return int(datetime.fromisoformat(text).timestamp() * 1e6) * 1000
    except (TypeError, ValueError):
        return 0
