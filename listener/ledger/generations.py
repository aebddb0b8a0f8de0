"""Generations of series: begin, end, reopen. Within a transaction of the caller's.

The ledger itself holds that a generation ends once (a unique index), whoever writes.
"""

from __future__ import annotations

import sqlite3

from listener.ledger.completion import Completion, SeriesState
from listener.ledger.deliveries import Occasion, Subject, add_deliveries
from listener.ledger.interests import About
from listener.ledger.rows import SERIES_COLUMNS, SeriesRow
from listener.ledger.tables import day_of

_OF_UID = f"SELECT {SERIES_COLUMNS} FROM series s WHERE SeriesInstanceUID = ?"
_OF_STUDY = f"SELECT {SERIES_COLUMNS} FROM series s WHERE SeriesInstanceUID = ? AND StudyInstanceUID = ?"
_ONE = f"SELECT {SERIES_COLUMNS} FROM series s WHERE id = ?"
#: Instances at the begin of a generation; 0 after an incomplete one, which is complete once the number is reached.
_BEGAN = """
SELECT s.id, CASE s.result WHEN 'incomplete' THEN 0 ELSE h.instances END FROM series s
JOIN history h ON h.series_id = s.id AND h.generation = s.generation AND h.state = 'open'
WHERE s.state = 'open' AND s.generation > 1
"""
_OPEN = f"SELECT {SERIES_COLUMNS} FROM series s WHERE state = 'open'"
_UNANNOUNCED = """
SELECT s.SeriesInstanceUID, s.StudyInstanceUID, h.generation, h.instances, h.expected, h.result
FROM history h JOIN series s ON s.id = h.series_id WHERE h.announced = 0 ORDER BY h.id
"""
_HISTORY = """
INSERT OR IGNORE INTO history (series_id, generation, at_ns, state, result, instances, bytes, expected, announced)
SELECT id, generation, ?, state, ?, instances, bytes, expected, ? FROM series WHERE id = ?
"""


_ERRORS = """
UPDATE series SET errors = (
    SELECT count(*) FROM set_aside a WHERE a.SeriesInstanceUID = series.SeriesInstanceUID AND a.SeriesInstanceUID <> ''
    AND a.reason <> 'superseded' AND a.StudyInstanceUID IN (series.StudyInstanceUID, '')
) WHERE id = ?
"""


def all_of(connection: sqlite3.Connection, uid: str) -> list[SeriesRow]:
    """Return the series of a Series Instance UID, the oldest row first: one a study. A series that is expected and of
    which nothing came has no study yet.
    """
    return sorted(SeriesRow(*row) for row in connection.execute(_OF_UID, (uid,)))


def find(connection: sqlite3.Connection, uid: str, study: str) -> SeriesRow | None:
    """Return the row of a series of a study; None if there is none."""
    row = connection.execute(_OF_STUDY, (uid, study)).fetchone()
    return SeriesRow(*row) if row else None


def row_of(connection: sqlite3.Connection, series: int) -> SeriesRow | None:
    """Return the row with this id; None if there is none."""
    row = connection.execute(_ONE, (series,)).fetchone()
    return SeriesRow(*row) if row else None


def is_pruned(connection: sqlite3.Connection, series: int) -> bool:
    """Return whether `prune` removed a series, or began to."""
    row = connection.execute("SELECT pruned_ns FROM series WHERE id = ?", (series,)).fetchone()
    return bool(row and row[0])


def bytes_of(connection: sqlite3.Connection, series: int) -> int:
    """Return the bytes of a series' instances; 0 if there is no such series."""
    row = connection.execute("SELECT bytes FROM series WHERE id = ?", (series,)).fetchone()
    return int(row[0]) if row else 0


def in_flight(connection: sqlite3.Connection) -> list[SeriesRow]:
    """Return every open series."""
    return [SeriesRow(*row) for row in connection.execute(_OPEN)]


def open_states(connection: sqlite3.Connection, last_activity: float) -> list[SeriesState]:
    """Return every open series as OpenSeries keeps it."""
    began = dict(connection.execute(_BEGAN))
    return [_state(row, last_activity, began.get(row.id, 0)) for row in in_flight(connection)]


def state_of(connection: sqlite3.Connection, row: SeriesRow, last_activity: float) -> SeriesState:
    """Return a row as OpenSeries keeps it."""
    began = 0
    if row.generation > 1:
        began = next((number for _, number in connection.execute(f"{_BEGAN} AND s.id = ?", (row.id,))), 0)
    return _state(row, last_activity, began)


def _state(row: SeriesRow, last_activity: float, began_with: int) -> SeriesState:
    return SeriesState(
        row.SeriesInstanceUID,
        row.StudyInstanceUID,
        row.Modality,
        row.id,
        row.generation,
        row.instances,
        row.expected,
        row.expected_by,
        row.state == "open",
        last_activity,
        row.root,
        began_with,
        PatientID=row.PatientID,
    )


def begin(connection: sqlite3.Connection, uid: str, now_ns: int) -> SeriesRow:
    """Add a series at generation 1 and return its row; identify() fills in its patient and study."""
    made = connection.execute("INSERT INTO series (SeriesInstanceUID, changed_ns) VALUES (?, ?)", (uid, now_ns))
    row = row_of(connection, made.lastrowid or 0)
    assert row
    connection.execute(_HISTORY, (now_ns, "", 1, row.id))
    return row


def identify(connection: sqlite3.Connection, series: int, identity: tuple[str, ...], now_ns: int) -> None:
    """Set StudyInstanceUID, PatientID, AccessionNumber, Modality, sender and incoming directory of a series, known with
    its first instance. Its files that were set aside before count as its errors.
    """
    connection.execute(
        "UPDATE series SET StudyInstanceUID = ?, PatientID = ?, AccessionNumber = ?, Modality = ?, sender = ?, "
        "root = ? WHERE id = ?",
        (*identity, series),
    )
    connection.execute(_ERRORS, (series,))
    _count_in_day(connection, "series", series, now_ns)


def correct(connection: sqlite3.Connection, series: int, identity: tuple[str, str, str]) -> None:
    """Set PatientID, AccessionNumber and Modality of a series to those of its newest instance."""
    connection.execute(
        "UPDATE series SET PatientID = ?, AccessionNumber = ?, Modality = ? WHERE id = ?", (*identity, series)
    )


def mark_empty(connection: sqlite3.Connection, series: int, now_ns: int) -> None:
    """Close a series of which all instances are in another study now, without deliveries."""
    changed = connection.execute(
        "UPDATE series SET state = 'complete', result = 'recounted', changed_ns = ? WHERE id = ? AND state = 'open'",
        (now_ns, series),
    )
    connection.execute("UPDATE series SET pruned_ns = ? WHERE id = ?", (now_ns, series))
    if changed.rowcount:
        connection.execute(_HISTORY, (now_ns, "recounted", 1, series))


def reopen(connection: sqlite3.Connection, series: int, now_ns: int, had: tuple[int, int] | None = None) -> None:
    """Begin the next generation of a series that had ended. `had`: its instances and bytes without what is new."""
    changed = connection.execute(
        "UPDATE series SET state = 'open', generation = generation + 1, changed_ns = ?, pruned_ns = 0 "
        "WHERE id = ? AND state <> 'open'",
        (now_ns, series),
    )
    if changed.rowcount:
        if had:
            connection.execute("UPDATE series SET instances = ?, bytes = ? WHERE id = ?", (*had, series))
        connection.execute(_HISTORY, (now_ns, "", 1, series))


def end(
    connection: sqlite3.Connection,
    series: int,
    ended: Completion,
    now_ns: int,
    *,
    quietly: bool = False,
    later: bool = False,
) -> bool:
    """End a generation and add deliveries (not if `quietly`, for the past that `verify --repair` finds; if `later` they
    come after all others). Return False if another process ended it, or it is another generation by now.
    """
    changed = connection.execute(
        "UPDATE series SET state = ?, result = ?, changed_ns = ? WHERE id = ? AND state = 'open' AND generation = ?",
        (ended.state, ended.result, now_ns, series, ended.generation),
    )
    if not changed.rowcount:
        return False
    connection.execute(_HISTORY, (now_ns, ended.result, int(quietly), series))
    _count_in_day(connection, ended.state, series, now_ns)
    if not quietly:
        modality, sender = connection.execute("SELECT Modality, sender FROM series WHERE id = ?", (series,)).fetchone()
        about = About((modality,), (sender,), (ended.result, ended.state))
        add_deliveries(connection, ended.event, Subject(series, ended.generation), Occasion(now_ns, later=later), about)
    return True


def ended_without_deliveries(connection: sqlite3.Connection, series: int) -> bool:
    """Return whether a series ended without deliveries, as one that `verify --repair` found."""
    row = connection.execute(
        "SELECT result IN ('recounted', 'incomplete') AND NOT EXISTS (SELECT 1 FROM deliveries d WHERE "
        "d.series_id = s.id AND d.generation = s.generation) FROM series s WHERE id = ? AND state <> 'open'",
        (series,),
    ).fetchone()
    return bool(row and row[0])


def _count_in_day(connection: sqlite3.Connection, field: str, series: int, now_ns: int) -> None:
    connection.execute(
        f"INSERT INTO days (day, Modality, sender, {field}) SELECT ?, Modality, sender, 1 FROM series WHERE id = ? "
        f"ON CONFLICT (day, Modality, sender) DO UPDATE SET {field} = {field} + 1",
        (day_of(now_ns // 10**9 * 10**9), series),
    )


def unannounced(connection: sqlite3.Connection) -> list[Completion]:
    """Return the ends that were recorded and perhaps not announced: a crash came between."""
    return [Completion(*row) for row in connection.execute(_UNANNOUNCED)]


def mark_announced(connection: sqlite3.Connection, completion: Completion) -> None:
    """Record that a generation's end was announced."""
    connection.execute(
        "UPDATE history SET announced = 1 WHERE announced = 0 AND generation = ? AND state <> 'open' "
        "AND series_id = (SELECT id FROM series WHERE SeriesInstanceUID = ? AND StudyInstanceUID = ?)",
        (completion.generation, completion.SeriesInstanceUID, completion.StudyInstanceUID),
    )


def expect(connection: sqlite3.Connection, uid: str, number: int, by: str, now_ns: int) -> list[SeriesRow]:
    """Set the expected number of instances (0: not known) of a series, in each study that has it; return the rows. A
    series that ended otherwise (complete with fewer, incomplete with enough) is reopened. One of which nothing came and
    nothing is expected is removed.
    """
    known = all_of(connection, uid)
    if not known and number:
        known = [begin(connection, uid, now_ns)]
    for row in known:
        if number or row.first_ns:
            expect_of(connection, row, number, by, now_ns)
        else:
            forget(connection, row.id)
    return all_of(connection, uid)


def forget(connection: sqlite3.Connection, series: int) -> None:
    """Remove a series of which nothing came, with all rows that refer to it: its id may be used again."""
    for table in ("history", "deliveries", "batch_series", "batch_errors"):
        connection.execute(f"DELETE FROM {table} WHERE series_id = ?", (series,))
    connection.execute("DELETE FROM series WHERE id = ?", (series,))


def expect_of(connection: sqlite3.Connection, row: SeriesRow, number: int, by: str, now_ns: int) -> None:
    """Set the expected number of one series of one study; see expect()."""
    connection.execute(
        "UPDATE series SET expected = ?, expected_by = ?, changed_ns = iif(state = 'open', ?, changed_ns) WHERE id = ?",
        (number, by if number else "", now_ns, row.id),
    )
    short = row.instances < number
    if (row.state == "complete" and short) or (row.state == "incomplete" and not short):
        reopen(connection, row.id, now_ns)
