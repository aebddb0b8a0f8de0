"""What is corrected: a series' newest patient, accession and study in its row, and what workers are to revise.

A correction is seen when an instance replaces another one, is of another patient than its series has, or has a second
name in its series. Documents and tree are brought in line elsewhere (repacking.revision): no disk holds the writer up.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable, Sequence

from listener.ledger import generations
from listener.ledger.completion import OpenSeries, SeriesState
from listener.ledger.evidence import DocumentReader, Instance
from listener.ledger.tables import Row, Tables
from listener.repacking.revision import Revision, merge


class Corrections:
    """Works within transactions of the caller's. `wanted`: by Series Instance UID, what is to be revised."""

    def __init__(
        self, connection: sqlite3.Connection, book: OpenSeries, proofs: DocumentReader, entries: Tables
    ) -> None:
        self._connection = connection
        self._book = book
        self._proofs = proofs
        self._entries = entries
        self.wanted: dict[str, Revision] = {}

    def want(self, revision: Revision) -> None:
        """A series is to be revised."""
        known = self.wanted.get(revision.SeriesInstanceUID)
        self.wanted[revision.SeriesInstanceUID] = merge(known, revision) if known else revision

    def identify(self, one: SeriesState, newest: Instance, patient: str = "") -> None:
        """A series' row tells what its newest instance tells; `patient` where that one cannot be read."""
        row = generations.row_of(self._connection, one.id)
        found = self._proofs.identity(one.SeriesInstanceUID, newest)
        if row is None or found.StudyInstanceUID not in (one.StudyInstanceUID, ""):
            return
        if not found.StudyInstanceUID:
            found = found._replace(PatientID=patient or row.PatientID, AccessionNumber=row.AccessionNumber)
        told = (found.PatientID, found.AccessionNumber, found.Modality or row.Modality)
        patient, accession, modality = (text.encode("utf-8", "replace").decode() for text in told)
        now = (patient, accession, modality)
        one.PatientID, one.Modality = now[0], now[2]
        if now == (row.PatientID, row.AccessionNumber, row.Modality):
            return
        generations.correct(self._connection, one.id, now)
        former = frozenset({(row.PatientID, row.StudyInstanceUID)} if row.PatientID != now[0] else ())
        self.want(Revision(one.SeriesInstanceUID, former=former, renews=True))

    def take_from_others(self, one: SeriesState, uids: Sequence[str], now_ns: int) -> None:
        """These instances replaced others that may be of another study: the series there has them no more."""
        for row in generations.all_of(self._connection, one.SeriesInstanceUID):
            if row.id == one.id or not self._entries.supersede(row.id, uids):
                continue
            total = self._entries.set_total(row.id)
            other = self._book.get(row.SeriesInstanceUID, row.StudyInstanceUID)
            if other:
                other.instances = total.instances
            if not total.instances:
                generations.leave(self._connection, row.id, now_ns)
                self._book.drop(row.SeriesInstanceUID, row.StudyInstanceUID)
            former = frozenset({(row.PatientID, row.StudyInstanceUID)})
            self.want(Revision(one.SeriesInstanceUID, former=former, renews=True))

    def doubled(self, one: SeriesState, rows: Sequence[Row] | None = None) -> int:
        """How many instances (of `rows`, or of all) have more than one file; these are to be settled."""
        uids = self._entries.all_doubled(one.id) if rows is None else self._entries.doubled(rows)
        if uids:
            doubles = frozenset(self._entries.names_of(one.id, uid) for uid in uids)
            self.want(Revision(one.SeriesInstanceUID, doubles=doubles))
        return len(uids)

    def taken(self) -> Iterable[Revision]:
        """What is to be revised, once."""
        wanted, self.wanted = self.wanted, {}
        return wanted.values()
