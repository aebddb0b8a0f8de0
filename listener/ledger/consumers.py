"""Consumers as people and the threads of hooks deal with them: how each stands, who owns it, and what becomes of
deliveries that failed.

Every function works on a writer's connection of the caller's own thread, unless it says otherwise.
"""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Sequence
from typing import NamedTuple

from listener.ledger.connection import transaction
from listener.ledger.deliveries import RETIRED
from listener.planning.names import short_hash

_POSITION = """
SELECT active, stopped, (SELECT ifnull(max(id), 0) FROM history), (SELECT ifnull(max(id), 0) FROM set_aside)
FROM consumers WHERE id = ?
"""
_MISSED_SERIES = """
INSERT OR IGNORE INTO deliveries (consumer_id, event, series_id, generation, made_ns, next_ns)
SELECT ?, 'series-' || state, series_id, generation, at_ns, ? FROM history
WHERE id > ? AND state <> 'open' AND result <> 'recounted' ORDER BY id
"""
_MISSED_ASIDE = """
INSERT OR IGNORE INTO deliveries (consumer_id, event, set_aside_id, made_ns, next_ns)
SELECT ?, 'set-aside', id, at_ns, ? FROM set_aside WHERE id > ? ORDER BY id
"""


class Position(NamedTuple):
    """A consumer at one moment: is it active, why it is stopped ("" when it is not), and the newest rows of history
    and set_aside, up to which everything is in its deliveries if it is active.
    """

    is_active: bool
    stopped: str
    history: int
    set_aside: int


def owner_of(incoming: Sequence[str]) -> str:
    """The name of a listener in the ledger, by its incoming directories."""
    return short_hash("\0".join(map(os.path.realpath, incoming)))


def is_own(connection: sqlite3.Connection, name: str, owner: str) -> bool:
    """Whether an active consumer was registered by this listener; or by nobody knows whom, in an older ledger."""
    found = connection.execute("SELECT owner FROM consumers WHERE name = ? AND active = 1", (name,)).fetchone()
    return found is not None and found[0] in ("", owner)


def position(connection: sqlite3.Connection, consumer: int) -> Position | None:
    """How a consumer stands; None for one that the ledger does not have. By primary keys: asked twice a second."""
    found = connection.execute(_POSITION, (consumer,)).fetchone()
    return Position(bool(found[0]), *found[1:]) if found else None


def resume(connection: sqlite3.Connection, consumer: int, seen: Position, since_ns: int, now_ns: int) -> None:
    """Register a consumer again that somebody retired while it was being served: nothing is left out. What was given up
    since `since_ns` waits again, and what happened after the position at which it was `seen` active is to be told.
    """
    with transaction(connection):
        connection.execute("UPDATE consumers SET active = 1 WHERE id = ?", (consumer,))
        connection.execute(
            "UPDATE deliveries SET state = 'pending', settled_ns = 0, next_ns = ?, error = '', lease = '', "
            "lease_until_ns = 0 "
            "WHERE consumer_id = ? AND state = 'failed' AND error = ? AND settled_ns >= ?",
            (now_ns, consumer, RETIRED, since_ns),
        )
        connection.execute(_MISSED_SERIES, (consumer, now_ns, seen.history))
        connection.execute(_MISSED_ASIDE, (consumer, now_ns, seen.set_aside))


def stop(connection: sqlite3.Connection, consumer: int, why: str) -> None:
    """Tell a consumer nothing more until a start of its service, or redeliver(). Its deliveries go on to be made."""
    with transaction(connection):
        connection.execute("UPDATE consumers SET stopped = ? WHERE id = ?", (why, consumer))


def redeliver(connection: sqlite3.Connection, consumer: int, now_ns: int) -> None:
    """Let a consumer be told again what failed, and at once what waits; also one that was stopped."""
    with transaction(connection):
        connection.execute("UPDATE consumers SET stopped = '' WHERE id = ?", (consumer,))
        connection.execute(
            "UPDATE deliveries SET state = 'pending', attempts = 0, settled_ns = 0, lease = '', lease_until_ns = 0, "
            "next_ns = ? WHERE consumer_id = ? AND state = 'failed'",
            (now_ns, consumer),
        )
        connection.execute(
            "UPDATE deliveries SET next_ns = ? WHERE consumer_id = ? AND state = 'pending' AND next_ns > ?",
            (now_ns, consumer, now_ns),
        )


def forget(connection: sqlite3.Connection, consumer: int) -> None:
    """Remove the deliveries of a consumer that failed: it missed them, and nothing is kept for them any more."""
    with transaction(connection):
        connection.execute("DELETE FROM deliveries WHERE consumer_id = ? AND state = 'failed'", (consumer,))
