"""When CUBE is asked whether it has a series: no faster than it may be, and seldom while it does not answer."""

from __future__ import annotations

import time

from listener.diagnostics import log
from listener.disk.retry import delivery_pause
from listener.errors import NotTaken, Postponed
from listener.notify.cube import Cube, Found

#: Seconds at most for which a CUBE that does not answer is not asked.
_LONGEST_PAUSE = 60.0


class Questions:
    """Asks `cube` at most `rate` times a second. Each question gets its moment when it is wished for, so that thousands
    wait without a look in between. For one thread.
    """

    def __init__(self, cube: Cube, rate: float) -> None:
        self._cube, self._interval = cube, 1 / rate
        self._moments: dict[str, float] = {}
        self._next = self._not_before = 0.0
        self._failures = 0
        #: Why CUBE does not answer; "" while it does.
        self.fault = ""

    def ask(self, key: str, series: str, waiting: str) -> list[Found]:
        """Return what CUBE has registered under a SeriesInstanceUID, asked for a delivery's `key`. Raises Postponed,
        with the text `waiting`, until the moment has come, and where CUBE does not answer: see `fault`.
        """
        now = time.monotonic()
        moment = self._moments.pop(key, 0.0)
        if not moment or now < self._not_before:
            moment = max(now, self._next, self._not_before)
            self._next = moment + self._interval
        if moment > now:
            self._moments[key] = moment
            raise Postponed(waiting, moment - now)
        try:
            found = self._cube.find(series)
        except NotTaken as fault:
            raise Postponed(waiting, self._failed(fault.detail)) from None
        if self.fault:
            log.info("%s answers again", self._cube.shown)
        self._failures, self.fault = 0, ""
        return found

    def forget(self, key: str) -> None:
        """Ask no more for this delivery."""
        self._moments.pop(key, None)

    def _failed(self, why: str) -> float:
        """Return the seconds until CUBE is asked again."""
        if why != self.fault:
            log.warning("%s; what was sent waits until CUBE tells that it is registered", why)
        self.fault = why
        self._failures += 1
        pause = min(delivery_pause(self._failures), _LONGEST_PAUSE)
        self._not_before = time.monotonic() + pause
        return pause
