"""PURE. The clock by which a series is quiet: seconds in which files could come in and be published.

Quiet is time without arrivals while intake flows. Three moments count: when a series last got an instance, now, and how
far intake has come: what was noticed before that moment is done. A series is quiet when its quiet time lies before the
last of these; a file that waits (the system refuses, a long backlog, a sweep that is not complete) holds the clock up.
"""

from __future__ import annotations

from math import inf
from typing import NamedTuple

#: The loop looks once a second. Of a longer pause (the process was stopped, the machine slept) only so much counts.
LONGEST = 2.0


class Flow(NamedTuple):
    """How intake stood at `at` (seconds on the monotonic clock). `elapsed`: seconds in which it flowed until then;
    `lag`: all that was noticed longer ago than so many seconds is done; `flows`: work is handed out; `held`: the series
    of which a file waits alone, while others go on.
    """

    at: float
    elapsed: float = 0.0
    lag: float = 0.0
    flows: bool = True
    held: frozenset[str] = frozenset()

    def next(self, now: float, lag: float, *, flows: bool, held: frozenset[str] = frozenset()) -> Flow:
        """How it stands later."""
        return Flow(now, self.moment(now), lag, flows, held)

    def moment(self, now: float) -> float:
        """The reading of the clock at `now`."""
        return self.elapsed + (min(max(0.0, now - self.at), LONGEST) if self.flows else 0.0)

    @property
    def horizon(self) -> float:
        """Until when, on this clock, everything that came is done."""
        return self.elapsed - self.lag


#: Of a command that ends by itself, and of a service that has not seen all of incoming yet: nothing is quiet.
UNSEEN = Flow(0.0, lag=inf, flows=False)


class Moment(NamedTuple):
    """Now, on every clock: the monotonic one in seconds, the wall clock in nanoseconds, `quiet` the clock of this
    module, and its `horizon`.
    """

    now: float
    now_ns: int
    quiet: float
    horizon: float
