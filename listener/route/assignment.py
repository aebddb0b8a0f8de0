"""PURE. Which worker gets a study: always the same one, and a new study the one with the least to do.

Times are seconds on one clock that outlives restarts (since the epoch); nothing here reads a clock.
"""

from __future__ import annotations

import heapq
from collections.abc import Iterator, Mapping
from typing import NamedTuple

_DAY = 86_400.0

#: A study on a route: the route's name and the StudyInstanceUID.
Key = tuple[str, str]


class Worker(NamedTuple):
    """A worker that may get studies: `weight` is its share. It gets no new ones while it is down, full or paused."""

    name: str
    weight: float = 1.0
    is_up: bool = True
    is_paused: bool = False


class Study:
    """A study on a route. `unsent` counts its instances that its worker has not got yet, `open_series` its series that
    have not ended; `awaits_result` until one came back, of a route with `results`. `last` is when something was last
    assigned or sent.
    """

    __slots__ = ("awaits_result", "began", "last", "open_series", "unsent", "worker")

    def __init__(self, worker: str, now: float, *, awaits_result: bool) -> None:
        self.worker = worker
        self.began = self.last = now
        self.awaits_result = awaits_result
        self.unsent = 0
        self.open_series = 0

    def is_live(self, now: float, busy: float) -> bool:
        """Return whether its worker has something to do: what is unsent or may still come, or a result that is awaited
        for at most `busy` seconds.
        """
        return self.unsent > 0 or self.open_series > 0 or (self.awaits_result and now < self.last + busy)


class Assignments:
    """Studies and their workers. `busy` is how many seconds a result is waited for, `remember` for how many a study
    keeps its worker after something was last assigned or sent.

    Call changed() after a change to a study; then a new study costs the same among a hundred thousand.
    """

    def __init__(self, busy: float = 600.0, remember: float = 30 * _DAY) -> None:
        self._busy, self._remember = busy, remember
        self.studies: dict[Key, Study] = {}
        #: Keys of live studies by worker; those that live only for a result leave it by `_ends`.
        self._live: dict[str, set[Key]] = {}
        self._ends: list[tuple[float, Key]] = []
        self._routes_of: dict[str, set[str]] = {}
        self._today: dict[str, tuple[int, int]] = {}

    def worker_of(self, route: str, study: str) -> str:
        """Return the worker of a study on a route, "" if it has none."""
        known = self.studies.get((route, study))
        return known.worker if known else ""

    def assign(self, key: Key, workers: Mapping[str, Worker], now: float, *, awaits_result: bool) -> Study | None:
        """Return the study with its worker: the one that it has, or for a new one the best of `workers` (those of its
        route, in the order of the file); None if none of these may get one.
        """
        known = self.studies.get(key)
        if known is None:
            name = self.best(key, workers, now)
            if not name:
                return None
            known = self.studies[key] = Study(name, now, awaits_result=awaits_result)
            self._routes_of.setdefault(key[1], set()).add(key[0])
            self._count(name, now)
            self.changed(key, now)
        return known

    def best(self, key: Key, workers: Mapping[str, Worker], now: float, *, without: str = "") -> str:
        """Return the worker that is up and not paused with the least live studies by its weight; of equal ones that
        which does not hold this study for another route, then that with the fewest studies today, then the first. "" if
        there is none; `without` is never it.
        """
        self._expire(now)
        held = {self.studies[route, key[1]].worker for route in self._routes_of.get(key[1], ()) if route != key[0]}
        day = int(now // _DAY)

        def burden(worker: Worker) -> tuple[float, bool, int]:
            counted_on, count = self._today.get(worker.name, (day, 0))
            live = len(self._live.get(worker.name, ()))
            return live / worker.weight, worker.name in held, count if counted_on == day else 0

        free = [one for one in workers.values() if one.is_up and not one.is_paused and one.name != without]
        return min(free, key=burden).name if free else ""

    def live(self, worker: str, now: float) -> set[Key]:
        """Return the live studies of a worker: it is safe to switch off when there is none."""
        self._expire(now)
        return set(self._live.get(worker, ()))

    def move(self, key: Key, worker: str, now: float) -> None:
        """Give a study to another worker, which is to get all its instances: count them as unsent, call changed()."""
        study = self.studies[key]
        self._live.get(study.worker, set()).discard(key)
        study.worker, study.last = worker, now
        self._count(worker, now)
        self.changed(key, now)

    def drop(self, key: Key) -> None:
        """Take a study from its worker, without another one for it."""
        study = self.studies.pop(key)
        self._live.get(study.worker, set()).discard(key)
        self._routes_of[key[1]].discard(key[0])
        if not self._routes_of[key[1]]:
            del self._routes_of[key[1]]

    def changed(self, key: Key, now: float) -> None:
        """Take in that a study's numbers changed."""
        study = self.studies[key]
        live = self._live.setdefault(study.worker, set())
        if not study.is_live(now, self._busy):
            live.discard(key)
            return
        live.add(key)
        if not study.unsent and not study.open_series:
            heapq.heappush(self._ends, (study.last + self._busy, key))

    def restore(self, key: Key, study: Study, now: float) -> None:
        """Take in a study that was kept over a restart."""
        self.studies[key] = study
        self._routes_of.setdefault(key[1], set()).add(key[0])
        if int(study.began // _DAY) == int(now // _DAY):
            self._count(study.worker, study.began)
        self.changed(key, now)

    def forget(self, now: float) -> Iterator[Key]:
        """Forget studies of which nothing was assigned or sent for so long, and yield their keys; live ones stay."""
        self._expire(now)
        old = [key for key, study in self.studies.items() if study.last + self._remember <= now]
        for key in old:
            study = self.studies[key]
            if not study.is_live(now, self._busy):
                self.drop(key)
                yield key

    def _count(self, worker: str, now: float) -> None:
        day = int(now // _DAY)
        counted_on, count = self._today.get(worker, (day, 0))
        self._today[worker] = (day, count + 1 if counted_on == day else 1)

    def _expire(self, now: float) -> None:
        """Let go what was live only for a result, where that did not come."""
        while self._ends and self._ends[0][0] <= now:
            key = heapq.heappop(self._ends)[1]
            if key in self.studies:
                self.changed(key, now)
