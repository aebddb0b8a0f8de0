"""The service's EngineObserver: passes each outcome to the event log, the metrics, the ledger and the totals of
set-aside.
"""

from __future__ import annotations

import os
import time
from collections.abc import Iterator, Sequence

from listener.diagnostics import log
from listener.ledger.batch_recorder import BatchNews
from listener.ledger.completion import Completion, End
from listener.ledger.thread import LedgerThread
from listener.records import Deferral, Outcome
from listener.repacking import setaside
from listener.repacking.setaside import Totals
from listener.service.pool import WorkerExit
from listener.service.revision_process import Revised
from listener.telemetry.events import Events
from listener.telemetry.metrics import Metrics

#: Interval in which set-aside is counted again, because people take files away, in seconds.
_RECOUNT = 60.0

#: How long one slice of a count takes, and of the first count, in seconds; all counting takes at most 1/_SHARE of the
#: time.
_SLICE, _FIRST_SLICE = 0.005, 0.2
_SHARE = 50

#: A count during which files were set aside is not compared with the ledger, except each time after so many in a row.
_MOST_UNSURE = 10


class Recorder:
    """Writes events, metrics and ledger rows of what the engine reports."""

    def __init__(
        self, metrics: Metrics, events: Events, ledger: LedgerThread, set_aside: str, *, watches_senders: bool = False
    ) -> None:
        self._metrics = metrics
        self._ledger = ledger
        self._events = events
        self._directory = set_aside
        self._watches_senders = watches_senders
        self._totals: dict[str, Totals] = {}
        self._next_count = 0.0
        self._count: Iterator[dict[str, Totals]] | None = None
        self._count_begun = 0.0
        #: When the count that is under way began, and when the last complete one began and ended; ns since the epoch.
        self._counting_ns = self._counted_ns = self._complete_ns = 0
        self._rested = 0.0
        self._changed: dict[str, int] = {}
        self._added: set[str] = set()
        self._missed = False
        self._unsure = 0

    def discovered(self, source: str) -> None:
        """Count a file that entered."""
        self._metrics.discovered(source)

    def finished(self, outcomes: Sequence[Outcome]) -> None:
        """Record the outcomes of a batch."""
        self._events.outcomes(outcomes)
        self._metrics.record_many(outcomes)
        self._ledger.finished(outcomes)
        if self._watches_senders:
            for outcome in outcomes:
                self._metrics.arrived(outcome.sender, outcome.arrived_ns)
        for outcome in outcomes:
            if outcome.reason and outcome.dst:  # What fails of a batch stays in its folder.
                self._add(outcome.reason, outcome.dst, outcome)
            if outcome.superseded:
                self._add("superseded", outcome.superseded, outcome)

    def revised(self, done: Sequence[Revised]) -> None:
        """Record revised series: what their documents describe, and surplus files that were set aside."""
        for series in done:
            self._ledger.finished(series.outcomes)
            surplus = [outcome for outcome in series.outcomes if outcome.reason]
            for outcome in surplus:
                self._add(outcome.reason, outcome.dst, outcome)
                log.info("instance %s is set aside as %s: %s", outcome.SOPInstanceUID, outcome.reason, outcome.error)
            if surplus:
                self._ledger.recount([series.revision.SeriesInstanceUID])

    def _add(self, reason: str, path: str, outcome: Outcome) -> None:
        """Add a file that was set aside, unless the last count has found it before its `outcome` came; count again soon
        where that cannot be told.
        """
        self._added.add(reason)
        if outcome.finished_ns <= self._counted_ns:
            return
        self._missed = True
        if outcome.begun_ns <= self._complete_ns:  # Put there since, or before the last count came by.
            self._next_count = min(self._next_count, self._rested)
        count, size = self._totals.get(reason, (0, 0))
        try:
            self._totals[reason] = Totals(count + 1, size + os.lstat(path).st_size)
        except OSError:  # Taken away already: count again now.
            self._next_count = 0.0

    def deferred(self, deferral: Deferral) -> None:
        """Count a deferral."""
        self._metrics.deferred(deferral)

    def lost(self, lost: WorkerExit) -> None:
        """Count and log the loss of a worker."""
        self._metrics.add("worker_restarts_total", 1, lost.reason)
        self._events.service("worker-lost", time.time_ns(), reason=lost.reason, held=len(lost.held))
        log.error("a worker %s with %d files in hand; what it did not do is done again", lost.text, len(lost.held))

    def announce_ended(self) -> None:
        """Announce the series and studies that ended since the last call."""
        ended = self._ledger.take()
        if ended:
            self.announce(ended)
            self._ledger.mark_announced(ended)

    def announce(self, ended: Sequence[End]) -> None:
        """Write events and metrics of series and studies that ended."""
        for end in ended:
            if isinstance(end, Completion) and end.result != "incomplete":
                self._metrics.add("series_completed_total", 1, end.result)
            self._events.service(end.announced_as, time.time_ns(), **end._asdict())

    def announce_batch(self, news: BatchNews) -> None:
        """Write the event of a batch."""
        self._events.service(news.event_name, time.time_ns(), **news.shown(self._events.phi))

    def show_ledger(self) -> str:
        """Show series and batches by state, deliveries, and when senders came before this start; return "" or why the
        ledger cannot be written.
        """
        for sender, moment_ns in self._ledger.take_arrivals().items():
            self._metrics.arrived(sender, moment_ns)
        for state, number in self._ledger.counts.items():
            self._metrics.set("series", number, state)
        self._metrics.set("series_acknowledged", self._ledger.acknowledged)
        for state, number in self._ledger.batch_counts.items():
            self._metrics.set("batches", number, state)
        self._metrics.set("batches_with_error", self._ledger.batches_with_error)
        for hook, standing in self._ledger.standings.items():
            self._metrics.delivery(hook, standing.counts, standing.oldest_ns)
        self._metrics.set("ledger_ok", int(not self._ledger.fault))
        return self._ledger.fault

    def count_set_aside(self, now: float) -> None:
        """Show the totals of set-aside, and count again once a minute, or less often where that takes long; at once
        where somebody else took files away or put some there.
        """
        if self._differs():
            self._next_count = min(self._next_count, max(now, self._rested))
        if self._count is None and now >= self._next_count:
            self._count, self._count_begun, self._missed = setaside.count_in_pieces(self._directory), now, False
            self._counting_ns = time.time_ns()
            end = time.monotonic() + (_SLICE if self._totals else _FIRST_SLICE)
            while self.counting and time.monotonic() < end:
                self.count_on()
        self._metrics.set_aside(self._totals)

    def _differs(self) -> bool:
        """Return whether a directory has changed since the last call beside what was added here."""
        before, self._changed = self._changed, setaside.changed(self._directory)
        added, self._added = self._added, set()
        return any(before.get(reason) != at for reason, at in self._changed.items() if reason not in added)

    @property
    def counting(self) -> bool:
        """Whether a count is under way."""
        return self._count is not None

    def count_on(self) -> None:
        """Count the next slice."""
        totals = next(self._count, {}) if self._count else {}
        if not totals:
            return
        now = time.monotonic()
        self._count, self._totals = None, totals
        self._counted_ns, self._complete_ns = self._counting_ns, time.time_ns()
        self._rested = now + _SHARE * (now - self._count_begun)
        # What came during the count is in it or not: it is counted again soon.
        self._next_count = self._rested if self._missed else max(now + _RECOUNT, self._rested)
        # What was set aside during the count may be missing from it: such totals must not correct the ledger.
        self._unsure = self._unsure + 1 if self._missed else 0
        if self._unsure % _MOST_UNSURE == 0:
            self._ledger.reconcile_set_aside(dict(totals))
