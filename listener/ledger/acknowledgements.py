"""Incomplete studies that a person knows of: they stay incomplete, and need no attention until something changes.

What is acknowledged is a study as it stands. A trigger takes it back when a series of it opens or ends incomplete.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable

from listener.ledger.rows import StudyRow

_ACKNOWLEDGE = """
UPDATE studies SET acknowledged_ns = ?, acknowledged_by = ?
WHERE id = ? AND state = 'incomplete' AND acknowledged_ns = 0 AND last_ns = ?
"""
_TAKE_BACK = "UPDATE studies SET acknowledged_ns = 0, acknowledged_by = '' WHERE id = ? AND acknowledged_ns > 0"
#: Incomplete series of acknowledged studies.
HOW_MANY_SERIES = "SELECT ifnull(sum(incomplete), 0) FROM studies WHERE acknowledged_ns > 0"


def acknowledge(connection: sqlite3.Connection, found: Iterable[StudyRow], now_ns: int, by: str) -> list[StudyRow]:
    """Within a transaction: acknowledge studies in the name of `by`. Return those that are; not what is not incomplete,
    is acknowledged already, or has changed since it was read.
    """
    return [row for row in found if _changes(connection, _ACKNOWLEDGE, now_ns, by, row.id, row.last_ns)]


def take_back(connection: sqlite3.Connection, found: Iterable[StudyRow]) -> list[StudyRow]:
    """Within a transaction: take acknowledgements back. Return the studies that had one."""
    return [row for row in found if _changes(connection, _TAKE_BACK, row.id)]


def number_of_series(connection: sqlite3.Connection) -> int:
    """Return how many incomplete series are of acknowledged studies."""
    return int(connection.execute(HOW_MANY_SERIES).fetchone()[0])


def _changes(connection: sqlite3.Connection, statement: str, *values: int | str) -> bool:
    return connection.execute(statement, values).rowcount > 0
