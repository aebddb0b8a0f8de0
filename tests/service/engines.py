"""An engine under test: what it reports, and turns of its loop."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from typing import Any

from listener.records import Deferral, Outcome
from listener.service.engine import Engine
from listener.service.pool import WorkerExit


class Ear:
    """Hears an engine, as metrics and events do."""

    def __init__(self) -> None:
        self.sources: list[str] = []
        self.outcomes: list[Outcome] = []
        self.deferrals: list[Deferral] = []
        self.losses: list[WorkerExit] = []

    def discovered(self, source: str) -> None:
        self.sources.append(source)

    def finished(self, outcomes: Sequence[Outcome]) -> None:
        self.outcomes += outcomes

    def deferred(self, deferral: Deferral) -> None:
        self.deferrals.append(deferral)

    def lost(self, lost: WorkerExit) -> None:
        self.losses.append(lost)

    def kinds(self) -> list[str]:
        return sorted(outcome.reason or outcome.kind for outcome in self.outcomes)


def turn_until(engine: Engine, predicate: Callable[[], Any], seconds: float = 120) -> None:
    end = time.monotonic() + seconds
    while not predicate():
        assert time.monotonic() < end, "time is up"
        wake = engine.next_wake()
        pause = 0.2 if wake is None else min(0.2, max(0.0, wake - time.monotonic()))
        engine.turn(pause)


def drained(engine: Engine) -> Callable[[], bool]:
    return lambda: engine.backlog.depth == 0
