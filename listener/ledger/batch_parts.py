"""What a batch has of which series, for stages that take a batch as a whole. Functions work on a connection of the
caller's.
"""

from __future__ import annotations

import sqlite3
from typing import NamedTuple

from listener.errors import Postponed
from listener.ledger.rows import SERIES_COLUMNS, SeriesRow

#: Seconds between two looks whether all of a batch is there.
_SOON = 1.0

# One that is no folder (root "") is a request, which a series may have many of.
_BATCH_OF = """
SELECT b.id, b.generation, b.files_ended_ns > 0 FROM batch_series m
JOIN batches b ON b.id = m.batch_id AND b.generation = m.generation
WHERE m.series_id = ? AND m.awaits = ? AND b.root <> '' ORDER BY b.id DESC LIMIT 1
"""
_PARTS = f"""
SELECT m.awaits, {SERIES_COLUMNS} FROM batch_series m JOIN series s ON s.id = m.series_id
WHERE m.batch_id = ?1 AND m.generation = (SELECT generation FROM batches WHERE id = ?1) AND s.pruned_ns = 0
ORDER BY s.id
"""
_IS_COMING = """
SELECT 1 FROM batches WHERE root = ? AND state = 'processing' AND files_ended_ns = 0 AND started_ns <= ? LIMIT 1
"""
_SERIES_BESIDE = """
SELECT DISTINCT o.SeriesInstanceUID FROM series s JOIN batch_series m ON m.series_id = s.id
JOIN batches b ON b.id = m.batch_id AND b.generation = m.generation AND b.root <> ''
JOIN batch_series n ON n.batch_id = b.id AND n.generation = b.generation JOIN series o ON o.id = n.series_id
WHERE s.SeriesInstanceUID = ?
"""


class BatchOf(NamedTuple):
    """A batch: its number, its generation, and whether all its files have an end."""

    id: int
    generation: int
    has_ended_files: bool


class BatchPart(NamedTuple):
    """What a batch has of a series: the generation in which its files came, and whether that has ended."""

    generation: int
    series: SeriesRow

    @property
    def has_ended(self) -> bool:
        """Return whether the generation has ended."""
        return self.series.state != "open" or self.series.generation > self.generation


def batch_of(connection: sqlite3.Connection, series: SeriesRow, generation: int) -> BatchOf | None:
    """Return the batch with which a generation of a series came; None if it came otherwise, or is not known yet."""
    row = connection.execute(_BATCH_OF, (series.id, generation)).fetchone()
    return BatchOf(row[0], row[1], bool(row[2])) if row else None


def parts_of(connection: sqlite3.Connection, number: int) -> list[BatchPart]:
    """Return what a batch's last generation has of its series."""
    rows = connection.execute(_PARTS, (number,))
    return [BatchPart(generation, SeriesRow(*series)) for generation, *series in rows]


def whole_batch(
    connection: sqlite3.Connection, series: SeriesRow, generation: int
) -> tuple[BatchOf, list[BatchPart]] | None:
    """Return the batch with which a generation of a series came, and all that it has; None if it came otherwise. Raises
    Postponed while files of it are being taken, or series of it are open.
    """
    batch = batch_of(connection, series, generation)
    if batch is None:
        if is_coming(connection, series):
            raise Postponed("the folder that it came in is being taken", _SOON)
        return None
    parts = parts_of(connection, batch.id)
    if not (batch.has_ended_files and all(part.has_ended for part in parts)):
        raise Postponed(f"batch {batch.id} is not here as a whole yet", _SOON)
    return batch, parts


def is_coming(connection: sqlite3.Connection, series: SeriesRow) -> bool:
    """Return whether a folder is being taken, since before a series ended, that may have something of it."""
    return connection.execute(_IS_COMING, (series.root, series.changed_ns)).fetchone() is not None


def series_beside(connection: sqlite3.Connection, uid: str) -> set[str]:
    """Return the SeriesInstanceUIDs of all that came in a batch with a series, itself among them."""
    return {uid, *(other for (other,) in connection.execute(_SERIES_BESIDE, (uid,)))}
