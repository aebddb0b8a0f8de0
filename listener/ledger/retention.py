"""What may be removed: series that are complete and old, and that every consumer has taken; set-aside files that are
old. Nothing unfinished, and nothing of which somebody is still to hear.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from typing import NamedTuple

from listener.ledger import turns
from listener.ledger.deliveries import taken
from listener.ledger.opening import transaction, translated
from listener.ledger.rows import SERIES_COLUMNS, SeriesRow

_OLD = f"""
SELECT {SERIES_COLUMNS} FROM series s WHERE state = 'complete' AND last_ns < ? AND changed_ns < ?
AND (pruned_ns = 0 OR EXISTS (SELECT 1 FROM instances i WHERE i.series_id = s.id)) ORDER BY last_ns
"""
_FILES = """
SELECT f.path, i.name FROM instances i JOIN folders f ON f.id = i.folder_id WHERE i.series_id = ?
"""
_AWAITED = """
SELECT a.path FROM set_aside a JOIN deliveries d ON d.set_aside_id = a.id
WHERE a.gone_ns = 0 AND d.set_aside_id <> 0 AND d.state = 'pending'
"""


class Old(NamedTuple):
    """A series that may be removed, and its instances: folder below the data directory, and file name."""

    series: SeriesRow
    files: list[tuple[str, str]]


def old_series(connection: sqlite3.Connection, before_ns: int) -> Iterator[Old]:
    """Complete series in which nothing happened since; also those that an interrupted prune began to remove."""
    with translated():
        rows = [SeriesRow(*row) for row in connection.execute(_OLD, (before_ns, before_ns))]
        for row in rows:
            if row.pruned_ns or taken(connection, row):
                yield Old(row, connection.execute(_FILES, (row.id,)).fetchall())


def begin(connection: sqlite3.Connection, old: Old, now_ns: int) -> bool:
    """Mark a series as removed, before it is; False when it goes on after all."""
    with transaction(connection):
        row = turns.row_of(connection, old.series.id)
        same = row is not None and row.state == "complete" and row.generation == old.series.generation
        if not same or not (old.series.pruned_ns or taken(connection, old.series)):
            return False
        connection.execute("UPDATE series SET pruned_ns = ? WHERE id = ?", (now_ns, old.series.id))
    return True


def finish(connection: sqlite3.Connection, old: Old) -> None:
    """Its files are gone: so are their rows. What it had been stays in the accounts."""
    with transaction(connection):
        connection.executemany(
            "DELETE FROM instances WHERE series_id = ? AND name = ?", [(old.series.id, name) for _, name in old.files]
        )


def awaited(connection: sqlite3.Connection) -> set[str]:
    """Set-aside files of which a consumer is still to hear, by their path below set-aside."""
    with translated():
        return {path for (path,) in connection.execute(_AWAITED)}


def aside_gone(connection: sqlite3.Connection, path: str, now_ns: int) -> None:
    """A set-aside file was removed."""
    with transaction(connection):
        connection.execute("UPDATE set_aside SET gone_ns = ? WHERE path = ? AND gone_ns = 0", (now_ns, path))
