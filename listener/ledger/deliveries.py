"""Consumers and their deliveries: one for each generation of a series or study that ends, and for each file that is set
aside, added in the transaction that records it for each consumer that wants it.

A consumer takes a delivery under a lease that ends, so that what a killed one held is given out again: at least once,
with a key that identifies it. Every function works on a writer's connection of the caller's thread.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable, Mapping
from typing import NamedTuple

from listener.ledger.connection import transaction
from listener.ledger.interests import About, interest_of
from listener.ledger.rows import (
    SERIES_COLUMNS,
    SERIES_OF_STUDY,
    SET_ASIDE_COLUMNS,
    STUDIES,
    Change,
    Delivery,
    SeriesRow,
    SetAsideRow,
    StudyChange,
    study_row,
)
from listener.moments import LAST

#: The error of a delivery that was given up with its consumer.
RETIRED = "the consumer was retired"

_NOTHING = "the ledger does not have what it tells of any more"

_DUE = """
SELECT id, event, attempts, series_id, generation, set_aside_id, study_id, error FROM deliveries
WHERE consumer_id = ? AND state = 'pending' AND next_ns <= ? AND lease_until_ns <= ?
ORDER BY later, set_aside_id > 0, next_ns, id LIMIT ?
"""

_STUDY = f"{STUDIES} WHERE t.id = ?"
_FIRST = "SELECT min(id) FROM series WHERE SeriesInstanceUID = ?"


_LEFT = """
SELECT count(*) FROM deliveries d JOIN consumers c ON c.id = d.consumer_id
WHERE d.state <> 'delivered' AND c.active = 1
"""
_LEFT_OF_SERIES = f"{_LEFT} AND d.series_id = ? AND d.generation = ? AND c.since_ns <= ?"
# Without the second condition no index would serve.
_LEFT_OF_STUDY = f"{_LEFT} AND d.study_id = ? AND d.study_id > 0 AND d.generation = ? AND c.since_ns <= ?"


class Subject(NamedTuple):
    """What a delivery is about, by ids: a generation of a series or of a study, or a set-aside file."""

    series_id: int = 0
    generation: int = 0
    set_aside_id: int = 0
    study_id: int = 0


class Occasion(NamedTuple):
    """When something is told (nanoseconds since the epoch): to consumers registered at `since`; `later`: after
    all others that are due.
    """

    now_ns: int
    since: int = LAST
    later: bool = False


def register(
    connection: sqlite3.Connection,
    name: str,
    now_ns: int,
    *,
    owner: str = "",
    takes_over: bool = True,
    wants: str | None = None,
) -> int:
    """Register a consumer for all that happens from now on; return its id. For one that is registered already all
    pending deliveries, leased ones included, become due now; one that was retired gets nothing of the time between.
    `owner`: the listener that serves it from now on, unless another one does and `takes_over` is False. `wants`: the
    text of an Interest from now on (None: as it was).
    """
    with transaction(connection):
        add_consumers(connection, {name: wants or ""}, now_ns, owner)
        if wants is not None:
            connection.execute("UPDATE consumers SET wants = ? WHERE name = ?", (wants, name))
        if owner:
            connection.execute(
                "UPDATE consumers SET owner = ? WHERE name = ? AND owner <> ? AND (owner = '' OR active = 0 OR ?)",
                (owner, name, owner, takes_over),
            )
        row = connection.execute("SELECT id, active FROM consumers WHERE name = ?", (name,)).fetchone()
        if not row[1]:
            connection.execute("UPDATE consumers SET active = 1, since_ns = ? WHERE id = ?", (now_ns, row[0]))
        connection.execute(
            "UPDATE deliveries SET lease = '', lease_until_ns = 0, next_ns = min(next_ns, ?) "
            "WHERE consumer_id = ? AND state = 'pending' AND (lease_until_ns > 0 OR next_ns > ?)",
            (now_ns, row[0], now_ns),
        )
        return int(row[0])


def retire(connection: sqlite3.Connection, name: str, now_ns: int) -> None:
    """Retire a consumer: it gets no new deliveries, and its pending ones fail."""
    with transaction(connection):
        connection.execute("UPDATE consumers SET active = 0 WHERE name = ?", (name,))
        connection.execute(
            "UPDATE deliveries SET state = 'failed', error = ?, settled_ns = ? WHERE state = 'pending' "
            "AND consumer_id = (SELECT id FROM consumers WHERE name = ?)",
            (RETIRED, now_ns, name),
        )


def active(connection: sqlite3.Connection) -> dict[str, str]:
    """Return the active consumers: names, and what they want as in their rows."""
    return dict(connection.execute("SELECT name, wants FROM consumers WHERE active = 1"))


def add_consumers(connection: sqlite3.Connection, wants: Mapping[str, str], now_ns: int, owner: str = "") -> None:
    """Within a transaction: add the consumers (as active() returns them) that the ledger, perhaps a new one, lacks."""
    connection.executemany(
        "INSERT OR IGNORE INTO consumers (name, wants, owner, since_ns) VALUES (?, ?, ?, ?)",
        [(name, text, owner, now_ns) for name, text in sorted(wants.items())],
    )


def pending_subjects(connection: sqlite3.Connection) -> tuple[set[str], set[str]]:
    """Return the subjects of pending deliveries: Series Instance UIDs, and paths of set-aside files."""
    series = "SELECT DISTINCT s.SeriesInstanceUID FROM deliveries d JOIN series s ON s.id = d.series_id"
    aside = "SELECT DISTINCT a.path FROM deliveries d JOIN set_aside a ON a.id = d.set_aside_id"
    uids = {uid for (uid,) in connection.execute(f"{series} WHERE d.state = 'pending'")}
    return uids, {path for (path,) in connection.execute(f"{aside} WHERE d.state = 'pending'")}


def add_deliveries(
    connection: sqlite3.Connection,
    event: str,
    subject: Subject,
    occasion: Occasion,
    about: About,
) -> None:
    """Within a transaction: add a delivery for every active consumer that wants it."""
    registered = connection.execute(
        "SELECT id, wants FROM consumers WHERE active = 1 AND since_ns <= ? ORDER BY id",
        (occasion.since,),
    ).fetchall()
    wanting = [consumer for consumer, wants in registered if interest_of(wants).covers(event, about)]
    add_for(connection, wanting, event, subject, (occasion.now_ns, occasion.now_ns), later=occasion.later)


def add_for(
    connection: sqlite3.Connection,
    consumers: Iterable[int],
    event: str,
    subject: Subject,
    times: tuple[int, int],
    *,
    later: bool = False,
) -> None:
    """Within a transaction: add a delivery for each of these consumers, if it has none; `times`: when it was made, and
    when it is due; `later`: it is given out after all others that are due.
    """
    connection.executemany(
        "INSERT OR IGNORE INTO deliveries (consumer_id, event, series_id, generation, set_aside_id, study_id, made_ns, "
        "next_ns, later) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)",
        [(consumer, event, *subject, *times, later) for consumer in consumers],
    )


def lease(connection: sqlite3.Connection, consumer: int, now_ns: int, until_ns: int, limit: int = 1) -> list[Delivery]:
    """Lease due deliveries until `until_ns`; what is not settled by then is given out again. Series come first, so that
    a flood of bad files does not hold them up, and what a backfill brought comes last; of each kind those longest due.
    """
    # First without a lock: mostly nothing is due.
    due = (consumer, now_ns, now_ns, limit)
    if not connection.execute(_DUE, due).fetchall():
        return []
    holder = f"{consumer}/{now_ns}"
    with transaction(connection):
        rows = connection.execute(_DUE, due).fetchall()
        connection.executemany(
            "UPDATE deliveries SET attempts = attempts + 1, lease = ?, lease_until_ns = ? WHERE id = ?",
            [(holder, until_ns, row[0]) for row in rows],
        )
        taken = {row[0]: _delivery(connection, row, holder) for row in rows}
        connection.executemany(
            "UPDATE deliveries SET state = 'failed', settled_ns = ?, error = ? WHERE id = ?",
            [(now_ns, _NOTHING, number) for number, delivery in taken.items() if delivery is None],
        )
        return [delivery for delivery in taken.values() if delivery]


def _delivery(
    connection: sqlite3.Connection, row: tuple[int, str, int, int, int, int, int, str], holder: str
) -> Delivery | None:
    """Return a delivery with its subject; None if the subject was removed."""
    number, event, attempts, series_id, generation, aside_id, study_id, error = row
    about = Delivery(number, event, f"set-aside/{aside_id}", attempts + 1, holder, error=error)
    if study_id:
        return _delivery_of_study(connection, about, study_id, generation)
    if aside_id:
        aside = connection.execute(f"SELECT {SET_ASIDE_COLUMNS} FROM set_aside a WHERE id = ?", (aside_id,)).fetchone()
        return about._replace(aside=SetAsideRow(*aside)) if aside else None
    series_row = connection.execute(f"SELECT {SERIES_COLUMNS} FROM series s WHERE id = ?", (series_id,)).fetchone()
    change = connection.execute(
        f"SELECT {', '.join(Change._fields)} FROM history WHERE series_id = ? AND generation = ? AND state <> 'open'",
        (series_id, generation),
    ).fetchone()
    if not series_row or not change:
        return None
    series = SeriesRow(*series_row)
    key = _key(connection, series, generation)
    return about._replace(key=key, series=series, change=Change(*change))


def _delivery_of_study(
    connection: sqlite3.Connection, delivery: Delivery, study_id: int, generation: int
) -> Delivery | None:
    """Return a delivery with the end of a study's generation, and the study as it is now."""
    row = connection.execute(_STUDY, (study_id,)).fetchone()
    end = connection.execute(
        f"SELECT {', '.join(StudyChange._fields)} FROM study_ends WHERE study_id = ? AND generation = ?",
        (study_id, generation),
    ).fetchone()
    if not row or not end:
        return None
    study = study_row(row)
    series = tuple([SeriesRow(*one) for one in connection.execute(SERIES_OF_STUDY, (study_id,))])
    key = f"study/{study.StudyInstanceUID}/{generation}"
    return delivery._replace(key=key, study=study, series_of_study=series, end=StudyChange(*end))


def _key(connection: sqlite3.Connection, series: SeriesRow, generation: int) -> str:
    """Return series and generation, with the study if another one had the series UID before. Rows stay, so keys do."""
    (first,) = connection.execute(_FIRST, (series.SeriesInstanceUID,)).fetchone()
    key = f"{series.SeriesInstanceUID}/{generation}"
    return key if series.id == first else f"{key}/{series.StudyInstanceUID}"


def renew(connection: sqlite3.Connection, delivery: Delivery, until_ns: int) -> bool:
    """Let the lease of a delivery last until `until_ns`; return False if it ran out and another one holds it."""
    with transaction(connection):
        changed = connection.execute(
            "UPDATE deliveries SET lease_until_ns = ? WHERE id = ? AND lease = ?",
            (until_ns, delivery.id, delivery.lease),
        )
        return changed.rowcount == 1


def settle(
    connection: sqlite3.Connection, delivery: Delivery, state: str, now_ns: int, *, next_ns: int = 0, error: str = ""
) -> bool:
    """Record an attempt: `delivered`, `failed` for good, or `pending` until `next_ns`. Return False if the lease ran
    out and another one holds it. What was delivered counts so even if its consumer was retired meanwhile.
    """
    settled = now_ns if state != "pending" else 0
    with transaction(connection):
        changed = connection.execute(
            "UPDATE deliveries SET state = ?, next_ns = ?, lease = '', lease_until_ns = 0, settled_ns = ?, error = ? "
            "WHERE id = ? AND lease = ? "
            "AND (state = 'pending' OR (state = 'failed' AND ? = 'delivered' AND error = ?))",
            (state, next_ns, settled, error, delivery.id, delivery.lease, state, RETIRED),
        )
        return changed.rowcount == 1


def is_delivered(connection: sqlite3.Connection, series: SeriesRow) -> bool:
    """Return whether the last generation of a series, and of its study, is delivered to every active consumer, as far
    as it has deliveries (one that `verify --repair` found has none).
    """
    (left,) = connection.execute(_LEFT_OF_SERIES, (series.id, series.generation, series.changed_ns)).fetchone()
    study = connection.execute(
        "SELECT id, generation, changed_ns FROM study_states WHERE StudyInstanceUID = ?", (series.StudyInstanceUID,)
    ).fetchone()
    if study and not left:
        (left,) = connection.execute(_LEFT_OF_STUDY, study).fetchone()
    return not left
