"""A while of work under storescp load with one fault after the other, and every query of the dashboard over it."""

from __future__ import annotations

import math
import os
import random
import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from threading import Event, Thread

from listener.quickstart.synthetic import Look, make_series
from tests.observing.dashboard import Panel, Target, document, panels
from tests.observing.prometheus import INTERVAL, Prometheus, Series
from tests.observing.scene import Scene, broken_files, dealt, hung_workers, real_series, refusing_log
from tests.service_process import Service
from tests.waiting import until

#: What Grafana makes of $__rate_interval at this scrape interval.
RATE_INTERVAL = f"{4 * INTERVAL + INTERVAL}s"


@dataclass(frozen=True, slots=True)
class Answer:
    """What Prometheus said to one query: a graph's points over the whole session, or a single one for each series."""

    target: Target
    series: list[Series]

    @property
    def has_numbers(self) -> bool:
        """Whether there is anything to show."""
        return any(math.isfinite(value) for _, points in self.series for _, value in points)


@contextmanager
def senders_at_work(scene: Scene, folder: Path, per_wave: int) -> Iterator[None]:
    """Waves of new instances from four senders, about one a second, until the block is left."""
    over = Event()
    failures: list[AssertionError] = []

    def work() -> None:
        chance = random.Random(7)
        wave = 0
        try:
            while not over.wait(chance.uniform(0.2, 0.8)):
                wave += 1
                look = Look(seed=f"wave {wave}", private_bytes=chance.choice((0, 20_000, 100_000)))
                scene.send(dealt(make_series(folder / f"wave{wave}", instances=per_wave, look=look)))
        except AssertionError as error:
            failures.append(error)

    thread = Thread(target=work, name="senders")
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join(90)
    assert not failures, failures


@contextmanager
def session(scene: Scene, running: Service, folder: Path, length: float) -> Iterator[None]:
    """Load all the time, faults of `length` seconds with as long a pause between them, then the block, under load."""
    pause = Event()

    def seen(expression: str) -> None:
        """Until Prometheus knows of it; and then for `length` seconds."""
        until(lambda: scene.prometheus.query(expression), 30, what=expression)
        pause.wait(length)

    seen("listener_ready == 1")
    with senders_at_work(scene, folder, per_wave=60):
        real = real_series()
        if real:
            scene.send(dealt(real))
        seen('sum(listener_files_processed_total{outcome="published"}) > 100')
        broken_files(scene.places, 9)
        seen("sum(listener_set_aside_files) == 9")
        with hung_workers(running):
            seen('listener_pending_files{state="waiting"} > 0')
        pause.wait(length)
        for pid in running.workers():
            os.kill(pid, signal.SIGKILL)
        seen('listener_worker_restarts_total{reason="killed"} > 0')
        with refusing_log(scene.places):
            scene.until_fires("ListenerLogWriteFailing")
        seen(f'rate(listener_files_processed_total{{outcome="published"}}[{RATE_INTERVAL}]) > 0')
        yield


def ask(server: Prometheus, target: Target, start: float, end: float) -> Answer:
    """A graph's query from `start` to `end`, or a single number's at `end`."""
    asked = target.asked(RATE_INTERVAL)
    if target.instant:
        return Answer(target, server.query(asked, end))
    return Answer(target, server.query_range(asked, start, end, INTERVAL))


def answers(server: Prometheus, start: float) -> Iterator[tuple[Panel, list[Answer]]]:
    """What each panel of the service shows of the time from `start` to now."""
    end = time.time()
    for panel in panels(document()):
        if not panel.of_stages:
            yield panel, [ask(server, target, start, end) for target in panel.targets]
