"""Consumers as people and hook threads manage them: state, owner, stopping, and failed deliveries.

Every function works on a writer's connection of the caller's thread.
"""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Sequence
from typing import NamedTuple

from listener.hook_config import OLDEST_NAMES
from listener.ledger.connection import transaction
from listener.ledger.deliveries import RETIRED, Subject, add_for
from listener.ledger.interests import About, interest_of
from listener.moments import LAST
from listener.planning.names import short_hash

_OF_UID = """
SELECT id FROM (
    SELECT d.id, row_number() OVER (PARTITION BY d.series_id, d.study_id ORDER BY d.generation DESC) AS place
    FROM deliveries d WHERE d.consumer_id = ?1 AND (
        d.series_id IN (SELECT id FROM series WHERE SeriesInstanceUID = ?2 OR StudyInstanceUID = ?2)
        OR d.study_id IN (SELECT id FROM studies WHERE StudyInstanceUID = ?2) AND d.study_id > 0
    )
) WHERE place = 1 ORDER BY id
"""
_COUNTS = """
SELECT state, deliveries FROM delivery_counts WHERE consumer_id = (SELECT id FROM consumers WHERE name = ?)
"""
OLDEST_PENDING = """
SELECT min(made_ns) FROM deliveries WHERE state = 'pending'
AND consumer_id = (SELECT id FROM consumers WHERE name = ?)
"""
_POSITION = """
SELECT active, stopped, (SELECT ifnull(max(id), 0) FROM history), (SELECT ifnull(max(id), 0) FROM set_aside),
    (SELECT ifnull(max(id), 0) FROM study_ends)
FROM consumers WHERE id = ?
"""
#: What was recorded after given ids: event, ids as in Subject, time, and what the event is about (several values are
#: separated by a backslash, which neither modalities nor AE titles have).
_MISSED = (
    """
    SELECT 'series-' || h.state, s.id, h.generation, 0, 0, h.at_ns, s.Modality, s.sender, h.result, h.state
    FROM history h JOIN series s ON s.id = h.series_id
    WHERE h.id > ? AND h.state <> 'open' AND h.result <> 'recounted' ORDER BY h.id
    """,
    """
    SELECT 'set-aside', 0, 0, id, 0, at_ns, Modality, sender, '', '' FROM set_aside WHERE id > ? ORDER BY id
    """,
    """
    SELECT 'study-' || e.result, 0, e.generation, 0, e.study_id, e.at_ns,
        ifnull((SELECT group_concat(Modality, '\\') FROM series s WHERE s.StudyInstanceUID = t.StudyInstanceUID), ''),
        ifnull((SELECT group_concat(sender, '\\') FROM series s WHERE s.StudyInstanceUID = t.StudyInstanceUID), ''),
        e.result, ''
    FROM study_ends e JOIN study_states t ON t.id = e.study_id WHERE e.id > ? ORDER BY e.id
    """,
)


class Position(NamedTuple):
    """State of a consumer: whether it is active, why it is stopped ("": it is not), and the newest ids in history,
    set_aside and study_ends, up to which an active consumer has its deliveries.
    """

    is_active: bool
    stopped: str
    history: int
    set_aside: int
    study_ends: int


def owner_of(incoming: Sequence[str]) -> str:
    """Return the name of a listener in the ledger, made of its incoming directories."""
    return short_hash("\0".join(map(os.path.realpath, incoming)))


def served_by(connection: sqlite3.Connection, owner: str) -> set[str]:
    """Return the names of a listener's active hooks. A stage has no owner; hooks of an old ledger have none either."""
    return {
        name
        for name, of in connection.execute("SELECT name, owner FROM consumers WHERE active = 1")
        if of == owner or (not of and name in OLDEST_NAMES)
    }


def id_of(connection: sqlite3.Connection, name: str) -> int:
    """Return the id of a consumer; 0 if the ledger lacks it."""
    row = connection.execute("SELECT id FROM consumers WHERE name = ?", (name,)).fetchone()
    return int(row[0]) if row else 0


def position(connection: sqlite3.Connection, consumer: int) -> Position | None:
    """Return the state of a consumer; None if the ledger lacks it. By primary keys: it is read four times a second."""
    row = connection.execute(_POSITION, (consumer,)).fetchone()
    return Position(bool(row[0]), *row[1:]) if row else None


def resume(connection: sqlite3.Connection, consumer: int, seen: Position, since_ns: int, now_ns: int) -> None:
    """Register again, without a gap, a consumer that was retired while a thread served it: deliveries given up since
    `since_ns` are pending again, and those after the position at which it was `seen` active are added.
    """
    with transaction(connection):
        connection.execute("UPDATE consumers SET active = 1 WHERE id = ?", (consumer,))
        connection.execute(
            "UPDATE deliveries SET state = 'pending', settled_ns = 0, next_ns = ?, error = '', lease = '', "
            "lease_until_ns = 0 "
            "WHERE consumer_id = ? AND state = 'failed' AND error = ? AND settled_ns >= ?",
            (now_ns, consumer, RETIRED, since_ns),
        )
        (wants,) = connection.execute("SELECT wants FROM consumers WHERE id = ?", (consumer,)).fetchone()
        for query, last in zip(_MISSED, (seen.history, seen.set_aside, seen.study_ends), strict=True):
            for event, *ids, at_ns, modalities, senders, result, state in connection.execute(query, (last,)).fetchall():
                results = tuple(word for word in (result, state) if word)
                about = About(modalities.split("\\"), senders.split("\\"), results)
                if interest_of(wants).covers(event, about):
                    add_for(connection, [consumer], event, Subject(*ids), (at_ns, now_ns))


class Standing(NamedTuple):
    """How deliveries to a consumer stand: numbers by state, and when the oldest pending one was made (0: none)."""

    counts: dict[str, int]
    oldest_ns: int


def standing(connection: sqlite3.Connection, name: str) -> Standing:
    """Return how deliveries to a consumer stand. By keys: it is read once a second."""
    counts = dict(connection.execute(_COUNTS, (name,)))
    (oldest,) = connection.execute(OLDEST_PENDING, (name,)).fetchone()
    return Standing(counts, oldest or 0)


def stop(connection: sqlite3.Connection, consumer: int, why: str) -> None:
    """Deliver nothing more to a consumer until its service starts, or redeliver(). Deliveries are still added."""
    with transaction(connection):
        connection.execute("UPDATE consumers SET stopped = ? WHERE id = ?", (why, consumer))


def start(connection: sqlite3.Connection, name: str) -> None:
    """Deliver again to a consumer that was stopped: its receiver may be another one now."""
    with transaction(connection):
        connection.execute("UPDATE consumers SET stopped = '' WHERE name = ?", (name,))


_AGAIN = """
UPDATE deliveries SET state = 'pending', attempts = 0, settled_ns = 0, lease = '', lease_until_ns = 0, next_ns = ?
WHERE consumer_id = ? AND
"""


def redeliver(connection: sqlite3.Connection, consumer: int, now_ns: int, *, only_failed: bool = False) -> None:
    """Make failed deliveries of a consumer pending again, and all (or these) due now; also of one that was stopped."""
    with transaction(connection):
        connection.execute("UPDATE consumers SET stopped = '' WHERE id = ?", (consumer,))
        connection.execute(f"{_AGAIN} state = 'failed'", (now_ns, consumer))
        if only_failed:
            return
        connection.execute(
            "UPDATE deliveries SET next_ns = ? WHERE consumer_id = ? AND state = 'pending' AND next_ns > ?",
            (now_ns, consumer, now_ns),
        )


def deliveries_of_uid(connection: sqlite3.Connection, consumer: int, uid: str) -> list[int]:
    """Return the ids of a consumer's newest deliveries of a series, or of a study and each of its series."""
    return [number for (number,) in connection.execute(_OF_UID, (consumer, uid))]


_OF_ENDED = """
SELECT 'series-' || state, id, generation FROM series
WHERE state <> 'open' AND pruned_ns = 0 AND instances > 0 AND SeriesInstanceUID = ? ORDER BY id
"""
_ENDED_SINCE = """
SELECT 'series-' || state, id, generation FROM series
WHERE state <> 'open' AND pruned_ns = 0 AND instances > 0 AND changed_ns >= ? ORDER BY changed_ns
"""


def ended_series(connection: sqlite3.Connection, *, uid: str = "", since_ns: int = LAST) -> list[tuple[str, Subject]]:
    """Return event and subject of the last generation of series that have ended: of a SeriesInstanceUID, or since a
    moment.
    """
    rows = connection.execute(_OF_ENDED, (uid,)) if uid else connection.execute(_ENDED_SINCE, (since_ns,))
    return [(event, Subject(series, generation)) for event, series, generation in rows]


def tell_again(connection: sqlite3.Connection, consumer: int, ends: Sequence[tuple[str, Subject]], now_ns: int) -> None:
    """Make deliveries of these ends pending and due now, also where there were none; also of a consumer that was
    stopped.
    """
    with transaction(connection):
        connection.execute("UPDATE consumers SET stopped = '' WHERE id = ?", (consumer,))
        for event, subject in ends:
            add_for(connection, [consumer], event, subject, (now_ns, now_ns))
            about = (now_ns, consumer, event, subject.series_id, subject.generation)
            connection.execute(f"{_AGAIN} event = ? AND series_id = ? AND generation = ?", about)


def redeliver_these(connection: sqlite3.Connection, consumer: int, ids: Sequence[int], now_ns: int) -> None:
    """Make deliveries of a consumer pending and due now, delivered ones too; also of one that was stopped."""
    with transaction(connection):
        connection.execute("UPDATE consumers SET stopped = '' WHERE id = ?", (consumer,))
        connection.executemany(f"{_AGAIN} id = ?", [(now_ns, consumer, number) for number in ids])


def forget(connection: sqlite3.Connection, consumer: int) -> None:
    """Remove the failed deliveries of a consumer, and with them all that is kept for them."""
    with transaction(connection):
        connection.execute("DELETE FROM deliveries WHERE consumer_id = ? AND state = 'failed'", (consumer,))
