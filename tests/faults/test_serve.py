"""`listener serve` while files are replaced, cut and removed, and its workers, processes and itself are killed: what is
answered is always right, and of one version.
"""

from __future__ import annotations

import contextlib
import os
import random
import signal
import threading
import time
from collections import Counter
from collections.abc import Iterator
from http.client import HTTPException
from pathlib import Path

import pytest

from tests.frames.collection import Collection
from tests.frames.making import JPEG, Maker, header
from tests.serve.processes import Serving
from tests.waiting import until

pytestmark = [pytest.mark.faults, pytest.mark.timeout(900)]

FRAMES, INSTANCES, SECONDS = 300, 4, 20.0


def frame(instance: int, version: int, number: int) -> bytes:
    return b"\xff\xd8\xff\xe0" + f"{instance:04d}/{version:06d}/{number:06d}".encode() + b"\1" * 400 + b"\xff\xd9"


def told(data: bytes) -> tuple[int, int, int]:
    """Instance, version and number of a frame; AssertionError for anything else."""
    instance, version, number = (int(part) for part in data[4:22].decode().split("/"))
    assert data == frame(instance, version, number)
    return instance, version, number


class Changes:
    """A collection whose instances get new versions; `newest` of each, None while its file is cut or away."""

    def __init__(self, base: Path) -> None:
        self.collection = Collection(base)
        self.versions = [0] * INSTANCES
        self.urls = [self.put(number) for number in range(INSTANCES)]

    def put(self, instance: int) -> str:
        self.versions[instance] += 1
        maker = Maker(JPEG, SOPInstanceUID=f"1.2.3.{instance}", SeriesInstanceUID=f"1.2.3.1{instance}")
        frames = [[frame(instance, self.versions[instance], number)] for number in range(1, FRAMES + 1)]
        return self.collection.add(maker, maker.encapsulated(header(frames=FRAMES), frames, "basic"))

    def disturb(self, order: random.Random) -> None:
        """Replace an instance or, before that, cut or remove its file."""
        instance = order.randrange(INSTANCES)
        path = self.collection.path(f"1.2.3.{instance}")
        deed = order.choice(["replace", "replace", "cut", "remove"])
        if deed == "cut":
            os.truncate(path, order.randrange(1000, path.stat().st_size))
        elif deed == "remove":
            path.unlink()
        time.sleep(order.random() / 20)
        self.put(instance)


class Reader(threading.Thread):
    """Asks for frames until it shall stop; what is wrong is kept."""

    def __init__(self, number: int, urls: list[str], running: list[Serving]) -> None:
        super().__init__()
        self._order, self._urls, self._running = random.Random(number), urls, running
        self.stopping = threading.Event()
        self.counts: Counter[str] = Counter()
        self.wrong: list[str] = []

    def run(self) -> None:
        while not self.stopping.is_set():
            try:
                self._ask()
            except (OSError, HTTPException):
                self.counts["cut off"] += 1
            except Exception as error:  # noqa: BLE001 - it is the test's to tell
                self.wrong.append(repr(error))

    def _ask(self) -> None:
        instance = self._order.randrange(INSTANCES)
        numbers = [self._order.randint(1, FRAMES) for _ in range(self._order.choice([1, 20, 150]))]
        got = self._running[-1].get(f"/{self._urls[instance]}/frames/{','.join(map(str, numbers))}")
        self.counts[str(got.status)] += 1
        if got.status == 200:
            found = [told(content) for _, content in got.parts]
            assert [one[2] for one in found] == numbers
            assert {one[0] for one in found} == {instance}
            assert len({one[1] for one in found}) == 1, "two versions in one answer"
        else:
            assert got.status in (404, 503), got


@contextlib.contextmanager
def reading(urls: list[str], running: list[Serving]) -> Iterator[list[Reader]]:
    readers = [Reader(number, urls, running) for number in range(3)]
    for reader in readers:
        reader.start()
    try:
        yield readers
    finally:
        for reader in readers:
            reader.stopping.set()
        for reader in readers:
            reader.join()


def kill(running: list[Serving], order: random.Random, collection: Collection) -> None:
    """Kill a process below the service or, now and then, the service, which is started again."""
    if order.random() < 0.1:
        old = running[-1]
        old.process.kill()
        old.process.wait()
        running.append(Serving(collection, "--processes", "2"))
        return
    for pid in running[-1].workers():
        if order.random() < 0.5:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)


@pytest.mark.parametrize("seed", [1, 2])
def test_no_answer_is_wrong_or_mixed_and_the_index_heals(seed: int, tmp_path: Path) -> None:
    order = random.Random(seed)
    changes = Changes(tmp_path)
    running = [Serving(changes.collection, "--processes", "2")]
    try:
        with reading(changes.urls, running) as readers:
            end = time.monotonic() + SECONDS
            while time.monotonic() < end:
                changes.disturb(order)
                if order.random() < 0.4:
                    kill(running, order, changes.collection)
                time.sleep(order.random() / 10)
        counts = sum((reader.counts for reader in readers), Counter[str]())
        assert [reader.wrong for reader in readers] == [[], [], []]
        assert counts["200"] > 20, counts
        assert "patient/study" not in str(running[-1]), "a path may hold a patient's name"
        for instance, url in enumerate(changes.urls):
            wanted = frame(instance, changes.versions[instance], FRAMES)

            def is_newest(url: str = url, wanted: bytes = wanted) -> bool:
                got = running[-1].get(f"/{url}/frames/{FRAMES}", accept="image/jpeg")
                return got.status == 200 and got.body == wanted

            until(is_newest, 30)
        running[-1].process.terminate()
        assert running[-1].process.wait(120) == 0, str(running[-1])
    finally:
        running[-1].process.kill()
        running[-1].process.wait()
        changes.collection.close()
