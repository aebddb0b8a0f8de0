"""The ledger's own thread: intake hands outcomes over and goes on, whatever the ledger's disk is doing."""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import TypeVar

from listener.config import Config
from listener.diagnostics import log
from listener.errors import internal
from listener.ledger import schema
from listener.ledger.completion import Completion
from listener.ledger.quiet import UNSEEN
from listener.ledger.writer import MOST, LedgerWriter
from listener.records import Outcome
from listener.repacking.revision import Revision

T = TypeVar("T")

#: Outcomes are put down together, at most so late; and how often everything is looked at. Seconds.
_GATHER = 0.15
_TICK = 1.0

#: How long the end waits for what is not written yet, in seconds: the next start counts it again.
PATIENCE = 10.0


class LedgerThread:
    """Records outcomes and tells which series ended: `wake` is called (from its thread) when there is something to
    `take`. `counts` is how many series are in each state, `fault` "" or why the ledger cannot be written; both are
    replaced as a whole, for any thread to read. So is `flow`, by whoever takes files in: how intake stands, without
    which nothing is quiet.

    `consumers`: the names of those who are to be told. `is_worked_on` tells whether another listener works on an
    incoming directory.
    """

    def __init__(
        self,
        config: Config,
        wake: Callable[[], None] = lambda: None,
        *,
        consumers: Iterable[str] = (),
        is_worked_on: Callable[[str], bool] = lambda _: False,
    ) -> None:
        self.flow = UNSEEN
        self._clerk = LedgerWriter(config, consumers=consumers, flow=self.flow, is_worked_on=is_worked_on)
        self._wake = wake
        self._outcomes: deque[Outcome] = deque()
        self._missed: set[str] = set()
        self._again: deque[str] = deque()
        #: Called (from the ledger's thread) with what was corrected.
        self.revise: Callable[[Sequence[Revision]], None] = lambda _: None
        self._ended: deque[Completion] = deque()
        self._told: deque[Completion] = deque()
        self._lying: Mapping[str, tuple[int, int]] = {}
        self._something = threading.Event()
        self._closing = threading.Event()
        self._thread = threading.Thread(target=self._run, name="ledger", daemon=True)
        self.counts = dict.fromkeys(schema.STATES, 0)
        self.fault = ""

    # -- the loop's side: nothing here waits ---------------------------------------------------------------------------

    def start(self) -> None:
        """From now on outcomes are recorded."""
        self._thread.start()

    def finished(self, outcomes: Sequence[Outcome]) -> None:
        """Files are done."""
        if len(self._outcomes) < MOST:
            self._outcomes.extend(outcomes)
        else:  # The disk hangs. Their series will be counted again.
            self._missed.update(outcome.SeriesInstanceUID for outcome in outcomes)
        if not self._something.is_set():
            self._something.set()

    def count_again(self, series: Iterable[str]) -> None:
        """What is there of these series was changed, not by an outcome."""
        self._again.extend(series)
        self._something.set()

    def lying(self, totals: Mapping[str, tuple[int, int]]) -> None:
        """What was counted in set-aside just now, files and bytes by reason."""
        self._lying = totals

    def take(self) -> list[Completion]:
        """Ends of series that are to be announced now."""
        return _emptied(self._ended)

    def told(self, completions: Sequence[Completion]) -> None:
        """They were announced."""
        self._told.extend(completions)

    def close(
        self,
        announce: Callable[[Sequence[Completion]], None],
        settle: Callable[[], None] = lambda: None,
        *,
        judges: bool = False,
    ) -> None:
        """Put down what is there, `announce` what ended, and let the ledger go. What cannot be written in time is
        counted again at the next start. `settle` is called when all that was handed over is recorded, and may hand
        over more. `judges`: for a command that has done all there was, and ends by itself; series are judged by the
        wall clock then.
        """
        self._closing.set()
        self._something.set()
        if self._thread.ident:
            self._thread.join(PATIENCE)
        if self._thread.is_alive():
            log.error("the ledger cannot be written in time; the next start counts again what it lacks")
            return
        # The thread has ended: the ledger is this one's now.
        now = time.monotonic()
        self._minding(self._work, now)
        self._tell()
        settle()
        for work in (self._work, self._clerk.tick, *([self._clerk.judge] if judges else [])):
            self._minding(work, now)
        self._tell()
        ended = self.take()
        announce(ended)
        self.told(ended)
        self._minding(self._work, now)
        self._clerk.close()

    # -- its own thread ------------------------------------------------------------------------------------------------

    def _run(self) -> None:
        ticked = 0.0
        while not self._closing.is_set():
            self._something.wait(max(0.0, ticked + _TICK - time.monotonic()))
            if self._something.is_set():
                self._closing.wait(_GATHER)
            # Before what is done is taken: that is more than the flow tells of, never less.
            self._clerk.flow = self.flow
            now = time.monotonic()
            self._minding(self._work, now)
            if now - ticked >= _TICK:
                ticked = now
                self._minding(self._clerk.tick, now)
            self._tell()

    def _minding(self, work: Callable[[float, int], None], now: float) -> None:
        """A defect here must not end the thread unseen: files are published, and the fault is shown."""
        try:
            work(now, time.time_ns())
            self.counts, self.fault = self._clerk.counts, self._clerk.access.fault
        except Exception as error:  # noqa: BLE001 -- the boundary of the thread
            fault = f"The ledger's writer failed ({internal(error)})."
            if self.fault != fault:
                log.error("%s", fault)
            self.fault = fault
            self._clerk.reset()

    def _work(self, now: float, now_ns: int) -> None:
        self._something.clear()
        missed, self._missed = self._missed, set()
        if missed:
            self._clerk.unwritten.again(missed)
        self._clerk.unwritten.again(_emptied(self._again))
        outcomes = _emptied(self._outcomes)
        if outcomes:
            self._clerk.record(outcomes, now, now_ns)
        told = _emptied(self._told)
        if told:
            self._clerk.mark_announced(told, now)
        lying, self._lying = self._lying, {}
        if lying:
            self._clerk.compare_aside(lying, now, now_ns)

    def _tell(self) -> None:
        revisions = self._clerk.take_revisions()
        if revisions:
            self.revise(revisions)
        ended = self._clerk.take_ended()
        if ended:
            self._ended.extend(ended)
            self._wake()


def _emptied(queue: deque[T]) -> list[T]:
    return [queue.popleft() for _ in range(len(queue))]
