"""PURE. Rates, lag and backlog of the last hour, in memory. Time is an argument (monotonic, seconds).

Lag is the time from written to published and released. Rates and lags are differences of two totals, so that they agree
with what Prometheus makes of the same metrics.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from itertools import accumulate
from typing import Any, NamedTuple

#: Seconds of a point of the charts, and their number: an hour.
SLOT, SLOTS = 10.0, 360

#: Seconds over which current rates and lag are taken.
WINDOW = 60.0


class Sample(NamedTuple):
    """Totals since the start: finished files, their bytes, published files by lag (a count for each bucket), workers
    that were lost, overflows of the event queue; and the backlog at that moment, in files.
    """

    files: int
    bytes: int
    lags: tuple[int, ...]
    backlog: int
    lost_workers: int = 0
    lost_events: int = 0


class Point(NamedTuple):
    """One slot: `at` its end (monotonic), files and bytes a second, the 95th percentile of lag in seconds (None: no
    file), the highest backlog, workers and events lost in it.
    """

    at: float
    files: float
    bytes: float
    lag: float | None
    backlog: int
    lost_workers: int = 0
    lost_events: int = 0


class History:
    """Samples of the last minute, points of the last hour. `points` is replaced as a whole: any thread may read it.
    `bounds` are the upper bounds, in seconds, of the buckets of lags in samples.
    """

    def __init__(self, bounds: Sequence[float]) -> None:
        self._bounds = tuple(bounds)
        self._recent: deque[tuple[float, Sample]] = deque()
        self._begun: tuple[float, Sample] | None = None
        self._highest = 0
        self.points: tuple[Point, ...] = ()

    def add(self, sample: Sample, now: float) -> None:
        """Add a sample, about once a second."""
        self._recent.append((now, sample))
        # The newest sample that is at least a window old stays: the difference to it covers the whole window.
        while len(self._recent) > 2 and self._recent[1][0] <= now - WINDOW:
            self._recent.popleft()
        self._highest = max(self._highest, sample.backlog)
        if self._begun is None:
            self._begun = (now, sample)
        elif now - self._begun[0] >= SLOT:
            self.points = (*self.points[-SLOTS + 1 :], self._point(self._begun, (now, sample)))
            self._begun, self._highest = (now, sample), sample.backlog

    def _point(self, begun: tuple[float, Sample], ended: tuple[float, Sample]) -> Point:
        seconds, files, size, lags = _difference(begun, ended)
        lag = quantile(0.95, self._bounds, lags)
        (_, before), (_, after) = begun, ended
        lost = (after.lost_workers - before.lost_workers, after.lost_events - before.lost_events)
        return Point(ended[0], files / seconds, size / seconds, lag, self._highest, *lost)

    def lost(self) -> dict[str, int]:
        """Return the workers that were lost and the overflows of the event queue in the last hour."""
        workers, events = (sum(getattr(point, name) for point in self.points) for name in Point._fields[-2:])
        if self._begun and self._recent:
            before, now = self._begun[1], self._recent[-1][1]
            workers += now.lost_workers - before.lost_workers
            events += now.lost_events - before.lost_events
        return {"workers": workers, "events": events}

    def rates(self) -> dict[str, Any]:
        """Return files and bytes a second over the last minute (or the time since the start)."""
        seconds, files, size, _ = self._window()
        return {
            "window_seconds": round(seconds, 3),
            "files_per_second": round(files / seconds, 3) if seconds else 0.0,
            "bytes_per_second": round(size / seconds, 1) if seconds else 0.0,
        }

    def lag(self) -> dict[str, float | None]:
        """Return median and 95th percentile of the lag of files published in the last minute; None: no file."""
        *_, lags = self._window()
        return {
            "median_seconds": quantile(0.5, self._bounds, lags),
            "p95_seconds": quantile(0.95, self._bounds, lags),
        }

    def saved(self, now: float) -> list[list[Any]]:
        """Return the points with their age in seconds instead of their time, for restore()."""
        return [[round(now - point.at, 1), *point[1:]] for point in self.points]

    def restore(self, saved: Sequence[Sequence[Any]], late: float, now: float) -> None:
        """Put the points that were saved `late` seconds ago, and are not older than an hour, before all others."""
        points = [Point(now - late - age, *rest) for age, *rest in saved if 0 <= late + age <= SLOT * SLOTS]
        self.points = (*points, *self.points)[-SLOTS:]

    def _window(self) -> tuple[float, int, int, tuple[int, ...]]:
        if len(self._recent) < 2:
            return 0.0, 0, 0, ()
        return _difference(self._recent[0], self._recent[-1])


def _difference(first: tuple[float, Sample], last: tuple[float, Sample]) -> tuple[float, int, int, tuple[int, ...]]:
    (then, before), (now, after) = first, last
    lags = tuple(new - old for new, old in zip(after.lags, before.lags, strict=True))
    return now - then, after.files - before.files, after.bytes - before.bytes, lags


def quantile(share: float, bounds: Sequence[float], counts: Sequence[int]) -> float | None:
    """Return a quantile, interpolated within buckets as Prometheus' histogram_quantile does; None without observations.
    Values beyond the last bound count as that bound.
    """
    rank = share * sum(counts)
    if not rank:
        return None
    for index, (upto, bound) in enumerate(zip(accumulate(counts), bounds, strict=False)):
        if upto >= rank:
            low = bounds[index - 1] if index else 0.0
            return round(low + (bound - low) * (rank - (upto - counts[index])) / counts[index], 6)
    return float(bounds[-1])
