"""Output of `once` and `repack`: events, a progress line, and a summary."""

from __future__ import annotations

import contextlib
import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, TextIO

from listener.records import Deferral, Outcome
from listener.service.pool import WorkerExit
from listener.status.formatting import share, span
from listener.telemetry.events import Events

if TYPE_CHECKING:  # `repack` without a state directory needs no sqlite, and runs once a file.
    from listener.ledger.batch_recorder import BatchNews
    from listener.ledger.completion import End
    from listener.ledger.thread import LedgerThread

#: How often the progress line is written where there is no terminal (to a log, a pipe), in seconds.
_SELDOM = 30.0


class Progress:
    """Counts what becomes of files; writes events, a progress line and a summary. `tick`: seconds from one line to the
    next on a terminal.
    """

    def __init__(
        self, events: Events, screen: TextIO, ledger: LedgerThread | None = None, *, tick: float = 0.2
    ) -> None:
        self._events = events
        self._ledger = ledger
        self._screen = screen
        self._tick = tick
        self._begun = self._drawn = time.monotonic()
        self.counts: Counter[str] = Counter()
        self.reasons: Counter[str] = Counter()
        self.bytes = 0
        self.seen = 0
        #: How many files there are in all; 0: not known. `counts_left` counts those that are not done, once, when the
        #: first line is due.
        self.total = 0
        self.counts_left: Callable[[], int] | None = None

    def discovered(self, source: str) -> None:
        """Count a file that was found."""
        self.seen += 1

    def finished(self, outcomes: Sequence[Outcome]) -> None:
        """Count outcomes, write their events and pass them to the ledger."""
        for outcome in outcomes:
            self.counts[outcome.kind] += 1
            self.bytes += outcome.size
            if outcome.reason:
                self.reasons[outcome.reason] += 1
        self._events.outcomes(outcomes)
        if self._ledger:
            self._ledger.finished(outcomes)
        self._draw(time.monotonic())

    def _draw(self, now: float) -> None:
        """Write a line when one is due. An error there (a full disk) is ignored: the work goes on."""
        on_terminal = self._screen.isatty()
        if now - self._drawn < (self._tick if on_terminal else _SELDOM):
            return
        if self.counts_left:
            self.total, self.counts_left = self._done() + self.counts_left(), None
        self._drawn = now
        with contextlib.suppress(OSError):
            self._screen.write(f"\r\033[K{self._line(now)}" if on_terminal else f"{self._line(now)}\n")
            self._screen.flush()

    def deferred(self, deferral: Deferral) -> None:
        """Do nothing: the file is tried again."""

    def lost(self, lost: WorkerExit) -> None:
        """Count a worker that died."""
        self.counts["workers lost"] += 1

    def announce(self, ended: Sequence[End]) -> None:
        """Write the events of series and studies that ended."""
        for end in ended:
            self._events.service(end.announced_as, time.time_ns(), **end._asdict())

    def announce_batch(self, news: BatchNews) -> None:
        """Write the event of a batch."""
        self._events.service(news.event_name, time.time_ns(), **news.shown(self._events.phi))

    def _line(self, now: float) -> str:
        done, total = self._done(), max(self.total, self.seen)
        rate = done / max(now - self._begun, 1e-9)
        line = f"{done} of {total} files, {self.bytes / 1e6:.1f} MB, {rate:.0f} files/s"
        if not self.total or not rate:
            return line
        return f"{share(done, total)}, {span((total - done) / rate)} left: {line}"

    def _done(self) -> int:
        return sum(self.counts[kind] for kind in ("published", "duplicate", "set-aside", "vanished"))

    def refused(self, deferral: Deferral) -> None:
        """Count a file that is not tried again."""
        self.reasons[f"{deferral.reason} ({deferral.error})"] += 1

    def held_up(self, shown: Mapping[str, Any]) -> None:
        """Count files that are left because their own place cannot be used, as HeldUp shows them."""
        for one in shown["shown"]:
            self.reasons[f"held up, {one['reason']} ({one['place']}: {one['error']})"] += one["files"]

    def summary(self, left: int, what: str = "left in incoming") -> None:
        """Write the summary to standard error. An error there (a full disk) is ignored: the work is done."""
        seconds = time.monotonic() - self._begun
        told = [f"{count} {kind}" for kind, count in self.counts.items() if count]
        if left:
            told.append(f"{left} {what}")
        rate = self.counts["published"] / max(seconds, 1e-9)
        volume = f"{self.bytes / 1e6:.1f} MB in {seconds:.2f} s ({rate:.0f} files/s)"
        lines = [f"{', '.join(told) or 'nothing to do'}; {volume}"]
        lines += [f"  {reason}: {count}" for reason, count in self.reasons.most_common()]
        with contextlib.suppress(OSError):
            self._screen.write(("\r\033[K" if self._screen.isatty() else "") + "\n".join(lines) + "\n")
            self._screen.flush()
