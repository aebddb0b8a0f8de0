"""The ledger's thread: intake hands outcomes over and goes on, whatever the ledger's disk does."""

from __future__ import annotations

import contextlib
import threading
import time
from collections import deque
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import TypeVar

from listener.config import Config
from listener.diagnostics import log
from listener.errors import LedgerFault
from listener.ledger import batches, feed, schema
from listener.ledger.batch_recorder import BatchNews, Change
from listener.ledger.completion import UNSEEN, End
from listener.ledger.consumers import Standing
from listener.ledger.pending import MAX_PENDING
from listener.ledger.writer import LedgerWriter
from listener.reasons import internal
from listener.records import Outcome
from listener.repacking.revision import Revision

T = TypeVar("T")

#: Seconds for which outcomes are gathered into one transaction, and between two ticks of the writer.
_GATHER_SECONDS = 0.15
_TICK_SECONDS = 1.0

#: Seconds between two transactions while somebody follows the feed: a lone outcome is put down at once.
_FOLLOWED_SECONDS = 0.01

#: Seconds that close() waits for pending writes: the next start recounts the rest.
CLOSE_TIMEOUT = 10.0


class LedgerThread:
    """Records outcomes and reports ends: `wake` is called (in its thread) when take() has something.

    `counts` is the number of series by state, `acknowledged` of incomplete ones that a person knows of, `batch_counts`
    that of batches, `standings` how its consumers stand, `fault` "" or why the ledger cannot be written; all are
    replaced as a whole, for any thread to read. So is `flow`, the state of intake, by whoever takes files in; without
    it no series is quiet. `consumers`: whom to register, as in deliveries.add_consumers. `is_worked_on` returns whether
    another listener takes files from an incoming directory.
    """

    def __init__(
        self,
        config: Config,
        wake: Callable[[], None] = lambda: None,
        *,
        consumers: Mapping[str, str] | None = None,
        is_worked_on: Callable[[str], bool] = lambda _: False,
    ) -> None:
        self.flow = UNSEEN
        self._writer = LedgerWriter(config, consumers=consumers, flow=self.flow, is_worked_on=is_worked_on)
        self._wake = wake
        self._outcomes: deque[Outcome] = deque()
        self._missed: set[str] = set()
        self._recounts: deque[str] = deque()
        self._followed: tuple[Config, Mapping[str, str]] | None = None
        #: Called in the ledger's thread with corrections.
        self.revise: Callable[[Sequence[Revision]], None] = lambda _: None
        self._ended: deque[End] = deque()
        self._batch_changes: deque[Change] = deque()
        self._batch_news: deque[BatchNews] = deque()
        self._announced: deque[End] = deque()
        self._set_aside_totals: Mapping[str, tuple[int, int]] = {}
        self._arrivals: Mapping[str, int] = {}
        self._unasked = config.watch_sender
        self._state_dir = config.state
        self._has_work = threading.Event()
        self._closing = threading.Event()
        self._worked = 0.0
        self._thread = threading.Thread(target=self._run, name="ledger", daemon=True)
        self.counts = dict.fromkeys(schema.STATES, 0)
        self.batch_counts: Mapping[str, int] = dict.fromkeys(batches.STATES, 0)
        self.batches_with_error = 0
        self.acknowledged = 0
        self.standings: Mapping[str, Standing] = {}
        self.fault = ""

    # -- for the service's loop: nothing here waits --------------------------------------------------------------------

    def start(self) -> None:
        """Start the thread."""
        self._thread.start()

    def finished(self, outcomes: Sequence[Outcome]) -> None:
        """Hand over outcomes to be recorded."""
        if len(self._outcomes) < MAX_PENDING:
            self._outcomes.extend(outcomes)
        else:  # The disk hangs: their series are recounted.
            self._missed.update(outcome.SeriesInstanceUID for outcome in outcomes)
        if not self._has_work.is_set():
            self._has_work.set()

    def follow(self, config: Config, consumers: Mapping[str, str]) -> None:
        """Hand over a configuration whose rules hold from now on, and the hooks that it has."""
        self._followed = (config, consumers)
        self._has_work.set()

    def recount(self, series: Iterable[str]) -> None:
        """Recount series whose files or documents were changed, but not by an outcome."""
        self._recounts.extend(series)
        self._has_work.set()

    def reconcile_set_aside(self, totals: Mapping[str, tuple[int, int]]) -> None:
        """Hand over what was counted in set-aside, files and bytes by reason, to be compared with the rows."""
        self._set_aside_totals = totals

    def change_batches(self, changes: Iterable[Change]) -> None:
        """Hand over changes of batches: recorded in this order, behind the outcomes that were handed over before."""
        self._batch_changes.extend(changes)
        self._has_work.set()

    def take_batch_news(self) -> list[BatchNews]:
        """Return and clear how batches stand that changed."""
        return _emptied(self._batch_news)

    def take(self) -> list[End]:
        """Return and clear the ends that are to be announced."""
        return _emptied(self._ended)

    def take_arrivals(self) -> Mapping[str, int]:
        """Return and clear when senders last came before this start, by AE title: given once, with --watch-sender."""
        arrivals = self._arrivals
        if arrivals:  # It is set once: what is not empty is whole.
            self._arrivals = {}
        return arrivals

    def mark_announced(self, ends: Sequence[End]) -> None:
        """Hand over ends that were announced."""
        self._announced.extend(ends)

    def close(
        self,
        announce: Callable[[Sequence[End]], None],
        settle: Callable[[], None] = lambda: None,
        *,
        judges: bool = False,
    ) -> None:
        """Record what was handed over, `announce` what ended, and close. What cannot be written in time is recounted by
        the next start. `settle` is called once all is recorded, and may hand over more. `judges`: end series by the
        wall clock, for a command that has done all there was.
        """
        self._closing.set()
        self._has_work.set()
        if self._thread.ident:
            self._thread.join(CLOSE_TIMEOUT)
        if self._thread.is_alive():
            log.error("the ledger cannot be written in time; the next start counts again what it lacks")
            return
        # The thread has ended: this one may use the writer now.
        now = time.monotonic()
        self._guarded(self._work, now)
        self._hand_out()
        settle()
        for work in (self._work, self._writer.tick, *([self._writer.end_by_wall_clock] if judges else [])):
            self._guarded(work, now)
        self._hand_out()
        ended = self.take()
        announce(ended)
        self.mark_announced(ended)
        self._guarded(self._work, now)
        self._writer.close()

    # -- in the ledger's thread ----------------------------------------------------------------------------------------

    def _run(self) -> None:
        ticked = 0.0
        while not self._closing.is_set():
            self._has_work.wait(max(0.0, ticked + _TICK_SECONDS - time.monotonic()))
            if self._has_work.is_set():
                self._closing.wait(self._gather_seconds())
            # Before outcomes are taken: these may be more than the flow covers, never fewer.
            self._writer.flow = self.flow
            now = self._worked = time.monotonic()
            self._guarded(self._work, now)
            if now - ticked >= _TICK_SECONDS:
                ticked = now
                self._guarded(self._writer.tick, now)
                if self._unasked and not self.fault:
                    self._guarded(self._ask_arrivals, now)
            self._hand_out()

    def _gather_seconds(self) -> float:
        now = time.monotonic()
        if self._is_followed(now):
            return max(0.0, self._worked + _FOLLOWED_SECONDS - now)
        return _GATHER_SECONDS

    def _is_followed(self, now: float) -> bool:
        """Return whether a consumer follows the feed; one too that has begun since the writer looked."""
        writer = self._writer
        if writer.access.connection and not writer.followers:
            with writer.access.translating_faults(now):
                writer.followers = feed.followers(writer.access.connection)
        return bool(writer.followers)

    def _guarded(self, work: Callable[[float, int], None], now: float) -> None:
        """Call `work`; an internal error does not end the thread: it is logged, and shown as `fault`."""
        try:
            work(now, time.time_ns())
            self.counts, self.fault = self._writer.counts, self._writer.access.fault
            self.acknowledged = self._writer.acknowledged
            self.standings = self._writer.standings
            self.batch_counts, self.batches_with_error = self._writer.batches.counts, self._writer.batches.with_error
        except Exception as error:  # noqa: BLE001 -- the boundary of the thread
            fault = f"The ledger's writer failed ({internal(error)})."
            if self.fault != fault:
                log.error("%s", fault)
            self.fault = fault
            self._writer.reset()

    def _work(self, now: float, now_ns: int) -> None:
        self._has_work.clear()
        followed, self._followed = self._followed, None
        if followed:
            self._writer.follow(*followed)
        missed, self._missed = self._missed, set()
        if missed:
            self._writer.pending.recount(missed)
        self._writer.pending.recount(_emptied(self._recounts))
        # Before outcomes are taken: those that a change follows are then among them.
        changes = _emptied(self._batch_changes)
        outcomes = _emptied(self._outcomes)
        if outcomes:
            self._writer.record(outcomes, now, now_ns)
        if changes:
            self._writer.record_batches(changes, now, now_ns)
        announced = _emptied(self._announced)
        if announced:
            self._writer.mark_announced(announced, now)
        totals, self._set_aside_totals = self._set_aside_totals, {}
        if totals:
            self._writer.reconcile_set_aside(totals, now, now_ns)

    def _ask_arrivals(self, _now: float, _now_ns: int) -> None:
        from listener.ledger.reader import reading  # needed with --watch-sender alone

        with contextlib.suppress(LedgerFault), reading(self._state_dir) as reader:  # or a second later
            self._arrivals = {sender: reader.last_arrival(sender) for sender in self._unasked}
            self._unasked = ()

    def _hand_out(self) -> None:
        revisions = self._writer.take_revisions()
        if revisions:
            self.revise(revisions)
        ended = self._writer.take_ended()
        news, self._writer.batches.news = self._writer.batches.news, []
        if ended or news:
            self._ended.extend(ended)
            self._batch_news.extend(news)
            self._wake()


def _emptied(queue: deque[T]) -> list[T]:
    return [queue.popleft() for _ in range(len(queue))]
