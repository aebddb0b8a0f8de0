"""Bring the rows of set-aside files in line with the directory: after a crash, `listener retry` or a manual removal."""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Mapping
from datetime import datetime
from typing import Any

from listener.disk import json_file
from listener.ledger.outcome_rows import LedgerPaths
from listener.ledger.tables import Tables
from listener.planning.names import printable
from listener.records import Outcome
from listener.repacking.setaside import KNOWN, reason_file
from listener.repacking.setaside import entries as entries_in

#: Files younger than this are left alone by a service, in nanoseconds: their outcomes are on the way.
_SETTLING_NS = 30 * 10**9


def differing_reasons(connection: sqlite3.Connection, counted: Mapping[str, tuple[int, int]]) -> list[str]:
    """Return the reasons whose files or bytes in the ledger differ from those counted."""
    recorded = {reason: (files, size) for reason, files, size in connection.execute("SELECT * FROM set_aside_counts")}
    return [reason for reason in {**counted, **recorded} if counted.get(reason, (0, 0)) != recorded.get(reason, (0, 0))]


def reconcile(
    tables: Tables,
    paths: LedgerPaths,
    reason: str,
    now_ns: int,
    owed: set[str],
    *,
    settling_ns: int = _SETTLING_NS,
) -> None:
    """Within a transaction: bring the rows of one reason in line with its directory, but for files younger than
    `settling_ns`. Files set aside before a consumer was registered get no delivery for it, but for the paths in `owed`,
    whose deliveries were lost with a ledger.
    """
    there = {
        f"{reason}/{printable(entry.name)}": entry for entry in entries_in(os.path.join(paths.set_aside_dir, reason))
    }
    known = tables.set_aside_paths(reason)
    tables.mark_set_aside_gone(known - there.keys(), now_ns)
    for path in there.keys() - known:
        try:
            status = there[path].stat(follow_symlinks=False)
        except FileNotFoundError:
            continue
        if now_ns - status.st_ctime_ns >= settling_ns:
            record = json_file.load_if_readable(reason_file(there[path].path)) or {}
            outcome = _outcome(reason, record, status.st_size, status.st_ctime_ns)
            root = str(record.get("incoming", ""))
            root = root if root in paths.roots else ""
            tables.add_set_aside(path, reason, outcome, root, found=path not in owed)


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
