"""PURE. Which series are complete: the expected number was reached, or nothing new came for a while. Time is an
argument.

What is kept here lasts as long as the service runs: after a restart a series is known again from its next instance on.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import NamedTuple

#: How a series' completion came about; `late` is a later generation than the first. Metric label and event field.
RESULTS = ("expected", "quiet", "late", "incomplete")

#: Ended series that are remembered, so that a late instance opens generation 2 and not 1 again.
_REMEMBERED = 10_000


class Completion(NamedTuple):
    """A series was taken for complete (or incomplete). `expected` is 0 where nobody said how many there will be."""

    SeriesInstanceUID: str
    StudyInstanceUID: str
    generation: int
    instances: int
    expected: int
    result: str


@dataclass(slots=True)
class _Series:
    study: str
    modality: str
    instances: int
    last: float
    generation: int = 1
    expected: int = 0
    is_open: bool = True


class SeriesBook:
    """Series that are open, and the last that ended.

    `quiet` maps a modality to the seconds without a new instance after which a series is complete, "" being any other;
    `timeout` is the same for a series that was promised more instances than came: it is incomplete then.
    """

    def __init__(self, quiet: Mapping[str, float], timeout: float) -> None:
        self._quiet = quiet
        self._timeout = timeout
        self._series: OrderedDict[str, _Series] = OrderedDict()
        self._open: dict[str, _Series] = {}

    def knows(self, uid: str) -> bool:
        """Whether the series was met before."""
        return uid in self._series

    def meet(self, uid: str, study: str, modality: str, instances: int, now: float) -> None:
        """A series is met for the first time; `instances` lie in the tree already, the newest included."""
        self._series[uid] = self._open[uid] = _Series(study, modality, instances, now)

    def arrived(self, uid: str, now: float) -> None:
        """One more instance of a known series was published; it opens a series that had ended."""
        series = self._series[uid]
        series.instances += 1
        series.last = now
        if not series.is_open:
            series.is_open = True
            series.generation += 1
            self._open[uid] = series

    def open_series(self) -> Iterator[str]:
        """The UIDs of the series that are open."""
        yield from self._open

    def expect(self, uid: str, expected: int, instances: int) -> None:
        """Somebody said how many instances the series will have; `instances` are there."""
        self._series[uid].expected = expected
        self._series[uid].instances = instances

    def due(self, now: float) -> list[Completion]:
        """The series that end at `now`; each generation ends once."""
        ended = [(uid, series, self._result(series, now)) for uid, series in self._open.items()]
        completions = [_end(uid, series, result) for uid, series, result in ended if result]
        for completion in completions:
            del self._open[completion.SeriesInstanceUID]
            self._series.move_to_end(completion.SeriesInstanceUID)
        self._forget()
        return completions

    def _result(self, series: _Series, now: float) -> str:
        if series.expected:
            if series.instances >= series.expected:
                return "expected" if series.generation == 1 else "late"
            return "incomplete" if now - series.last >= self._timeout else ""
        quiet = self._quiet.get(series.modality, self._quiet[""])
        if now - series.last < quiet:
            return ""
        return "quiet" if series.generation == 1 else "late"

    def _forget(self) -> None:
        while len(self._series) - len(self._open) > _REMEMBERED:
            uid = next(uid for uid, series in self._series.items() if not series.is_open)
            del self._series[uid]

    @property
    def opened(self) -> int:
        """How many series are open."""
        return len(self._open)


def _end(uid: str, series: _Series, result: str) -> Completion:
    series.is_open = False
    return Completion(uid, series.study, series.generation, series.instances, series.expected, result)
