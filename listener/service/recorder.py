"""Who hears the engine in the service: one outcome feeds the event line, the metrics, the ledger, and what is known of
set-aside.
"""

from __future__ import annotations

import os
import time
from collections.abc import Iterator, Sequence

from listener.diagnostics import log
from listener.ledger.completion import Completion
from listener.ledger.thread import LedgerThread
from listener.records import Deferral, Outcome
from listener.repacking import setaside
from listener.repacking.setaside import Totals
from listener.service.pool import WorkerExit
from listener.service.revision_process import Revised
from listener.telemetry.events import Events
from listener.telemetry.metrics import Metrics

#: How often set-aside is counted anew, for what a person took away, in seconds.
_RECOUNT = 60.0

#: How long a count goes on before others have their turn, in seconds, and the first one, while nobody waits yet; it
#: takes at most one part in so many of the time.
_AT_ONCE, _AT_FIRST = 0.005, 0.2
_SHARE = 50

#: So often in a row a count during which something was set aside is not compared with the ledger.
_PATIENCE = 10


class Recorder:
    """Events and metrics of what happens."""

    def __init__(self, metrics: Metrics, events: Events, ledger: LedgerThread, set_aside: str) -> None:
        self._metrics = metrics
        self._ledger = ledger
        self._events = events
        self._directory = set_aside
        self._lying: dict[str, Totals] = {}
        self._next_count = 0.0
        self._count: Iterator[dict[str, Totals]] | None = None
        self._count_begun = 0.0
        self._missed = False
        self._unsure = 0

    def discovered(self, source: str) -> None:
        """A file entered."""
        self._metrics.discovered(source)

    def finished(self, outcomes: Sequence[Outcome]) -> None:
        """Files are done."""
        self._events.outcomes(outcomes)
        self._metrics.record_many(outcomes)
        self._ledger.finished(outcomes)
        for outcome in outcomes:
            if outcome.reason:
                self._add(outcome.reason, outcome.dst)
            if outcome.superseded:
                self._add("superseded", outcome.superseded)

    def revised(self, done: Sequence[Revised]) -> None:
        """Series were revised: their other files of one instance are set aside."""
        for one in done:
            self._ledger.finished(one.outcomes)
            for outcome in one.outcomes:
                self._add(outcome.reason, outcome.dst)
                log.info("instance %s is set aside as %s: %s", outcome.SOPInstanceUID, outcome.reason, outcome.error)
        self._ledger.count_again(one.revision.SeriesInstanceUID for one in done if one.outcomes)

    def _add(self, reason: str, path: str) -> None:
        self._missed = True
        count, size = self._lying.get(reason, (0, 0))
        try:
            self._lying[reason] = Totals(count + 1, size + os.lstat(path).st_size)
        except OSError:  # Somebody took it away already: the next count tells.
            self._next_count = 0.0

    def deferred(self, deferral: Deferral) -> None:
        """A file must wait."""
        self._metrics.deferred(deferral)

    def lost(self, lost: WorkerExit) -> None:
        """A worker died and was replaced."""
        self._metrics.add("worker_restarts_total", 1, lost.reason)
        self._events.service("worker-lost", time.time_ns(), reason=lost.reason, held=len(lost.held))
        log.error("a worker %s with %d files in hand; what it did not do is done again", lost.text, len(lost.held))

    def tell_ended(self) -> None:
        """Announce the series that ended since the last call."""
        ended = self._ledger.take()
        if ended:
            self.announce(ended)
            self._ledger.told(ended)

    def announce(self, ended: Sequence[Completion]) -> None:
        """Events and metrics of series that ended."""
        for one in ended:
            if one.result != "incomplete":
                self._metrics.add("series_completed_total", 1, one.result)
            self._events.service("series-complete", time.time_ns(), **one._asdict())

    def show_ledger(self) -> str:
        """How many series are in each state; "" or why the ledger cannot be written."""
        for state, number in self._ledger.counts.items():
            self._metrics.set("series", number, state)
        self._metrics.set("ledger_ok", int(not self._ledger.fault))
        return self._ledger.fault

    def count_set_aside(self, now: float) -> None:
        """Show what lies in set-aside; counted anew once a minute, or less often where that takes long."""
        if self._count is None and now >= self._next_count:
            self._count, self._count_begun, self._missed = setaside.count_in_pieces(self._directory), now, False
            end = time.monotonic() + (_AT_ONCE if self._lying else _AT_FIRST)
            while self.counting and time.monotonic() < end:
                self.count_on()
        self._metrics.set_aside(self._lying)

    @property
    def counting(self) -> bool:
        """Whether there is something to count right now."""
        return self._count is not None

    def count_on(self) -> None:
        """Count the next piece."""
        found = next(self._count, {}) if self._count else {}
        if not found:
            return
        now = time.monotonic()
        self._count, self._lying = None, found
        self._next_count = now + max(_RECOUNT, _SHARE * (now - self._count_begun))
        # What came while it was counted may be among it or not: the ledger is not to be put right by such numbers.
        self._unsure = self._unsure + 1 if self._missed else 0
        if self._unsure % _PATIENCE == 0:
            self._ledger.lying(dict(found))
