"""The feed: a row for each instance that was published, or found to be a duplicate, while a consumer follows.

The writer adds rows in the transaction that records the outcomes, removes them once all followers have passed, and
wakes a follower by a datagram, which may get lost: followers look from time to time anyway. What the feed did not tell
(its oldest rows went, the ledger was made anew, instances were counted again from documents) the deliveries tell.
"""

from __future__ import annotations

import contextlib
import os
import socket
import sqlite3
from collections.abc import Iterable, Iterator, Sequence
from typing import NamedTuple

from listener.ledger.connection import transaction

#: Most rows that are kept for a follower that does not come; beyond it the oldest go.
MOST = 1_000_000

#: Rows that are removed at a time, so that no transaction is long.
PER_REMOVAL = 20_000

#: Kinds of outcomes that are told.
KINDS = ("published", "duplicate")

#: Directory of the followers' sockets, in the state directory.
_WAKE_DIR = "wake"

_FOLLOWERS = "SELECT name FROM consumers WHERE follows = 1 AND active = 1"
_PASSED = "SELECT ifnull(min(seq), ?) FROM consumers WHERE follows = 1 AND active = 1"
# Two questions, each answered by one row: together they would be answered by all.
_ENDS = "SELECT ifnull((SELECT min(seq) FROM feed), 0), ifnull((SELECT max(seq) FROM feed), 0)"
_LAST = "SELECT ifnull((SELECT seq FROM sqlite_sequence WHERE name = 'feed'), 0)"


class NewRow(NamedTuple):
    """A row before it has its number. `kind` is one of KINDS; `series_id` 0 where the ledger does not know the series;
    folder and `name` say where the instance lies: of a duplicate the one that was there. `sender`, `root` and
    `arrived_ns` are those of this arrival.
    """

    kind: str
    series_id: int
    SOPInstanceUID: str
    folder_id: int
    name: str
    sender: str
    root: str
    arrived_ns: int


class FeedRow(NamedTuple):
    """A row as followers get it; `path` is below the data directory."""

    seq: int
    kind: str
    SeriesInstanceUID: str
    StudyInstanceUID: str
    SOPInstanceUID: str
    path: str
    sender: str
    root: str
    arrived_ns: int


_ADD = f"INSERT INTO feed ({', '.join(NewRow._fields)}) VALUES ({', '.join('?' * len(NewRow._fields))})"
_AFTER = """
SELECT w.seq, w.kind, ifnull(s.SeriesInstanceUID, ''), ifnull(s.StudyInstanceUID, ''), w.SOPInstanceUID,
    f.path || '/' || w.name, w.sender, w.root, w.arrived_ns
FROM feed w LEFT JOIN series s ON s.id = w.series_id JOIN folders f ON f.id = w.folder_id
WHERE w.seq > ? ORDER BY w.seq LIMIT ?
"""

# -- for the writer ------------------------------------------------------------------------------------------------


def followers(connection: sqlite3.Connection) -> list[str]:
    """Return the names of the active consumers that follow."""
    return [name for (name,) in connection.execute(_FOLLOWERS)]


def restore(connection: sqlite3.Connection, names: Iterable[str]) -> None:
    """Within a transaction: let these consumers follow in a ledger that replaced theirs."""
    connection.executemany("UPDATE consumers SET follows = 1 WHERE name = ?", [(name,) for name in names])


def add(connection: sqlite3.Connection, rows: Sequence[NewRow]) -> None:
    """Within a transaction: add rows."""
    connection.executemany(_ADD, rows)


def trim(connection: sqlite3.Connection) -> None:
    """Remove some of what all followers have passed (everything, if nobody follows), and of the oldest beyond MOST."""
    first, last = connection.execute(_ENDS).fetchone()
    if not last:
        return
    (passed,) = connection.execute(_PASSED, (last,)).fetchone()
    gone = min(max(passed, last - MOST), first + PER_REMOVAL)
    if gone >= first:
        with transaction(connection):
            connection.execute("DELETE FROM feed WHERE seq <= ?", (gone,))


def wake(state_dir: str, names: Sequence[str]) -> None:
    """Send each of these followers a byte, without waiting. One that is not there, or was sent enough, gets none."""
    with contextlib.suppress(OSError), _wake_dir(state_dir) as directory, _datagrams() as sender:
        for name in names:
            with contextlib.suppress(OSError):
                sender.sendto(b"\0", f"{directory}/{name}")


# -- for followers -------------------------------------------------------------------------------------------------


def follow(connection: sqlite3.Connection, consumer: int) -> int:
    """Let a registered consumer follow, from now on if it did not yet; return the number of the last row that it has
    passed.
    """
    with transaction(connection):
        connection.execute(
            f"UPDATE consumers SET follows = 1, seq = ({_LAST}) WHERE id = ? AND follows = 0", (consumer,)
        )
        (seq,) = connection.execute("SELECT seq FROM consumers WHERE id = ?", (consumer,)).fetchone()
        return int(seq)


def rows_after(connection: sqlite3.Connection, seq: int, limit: int) -> list[FeedRow]:
    """Return the next rows, at most `limit`. Numbers have no gaps: where the first is not `seq` + 1, rows went that
    were never read, and what they told is to be found by other means.
    """
    return [FeedRow(*row) for row in connection.execute(_AFTER, (seq, limit))]


def last_seq(connection: sqlite3.Connection) -> int:
    """Return the number of the newest row that ever was, 0 before the first."""
    return int(connection.execute(_LAST).fetchone()[0])


def mark_passed(connection: sqlite3.Connection, consumer: int, seq: int) -> None:
    """Record that a consumer needs no row up to `seq` any more. Once in a while: whoever writes to the ledger makes its
    writer look at everything again.
    """
    with transaction(connection):
        connection.execute("UPDATE consumers SET seq = ? WHERE id = ? AND seq < ?", (seq, consumer, seq))


def listen(state_dir: str, name: str) -> socket.socket:
    """Return the socket on which a follower is woken, `<state>/wake/<name>`; it replaces an earlier one."""
    os.makedirs(os.path.join(state_dir, _WAKE_DIR), mode=0o700, exist_ok=True)
    with _wake_dir(state_dir) as directory:
        with contextlib.suppress(FileNotFoundError):
            os.unlink(f"{directory}/{name}")
        receiver = _datagrams()
        try:
            receiver.bind(f"{directory}/{name}")
        except OSError:
            receiver.close()
            raise
        return receiver


def _datagrams() -> socket.socket:
    made = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
    made.setblocking(False)
    return made


@contextlib.contextmanager
def _wake_dir(state_dir: str) -> Iterator[str]:
    """Give a path of the sockets' directory that is short, as a socket's must be (108 bytes)."""
    descriptor = os.open(os.path.join(state_dir, _WAKE_DIR), os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        yield f"/proc/self/fd/{descriptor}"
    finally:
        os.close(descriptor)
