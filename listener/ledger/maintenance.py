"""The ledger for `verify` and `prune`: compared with the documents, repaired, and what may be removed."""

from __future__ import annotations

import os
import sqlite3
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from math import inf

from listener.config import Config
from listener.errors import LedgerCorrupt
from listener.ledger import batches, descriptions, generations, set_aside, studies
from listener.ledger.back_fill import BackFill
from listener.ledger.completion import Completion, CompletionRules, OpenSeries, SeriesState, expected_count
from listener.ledger.connection import open_writer, path_of, transaction, translated
from listener.ledger.deliveries import is_delivered
from listener.ledger.evidence import DocumentReader
from listener.ledger.outcome_rows import LedgerPaths, OutcomeRows
from listener.ledger.rows import SERIES_COLUMNS, SeriesRow
from listener.reasons import SET_ASIDE_REASONS
from listener.records import SeriesHeader
from listener.repacking.removal import Instance

_NAMES = """
SELECT i.name FROM instances i JOIN series s ON s.id = i.series_id WHERE s.SeriesInstanceUID = ?
"""
# In the name of no service: how far one has recorded stays its own word.
_NAME_DATA_DIRECTORY = "INSERT OR REPLACE INTO writers (name, written_ns, data_dir) VALUES ('verify', ?, ?)"
_RECORDED = "SELECT SeriesInstanceUID FROM series WHERE instances > 0 AND pruned_ns = 0"


_SHARED = """
SELECT i.SOPInstanceUID, min(s.SeriesInstanceUID), min(s.StudyInstanceUID)
FROM instances i JOIN series s ON s.id = i.series_id
GROUP BY i.SOPInstanceUID HAVING count(DISTINCT i.series_id) > 1 ORDER BY i.SOPInstanceUID
"""


def shared_instances(connection: sqlite3.Connection) -> Iterator[tuple[str, str, str]]:
    """Yield each SOP Instance UID in several series (or one series UID in two studies), with one series and study."""
    with translated():
        yield from connection.execute(_SHARED)


def recorded(connection: sqlite3.Connection, uid: str) -> set[str]:
    """Return the file names of a series' instances in the ledger."""
    with translated():
        return {name for (name,) in connection.execute(_NAMES, (uid,))}


def recorded_series(connection: sqlite3.Connection) -> Iterator[str]:
    """Yield every series that should have instances."""
    with translated():
        yield from [uid for (uid,) in connection.execute(_RECORDED)]


def misidentified(connection: sqlite3.Connection, documents: DocumentReader, uid: str) -> bool:
    """Return whether a series' row has another patient, accession number or study than its instances. No instance is
    read if the row agrees with the documents.
    """
    with translated():
        rows = [row for row in generations.all_of(connection, uid) if row.instances and not row.pruned_ns]
    for row in rows:
        owner = (row.PatientID, row.StudyInstanceUID)
        if owner != documents.series_owner(uid) and owner not in documents.owners(uid):
            return True
        with translated():
            described = descriptions.described(connection, row.id)
        if not _agrees(described, documents.header(row.StudyInstanceUID, uid)):
            newest = documents.newest(uid, row.StudyInstanceUID)
            header = documents.identity(uid, newest).header if newest else None
            if newest and (header is not None or described is None) and not _agrees(described, header):
                return True
    return False


def _agrees(described: SeriesHeader | None, header: SeriesHeader | None) -> bool:
    """Return whether a series' rows say what a header says. What they say of the study may be another series' word."""
    if described is None or header is None:
        return False
    of_study = {name: getattr(header, name) for name in _OF_STUDY}
    return described._replace(**of_study) == header


_OF_STUDY = ("StudyDate", "StudyTime", "StudyDescription")


class LedgerRepair:
    """Writes for `listener verify --repair` and for the end of a backfill, also beside a running service.
    `is_worked_on` returns whether a listener takes files from an incoming directory.
    """

    def __init__(
        self,
        config: Config,
        documents: DocumentReader | None = None,
        is_worked_on: Callable[[str], bool] = lambda _: False,
    ) -> None:
        self._documents = documents or DocumentReader(config)
        self._is_worked_on = is_worked_on
        rules = CompletionRules({"": 60.0, **dict(config.series_quiet)}, config.series_timeout)
        self._connection = _open_or_replace(path_of(config.state))
        self._places = LedgerPaths(config.roots, config.data, config.state)
        self._outcome_rows = OutcomeRows(self._connection, OpenSeries(rules), self._documents, self._places)
        self._name_data_directory(config.data)

    def _name_data_directory(self, data_dir: str) -> None:
        # The tree may have moved, and who looks for a study now need not wait for the service's next start.
        with self._outcome_rows.transaction():
            self._connection.execute(_NAME_DATA_DIRECTORY, (time.time_ns(), data_dir))

    def count(self, uid: str) -> None:
        """Bring the series of a UID in line with their documents. Raises LedgerFault."""
        now_ns = time.time_ns()
        with self._outcome_rows.transaction():
            known = {row.id for row in generations.all_of(self._connection, uid)}
            for series in self._outcome_rows.recount(uid, 0.0, now_ns):
                if series.id not in known:
                    self._end_found(series, now_ns)
                    studies.close_found(self._connection, series.StudyInstanceUID, now_ns)

    def bring(self, uid: str, batch: batches.BatchState, *, ends: bool = True, tells: bool = False) -> None:
        """Bring the series of a UID in line with their documents, which files of `batch` have. `ends`: end those that
        are open, `tells`: with deliveries. One that another listener works on it ends itself. Raises LedgerFault.
        """
        now_ns, connection = time.time_ns(), self._connection
        with self._outcome_rows.transaction():
            was_open = {row.id: row.generation for row in generations.all_of(connection, uid) if row.state == "open"}
            for series in self._outcome_rows.recount(uid, 0.0, now_ns):
                is_ours = batches.awaited(connection, batch, series.id) == was_open.get(series.id, -1)
                if series.id in was_open and not is_ours and self._is_worked_on(series.root):
                    continue
                if ends and series.is_open:
                    self._end_found(series, now_ns, tells=tells)
                    if not tells:
                        studies.close_found(connection, series.StudyInstanceUID, now_ns)
                size = generations.bytes_of(connection, series.id)
                batches.add_series(connection, batch, batches.SeriesShare(series.id, series.instances, size))

    def begin_batch(self, key: batches.BatchKey, signature: str, now_ns: int) -> batches.BatchState | None:
        """Record that a batch is being processed; return None if the one of this signature has ended. Raises
        LedgerFault.
        """
        with self._outcome_rows.transaction():
            known = batches.state_of(self._connection, key)
            if known and known.state in ("done", "empty") and known.signature == signature:
                return None
            return batches.start(self._connection, key, now_ns)

    def end_batch(self, key: batches.BatchKey, account: batches.Account, now_ns: int) -> None:
        """Record what became of a batch's files, and end it if its series have ended. Raises LedgerFault."""
        with self._outcome_rows.transaction():
            batches.end_files(self._connection, key, account, now_ns)
            batches.end_due(self._connection, now_ns)

    def recorded(self, uid: str) -> set[str]:
        """Return the names of a series' instances in the ledger. Raises LedgerFault."""
        return recorded(self._connection, uid)

    def find_set_aside(self, now_ns: int) -> None:
        """Bring the rows of set-aside files in line with what lies there. Raises LedgerFault."""
        rows = self._outcome_rows
        for reason in SET_ASIDE_REASONS:
            with rows.transaction():
                set_aside.reconcile(rows.tables, self._places, reason, now_ns, set(), settling_ns=0)

    def fill_in(self) -> None:
        """Describe all series that an older version recorded without their headers. Raises LedgerFault."""
        BackFill(self._documents).fill(self._connection, inf)

    def identify(self, uid: str) -> None:
        """Write the identity in their newest instances into the rows of a UID's series. Raises LedgerFault."""
        with self._outcome_rows.transaction():
            for row in generations.all_of(self._connection, uid):
                newest = self._documents.newest(uid, row.StudyInstanceUID)
                if newest:
                    series = generations.state_of(self._connection, row, 0.0)
                    self._outcome_rows.corrections.identify(series, newest)

    def _end_found(self, series: SeriesState, now_ns: int, *, tells: bool = False) -> None:
        """End a series that is only found now, without deliveries unless it `tells`, and then later than all others,
        however new its documents seem (a restored tree is new). If a running service has some of it in hand, recording
        that reopens it.
        """
        row = generations.row_of(self._connection, series.id)
        if row is None:
            return
        _, document = self._documents.promise(series.SeriesInstanceUID, (-1, -1))
        number = expected_count(document or {}, series.StudyInstanceUID)
        if number:
            generations.expect_of(self._connection, row, number, "retrieve", now_ns)
        complete = ("expected" if number else "quiet") if tells else "recounted"
        result = "incomplete" if series.instances < number else complete
        about = (series.SeriesInstanceUID, series.StudyInstanceUID, series.generation, series.instances, number, result)
        generations.end(self._connection, series.id, Completion(*about), now_ns, quietly=not tells, later=tells)

    def close(self) -> None:
        """Close the connection."""
        self._connection.close()


def _open_or_replace(path: str) -> sqlite3.Connection:
    """Return a writer's connection; a damaged ledger is renamed, and an empty one takes its place."""
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
    """Return how many names the ledger lacks, and how many it has too many."""
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
_SAMPLE = """
SELECT i.SOPInstanceUID, f.path, i.name, i.size, i.arrived_ns, s.SeriesInstanceUID
FROM instances i JOIN folders f ON f.id = i.folder_id JOIN series s ON s.id = i.series_id WHERE s.pruned_ns = 0 LIMIT ?
"""
_TOTAL = "SELECT count(*), ifnull(sum(size), 0) FROM instances WHERE series_id = ?"
_AWAITED = """
SELECT a.path FROM set_aside a JOIN deliveries d ON d.set_aside_id = a.id
WHERE a.gone_ns = 0 AND d.set_aside_id <> 0 AND d.state = 'pending'
"""


def old_series(connection: sqlite3.Connection, before_ns: int) -> list[SeriesRow]:
    """Return complete series in which nothing happened since `before_ns`, the oldest first; also those that an
    interrupted prune began to remove.
    """
    with translated():
        rows = [SeriesRow(*row) for row in connection.execute(_OLD, (before_ns, before_ns))]
        return [row for row in rows if row.pruned_ns or is_delivered(connection, row)]


def interrupted(connection: sqlite3.Connection) -> list[SeriesRow]:
    """Return complete series that an interrupted prune began to remove, of any age."""
    with translated():
        return [SeriesRow(*row) for row in connection.execute(_INTERRUPTED)]


def instances(connection: sqlite3.Connection, series: SeriesRow) -> list[Instance]:
    """Return the instances of a series."""
    with translated():
        return [Instance(*row) for row in connection.execute(_FILES, (series.id,))]


def sample_instances(connection: sqlite3.Connection, limit: int) -> list[tuple[Instance, str]]:
    """Return up to `limit` instances in the tree, with their Series Instance UIDs."""
    with translated():
        return [(Instance(*row[:5]), row[5]) for row in connection.execute(_SAMPLE, (limit,))]


def begin(connection: sqlite3.Connection, series: SeriesRow, now_ns: int) -> bool:
    """Mark a series as removed, before it is; return False if it may not be removed after all."""
    with transaction(connection):
        if not is_unchanged(connection, series) or not (series.pruned_ns or is_delivered(connection, series)):
            return False
        connection.execute("UPDATE series SET pruned_ns = ? WHERE id = ?", (now_ns, series.id))
    return True


def is_unchanged(connection: sqlite3.Connection, series: SeriesRow) -> bool:
    """Return whether a series is as it was read: complete in the same generation, and nothing arrived since."""
    with translated():
        row = connection.execute(_STANDS, (series.id,)).fetchone()
    return bool(row == (series.state, series.generation, series.last_ns))


def finish(connection: sqlite3.Connection, series: SeriesRow, gone: Sequence[Instance], data: str) -> None:
    """Remove the rows of files that are gone. If nothing is left of the series and nothing came meanwhile, its row
    keeps its former totals; else it gets what is left.
    """
    with transaction(connection):
        same = is_unchanged(connection, series)
        # A file that arrived again has a new row; in a series that was open by then it may still be the old row.
        rows = [
            instance
            for instance in gone
            if same or not os.path.lexists(os.path.join(data, instance.folder, instance.name))
        ]
        connection.executemany(
            _FORGET,
            [
                (series.id, instance.SOPInstanceUID, instance.name, instance.arrived_ns, instance.folder)
                for instance in rows
            ],
        )
        total, size = connection.execute(_TOTAL, (series.id,)).fetchone()
        if total or not same:
            connection.execute("UPDATE series SET instances = ?, bytes = ? WHERE id = ?", (total, size, series.id))
        if total:
            connection.execute("UPDATE series SET pruned_ns = 0 WHERE id = ?", (series.id,))


def awaited_set_aside(connection: sqlite3.Connection) -> set[str]:
    """Return the paths (below set-aside) of set-aside files with pending deliveries."""
    with translated():
        return {path for (path,) in connection.execute(_AWAITED)}


def mark_set_aside_gone(connection: sqlite3.Connection, paths: Iterable[str], now_ns: int) -> None:
    """Record that set-aside files were removed."""
    with transaction(connection):
        connection.executemany(
            "UPDATE set_aside SET gone_ns = ? WHERE path = ? AND gone_ns = 0", [(now_ns, path) for path in paths]
        )
