"""Fill in what older versions of the ledger did not record: headers of series, from documents, else from a file."""

from __future__ import annotations

import sqlite3
import time

from listener.diagnostics import log
from listener.ledger import descriptions, generations
from listener.ledger.connection import transaction, translated
from listener.ledger.evidence import DocumentReader, Instance
from listener.ledger.rows import SeriesRow
from listener.records import SeriesHeader

#: Series in one transaction: short enough for the other writers of the ledger.
_PER_TRANSACTION = 50


class BackFill:
    """Describes series that lack it, a slice at a time; what is left is known from the ledger itself."""

    def __init__(self, documents: DocumentReader) -> None:
        self._documents = documents
        self._begun = 0.0
        self._filled = 0

    def fill(self, connection: sqlite3.Connection, seconds: float) -> None:
        """Describe series for a slice of time. Raises LedgerFault."""
        end = time.monotonic() + seconds
        while True:
            with translated():
                rows = connection.execute(descriptions.UNDESCRIBED, (_PER_TRANSACTION,)).fetchall()
            if not rows:
                self._log_end()
                return
            self._describe(connection, [number for (number,) in rows])
            if time.monotonic() >= end:
                self._log_begin(connection)
                return

    def _describe(self, connection: sqlite3.Connection, ids: list[int]) -> None:
        """Read first, then write: no lock is held while the disk is read."""
        with translated():
            series = [row for row in (generations.row_of(connection, number) for number in ids) if row]
            found = [(row, *self._header(connection, row)) for row in series]
        with transaction(connection):
            for row, header, folder in found:
                if descriptions.described(connection, row.id) is not None:
                    continue
                if header:
                    descriptions.describe(connection, row.id, header, folder)
                else:
                    descriptions.describe_without_header(connection, row, folder)
        self._filled += len(found)

    def _header(self, connection: sqlite3.Connection, row: SeriesRow) -> tuple[SeriesHeader | None, int]:
        """Return the header of a series, None where nothing has it, and the id of its folder."""
        folder, name, folder_id = descriptions.a_file(connection, row.id)
        header = self._documents.header(row.StudyInstanceUID, row.SeriesInstanceUID)
        if header is None and name:
            instance = Instance("", folder, name, 0, 0)
            header = self._documents.identity(row.SeriesInstanceUID, instance).header
        return header, folder_id

    def _log_begin(self, connection: sqlite3.Connection) -> None:
        if not self._begun:
            self._begun = time.monotonic()
            with translated():
                (left,) = connection.execute(descriptions.HOW_MANY_UNDESCRIBED).fetchone()
            log.info("the ledger is being filled with patients and studies of %d series, in the background", left)

    def _log_end(self) -> None:
        if self._begun:
            seconds = time.monotonic() - self._begun
            log.info("the ledger has patients and studies of all series (%d in %.0f s)", self._filled, seconds)
            self._begun = 0.0
        self._filled = 0
