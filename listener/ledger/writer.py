"""The only writer of the ledger, run by LedgerThread. Time is an argument; failures never reach intake."""

from __future__ import annotations

import contextlib
import sqlite3
import time
from collections.abc import Callable, Iterable, Mapping, Sequence

from listener.config import Config
from listener.ledger import deliveries, generations, schema, set_aside
from listener.ledger.behind import Behind
from listener.ledger.completion import Completion, CompletionRules, Key, OpenSeries, SeriesState
from listener.ledger.connection import WriterConnection, transaction
from listener.ledger.consumers import owner_of
from listener.ledger.ending import Ending
from listener.ledger.evidence import DocumentReader, ExpectedCounts
from listener.ledger.outcome_rows import OutcomeRows, Places
from listener.ledger.quiet import Flow, Moment
from listener.records import Outcome
from listener.repacking.revision import Revision

#: Outcomes that wait at most; of more, only their series are remembered.
MOST = 50_000


class PendingOutcomes:
    """Bounded: where there is no room for outcomes, their series' documents tell the same later."""

    def __init__(self, most: int = MOST) -> None:
        self._most = most
        self._again: dict[str, bool] = {}
        self.outcomes: list[Outcome] = []

    def keep(self, outcomes: Sequence[Outcome]) -> None:
        """These wait, too."""
        self.outcomes += outcomes
        if len(self.outcomes) > self._most:
            self.give_up()

    def give_up(self) -> None:
        """Forget the outcomes; their series are counted again."""
        self.again((one.SeriesInstanceUID for one in self.outcomes if one.kind == "published"), arrived=True)
        self.outcomes.clear()

    def again(self, series: Iterable[str], *, arrived: bool = False) -> None:
        """The rows of these series may lack something. `arrived`: instances came whose end nobody was told of yet, so
        that the series is open, also where `verify --repair` was faster and recorded it as an old one.
        """
        for uid in series:
            if uid:
                self._again[uid] = arrived or self._again.get(uid, False)

    @property
    def lacking(self) -> bool:
        """Whether a series is still to be counted again."""
        return bool(self._again)

    def next(self) -> tuple[str, bool]:
        """The series that is counted again now (and is one no more), and whether instances of it arrived."""
        uid = next(iter(self._again))
        return uid, self._again.pop(uid)


#: Outcomes in one transaction.
_TOGETHER = 5_000

#: How long counting again goes on before outcomes have their turn, in seconds.
_SLICE = 0.05

#: A person may have said something since the book was read.
_PROMISED = "UPDATE series SET expected = ?, expected_by = ? WHERE id = ? AND expected_by <> 'expect'"

#: Series whose promises are looked at in one second, beside those that got something or are about to end.
_IN_TURN = 1_000

#: Where it takes longer than _LITTLE seconds to read the book, it is read again after so many times as long.
_SHARE, _LITTLE = 20, 0.02

#: When a series is looked at again of which a file waits alone, and one whose files another listener takes in, in
#: seconds.
_HELD, _ELSEWHERE = 1.0, 10.0

#: A worker may have written a document so long before its outcome was told, beside --deadline, in nanoseconds.
_MARGIN = 60 * 10**9


class LedgerWriter:
    """Outcomes in (`record`), ends of series out (`take_ended`); `tick` about once a second.

    `now` is the monotonic clock in seconds, `now_ns` the wall clock. `flow` is how intake stands, renewed by whoever
    takes files in; None where time alone counts. `counts`: how many series are in each state. `access.fault`: "" or why
    the ledger cannot be written. `consumers` are registered in every ledger that does not know them, before anything is
    recorded in it. `is_worked_on` tells of an incoming directory that is none of ours whether another listener takes
    files from it: that one knows when its series are quiet.
    """

    def __init__(
        self,
        config: Config,
        slice_seconds: float = _SLICE,
        *,
        consumers: Iterable[str] = (),
        flow: Flow | None = None,
        is_worked_on: Callable[[str], bool] = lambda _: False,
    ) -> None:
        self.flow = flow
        self._is_worked_on = is_worked_on
        self._slice = slice_seconds
        self._owner = owner_of(config.incoming)
        self._margin_ns = _MARGIN + int(config.deadline * 1e9)
        self._places = Places(config.incoming, config.data, config.state)
        self._proofs = DocumentReader(config)
        self._promises = ExpectedCounts(self._proofs)
        self._policy = config.on_conflict
        self.access = WriterConnection(config.state)
        self._posting: OutcomeRows | None = None
        self.unwritten = PendingOutcomes()
        self._begun = False
        self._behind = Behind(config.state, self._owner)
        self._good_ns = 0
        self._lately: set[str] = set()
        self._own = frozenset(consumers)
        self._consumers: set[str] = set()
        self._owed: set[str] = set()
        self._version = -1
        self._read_at = 0.0
        self._wall_ns = 0
        self._book = OpenSeries(CompletionRules({"": 60.0, **dict(config.series_quiet)}, config.series_timeout))
        self._ending = Ending(self._book, self._proofs, self.access)
        self.counts = dict.fromkeys(schema.STATES, 0)

    def take_ended(self) -> list[Completion]:
        """What ended since the last call; to be announced, and then `told`."""
        ended, self._ending.ended = self._ending.ended, []
        return ended

    def take_revisions(self) -> list[Revision]:
        """What was corrected since the last call: series of which tree and documents are to be brought in line."""
        return list(self._posting.corrections.taken()) if self._posting else []

    # -- the ledger, opened ------------------------------------------------------------------------------------------

    def _moment(self, now: float, now_ns: int) -> Moment:
        if self.flow is None:
            return Moment(now, now_ns, now, now)
        return Moment(now, now_ns, self.flow.moment(now), self.flow.horizon)

    def _open(self, moment: Moment) -> OutcomeRows | None:
        """The means to write; None while the ledger cannot be had."""
        if self.access.connection is None:
            self._posting = None
            connection = self.access.open(moment.now)
            if connection:
                with self.access.translating_faults(moment.now):
                    self._take_up(connection, moment)
                    self._posting = OutcomeRows(connection, self._book, self._proofs, self._places, self._policy)
        return self._posting

    def _take_up(self, connection: sqlite3.Connection, moment: Moment) -> None:
        """What is open; and once, what an earlier run recorded and perhaps never told, or published and never
        recorded.
        """
        with transaction(connection):
            found = connection.execute("SELECT written_ns FROM writers WHERE name = ?", (self._owner,)).fetchone()
            # Also where nothing changes by it: that shows whether the ledger can be written.
            self._stamp(connection, found[0] if found else moment.now_ns)
            deliveries.make_known(connection, self._own, moment.now_ns, self._owner)
            deliveries.make_known(connection, self._consumers, moment.now_ns)
        self._read_open(connection, moment)
        if not self._begun:
            self._ending.ended += generations.unannounced(connection)
            if found:
                self.unwritten.again(self._proofs.changed_since(found[0] - self._margin_ns))
            if self._behind.earlier_ns:
                missed = self._proofs.changed_since(self._behind.earlier_ns - _MARGIN)
                self.unwritten.again(missed, arrived=True)
            self._begun = True

    def _stamp(self, connection: sqlite3.Connection, now_ns: int) -> None:
        # All that was told until now is recorded.
        connection.execute("INSERT OR REPLACE INTO writers (name, written_ns) VALUES (?, ?)", (self._owner, now_ns))

    def _read_open(self, connection: sqlite3.Connection, moment: Moment) -> None:
        """The book as the ledger has it. What only the book had, although nobody else wrote, was never written."""
        begun = time.thread_time()
        self._version = _version_of(connection)
        self._consumers = deliveries.active(connection)
        fresh = self._posting is None
        lost = self._book.renew(generations.standings(connection, moment.quiet), moment.quiet, keeping=fresh)
        if fresh:
            self.unwritten.again(lost, arrived=True)
        took = time.thread_time() - begun
        # Of tens of thousands of series not each second, however often others write.
        self._read_at = moment.now + (_SHARE * took if took > _LITTLE else 0.0)

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
        moment = self._moment(now, now_ns)
        self.unwritten.keep(outcomes)
        touched = self._write(moment)
        if self.access.connection is None:
            self._book.remember(outcomes, moment.quiet)
        self._read_promises(touched, moment)
        self._end([one for one in touched if one.has_reached], moment)

    def _write(self, moment: Moment) -> list[SeriesState]:
        """Put down what waits; the open series that got something."""
        touched: dict[Key, SeriesState] = {}
        posting, connection = self._open(moment), self.access.connection
        waiting = self.unwritten.outcomes
        if posting and connection and waiting:
            with self.access.translating_faults(moment.now):
                while waiting:
                    some = waiting[:_TOGETHER]
                    with posting.transaction():
                        is_stale = _version_of(connection) != self._version
                        found = posting.post(some, moment.quiet, moment.now_ns, is_stale=is_stale)
                        if len(some) == len(waiting) and not self.unwritten.lacking:
                            self._stamp(connection, moment.now_ns)
                    touched.update({one.key: one for one in found})
                    self._lately.update(one.SeriesInstanceUID for one in some if one.kind == "published")
                    del waiting[: len(some)]
        return list(touched.values())

    # -- about once a second -------------------------------------------------------------------------------------------

    def tick(self, now: float, now_ns: int) -> None:
        """Look around: is it still this file, what waits, what others wrote, promises, and which series end."""
        self._require_current(now)
        moment = self._moment(now, now_ns)
        self._write(moment)
        connection = self.access.connection
        if connection and self._posting:
            with self.access.translating_faults(now):
                if now >= self._read_at and _version_of(connection) != self._version:
                    self._read_open(connection, moment)
                if now_ns < self._wall_ns and not self.unwritten.lacking:  # The wall clock was set back.
                    with transaction(connection):
                        self._stamp(connection, now_ns)
                self.counts = self.counts | dict(connection.execute("SELECT state, series FROM series_counts"))
        self._wall_ns = now_ns
        some = self._book.in_turn(_IN_TURN)
        self._read_promises(some, moment)
        self.unwritten.again(self._promises.elsewhere(some, moment.quiet))
        self._recount(moment)
        caught_up = self._posting and not (self.unwritten.outcomes or self.unwritten.lacking)
        if caught_up:
            self._ending.hasten()
        due = self._book.due(moment.horizon)
        self._read_promises(due, moment)
        self._end(due, moment)
        if caught_up and self.access.connection:
            self._ending.unrecorded.clear()
            self.access.works()
            self._behind.end()
            self._good_ns = now_ns
        elif self.access.fault:
            self._behind.begin(self._good_ns or now_ns)

    def _recount(self, moment: Moment) -> None:
        """Count some series again, for a moment: outcomes must have their turn."""
        end = time.perf_counter() + self._slice
        connection = self.access.connection
        while self.unwritten.lacking and self._posting and connection and time.perf_counter() < end:
            uid, arrived = self.unwritten.next()
            with self.access.translating_faults(moment.now), self._posting.transaction():
                self._posting.recount(uid, moment.quiet, moment.now_ns, arrived=arrived)
            connection = self.access.connection
            if connection is None:
                self.unwritten.again([uid], arrived=arrived)

    def _read_promises(self, series: Iterable[SeriesState], moment: Moment) -> None:
        changed = self._promises.read(series)
        for one in changed:
            if one.instances < one.expected:
                one.last_activity = moment.quiet
            self._book.keep(one)
        rows = [(one.expected, one.expected_by, one.id) for one in changed if one.id]
        connection = self.access.connection
        if rows and connection:
            with self.access.translating_faults(moment.now), transaction(connection):
                connection.executemany(_PROMISED, rows)

    # -- out -----------------------------------------------------------------------------------------------------------

    def _end(self, series: Iterable[SeriesState], moment: Moment) -> None:
        due = [one for one in series if self._book.verdict(one, moment.horizon) and self._may_end(one, moment)]
        if due:
            self._ending.end(due, self._posting, moment)

    def _may_end(self, one: SeriesState, moment: Moment) -> bool:
        """Whether none of its files waits alone, and it is ours to say: who takes its files in knows best."""
        if one.has_reached:
            return True
        if self.flow and one.SeriesInstanceUID in self.flow.held:
            self._book.put_off(one, moment.quiet + _HELD)
            return False
        if one.root in self._places.roots or not self._is_worked_on(one.root):
            return True
        self._book.put_off(one, moment.quiet + _ELSEWHERE)
        return False

    def judge(self, now: float, now_ns: int) -> None:
        """End what is to end by the wall clock, for a command that leaves nothing in incoming and does not wait."""
        moment = Moment(now, now_ns, 0.0, 0.0)
        connection = self.access.connection
        if connection:
            for row in generations.in_flight(connection):
                one = self._book.get(row.SeriesInstanceUID, row.StudyInstanceUID)
                if one:
                    # What is expected has its time from when that was said: it may be about to come.
                    last_ns = max(row.last_ns, row.changed_ns) if row.instances < row.expected else row.last_ns
                    one.last_activity = -max(0, now_ns - last_ns) / 1e9
                    self._book.keep(one)
        self._end(self._book.due(moment.horizon), moment)

    def compare_aside(self, lying: Mapping[str, tuple[int, int]], now: float, now_ns: int) -> None:
        """Set-aside was counted: files and bytes by reason."""
        connection, posting = self.access.connection, self._posting
        if connection and posting:
            with self.access.translating_faults(now):
                for reason in set_aside.differing(connection, lying):
                    with posting.transaction():
                        set_aside.reconcile(posting.entries, self._places, reason, now_ns, self._owed)

    def mark_announced(self, completions: Iterable[Completion], now: float) -> None:
        """These ends were announced."""
        connection = self.access.connection
        if connection:
            with self.access.translating_faults(now), transaction(connection):
                for one in completions:
                    generations.mark_announced(connection, one)

    def reset(self) -> None:
        """A defect of ours: what was in hand is counted again from the documents."""
        self.unwritten.give_up()
        self.close()

    def close(self) -> None:
        """Let the ledger go."""
        self.access.close()
        self._posting = None


def _version_of(connection: sqlite3.Connection) -> int:
    """A number that changes when another connection writes."""
    (version,) = connection.execute("PRAGMA data_version").fetchone()
    return int(version)
