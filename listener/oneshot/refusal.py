"""When a command that ends by itself gives up: the system refuses everything, or space is short."""

from __future__ import annotations

import os
import time

from listener.config import Config
from listener.diagnostics import log
from listener.service.engine import Engine
from listener.status.formatting import size


class Refusal:
    """Ends waiting when the system has refused everything for as long as one file may wait."""

    def __init__(self, engine: Engine, patience: float) -> None:
        self._engine = engine
        self._patience = patience
        self._since = 0.0

    @property
    def lasts(self) -> bool:
        """Return whether to give up; called after each turn of the engine."""
        now = time.monotonic()
        if not self._engine.breaker.reason:
            self._since = 0.0
        self._since = self._since or now
        return not self._engine.backlog.working and now - self._since > self._patience


def is_short_of_space(config: Config) -> bool:
    """Return whether a volume that is written to has less than --min-free, and log that."""
    floor = config.min_free
    # Work is what frees an incoming that has a volume of its own.
    if all(_free(path) >= floor for path in (config.data, config.log, config.state)):
        return False
    log.error("less than --min-free (%s) is free; every source is kept: make room, or lower --min-free", size(floor))
    return True


def _free(path: str) -> int:
    """Return the free bytes of the volume of `path`; 0 where it is gone."""
    try:
        found = os.statvfs(path)
    except OSError:
        return 0
    return found.f_bavail * found.f_frsize
