"""Follow the feed of a collection's ledger: its rows in order, and whether some were missed."""

from __future__ import annotations

import contextlib
import socket
import sqlite3
import time
from typing import NamedTuple

from listener.ledger import deliveries, feed
from listener.ledger.connection import Stamp, open_writer, path_of, transaction, translated
from listener.ledger.feed import FeedRow

#: Seconds between two reports of how far the follower has come: each makes the ledger's writer look at everything.
_REPORT_SECONDS = 1.0

# Of what came while it was retired it is told nothing, as with deliveries.
_AGAIN = "UPDATE consumers SET active = 1, since_ns = ? WHERE name = ? AND active = 0"
_SELF = "SELECT id, since_ns FROM consumers WHERE name = ?"


class Cursor(NamedTuple):
    """How far a follower has come: the last row's number, and since when it is registered in that ledger (nanoseconds
    since the epoch). A stage keeps it with its own state, so that both are of one moment.
    """

    since_ns: int = 0
    seq: int = 0


class Batch(NamedTuple):
    """The next rows, and the cursor behind them. `is_broken`: rows before these may be missing (it is the first start,
    the ledger was made anew, or rows went before they were read): compare the ledger's series with what was handled.
    """

    rows: list[FeedRow]
    cursor: Cursor
    is_broken: bool = False


class Follower:
    """Reads the feed behind `cursor` for the consumer `name`, which wants the deliveries `wants`.

    A ledger that cannot be used raises LedgerFault, and is tried again by the next call.
    """

    def __init__(self, state_dir: str, name: str, cursor: Cursor, wants: str = "") -> None:
        self._path = path_of(state_dir)
        self._name = name
        self._wants = wants
        self._cursor = cursor
        self._connection: sqlite3.Connection | None = None
        self._stamp = Stamp()
        self._consumer = 0
        self._is_broken = False
        self._reported_at = 0.0
        self._woken = feed.listen(state_dir, name)

    def fileno(self) -> int:
        """Return the descriptor that can be read when there is something new; a wake may be lost."""
        return self._woken.fileno()

    def take(self, limit: int = 500) -> Batch:
        """Return the next rows, and go on behind them. Raises LedgerFault."""
        self._clear()
        try:
            with translated():
                rows = feed.rows_after(self._current(), self._cursor.seq, limit)
        except BaseException:
            self._disconnect()
            raise
        is_broken = self._is_broken or bool(rows and rows[0].seq != self._cursor.seq + 1)
        self._is_broken = False
        if rows:
            self._cursor = self._cursor._replace(seq=rows[-1].seq)
        return Batch(rows, self._cursor, is_broken)

    def rewind(self, cursor: Cursor) -> None:
        """Go back to a cursor: what was taken since could not be kept."""
        self._disconnect()
        self._cursor = cursor

    def behind(self) -> int:
        """Return the number of rows that were not taken yet. Raises LedgerFault."""
        with translated():
            return max(0, feed.last_seq(self._current()) - self._cursor.seq)

    def report(self, cursor: Cursor, *, at_once: bool = False) -> None:
        """Say, about once a second or `at_once`, that rows up to `cursor` are needed no more. Raises LedgerFault."""
        now = time.monotonic()
        if not self._connection or not (at_once or now >= self._reported_at + _REPORT_SECONDS):
            return
        self._reported_at = now
        if cursor.since_ns == self._cursor.since_ns:
            with translated():
                feed.mark_passed(self._connection, self._consumer, cursor.seq)

    def _current(self) -> sqlite3.Connection:
        """Return a connection to the ledger that lies there now, in which the consumer follows."""
        if self._connection and self._stamp.is_still(Stamp.of(self._path)):
            return self._connection
        self._disconnect()
        self._connection = connection = open_writer(self._path)
        self._stamp = Stamp.of(self._path)
        with transaction(connection):
            now_ns = time.time_ns()
            deliveries.add_consumers(connection, {self._name: self._wants}, now_ns)
            connection.execute(_AGAIN, (now_ns, self._name))
        self._consumer, since_ns = connection.execute(_SELF, (self._name,)).fetchone()
        seq = feed.follow(connection, self._consumer)
        if since_ns != self._cursor.since_ns:
            self._cursor, self._is_broken = Cursor(since_ns, seq), True
        return connection

    def _clear(self) -> None:
        with contextlib.suppress(BlockingIOError):
            while self._woken.recv(1, socket.MSG_TRUNC):
                pass

    def _disconnect(self) -> None:
        if self._connection:
            with contextlib.suppress(sqlite3.Error):
                self._connection.close()
        self._connection = None

    def close(self) -> None:
        """Close connection and socket. The consumer goes on following: nothing is missed until the next start."""
        self._disconnect()
        self._woken.close()
