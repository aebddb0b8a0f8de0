"""Corrections: the newest patient, accession and modality in a series' row, and revisions for workers.

A correction is found when an instance replaces another one, is of another patient than its series, or has a second file
in its series. Workers bring documents and tree in line (repacking.revision), so that no disk holds the writer up.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable, Sequence
from math import inf

from listener.ledger import descriptions, generations
from listener.ledger.completion import OpenSeries, SeriesState
from listener.ledger.evidence import DocumentReader, Instance
from listener.ledger.tables import InstanceRow, Tables
from listener.planning.names import printable
from listener.repacking.revision import Revision, merge


class Corrections:
    """Works within transactions of the caller's. `requested`: revisions by Series Instance UID."""

    def __init__(
        self, connection: sqlite3.Connection, open_series: OpenSeries, documents: DocumentReader, tables: Tables
    ) -> None:
        self._connection = connection
        self._open_series = open_series
        self._documents = documents
        self._tables = tables
        self.requested: dict[str, Revision] = {}

    def request(self, revision: Revision) -> None:
        """Add a revision of a series, merged with one that waits."""
        known = self.requested.get(revision.SeriesInstanceUID)
        self.requested[revision.SeriesInstanceUID] = merge(known, revision) if known else revision

    def identify(self, series: SeriesState, newest: Instance, patient: str = "") -> None:
        """Write the identity in a series' newest instance into its row; `patient` if that instance cannot be read."""
        row = generations.row_of(self._connection, series.id)
        identity = self._documents.identity(series.SeriesInstanceUID, newest)
        if row is None or identity.StudyInstanceUID not in (series.StudyInstanceUID, ""):
            return
        if identity.header:
            folder = self._tables.folder(printable(newest.folder))
            descriptions.describe(self._connection, series.id, identity.header, folder)
        if not identity.StudyInstanceUID:
            identity = identity._replace(PatientID=patient or row.PatientID, AccessionNumber=row.AccessionNumber)
        texts = (identity.PatientID, identity.AccessionNumber, identity.Modality or row.Modality)
        patient, accession, modality = (text.encode("utf-8", "replace").decode() for text in texts)
        newest_values = (patient, accession, modality)
        series.PatientID, series.Modality = newest_values[0], newest_values[2]
        if newest_values == (row.PatientID, row.AccessionNumber, row.Modality):
            return
        generations.correct(self._connection, series.id, newest_values)
        former = frozenset({(row.PatientID, row.StudyInstanceUID)} if row.PatientID != newest_values[0] else ())
        self.request(Revision(series.SeriesInstanceUID, former=former, renews=True))

    def take_from_others(self, series: SeriesState, uids: Sequence[str], now_ns: int) -> None:
        """Remove instances that replaced others from the series of the same UID in other studies."""
        for row in generations.all_of(self._connection, series.SeriesInstanceUID):
            if row.id == series.id or not self._tables.supersede(row.id, uids):
                continue
            total = self._tables.set_total(row.id)
            other = self._open_series.get(row.SeriesInstanceUID, row.StudyInstanceUID)
            if other:
                other.instances = total.instances
            if not total.instances:
                generations.mark_empty(self._connection, row.id, now_ns)
                self._open_series.studies.keep(row.StudyInstanceUID, other.last_activity if other else -inf)
                self._open_series.drop(row.SeriesInstanceUID, row.StudyInstanceUID)
            former = frozenset({(row.PatientID, row.StudyInstanceUID)})
            self.request(Revision(series.SeriesInstanceUID, former=former, renews=True))

    def request_doubles(self, series: SeriesState, rows: Sequence[InstanceRow] | None = None) -> int:
        """Request a revision of the instances (of `rows`, or all) with several files; return how many these are."""
        uids = self._tables.all_doubled(series.id) if rows is None else self._tables.doubled(rows)
        if uids:
            doubles = frozenset(self._tables.names_of(series.id, uid) for uid in uids)
            self.request(Revision(series.SeriesInstanceUID, doubles=doubles))
        return len(uids)

    def take(self) -> Iterable[Revision]:
        """Return and clear the requested revisions."""
        wanted, self.requested = self.requested, {}
        return wanted.values()
