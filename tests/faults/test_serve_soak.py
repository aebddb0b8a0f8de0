"""`listener serve` under random frames for a long time: its memory and descriptors stay as they are, and each frame is
right. The smoke test is the same for fewer requests; the claim is made by the long one (`make soak`, an hour;
LISTENER_TEST_SOAK_SERVE sets its seconds).
"""

from __future__ import annotations

import contextlib
import http.client
import os
import random
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import pytest

from tests.frames.collection import Collection
from tests.serve.processes import Serving, serving
from tests.service_process import rss

pytestmark = [pytest.mark.real, pytest.mark.slow, pytest.mark.faults]

SECONDS = int(os.environ.get("LISTENER_TEST_SOAK_SERVE", "3600"))

#: Slides, of which not all are kept open, and frames of each; bytes that a process may have.
SLIDES, FRAMES, RESIDENT = 600, 400, 120 * 10**6

#: Most requests of one connection, and requests between two looks.
_REQUESTS, _LOOK = 200, 500


def requests(number: int) -> Iterator[None]:
    """So many turns."""
    yield from (None for _ in range(number))


def seconds(number: int) -> Iterator[None]:
    """Turns for so many seconds."""
    end = time.monotonic() + number
    while time.monotonic() < end:
        yield None


def descriptors(running: Serving) -> int:
    return len(os.listdir(f"/proc/{running.process.pid}/fd"))


class Client:
    """Asks for random frames of random slides, and looks at each."""

    def __init__(self, running: Serving, slides: Sequence[tuple[str, list[bytes]]]) -> None:
        self._running, self._slides = running, slides
        self._order = random.Random(17)
        self._left, self._connection = 0, http.client.HTTPConnection(running.address)

    def ask(self) -> None:
        if not self._left:
            self.close()
            self._connection = http.client.HTTPConnection(self._running.address, timeout=600)
            self._left = _REQUESTS
        self._left -= 1
        url, frames = self._order.choice(self._slides)
        number = self._order.randrange(FRAMES)
        self._connection.request("GET", f"/dicom-web/{url}/frames/{number + 1}", headers={"accept": "image/jpeg"})
        answer = self._connection.getresponse()
        assert (answer.status, answer.read()) == (200, frames[number])

    def close(self) -> None:
        self._connection.close()


@pytest.mark.parametrize(
    ("turns", "growth"),
    [
        pytest.param(lambda: requests(4_000), 0.2, id="smoke", marks=pytest.mark.timeout(600)),
        pytest.param(
            lambda: seconds(SECONDS), 0.05, id="long", marks=[pytest.mark.soak, pytest.mark.timeout(SECONDS + 600)]
        ),
    ],
)
def test_memory_is_flat_under_random_frames(
    tmp_path: Path,
    turns: Callable[[], Iterator[None]],
    growth: float,
    record_property: Callable[[str, object], None],
) -> None:
    """Resident memory after all is within `growth` of that once each slide was looked at."""
    with contextlib.closing(Collection(tmp_path)) as collection:
        slides = [collection.slide(FRAMES, f"1.2.3.4.{number}", salt=number) for number in range(SLIDES)]
        with serving(collection) as running, contextlib.closing(Client(running, slides)) as client:
            running.ready()
            for _ in requests(4 * SLIDES):
                client.ask()
            begin, opened, samples = rss(running.process.pid), descriptors(running), []
            for number, _ in enumerate(turns()):
                client.ask()
                if number % _LOOK == 0:
                    samples.append(rss(running.process.pid))
            end = rss(running.process.pid)
            figures = {"MB": [round(one / 1e6, 1) for one in (begin, max(samples), end)], "looks": len(samples)}
            print(figures)
            record_property("figures", figures)
            assert end <= begin * (1 + growth), figures
            assert max(samples) <= RESIDENT, figures
            assert descriptors(running) <= opened + 16, "files that are kept open, and a connection"
