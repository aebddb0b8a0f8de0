"""PURE. The last hour in numbers: rates, lag and backlog, kept in memory. Time is an argument (a monotonic clock).

A rate or a lag is the difference of two totals, so that it agrees with what Prometheus makes of the same metrics.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from itertools import accumulate
from typing import Any, NamedTuple

#: A point of the charts, in seconds, and how many there are: an hour.
SLOT, SLOTS = 10.0, 360

#: What "now" means for rates and lag, in seconds.
WINDOW = 60.0


class Sample(NamedTuple):
    """Totals since the start at one moment: files that are finished, their bytes, published files by lag (a count for
    each bucket); and the backlog then, in files.
    """

    files: int
    bytes: int
    lags: tuple[int, ...]
    backlog: int


class Point(NamedTuple):
    """One slot: `at` its end on the monotonic clock, rates a second, the lag that 95 of 100 files stayed under (None:
    no file), the highest backlog.
    """

    at: float
    files: float
    bytes: float
    lag: float | None
    backlog: int


class History:
    """Samples of the last minute, points of the last hour. `points` is replaced as a whole: any thread may read it.

    `bounds` are the upper bounds of the buckets that samples count lags in, in seconds.
    """

    def __init__(self, bounds: Sequence[float]) -> None:
        self._bounds = tuple(bounds)
        self._recent: deque[tuple[float, Sample]] = deque()
        self._begun: tuple[float, Sample] | None = None
        self._highest = 0
        self.points: tuple[Point, ...] = ()

    def take(self, sample: Sample, now: float) -> None:
        """One more sample, about once a second."""
        self._recent.append((now, sample))
        # The newest that is at least a window old stays: the difference to it covers the whole window.
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
        return Point(ended[0], files / seconds, size / seconds, quantile(0.95, self._bounds, lags), self._highest)

    def rates(self) -> dict[str, Any]:
        """Files and bytes a second over the last minute (or as long as there was)."""
        seconds, files, size, _ = self._window()
        return {
            "window_seconds": round(seconds, 3),
            "files_per_second": round(files / seconds, 3) if seconds else 0.0,
            "bytes_per_second": round(size / seconds, 1) if seconds else 0.0,
        }

    def lag(self) -> dict[str, float | None]:
        """The lag that half and that 95 of 100 files published in the last minute stayed under; None: no file."""
        *_, lags = self._window()
        return {
            "median_seconds": quantile(0.5, self._bounds, lags),
            "p95_seconds": quantile(0.95, self._bounds, lags),
        }

    def _window(self) -> tuple[float, int, int, tuple[int, ...]]:
        if len(self._recent) < 2:
            return 0.0, 0, 0, ()
        return _difference(self._recent[0], self._recent[-1])


def _difference(first: tuple[float, Sample], last: tuple[float, Sample]) -> tuple[float, int, int, tuple[int, ...]]:
    (then, before), (now, after) = first, last
    lags = tuple(new - old for new, old in zip(after.lags, before.lags, strict=True))
    return now - then, after.files - before.files, after.bytes - before.bytes, lags


def quantile(share: float, bounds: Sequence[float], counts: Sequence[int]) -> float | None:
    """The value that `share` of all observations lie below, by straight lines within buckets, as histogram_quantile
    makes it; None without any. What lies beyond the last bound counts as that bound.
    """
    rank = share * sum(counts)
    if not rank:
        return None
    for index, (upto, bound) in enumerate(zip(accumulate(counts), bounds, strict=False)):
        if upto >= rank:
            low = bounds[index - 1] if index else 0.0
            return round(low + (bound - low) * (rank - (upto - counts[index])) / counts[index], 6)
    return float(bounds[-1])
