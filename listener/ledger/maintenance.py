"""Questions of `verify` and `prune`: the ledger beside the documents, and what may be removed."""

from __future__ import annotations

import os
import sqlite3
import time
from collections.abc import Iterable, Iterator, Sequence

from listener.config import Config
from listener.errors import LedgerCorrupt
from listener.ledger import generations
from listener.ledger.completion import Completion, CompletionRules, OpenSeries, SeriesState, promised
from listener.ledger.connection import open_writer, path_of, transaction, translated
from listener.ledger.deliveries import taken
from listener.ledger.evidence import DocumentReader
from listener.ledger.outcome_rows import OutcomeRows, Places
from listener.ledger.rows import SERIES_COLUMNS, SeriesRow
from listener.repacking.removal import Instance

_NAMES = """
SELECT i.name FROM instances i JOIN series s ON s.id = i.series_id WHERE s.SeriesInstanceUID = ?
"""
_RECORDED = "SELECT SeriesInstanceUID FROM series WHERE instances > 0 AND pruned_ns = 0"


_ELSEWHERE = """
SELECT i.SOPInstanceUID, min(s.SeriesInstanceUID), min(s.StudyInstanceUID)
FROM instances i JOIN series s ON s.id = i.series_id
GROUP BY i.SOPInstanceUID HAVING count(DISTINCT i.series_id) > 1 ORDER BY i.SOPInstanceUID
"""


def elsewhere(connection: sqlite3.Connection) -> Iterator[tuple[str, str, str]]:
    """SOP Instance UIDs that more than one series has, or one series UID in two studies; each with one of these."""
    with translated():
        yield from connection.execute(_ELSEWHERE)


def recorded(connection: sqlite3.Connection, uid: str) -> set[str]:
    """The file names of a series' instances, as the ledger has them."""
    with translated():
        return {name for (name,) in connection.execute(_NAMES, (uid,))}


def series_of(connection: sqlite3.Connection) -> Iterator[str]:
    """Every series that should have instances."""
    with translated():
        yield from [uid for (uid,) in connection.execute(_RECORDED)]


def misidentified(connection: sqlite3.Connection, proofs: DocumentReader, uid: str) -> bool:
    """Whether a series' row tells of another patient, accession number or study than its instances. Of one that tells
    what its documents tell no instance is looked at.
    """
    with translated():
        rows = [row for row in generations.all_of(connection, uid) if row.instances and not row.pruned_ns]
    for row in rows:
        owner = (row.PatientID, row.StudyInstanceUID)
        if owner != proofs.series_owner(uid) and owner not in proofs.owners(uid):
            return True
        if row.AccessionNumber != proofs.accession(row.StudyInstanceUID, uid):
            newest = proofs.newest(uid, row.StudyInstanceUID)
            if newest and proofs.identity(uid, newest).AccessionNumber != row.AccessionNumber:
                return True
    return False


class Mending:
    """A writer for `listener verify --repair`, beside a running service too."""

    def __init__(self, config: Config) -> None:
        self._proofs = DocumentReader(config)
        rules = CompletionRules({"": 60.0, **dict(config.series_quiet)}, config.series_timeout)
        self._connection = _anew(path_of(config.state))
        places = Places(config.incoming, config.data, config.state)
        self._posting = OutcomeRows(self._connection, OpenSeries(rules), self._proofs, places)

    def count(self, uid: str) -> None:
        """Bring the series of a UID in line with their documents. Raises a LedgerFault."""
        now_ns = time.time_ns()
        with self._posting.transaction():
            known = {row.id for row in generations.all_of(self._connection, uid)}
            for one in self._posting.recount(uid, 0.0, now_ns):
                if one.id not in known:
                    self._settle(one, now_ns)

    def identify(self, uid: str) -> None:
        """Let the rows of a UID's series tell what their newest instances tell. Raises a LedgerFault."""
        with self._posting.transaction():
            for row in generations.all_of(self._connection, uid):
                newest = self._proofs.newest(uid, row.StudyInstanceUID)
                if newest:
                    one = generations.standing(self._connection, row, 0.0)
                    self._posting.corrections.identify(one, newest)

    def _settle(self, one: SeriesState, now_ns: int) -> None:
        """A series that is only found now: what it would have come to by itself, told to nobody, whenever its documents
        seem to have been written (a restored tree is new). One of which a running service has something in hand goes
        on when that is recorded.
        """
        row = generations.row_of(self._connection, one.id)
        if row is None:
            return
        _, document = self._proofs.promise(one.SeriesInstanceUID, (-1, -1))
        number = promised(document or {}, one.StudyInstanceUID)
        if number:
            generations.expect_of(self._connection, row, number, "retrieve", now_ns)
        result = "incomplete" if one.instances < number else "recounted"
        about = (one.SeriesInstanceUID, one.StudyInstanceUID, one.generation, one.instances, number, result)
        generations.end(self._connection, one.id, Completion(*about), now_ns, quietly=True)

    def close(self) -> None:
        """Give the ledger back."""
        self._connection.close()


def _anew(path: str) -> sqlite3.Connection:
    """A writer; a ledger that is damaged is moved aside, and an empty one takes its place."""
    try:
        connection = open_writer(path)
        with translated():
            sound = connection.execute("PRAGMA quick_check(1)").fetchone() == ("ok",)
        if sound:
            return connection
        connection.close()
    except LedgerCorrupt:
        pass
    aside = f"{path}.damaged-{time.time_ns()}"
    for ending in ("", "-wal", "-shm"):
        if os.path.lexists(f"{path}{ending}"):
            os.rename(f"{path}{ending}", f"{aside}{ending}")
    return open_writer(path)


def missing(names: Iterable[str], there: set[str]) -> tuple[int, int]:
    """How many the ledger lacks, and how many it has too much."""
    described = set(names)
    return len(described - there), len(there - described)


_OLD = f"""
SELECT {SERIES_COLUMNS} FROM series s WHERE state = 'complete' AND last_ns < ? AND changed_ns < ?
AND (pruned_ns = 0 OR EXISTS (SELECT 1 FROM instances i WHERE i.series_id = s.id)) ORDER BY last_ns
"""
_INTERRUPTED = f"""
SELECT {SERIES_COLUMNS} FROM series s WHERE state = 'complete' AND pruned_ns <> 0
AND EXISTS (SELECT 1 FROM instances i WHERE i.series_id = s.id)
"""
_FILES = """
SELECT i.SOPInstanceUID, f.path, i.name, i.size, i.arrived_ns FROM instances i JOIN folders f ON f.id = i.folder_id
WHERE i.series_id = ?
"""
_STANDS = "SELECT state, generation, last_ns FROM series WHERE id = ?"
_FORGET = """
DELETE FROM instances WHERE series_id = ? AND SOPInstanceUID = ? AND name = ? AND arrived_ns = ?
AND folder_id = (SELECT id FROM folders WHERE path = ?)
"""
_SOME = """
SELECT i.SOPInstanceUID, f.path, i.name, i.size, i.arrived_ns, s.SeriesInstanceUID
FROM instances i JOIN folders f ON f.id = i.folder_id JOIN series s ON s.id = i.series_id WHERE s.pruned_ns = 0 LIMIT ?
"""
_TOTAL = "SELECT count(*), ifnull(sum(size), 0) FROM instances WHERE series_id = ?"
_AWAITED = """
SELECT a.path FROM set_aside a JOIN deliveries d ON d.set_aside_id = a.id
WHERE a.gone_ns = 0 AND d.set_aside_id <> 0 AND d.state = 'pending'
"""


def old_series(connection: sqlite3.Connection, before_ns: int) -> list[SeriesRow]:
    """Complete series in which nothing happened since, the longest quiet first; also those that an interrupted prune
    began to remove.
    """
    with translated():
        rows = [SeriesRow(*row) for row in connection.execute(_OLD, (before_ns, before_ns))]
        return [row for row in rows if row.pruned_ns or taken(connection, row)]


def interrupted(connection: sqlite3.Connection) -> list[SeriesRow]:
    """Complete series that a prune began to remove and did not end, however old they are by now."""
    with translated():
        return [SeriesRow(*row) for row in connection.execute(_INTERRUPTED)]


def instances(connection: sqlite3.Connection, series: SeriesRow) -> list[Instance]:
    """The instances of a series."""
    with translated():
        return [Instance(*row) for row in connection.execute(_FILES, (series.id,))]


def some(connection: sqlite3.Connection, limit: int) -> list[tuple[Instance, str]]:
    """Some instances that are in the tree, with their Series Instance UIDs."""
    with translated():
        return [(Instance(*row[:5]), row[5]) for row in connection.execute(_SOME, (limit,))]


def begin(connection: sqlite3.Connection, series: SeriesRow, now_ns: int) -> bool:
    """Mark a series as removed, before it is; False when it goes on after all."""
    with transaction(connection):
        if not unchanged(connection, series) or not (series.pruned_ns or taken(connection, series)):
            return False
        connection.execute("UPDATE series SET pruned_ns = ? WHERE id = ?", (now_ns, series.id))
    return True


def unchanged(connection: sqlite3.Connection, series: SeriesRow) -> bool:
    """Whether a series is as it was read: complete in the same generation, and nothing arrived since."""
    with translated():
        found = connection.execute(_STANDS, (series.id,)).fetchone()
    return bool(found == (series.state, series.generation, series.last_ns))


def finish(connection: sqlite3.Connection, series: SeriesRow, gone: Sequence[Instance], data: str) -> None:
    """Files are gone: so are their rows. What the series had been stays in the accounts, if nothing is left of it and
    nothing came meanwhile; else it has what it has.
    """
    with transaction(connection):
        same = unchanged(connection, series)
        # An arrival makes the row of one that is there again; in a series that was open by then it may be the old one.
        rows = [one for one in gone if same or not os.path.lexists(os.path.join(data, one.folder, one.name))]
        connection.executemany(
            _FORGET, [(series.id, one.SOPInstanceUID, one.name, one.arrived_ns, one.folder) for one in rows]
        )
        total, size = connection.execute(_TOTAL, (series.id,)).fetchone()
        if total or not same:
            connection.execute("UPDATE series SET instances = ?, bytes = ? WHERE id = ?", (total, size, series.id))
        if total:
            connection.execute("UPDATE series SET pruned_ns = 0 WHERE id = ?", (series.id,))


def awaited(connection: sqlite3.Connection) -> set[str]:
    """Set-aside files of which a consumer is still to hear, by their path below set-aside."""
    with translated():
        return {path for (path,) in connection.execute(_AWAITED)}


def aside_gone(connection: sqlite3.Connection, paths: Iterable[str], now_ns: int) -> None:
    """Set-aside files were removed."""
    with transaction(connection):
        connection.executemany(
            "UPDATE set_aside SET gone_ns = ? WHERE path = ? AND gone_ns = 0", [(now_ns, path) for path in paths]
        )
