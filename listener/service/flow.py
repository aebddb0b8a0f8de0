"""Measures how far intake lags behind, for the clock by which series are quiet (ledger/completion.py)."""

from __future__ import annotations

from math import inf

from listener.ledger.completion import UNSEEN, Flow
from listener.service.engine import Engine
from listener.service.rescan import Rescan
from listener.service.watch import Watch


class FlowMeter:
    """Called by the loop once a second. `settle`: how long a file must have been untouched before it is taken, in
    seconds; 0 where leases work.
    """

    def __init__(self, engine: Engine, rescan: Rescan, watch: Watch, settle: float) -> None:
        self._engine = engine
        self._rescan = rescan
        self._watch = watch
        self._settle = settle
        self._flow = UNSEEN
        self._missed = 0.0  # Before the first rescan nothing is known.

    def missed(self, now: float) -> None:
        """Record that events were lost: only a rescan that begins later finds everything."""
        self._missed = now

    def measure(self, now: float, *, sees: bool, coming: frozenset[str] = frozenset()) -> Flow:
        """Return the state of intake at `now` (monotonic). `sees`: every incoming directory is there and accessible;
        `coming`: series of which batches bring more.
        """
        if not sees or not (self._watch.polling or self._watch.alive()):
            self.missed(now)
        lag = self._lag(now)
        flows = sees and lag < inf and self._engine.flows
        self._flow = self._flow.next(now, lag, flows=flows, held=self._engine.held_up.series() | coming)
        return self._flow

    def _lag(self, now: float) -> float:
        """Return the greatest possible age of an unfinished file, in seconds; inf: from before the service began."""
        first = self._engine.backlog.noticed_first()
        # It may have come at any time since the last measurement: a process that was stopped notices late.
        waited = now - first + max(0.0, now - self._flow.at) if first < inf else 0.0
        return max(waited, now - self._known_until(now)) + self._settle

    def _known_until(self, now: float) -> float:
        """Return the time (monotonic) before which every file that came is known."""
        lost = max(self._missed, self._engine.intake.turned_away) > self._rescan.covered
        return self._rescan.covered if lost or self._watch.polling else now
