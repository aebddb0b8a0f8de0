"""The only writer of the ledger, run by LedgerThread. Time is an argument; failures never reach intake."""

from __future__ import annotations

import contextlib
import sqlite3
import time
from collections.abc import Callable, Iterable, Mapping, Sequence

from listener.config import Config
from listener.ledger import acknowledgements, deliveries, feed, generations, schema, set_aside, studies
from listener.ledger.back_fill import BackFill
from listener.ledger.batch_recorder import BatchRecorder, Change
from listener.ledger.completion import End, Flow, Moment, OpenSeries, SeriesKey, SeriesState, StudyEnd
from listener.ledger.connection import BehindMarker, WriterConnection, data_version, transaction
from listener.ledger.consumers import Standing, owner_of, standing
from listener.ledger.ending import CompletionRecorder, rules_of
from listener.ledger.evidence import DocumentReader, ExpectedCounts
from listener.ledger.outcome_rows import LedgerPaths, OutcomeRows
from listener.ledger.pending import PendingOutcomes
from listener.ledger.studies import StudyRecorder
from listener.records import Outcome
from listener.repacking.revision import Revision

#: Outcomes in one transaction.
_PER_TRANSACTION = 5_000

#: Seconds of recounting before outcomes are recorded again.
_SLICE_SECONDS = 0.05

#: A person may have said a number (`listener expect`) since the open series were read.
_SET_EXPECTED = "UPDATE series SET expected = ?, expected_by = ? WHERE id = ? AND expected_by <> 'expect'"

#: Seconds until a series is checked again: one with a file that is held up, and one that another listener takes in.
_HELD, _ELSEWHERE = 1.0, 10.0

#: Nanoseconds, beside --deadline, by which a document may be older than the receipt of its outcome.
_MARGIN_NS = 60 * 10**9


class LedgerWriter:
    """Records outcomes (`record`) and ends series and studies (`take_ended`); `tick` is called about once a second.

    Arguments `now` are monotonic seconds, `now_ns` the wall clock. `flow` is the state of intake, replaced by whoever
    takes files in; None where time alone counts. `counts`: number of series by state, `acknowledged`: of incomplete
    ones that a person knows of. `access.fault`: "" or why the ledger cannot be written. `consumers` (as in
    deliveries.add_consumers) are registered in every ledger that lacks them, before anything is recorded; `standings`
    says how they stand. `followers`: names of the consumers that follow the feed. `is_worked_on` returns whether
    another listener takes files from an incoming directory that is not this one's, and decides when its series are
    quiet.
    """

    #: Series whose expected number is read in one tick, beside those that got something or are about to end.
    per_tick = 1_000

    #: If reading the open series takes longer than the second number of seconds, the next time is the first one's times
    #: as much later.
    rereading = (20.0, 0.02)

    def __init__(
        self,
        config: Config,
        slice_seconds: float = _SLICE_SECONDS,
        *,
        consumers: Mapping[str, str] | None = None,
        flow: Flow | None = None,
        is_worked_on: Callable[[str], bool] = lambda _: False,
    ) -> None:
        self.flow = flow
        self._is_worked_on = is_worked_on
        self._slice = slice_seconds
        self._owner = owner_of(config.incoming or config.batches)
        self._margin_ns = _MARGIN_NS + int(config.deadline * 1e9)
        self._paths = LedgerPaths(config.roots, config.data, config.state)
        self._documents = DocumentReader(config)
        self._expected_counts = ExpectedCounts(self._documents)
        self._policy = config.on_conflict
        self._state_dir, self._data_dir = config.state, config.data
        self.access = WriterConnection(config.state)
        self._outcome_rows: OutcomeRows | None = None
        self.pending = PendingOutcomes()
        self._begun = False
        self._behind = BehindMarker(config.state, self._owner)
        self._caught_up_ns = 0
        self._recent_series: set[str] = set()
        self._own_consumers = dict(consumers or {})
        self._consumers: dict[str, str] = {}
        self._owed_paths: set[str] = set()
        self._owed_studies: dict[str, set[str]] = {}
        self.followers: list[str] = []
        self._version, self._read_at, self._wall_ns = -1, 0.0, 0
        self._open_series = OpenSeries(rules_of(config))
        self._back_fill = BackFill(self._documents)
        self._recorder = CompletionRecorder(self._open_series, self._documents, self.access)
        self.batches = BatchRecorder(self.access, self._open_series, self._documents, self._recorder)
        self._studies = StudyRecorder(self._open_series.studies, self.access, self._is_elsewhere)
        self.counts = dict.fromkeys(schema.STATES, 0)
        self.acknowledged = 0
        self.standings: Mapping[str, Standing] = {}

    def follow(self, config: Config, consumers: Mapping[str, str]) -> None:
        """Follow the rules and register the consumers of another configuration from now on."""
        self._open_series.follow(rules_of(config))
        self._own_consumers = dict(consumers)

    def take_ended(self) -> list[End]:
        """Return and clear the ends since the last call; announce them, then call mark_announced()."""
        ended: list[End] = [*self._recorder.ended, *self._studies.ended]
        self._recorder.ended, self._studies.ended = [], []
        return ended

    def take_revisions(self) -> list[Revision]:
        """Return and clear the corrections since the last call, for workers to bring tree and documents in line."""
        return list(self._outcome_rows.corrections.take()) if self._outcome_rows else []

    # -- the ledger, opened ------------------------------------------------------------------------------------------

    def _moment(self, now: float, now_ns: int) -> Moment:
        if self.flow is None:
            return Moment(now, now_ns, now, now)
        return Moment(now, now_ns, self.flow.moment(now), self.flow.horizon)

    def _open(self, moment: Moment) -> OutcomeRows | None:
        """Return the rows' writer, opening the ledger if needed; None while it cannot be used."""
        if self.access.connection is None:
            self._outcome_rows = None
            connection = self.access.open(moment.now)
            if connection:
                with self.access.translating_faults(moment.now):
                    self._resume(connection, moment)
                    self._outcome_rows = OutcomeRows(
                        connection, self._open_series, self._documents, self._paths, self._policy
                    )
        return self._outcome_rows

    def _resume(self, connection: sqlite3.Connection, moment: Moment) -> None:
        """Read the open series; once also what an earlier run recorded without announcing it, or published without
        recording it.
        """
        with transaction(connection):
            row = connection.execute("SELECT written_ns FROM writers WHERE name = ?", (self._owner,)).fetchone()
            # Also if it changes nothing: it shows whether the ledger can be written.
            self._stamp(connection, row[0] if row else moment.now_ns)
            deliveries.add_consumers(connection, self._own_consumers, moment.now_ns, self._owner)
            deliveries.add_consumers(connection, self._consumers, moment.now_ns)
            feed.restore(connection, self.followers)
        self._read_open(connection, moment)
        if not self._begun:
            self._recorder.ended += generations.unannounced(connection)
            self._studies.ended += studies.unannounced(connection)
            if row:
                self.pending.recount(self._documents.changed_since(row[0] - self._margin_ns))
            if self._behind.earlier_ns:
                missed = self._documents.changed_since(self._behind.earlier_ns - _MARGIN_NS)
                self.pending.recount(missed, arrived=True)
            self._begun = True

    def _stamp(self, connection: sqlite3.Connection, now_ns: int) -> None:
        # All outcomes until now are recorded.
        values = (self._owner, now_ns, self._data_dir)
        connection.execute("INSERT OR REPLACE INTO writers (name, written_ns, data_dir) VALUES (?, ?, ?)", values)

    def _read_open(self, connection: sqlite3.Connection, moment: Moment) -> None:
        """Read the open series. On a new connection those that only memory has were never written: recount them."""
        begun = time.thread_time()
        self._version = data_version(connection)
        self._consumers = deliveries.active(connection)
        fresh = self._outcome_rows is None
        lost = self._open_series.refresh(generations.open_states(connection, moment.quiet), moment.quiet, keeping=fresh)
        self._studies.refresh(connection, moment.quiet)
        if fresh:
            self.pending.recount(lost, arrived=True)
        took = time.thread_time() - begun
        # Tens of thousands of series are not read each second, however often others write.
        share, little = self.rereading
        self._read_at = moment.now + (share * took if took > little else 0.0)

    def _require_current(self, now: float) -> None:
        """Abandon a connection whose file is gone or replaced. Recount what may be lost with it: series written since
        the last check, and those with deliveries that were pending.
        """
        connection = self.access.connection
        if connection is None:
            return
        fault = self.access.file_fault()
        if fault is None:
            self._recent_series.clear()
            return
        owed = self._recent_series
        with contextlib.suppress(sqlite3.Error):  # A removed file can still be read.
            series, self._owed_paths = deliveries.pending_subjects(connection)
            owed |= series
            self._owed_studies |= studies.owed(connection)
        self.pending.recount(owed, arrived=True)
        self._recent_series, self._begun, self._outcome_rows = set(), False, None
        self.access.abandon(fault, now)

    # -- in ----------------------------------------------------------------------------------------------------------

    def record(self, outcomes: Sequence[Outcome], now: float, now_ns: int) -> None:
        """Record outcomes, now or once the ledger can be written."""
        moment = self._moment(now, now_ns)
        self.pending.keep(outcomes)
        changed = self._write(moment)
        if self.access.connection is None:
            self._open_series.remember(outcomes, moment.quiet)
        self._read_expected(changed, moment)
        self._end([series for series in changed if series.has_reached], moment)
        self._studies.end_due(moment, self.flow)

    def _write(self, moment: Moment) -> list[SeriesState]:
        """Record pending outcomes; return the open series that got instances."""
        changed: dict[SeriesKey, SeriesState] = {}
        outcome_rows, connection = self._open(moment), self.access.connection
        waiting = self.pending.outcomes
        if outcome_rows and connection and waiting:
            with self.access.translating_faults(moment.now):
                while waiting:
                    outcomes = waiting[:_PER_TRANSACTION]
                    with outcome_rows.transaction():
                        is_stale = data_version(connection) != self._version
                        states = outcome_rows.post(outcomes, moment.quiet, moment.now_ns, is_stale=is_stale)
                        if len(outcomes) == len(waiting) and not self.pending.has_recounts:
                            self._stamp(connection, moment.now_ns)
                    self._tell_followers(outcome_rows.followers)
                    changed.update({state.key: state for state in states})
                    self._recent_series.update(
                        outcome.SeriesInstanceUID for outcome in outcomes if outcome.kind == "published"
                    )
                    del waiting[: len(outcomes)]
        return list(changed.values())

    def _tell_followers(self, names: list[str]) -> None:
        self.followers = names
        if names:
            feed.wake(self._state_dir, names)

    def record_batches(self, changes: Sequence[Change], now: float, now_ns: int) -> None:
        """Record changes of batches, and end what is due of them."""
        self.batches.add(changes)
        moment, is_behind = self._moment(now, now_ns), bool(self.pending.outcomes or self.pending.has_recounts)
        self.batches.step(self._open(moment), moment, is_caught_up=not is_behind)

    # -- about once a second -------------------------------------------------------------------------------------------

    def tick(self, now: float, now_ns: int) -> None:
        """Check the ledger's file, record what is pending, read what others wrote and expected numbers, end series."""
        self._require_current(now)
        moment = self._moment(now, now_ns)
        self._write(moment)
        connection = self.access.connection
        if connection and self._outcome_rows:
            with self.access.translating_faults(now):
                if now >= self._read_at and data_version(connection) != self._version:
                    self._read_open(connection, moment)
                if now_ns < self._wall_ns and not self.pending.has_recounts:  # The wall clock was set back.
                    with transaction(connection):
                        self._stamp(connection, now_ns)
                self.followers = feed.followers(connection)
                feed.trim(connection)
                self.counts = self.counts | dict(connection.execute("SELECT state, series FROM series_counts"))
                self.acknowledged = acknowledgements.number_of_series(connection)
                self.standings = {name: standing(connection, name) for name in self._own_consumers}
        self._wall_ns = now_ns
        some = self._open_series.next_in_turn(self.per_tick)
        self._read_expected(some, moment)
        self.pending.recount(self._expected_counts.behind_documents(some, moment.quiet))
        self._recount(moment)
        caught_up = self._outcome_rows and not (self.pending.outcomes or self.pending.has_recounts)
        if caught_up:
            self._restore_studies(moment)
            self._recorder.end_unrecorded_soon()
        self._end_due(moment)
        self.record_batches((), now, now_ns)
        self._studies.end_due(moment, self.flow)
        if caught_up and self.access.connection:
            self._recorder.unrecorded.clear()
            with self.access.translating_faults(now):
                self._back_fill.fill(self.access.connection, self._slice)
        if caught_up and self.access.connection:
            self.access.mark_working()
            self._behind.end()
            self._caught_up_ns = now_ns
        elif self.access.fault:
            self._behind.begin(self._caught_up_ns or now_ns, now_ns)

    def _end_due(self, moment: Moment) -> None:
        due = self._open_series.due(moment.horizon)
        self._read_expected(due, moment)
        self._end(due, moment)

    def _recount(self, moment: Moment) -> None:
        """Recount series for a slice of time."""
        end = time.perf_counter() + self._slice
        connection = self.access.connection
        while self.pending.has_recounts and self._outcome_rows and connection and time.perf_counter() < end:
            uid, arrived = self.pending.next_recount()
            with self.access.translating_faults(moment.now), self._outcome_rows.transaction():
                self._outcome_rows.recount(uid, moment.quiet, moment.now_ns, arrived=arrived)
            connection = self.access.connection
            if connection is None:
                self.pending.recount([uid], arrived=arrived)

    def _restore_studies(self, moment: Moment) -> None:
        connection = self.access.connection
        if self._owed_studies and self._outcome_rows and connection:
            with self.access.translating_faults(moment.now):
                with self._outcome_rows.transaction():
                    studies.restore(connection, self._outcome_rows, self._owed_studies, moment)
                self._owed_studies = {}
                self._read_open(connection, moment)

    def _read_expected(self, series: Iterable[SeriesState], moment: Moment) -> None:
        changed = self._expected_counts.read(series)
        for state in changed:
            if state.instances < state.expected:
                state.last_activity = moment.quiet
            self._open_series.keep(state)
        rows = [(state.expected, state.expected_by, state.id) for state in changed if state.id]
        connection = self.access.connection
        if rows and connection:
            with self.access.translating_faults(moment.now), transaction(connection):
                connection.executemany(_SET_EXPECTED, rows)

    # -- out -----------------------------------------------------------------------------------------------------------

    def _end(self, series: Iterable[SeriesState], moment: Moment) -> None:
        due = [
            state
            for state in series
            if self._open_series.verdict(state, moment.horizon) and self._may_end(state, moment)
        ]
        if due:
            self._recorder.end(due, self._outcome_rows, moment)

    def _may_end(self, series: SeriesState, moment: Moment) -> bool:
        """Return whether a series may end now. Not while one of its files is held up, nor while another listener takes
        its files in; then it is postponed.
        """
        if series.has_reached:
            return True
        if self.flow and series.SeriesInstanceUID in self.flow.held:
            self._open_series.postpone(series, moment.quiet + _HELD)
            return False
        if not self._is_elsewhere(series.root):
            return True
        self._open_series.postpone(series, moment.quiet + _ELSEWHERE)
        return False

    def _is_elsewhere(self, root: str) -> bool:
        return root not in self._paths.roots and self._is_worked_on(root)

    def end_by_wall_clock(self, now: float, now_ns: int) -> None:
        """End series and studies by the wall clock, for a command that leaves nothing in incoming and does not wait."""
        moment = Moment(now, now_ns, 0.0, 0.0)
        connection = self.access.connection
        if connection:
            for row in generations.in_flight(connection):
                series = self._open_series.get(row.SeriesInstanceUID, row.StudyInstanceUID)
                if series:
                    # The timeout of an expected number starts when that was said: instances may be about to come.
                    last_ns = max(row.last_ns, row.changed_ns) if row.instances < row.expected else row.last_ns
                    series.last_activity = -max(0, now_ns - last_ns) / 1e9
                    self._open_series.keep(series)
        self._end(self._open_series.due(moment.horizon), moment)
        if self.access.connection:
            with self.access.translating_faults(now):
                self._studies.read_wall_clock(self.access.connection, now_ns)
            self._studies.end_due(moment, None)

    def reconcile_set_aside(self, counted: Mapping[str, tuple[int, int]], now: float, now_ns: int) -> None:
        """Bring rows of set-aside files in line with what was counted: files and bytes by reason."""
        connection, outcome_rows = self.access.connection, self._outcome_rows
        if connection and outcome_rows:
            with self.access.translating_faults(now):
                for reason in set_aside.differing_reasons(connection, counted):
                    with outcome_rows.transaction():
                        set_aside.reconcile(outcome_rows.tables, self._paths, reason, now_ns, self._owed_paths)

    def mark_announced(self, ends: Sequence[End], now: float) -> None:
        """Record that these ends were announced."""
        connection = self.access.connection
        if connection:
            with self.access.translating_faults(now), transaction(connection):
                studies.mark_announced(connection, [end for end in ends if isinstance(end, StudyEnd)])
                for end in ends:
                    if not isinstance(end, StudyEnd):
                        generations.mark_announced(connection, end)

    def reset(self) -> None:
        """After an internal error: recount from the documents what was pending, and close the connection."""
        self.pending.give_up()
        self.close()

    def close(self) -> None:
        """Close the connection."""
        self.access.close()
        self._outcome_rows = None
