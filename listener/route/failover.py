"""Which studies go to another worker, and which that wait get one: once a second, and when somebody asks for it."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Mapping

from listener.ledger.feed import FeedRow
from listener.route.assignment import Key, Worker
from listener.route.health import FULL, Standing
from listener.route.routes_file import Route, Routes
from listener.route.studies import Studies
from listener.route.window import Window


class Failover:
    """Moves studies. Called within queue.writing(). `window` returns that of a target; `moved` is called with the
    values of each event.
    """

    def __init__(
        self,
        studies: Studies,
        down_after: float,
        window: Callable[[str], Window | None],
        moved: Callable[..., None],
    ) -> None:
        self._studies, self._down_after = studies, down_after
        self._window, self._moved = window, moved
        #: Targets for which something was queued; to be cleared.
        self.touched: set[str] = set()

    def use(self, routes: Routes, standings: Mapping[str, Standing], paused: Iterable[str]) -> None:
        """Take in how the workers stand."""
        unknown, without = Standing(), frozenset(paused)
        workers = {}
        for name, target in routes.targets.items():
            if target.is_worker:
                standing = standings.get(name, unknown)
                workers[name] = Worker(name, target.weight, standing.takes_studies, name in without)
        self._studies.workers = workers
        self._studies.on_trial = frozenset(name for name in workers if standings.get(name, unknown).on_trial)

    def turn(self, routes: Routes, standings: Mapping[str, Standing], now: float) -> None:
        """Move what lies with workers that are down or have been full for long, and give away what waits."""
        for name, standing in standings.items():
            if name in self._studies.workers and standing.lets_go(time.monotonic(), self._down_after):
                self.empty(name, routes, "full" if standing.state == FULL else "down", now)
        for _, worker, _ in self._studies.assign_waiting(routes.routes, now):
            self.touched.add(worker)

    def empty(self, worker: str, routes: Routes, reason: str, now: float) -> int:
        """Move the live studies of a worker for which there is another one; return how many moved."""
        count = 0
        for number, key in self._studies.live(worker, now):
            other = self._other(key, worker, routes, now)
            if other and (reason == "drain" or self._studies.may_move(number, now)):
                self._move(number, key, other, reason, now)
                count += 1
        return count

    def give(self, route: Route, row: FeedRow, worker: str, now: float) -> None:
        """Give a study to a worker, whether it is up or not, because a person says so."""
        number, origin = self._studies.take(route, row.StudyInstanceUID, (row.sender, row.root), now)
        if origin and origin != worker:
            self._move(number, (route.name, row.StudyInstanceUID), worker, "send", now)
        elif not origin:
            self._studies.settle_on(number, worker, route, now)
            self.touched.add(worker)

    def _other(self, key: Key, worker: str, routes: Routes, now: float) -> str:
        route = routes.routes.get(key[0])
        if route is None:
            return ""
        candidates = self._studies.candidates(route, now)
        return self._studies.assignments.best(key, candidates, now, without=worker)

    def left(self, routes: Routes, now: float) -> None:
        """Move the live studies of workers that are not in the routes file, or not in their route, any more; those for
        which there is none wait.
        """
        for key, study in list(self._studies.assignments.studies.items()):
            route = routes.routes.get(key[0])
            if route is None or (study.worker in routes.targets and study.worker in route.workers):
                continue
            if study.is_live(now, self._studies.busy):
                number = self._studies.number(key)
                self._move(number, key, self._other(key, study.worker, routes, now), "left", now)

    def _move(self, number: int, key: Key, other: str, reason: str, now: float) -> None:
        origin = self._studies.assignments.studies[key].worker
        window = self._window(origin)
        if window:
            window.drop(number)
        count = self._studies.move(number, other, reason, now)
        self.touched.add(other)
        route, uid = key
        self._moved(StudyInstanceUID=uid, route=route, origin=origin, target=other, reason=reason, instances=count)
