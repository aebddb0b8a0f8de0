"""Turns in a series' life: it begins, ends, and begins again. Within a transaction of the caller's.

The ledger itself holds that a generation ends once (a unique index), whoever writes.
"""

from __future__ import annotations

import sqlite3

from listener.ledger.completion import Completion, SeriesState
from listener.ledger.deliveries import tell_consumers
from listener.ledger.rows import SERIES_COLUMNS, SeriesRow
from listener.ledger.tables import day_of

_OF_UID = f"SELECT {SERIES_COLUMNS} FROM series s WHERE SeriesInstanceUID = ?"
_OF_STUDY = f"SELECT {SERIES_COLUMNS} FROM series s WHERE SeriesInstanceUID = ? AND StudyInstanceUID = ?"
_ONE = f"SELECT {SERIES_COLUMNS} FROM series s WHERE id = ?"
#: Whatever reaches the number completes a generation whose predecessor lacked some.
_BEGAN = """
SELECT s.id, CASE s.result WHEN 'incomplete' THEN 0 ELSE h.instances END FROM series s
JOIN history h ON h.series_id = s.id AND h.generation = s.generation AND h.state = 'open'
WHERE s.state = 'open' AND s.generation > 1
"""
_OPEN = f"SELECT {SERIES_COLUMNS} FROM series s WHERE state = 'open'"
_UNTOLD = """
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
    """The series of one Series Instance UID, the oldest row first: mostly one, else one a study. A series that is
    expected and of which nothing came has no study yet.
    """
    return sorted(SeriesRow(*row) for row in connection.execute(_OF_UID, (uid,)))


def find(connection: sqlite3.Connection, uid: str, study: str) -> SeriesRow | None:
    """The row of a series of a study."""
    row = connection.execute(_OF_STUDY, (uid, study)).fetchone()
    return SeriesRow(*row) if row else None


def row_of(connection: sqlite3.Connection, series: int) -> SeriesRow | None:
    """The row with this id."""
    row = connection.execute(_ONE, (series,)).fetchone()
    return SeriesRow(*row) if row else None


def is_pruned(connection: sqlite3.Connection, series: int) -> bool:
    """Whether `prune` removed a series, or began to."""
    found = connection.execute("SELECT pruned_ns FROM series WHERE id = ?", (series,)).fetchone()
    return bool(found and found[0])


def in_flight(connection: sqlite3.Connection) -> list[SeriesRow]:
    """Every open series."""
    return [SeriesRow(*row) for row in connection.execute(_OPEN)]


def standings(connection: sqlite3.Connection, touched: float) -> list[SeriesState]:
    """Every open series as the book keeps it."""
    began = dict(connection.execute(_BEGAN))
    return [_standing(row, touched, began.get(row.id, 0)) for row in in_flight(connection)]


def standing(connection: sqlite3.Connection, row: SeriesRow, touched: float) -> SeriesState:
    """A row as the book keeps it."""
    began = 0
    if row.generation > 1:
        began = next((number for _, number in connection.execute(f"{_BEGAN} AND s.id = ?", (row.id,))), 0)
    return _standing(row, touched, began)


def _standing(row: SeriesRow, touched: float, began: int) -> SeriesState:
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
        touched,
        row.root,
        began,
        PatientID=row.PatientID,
    )


def begin(connection: sqlite3.Connection, uid: str, now_ns: int) -> SeriesRow:
    """A series that nobody knew: generation 1. Whose it is, is told by identify()."""
    made = connection.execute("INSERT INTO series (SeriesInstanceUID, changed_ns) VALUES (?, ?)", (uid, now_ns))
    row = row_of(connection, made.lastrowid or 0)
    assert row
    connection.execute(_HISTORY, (now_ns, "", 1, row.id))
    return row


def identify(connection: sqlite3.Connection, series: int, identity: tuple[str, ...], now_ns: int) -> None:
    """StudyInstanceUID, PatientID, AccessionNumber, Modality, sender and root, known with the first instance. Files of
    it that were set aside before are its errors too.
    """
    connection.execute(
        "UPDATE series SET StudyInstanceUID = ?, PatientID = ?, AccessionNumber = ?, Modality = ?, sender = ?, "
        "root = ? WHERE id = ?",
        (*identity, series),
    )
    connection.execute(_ERRORS, (series,))
    _credit(connection, "series", series, now_ns)


def correct(connection: sqlite3.Connection, series: int, identity: tuple[str, str, str]) -> None:
    """PatientID, AccessionNumber and Modality, as its newest instance tells them."""
    connection.execute(
        "UPDATE series SET PatientID = ?, AccessionNumber = ?, Modality = ? WHERE id = ?", (*identity, series)
    )


def leave(connection: sqlite3.Connection, series: int, now_ns: int) -> None:
    """All instances of a series are in another study now: nothing is left to end, and nobody is told."""
    changed = connection.execute(
        "UPDATE series SET state = 'complete', result = 'recounted', changed_ns = ? WHERE id = ? AND state = 'open'",
        (now_ns, series),
    )
    connection.execute("UPDATE series SET pruned_ns = ? WHERE id = ?", (now_ns, series))
    if changed.rowcount:
        connection.execute(_HISTORY, (now_ns, "recounted", 1, series))


def begin_again(connection: sqlite3.Connection, series: int, now_ns: int, had: tuple[int, int] | None = None) -> None:
    """Something new of a series that had ended: the next generation. `had`: the instances and bytes that there are of
    it, without what is new.
    """
    changed = connection.execute(
        "UPDATE series SET state = 'open', generation = generation + 1, changed_ns = ?, pruned_ns = 0 "
        "WHERE id = ? AND state <> 'open'",
        (now_ns, series),
    )
    if changed.rowcount:
        if had:
            connection.execute("UPDATE series SET instances = ?, bytes = ? WHERE id = ?", (*had, series))
        connection.execute(_HISTORY, (now_ns, "", 1, series))


def end(connection: sqlite3.Connection, series: int, ended: Completion, now_ns: int, *, quietly: bool = False) -> bool:
    """A generation ends, and consumers are to be told (unless `quietly`, for what is only found out about the past).
    False when another one ended it, or it is another one by now.
    """
    changed = connection.execute(
        "UPDATE series SET state = ?, result = ?, changed_ns = ? WHERE id = ? AND state = 'open' AND generation = ?",
        (ended.state, ended.result, now_ns, series, ended.generation),
    )
    if not changed.rowcount:
        return False
    connection.execute(_HISTORY, (now_ns, ended.result, int(quietly), series))
    _credit(connection, ended.state, series, now_ns)
    if not quietly:
        tell_consumers(connection, ended.event, now_ns, series=(series, ended.generation))
    return True


def ended_unheard(connection: sqlite3.Connection, series: int) -> bool:
    """Whether a series ended and no consumer was to be told, as where it was only found out about the past."""
    found = connection.execute(
        "SELECT result IN ('recounted', 'incomplete') AND NOT EXISTS (SELECT 1 FROM deliveries d WHERE "
        "d.series_id = s.id AND d.generation = s.generation) FROM series s WHERE id = ? AND state <> 'open'",
        (series,),
    ).fetchone()
    return bool(found and found[0])


def _credit(connection: sqlite3.Connection, field: str, series: int, now_ns: int) -> None:
    connection.execute(
        f"INSERT INTO days (day, Modality, sender, {field}) SELECT ?, Modality, sender, 1 FROM series WHERE id = ? "
        f"ON CONFLICT (day, Modality, sender) DO UPDATE SET {field} = {field} + 1",
        (day_of(now_ns // 10**9 * 10**9), series),
    )


def unannounced(connection: sqlite3.Connection) -> list[Completion]:
    """Ends that were recorded and perhaps never announced: a crash came between the two."""
    return [Completion(*row) for row in connection.execute(_UNTOLD)]


def mark_announced(connection: sqlite3.Connection, one: Completion) -> None:
    """A generation's end was announced."""
    connection.execute(
        "UPDATE history SET announced = 1 WHERE announced = 0 AND generation = ? AND state <> 'open' "
        "AND series_id = (SELECT id FROM series WHERE SeriesInstanceUID = ? AND StudyInstanceUID = ?)",
        (one.generation, one.SeriesInstanceUID, one.StudyInstanceUID),
    )


def expect(connection: sqlite3.Connection, uid: str, number: int, by: str, now_ns: int) -> list[SeriesRow]:
    """Somebody says how many instances a series will have (0: nobody knows), in each study that has it. Where that
    changes how an ended series stands, it is open again: complete with fewer, or incomplete with enough. A series of
    which nothing has come and nothing is expected is forgotten. Returns what it was said of.
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
    """A series that nobody has seen anything of leaves nothing: its number may become another one's."""
    for table in ("history", "deliveries", "batch_series", "batch_errors"):
        connection.execute(f"DELETE FROM {table} WHERE series_id = ?", (series,))
    connection.execute("DELETE FROM series WHERE id = ?", (series,))


def expect_of(connection: sqlite3.Connection, row: SeriesRow, number: int, by: str, now_ns: int) -> None:
    """The same of one series of one study."""
    connection.execute(
        "UPDATE series SET expected = ?, expected_by = ?, changed_ns = iif(state = 'open', ?, changed_ns) WHERE id = ?",
        (number, by if number else "", now_ns, row.id),
    )
    short = row.instances < number
    if (row.state == "complete" and short) or (row.state == "incomplete" and not short):
        begin_again(connection, row.id, now_ns)
