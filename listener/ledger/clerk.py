"""Keeps the ledger: one writer, without a thread or a clock of its own. What fails here is told, and is never intake's
trouble.

While the ledger cannot be written, outcomes wait (beyond a number only the names of their series, to be counted again),
and series are judged by their documents alone, so that whoever waits for them is told.
"""

from __future__ import annotations

import contextlib
import os
import sqlite3
import time
from collections.abc import Iterable, Mapping, Sequence

from listener.config import Config
from listener.ledger import aside, deliveries, schema, turns
from listener.ledger.access import Access
from listener.ledger.ending import Ending
from listener.ledger.opening import transaction
from listener.ledger.posting import Places, Posting
from listener.ledger.promises import Promises
from listener.ledger.proofs import Proofs
from listener.ledger.states import Book, Completion, Key, Rules, Standing
from listener.ledger.unwritten import Unwritten
from listener.planning.names import short_hash
from listener.records import Outcome

#: Outcomes in one transaction.
_TOGETHER = 5_000

#: How long counting again goes on before outcomes have their turn, in seconds.
_SLICE = 0.05

#: A worker may have written a document so long before its outcome was told, beside --deadline, in nanoseconds.
_MARGIN = 60 * 10**9


class Clerk:
    """Outcomes in (`record`), ends of series out (`take_ended`); `tick` about once a second.

    `now` is the monotonic clock in seconds, `now_ns` the wall clock. `counts`: how many series are in each state.
    `access.fault`: "" or why the ledger cannot be written. `consumers` are registered in every ledger that does not
    know them, before anything is recorded in it.
    """

    def __init__(self, config: Config, slice_seconds: float = _SLICE, consumers: Iterable[str] = ()) -> None:
        self._slice = slice_seconds
        self._owner = short_hash("\0".join(map(os.path.realpath, config.incoming)))
        self._margin_ns = _MARGIN + int(config.deadline * 1e9)
        self._places = Places(config.incoming, config.data, config.state)
        self._proofs = Proofs(config)
        self._promises = Promises(self._proofs)
        self.access = Access(config.state)
        self._posting: Posting | None = None
        self.unwritten = Unwritten()
        self._begun = False
        self._lately: set[str] = set()
        self._own = frozenset(consumers)
        self._consumers: set[str] = set()
        self._owed: set[str] = set()
        self._version = -1
        self._wall_ns = 0
        self._book = Book(Rules({"": 60.0, **dict(config.series_quiet)}, config.series_timeout))
        self._ending = Ending(self._book, self._proofs, self.access)
        self.counts = dict.fromkeys(schema.STATES, 0)

    def take_ended(self) -> list[Completion]:
        """What ended since the last call; to be announced, and then `told`."""
        ended, self._ending.ended = self._ending.ended, []
        return ended

    # -- the ledger, opened ------------------------------------------------------------------------------------------

    def _open(self, now: float, now_ns: int) -> Posting | None:
        """The means to write; None while the ledger cannot be had."""
        if self.access.connection is None:
            self._posting = None
            connection = self.access.open(now)
            if connection:
                with self.access.minding(now):
                    self._take_up(connection, now, now_ns)
                    self._posting = Posting(connection, self._book, self._proofs, self._places)
        return self._posting

    def _take_up(self, connection: sqlite3.Connection, now: float, now_ns: int) -> None:
        """What is open; and once, what an earlier run recorded and perhaps never told, or published and never
        recorded.
        """
        with transaction(connection):
            found = connection.execute("SELECT written_ns FROM writers WHERE name = ?", (self._owner,)).fetchone()
            # Also where nothing changes by it: that shows whether the ledger can be written.
            self._stamp(connection, found[0] if found else now_ns)
            deliveries.make_known(connection, self._consumers | self._own, now_ns)
        self._read_open(connection, now)
        if not self._begun:
            self._ending.ended += turns.untold(connection)
            if found:
                self.unwritten.again(self._proofs.changed_since(found[0] - self._margin_ns))
            self._begun = True

    def _stamp(self, connection: sqlite3.Connection, now_ns: int) -> None:
        # All that was told until now is recorded.
        connection.execute("INSERT OR REPLACE INTO writers (name, written_ns) VALUES (?, ?)", (self._owner, now_ns))

    def _read_open(self, connection: sqlite3.Connection, now: float) -> None:
        """The book as the ledger has it. What only the book had, although nobody else wrote, was never written."""
        (self._version,) = connection.execute("PRAGMA data_version").fetchone()
        self._consumers = deliveries.active(connection)
        fresh = self._posting is None
        lost = self._book.renew([turns.standing(row, now) for row in turns.in_flight(connection)], now, keeping=fresh)
        if fresh:
            self.unwritten.again(lost, arrived=True)

    def _require_current(self, now: float) -> None:
        """Give up a connection whose file is gone or another one. What went with it and is known is counted again: what
        was written since the last look, and what consumers had not taken.
        """
        connection = self.access.connection
        if connection is None:
            return
        fault = self.access.lost()
        if fault is None:
            self._lately.clear()
            return
        owed = self._lately
        with contextlib.suppress(sqlite3.Error):  # A file that was removed can still be read.
            series, self._owed = deliveries.owed(connection)
            owed |= series
        self.unwritten.again(owed, arrived=True)
        self._lately, self._begun, self._posting = set(), False, None
        self.access.abandon(fault, now)

    # -- in ----------------------------------------------------------------------------------------------------------

    def record(self, outcomes: Sequence[Outcome], now: float, now_ns: int) -> None:
        """Files are done: put them down, now or when the ledger can be written."""
        self.unwritten.keep(outcomes)
        touched = self._write(now, now_ns)
        if self.access.connection is None:
            self._book.remember(outcomes, now)
        self._read_promises(touched, now)
        self._end([one for one in touched if one.expected], now, now_ns)

    def _write(self, now: float, now_ns: int) -> list[Standing]:
        """Put down what waits; the open series that got something."""
        touched: dict[Key, Standing] = {}
        posting, connection = self._open(now, now_ns), self.access.connection
        waiting = self.unwritten.outcomes
        if posting and connection and waiting:
            with self.access.minding(now):
                while waiting:
                    some = waiting[:_TOGETHER]
                    with posting.transaction():
                        found = posting.post(some, now, now_ns)
                        if len(some) == len(waiting) and not self.unwritten.lacking:
                            self._stamp(connection, now_ns)
                    touched.update({one.key: one for one in found})
                    self._lately.update(one.SeriesInstanceUID for one in some if one.kind == "published")
                    del waiting[: len(some)]
        return list(touched.values())

    # -- about once a second -------------------------------------------------------------------------------------------

    def tick(self, now: float, now_ns: int) -> None:
        """Look around: is it still this file, what waits, what others wrote, promises, and which series end."""
        self._require_current(now)
        self._write(now, now_ns)
        connection = self.access.connection
        if connection and self._posting:
            with self.access.minding(now):
                if connection.execute("PRAGMA data_version").fetchone()[0] != self._version:
                    self._read_open(connection, now)
                if now_ns < self._wall_ns and not self.unwritten.lacking:  # The wall clock was set back.
                    with transaction(connection):
                        self._stamp(connection, now_ns)
                self.counts = self.counts | dict(connection.execute("SELECT state, series FROM series_counts"))
        self._wall_ns = now_ns
        self._read_promises(self._book, now)
        self.unwritten.again(self._promises.elsewhere(self._book, now))
        self._recount(now, now_ns)
        caught_up = self._posting and not (self.unwritten.outcomes or self.unwritten.lacking)
        if caught_up:
            self._ending.hasten()
        self._end(self._book, now, now_ns)
        if caught_up and self.access.connection:
            self._ending.unrecorded.clear()
            self.access.works()

    def _recount(self, now: float, now_ns: int) -> None:
        """Count some series again, for a moment: outcomes must have their turn."""
        end = time.perf_counter() + self._slice
        connection = self.access.connection
        while self.unwritten.lacking and self._posting and connection and time.perf_counter() < end:
            uid, arrived = self.unwritten.next()
            with self.access.minding(now), self._posting.transaction():
                self._posting.recount(uid, now, now_ns, arrived=arrived)
            connection = self.access.connection
            if connection is None:
                self.unwritten.again([uid], arrived=arrived)

    def _read_promises(self, series: Iterable[Standing], now: float) -> None:
        changed = [(one.expected, one.expected_by, one.id) for one in self._promises.read(series) if one.id]
        connection = self.access.connection
        if changed and connection:
            with self.access.minding(now), transaction(connection):
                connection.executemany("UPDATE series SET expected = ?, expected_by = ? WHERE id = ?", changed)

    # -- out -----------------------------------------------------------------------------------------------------------

    def _end(self, series: Iterable[Standing], now: float, now_ns: int) -> None:
        due = [one for one in series if self._book.verdict(one, now)]
        if due:
            self._ending.end(due, self._posting, now, now_ns)

    def judge(self, now: float, now_ns: int) -> None:
        """End what is to end by the wall clock alone, for a command that does not wait."""
        connection = self.access.connection
        if connection:
            for row in turns.in_flight(connection):
                one = self._book.get(row.SeriesInstanceUID, row.StudyInstanceUID)
                if one:
                    one.touched = now - max(0, now_ns - row.last_ns) / 1e9
        self._end(self._book, now, now_ns)

    def compare_aside(self, lying: Mapping[str, tuple[int, int]], now: float, now_ns: int) -> None:
        """Set-aside was counted: files and bytes by reason."""
        connection, posting = self.access.connection, self._posting
        if connection and posting:
            with self.access.minding(now):
                for reason in aside.differing(connection, lying):
                    with posting.transaction():
                        aside.reconcile(posting.entries, self._places, reason, now_ns, self._owed)

    def told(self, completions: Iterable[Completion], now: float) -> None:
        """These ends were announced."""
        connection = self.access.connection
        if connection:
            with self.access.minding(now), transaction(connection):
                for one in completions:
                    turns.told(connection, one)

    def stumbled(self) -> None:
        """A defect of ours: what was in hand is counted again from the documents."""
        self.unwritten.give_up()
        self.close()

    def close(self) -> None:
        """Let the ledger go."""
        self.access.close()
        self._posting = None
