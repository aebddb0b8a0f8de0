"""What people do to route's state: rows that a running service finds, and one that starts later too.

Each deed is one transaction: a kill leaves it done or not done.
"""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Mapping

import orjson

from listener.errors import ListenerError
from listener.route.schema import RESULT
from listener.stages.database import transaction, translated


class UnknownTarget(ListenerError):
    """The routes file that the service uses names no such target; 'listener route status' lists them."""


class StudyNotRouted(ListenerError):
    """Route knows no such study; 'listener route studies' lists them."""


class UnknownHeld(ListenerError):
    """Nothing is held under this number; 'listener route held' lists what is."""


_PAUSE = "INSERT INTO targets (name, paused) VALUES (?, ?) ON CONFLICT DO UPDATE SET paused = excluded.paused"
_DEAD = """
SELECT w.id, w.instance_id, f.path || '/' || i.name FROM sends w JOIN instances i ON i.id = w.instance_id
JOIN folders f ON f.id = i.folder_id JOIN series s ON s.id = i.series_id LEFT JOIN studies t ON t.id = w.study_id
WHERE w.state = 'dead' AND (?1 = '' OR w.target = ?1) AND (?2 = '' OR ?2 IN (s.StudyInstanceUID, t.StudyInstanceUID))
"""
_AGAIN = """
UPDATE sends SET state = 'pending', round = round + 1, attempts = 0, next_ns = 0, status = -1,
    error = '', comment = '',
    settled_ns = 0 WHERE id = ? AND state = 'dead'
"""
_FILE = "UPDATE instances SET inode = ?, size = ?, mtime_ns = ? WHERE id = ?"
_SEND = f"""
INSERT INTO sends (instance_id, study_id, kind, target, queued_ns) VALUES (?, 0, '{RESULT}', ?, ?)
ON CONFLICT DO UPDATE SET state = 'pending', round = round + 1, attempts = 0, next_ns = 0, status = -1,
    error = '', comment = '',
    settled_ns = 0 WHERE state <> 'pending'
"""
_SETTLE = "UPDATE held SET outcome = ?, settled_ns = ? WHERE id = ?"


def pause(connection: sqlite3.Connection, worker: str, *, paused: bool) -> None:
    """Give a worker no new studies, or let it have some again. Raises StageFault."""
    with transaction(connection):
        connection.execute(_PAUSE, (worker, paused))


def ask(connection: sqlite3.Connection, verb: str, arguments: Mapping[str, str], now_ns: int) -> int:
    """Ask the service for what needs its knowledge; return the number of the request. Raises StageFault."""
    with transaction(connection):
        values = (verb, orjson.dumps(arguments).decode(), now_ns)
        made = connection.execute("INSERT INTO requests (verb, arguments, at_ns) VALUES (?, ?, ?)", values)
        return int(made.lastrowid or 0)


def answer(connection: sqlite3.Connection, request: int) -> str | None:
    """Return what the service says to a request: "" that it is done, or what went wrong; None: nothing yet."""
    with translated():
        row = connection.execute("SELECT done_ns, answer FROM requests WHERE id = ?", (request,)).fetchone()
    return str(row[1]) if row and row[0] else None


def retry(connection: sqlite3.Connection, data_dir: str, target: str = "", study: str = "") -> int:
    """Send dead letters again (of a target, of a study), as their files are now; return how many. Raises StageFault."""
    with transaction(connection):
        dead = connection.execute(_DEAD, (target, study)).fetchall()
        for number, instance, path in dead:
            try:
                about = os.lstat(os.path.join(data_dir, path))
                connection.execute(_FILE, (about.st_ino, about.st_size, about.st_mtime_ns, instance))
            except FileNotFoundError:
                pass  # It becomes a dead letter again, which says so.
            connection.execute(_AGAIN, (number,))
    return len(dead)


def drop(connection: sqlite3.Connection, target: str = "", study: str = "") -> int:
    """Forget dead letters (of a target, of a study): they are sent to nobody, and what they kept unsettled is settled.
    Return how many. Raises StageFault.
    """
    with transaction(connection):
        dead = connection.execute(_DEAD, (target, study)).fetchall()
        connection.executemany("DELETE FROM sends WHERE id = ? AND state = 'dead'", [(number,) for number, *_ in dead])
    return len(dead)


def send_held(connection: sqlite3.Connection, number: int, destination: str, now_ns: int) -> None:
    """Send a held result to a destination. Raises UnknownHeld, StageFault."""
    with transaction(connection):
        connection.execute(_SEND, (_held(connection, number), destination, now_ns))
        _settle(connection, number, "sent", now_ns)


def discard_held(connection: sqlite3.Connection, number: int, now_ns: int) -> None:
    """Hold a result no longer, and send it to nobody; its file stays in the tree. Raises UnknownHeld, StageFault."""
    with transaction(connection):
        _held(connection, number)
        _settle(connection, number, "discarded", now_ns)


def _held(connection: sqlite3.Connection, number: int) -> int:
    row = connection.execute("SELECT instance_id FROM held WHERE id = ? AND settled_ns = 0", (number,)).fetchone()
    if row is None:
        raise UnknownHeld(str(number))
    return int(row[0])


def _settle(connection: sqlite3.Connection, number: int, outcome: str, now_ns: int) -> None:
    connection.execute(_SETTLE, (outcome, now_ns, number))
    connection.execute("DELETE FROM hints WHERE held_id = ?", (number,))
