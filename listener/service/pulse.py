"""Once a second: the word of the service, for `listener status`, the page and the API; and what the charts show."""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import Any

import listener
from listener.diagnostics import log
from listener.planning.names import instant
from listener.status import live
from listener.status.document import NOTHING_HELD_UP
from listener.status.history import History
from listener.status.word import sample, word
from listener.telemetry.catalogue import LATENCY, Numbers


class Pulse:
    """Renews the word in `state`. `live` is replaced as a whole: any thread may read it. `held_up` is what HeldUp shows
    of the files that wait alone.
    """

    def __init__(self, state: str, numbers: Numbers) -> None:
        self._numbers = numbers
        self._file = live.Writer(state)
        self._started = instant(time.time_ns())
        self._told = False
        self.held_up: Mapping[str, Any] = NOTHING_HELD_UP
        self.history = History(LATENCY)
        self.live: Mapping[str, Any] = self._word("not-ready", {})

    def beat(self, state: str, checks: Mapping[str, Any], now: float) -> None:
        """The service is in `state` (one of document.STATES) for the reasons in `checks`; `now` is monotonic."""
        self.history.take(sample(self._numbers), now)
        self.live = self._word(state, checks)
        self._write()

    def _word(self, state: str, checks: Mapping[str, Any]) -> dict[str, Any]:
        service = {"version": listener.__version__, "started": self._started, "state": state, "checks": checks}
        return {**word(self._numbers, self.history, service, time.time_ns()), "held_up": self.held_up}

    def _write(self) -> None:
        try:
            self._file.write(self.live)
        except OSError as error:  # Nobody's file depends on it; /readyz says what the volume has.
            if not self._told:
                log.warning("'listener status' cannot be told how it stands: %s", error.strerror)
            self._told = True
        else:
            self._told = False

    def close(self) -> None:
        """The last word: stopped."""
        self.held_up = NOTHING_HELD_UP
        self.live = self._word("stopped", {})
        self._write()
        self._file.close()
