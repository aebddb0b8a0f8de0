"""What may be removed: series that are complete and old, and that every consumer has taken; set-aside files that are
old. Nothing unfinished, and nothing of which somebody is still to hear.
"""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Iterable, Sequence

from listener.ledger.deliveries import taken
from listener.ledger.opening import transaction, translated
from listener.ledger.rows import SERIES_COLUMNS, SeriesRow
from listener.repacking.removal import Instance

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
