"""`listener verify`, the ledger: compare its instances with those that the logs describe."""

from __future__ import annotations

import contextlib
import os
import sqlite3
import sys
import time
from collections.abc import Iterator

from listener.config import Config
from listener.errors import LedgerFault
from listener.ledger import maintenance
from listener.ledger.connection import open_reader, path_of
from listener.ledger.evidence import DocumentReader
from listener.ledger.maintenance import LedgerRepair
from listener.verification.differences import Difference
from listener.verification.report import Report
from listener.verification.tree import series_in

#: Seconds within which the ledger records what was published.
_SETTLE = 2.0


_DUPLICATE = "the SOP Instance UID is in another series or study, too; remove the instance that is not wanted"


def verify(config: Config, report: Report, *, repair: bool) -> None:
    """Compare the ledger, if there is one, with the logs; `repair` corrects it, or rebuilds an unusable one."""
    path = path_of(config.state)
    if not os.path.exists(path):
        if repair and os.path.isdir(config.state):
            _rebuild(config)
        elif repair:
            sys.stderr.write(
                f"no ledger is made: the directory '{config.state}' is not there; make it or name another\n"
            )
        return
    try:
        connection = open_reader(path)
    except LedgerFault as fault:
        repaired = _rebuild(config) if repair else None
        report.add(Difference("bad-ledger", path, detail=str(fault)), repaired)
        return
    with contextlib.closing(connection), _mending(config, repair) as mending:
        for difference in _differences(config, connection):
            repaired = None if mending is None else _repaired(mending, difference)
            report.add(difference, repaired)


@contextlib.contextmanager
def _mending(config: Config, repair: bool) -> Iterator[LedgerRepair | None]:
    if not repair:
        yield None
        return
    with contextlib.closing(LedgerRepair(config)) as mending:
        yield mending


def _repaired(mending: LedgerRepair, difference: Difference) -> bool:
    if difference.word == "duplicate":  # Instances are never touched.
        return False
    try:
        if difference.word == "wrong-in-ledger":
            mending.identify(difference.series)
        else:
            mending.count(difference.series)
    except LedgerFault:
        return False
    return True


def _rebuild(config: Config) -> bool:
    """Rebuild the ledger from the logs alone; return whether that worked."""
    try:
        with contextlib.closing(LedgerRepair(config)) as mending:
            uids = list(map(DocumentReader(config).uid_of, series_in(config.log)))
            for uid in uids:
                mending.count(uid)
            mending.fill_in()
    except LedgerFault as fault:
        sys.stderr.write(f"{fault}\n")
        return False
    sys.stderr.write(f"the ledger was made anew: {len(uids)} series\n")
    return True


def _differences(config: Config, connection: sqlite3.Connection) -> Iterator[Difference]:
    reader = DocumentReader(config)
    described = list(map(reader.uid_of, series_in(config.log)))
    for uid in described:
        missing, surplus = _compared(reader, connection, uid)
        if missing or surplus:
            age = (time.time_ns() - reader.changed_ns(uid)) / 1e9
            time.sleep(max(0.0, _SETTLE - age) if age >= 0 else 0.0)
            missing, surplus = _compared(reader, connection, uid)
        yield from _of(config, uid, missing, surplus)
        if not (missing or surplus) and maintenance.misidentified(connection, reader, uid):
            yield Difference("wrong-in-ledger", path_of(config.state), uid)
    gone = set(maintenance.recorded_series(connection)).difference(described)
    for uid in sorted(gone):
        yield from _of(config, uid, 0, len(maintenance.recorded(connection, uid)))
    if config.on_conflict != "keep-both":
        for sop, uid, study in maintenance.shared_instances(connection):
            yield Difference("duplicate", path_of(config.state), uid, study, sop, detail=_DUPLICATE)


def _compared(reader: DocumentReader, connection: sqlite3.Connection, uid: str) -> tuple[int, int]:
    return maintenance.missing(reader.names(uid) or (), maintenance.recorded(connection, uid))


def _of(config: Config, uid: str, missing: int, surplus: int) -> Iterator[Difference]:
    path = path_of(config.state)
    if missing:
        yield Difference("not-in-ledger", path, uid, instances=missing)
    if surplus:
        yield Difference("only-in-ledger", path, uid, instances=surplus)
