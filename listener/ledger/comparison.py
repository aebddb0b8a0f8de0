"""The ledger beside the documents: what it lacks, what it has too much, and how it is made anew."""

from __future__ import annotations

import os
import sqlite3
import time
from collections.abc import Iterable, Iterator

from listener.config import Config
from listener.errors import LedgerCorrupt
from listener.ledger import turns
from listener.ledger.opening import open_writer, path_of, translated
from listener.ledger.posting import Places, Posting
from listener.ledger.proofs import Proofs
from listener.ledger.states import Book, Completion, Rules, Standing, promised

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


def misidentified(connection: sqlite3.Connection, proofs: Proofs, uid: str) -> bool:
    """Whether a series' row tells of another patient, accession number or study than its instances. Of one that tells
    what its documents tell no instance is looked at.
    """
    with translated():
        rows = [row for row in turns.all_of(connection, uid) if row.instances and not row.pruned_ns]
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
        self._proofs = Proofs(config)
        rules = Rules({"": 60.0, **dict(config.series_quiet)}, config.series_timeout)
        self._connection = _anew(path_of(config.state))
        places = Places(config.incoming, config.data, config.state)
        self._posting = Posting(self._connection, Book(rules), self._proofs, places)

    def count(self, uid: str) -> None:
        """Bring the series of a UID in line with their documents. Raises a LedgerFault."""
        now_ns = time.time_ns()
        with self._posting.transaction():
            known = {row.id for row in turns.all_of(self._connection, uid)}
            for one in self._posting.recount(uid, 0.0, now_ns):
                if one.id not in known:
                    self._settle(one, now_ns)

    def identify(self, uid: str) -> None:
        """Let the rows of a UID's series tell what their newest instances tell. Raises a LedgerFault."""
        with self._posting.transaction():
            for row in turns.all_of(self._connection, uid):
                newest = self._proofs.newest(uid, row.StudyInstanceUID)
                if newest:
                    one = turns.standing(self._connection, row, 0.0)
                    self._posting.corrections.identify(one, newest)

    def _settle(self, one: Standing, now_ns: int) -> None:
        """A series that is only found now: what it would have come to by itself, told to nobody, whenever its documents
        seem to have been written (a restored tree is new). One of which a running service has something in hand goes
        on when that is recorded.
        """
        row = turns.row_of(self._connection, one.id)
        if row is None:
            return
        _, document = self._proofs.promise(one.SeriesInstanceUID, (-1, -1))
        number = promised(document or {}, one.StudyInstanceUID)
        if number:
            turns.expect_of(self._connection, row, number, "retrieve", now_ns)
        result = "incomplete" if one.instances < number else "recounted"
        about = (one.SeriesInstanceUID, one.StudyInstanceUID, one.generation, one.instances, number, result)
        turns.end(self._connection, one.id, Completion(*about), now_ns, quietly=True)

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
