"""The service over a long time: memory, descriptors and threads stay as they are, and every counter adds up.

Small instances are written as fast as the service takes them, by a process of its own (this module, run as a program);
what was published is removed again, so that the disk does not fill. The smoke test is the same with fewer files; the
claim is made by the long one (`make soak`; LISTENER_TEST_SOAK=100000 sets how many instances it has).
"""

from __future__ import annotations

import http.client
import os
import shutil
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from statistics import mean

import pytest

from tests.accounting import Canary
from tests.conftest import PROJECT
from tests.dicomnet import kill_group
from tests.instances import instance, save, uid
from tests.service_process import (
    Places,
    Scrape,
    Service,
    children,
    environment,
    make_places,
    parse_page,
    processor_seconds,
    rss,
    service,
    settled,
    value,
)
from tests.waiting import until

SOAK = int(os.environ.get("LISTENER_TEST_SOAK", "0"))
INSTANCES = SOAK if SOAK > 1 else 500_000

#: Instances of one series; each has a patient and a study of its own.
SERIES = 1000

#: Series that are kept; older ones are removed.
KEPT = 5

#: Files that may wait in incoming before the writer pauses.
WAITING = 1500

pytestmark = [pytest.mark.real, pytest.mark.slow, pytest.mark.faults]


# -- the writer: a process of its own ----------------------------------------------------------------------------------


def feed(incoming: Path, count: int) -> None:
    """Write instances as storescp does: create, write, close, under the final name."""
    scratch = incoming.parent / ".template"
    told = "1.2.826.0.1.3680043.10.1470.77.1000000000"
    parts: list[bytes] = []
    for number in range(count):
        if number % SERIES == 0:
            made = instance(patient=number // SERIES, SOPInstanceUID=told)
            parts = save(made, scratch).read_bytes().split(told.encode())
        if number % 100 == 0:
            while sum(1 for _ in os.scandir(incoming)) > WAITING:
                time.sleep(0.005)
        descriptor = os.open(incoming / f"MR.{number}", os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o644)
        os.write(descriptor, f"{told[:-10]}1{number:09d}".encode().join(parts))
        os.close(descriptor)
    scratch.unlink()


# -- what is measured --------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Sample:
    """One look at the service: `done` files, and of all of its processes resident bytes, seconds of processor time,
    descriptors and threads.
    """

    done: int
    resident: int
    cpu: float
    descriptors: dict[int, int]
    threads: dict[int, int]


def processes(root: int) -> list[int]:
    found = [root]
    for pid in found:
        found += children(pid)
    return found


def look(root: int, done: int) -> Sample:
    pids = processes(root)
    return Sample(
        done,
        sum(map(rss, pids)),
        sum(map(processor_seconds, pids)),
        {pid: len(os.listdir(f"/proc/{pid}/fd")) for pid in pids},
        {pid: len(os.listdir(f"/proc/{pid}/task")) for pid in pids},
    )


class Page:
    """The metrics over one connection (the events, half a million lines, are not read to learn the address)."""

    def __init__(self, running: Service) -> None:
        host, _, port = running.address.rpartition(":")
        self._address = host, int(port)

    def scrape(self) -> Scrape:
        connection = http.client.HTTPConnection(*self._address, timeout=120)
        try:
            connection.request("GET", "/metrics")
            return parse_page(connection.getresponse().read().decode())
        finally:
            connection.close()


def remove_series(places: Places, number: int) -> None:
    """As `prune` or a person would: the tree first."""
    for path in places.data.glob(f"P{number:04d}-*"):
        shutil.rmtree(path)
    (places.log / f"patientData/P{number:04d}.json").unlink()
    (places.log / f"studyData/{uid('study', number, 0)}-meta.json").unlink()
    shutil.rmtree(places.log / f"studyData/{uid('study', number, 0)}-series")
    series = str(uid("series", number, 0, 0))
    for name in (f"{series}-meta.json", f"{series}-pack.json"):
        (places.log / "seriesData" / name).unlink()
    shutil.rmtree(places.log / "seriesData" / f"{series}-img")


def run(places: Places, running: Service, count: int) -> list[Sample]:
    """Feed `count` instances (one was processed before), remove what is old, and look at the service all the while."""
    page, samples, removed = Page(running), [], 0
    writer = subprocess.Popen(
        [sys.executable, "-m", "tests.faults.test_soak", str(places.incoming), str(count)],
        cwd=PROJECT,
        env=environment(),
        process_group=0,
    )
    try:
        done, last, moved = 0, -1, time.monotonic()
        while done < count:
            done = int(value(page.scrape(), "files_processed_total")) - 1
            samples.append(look(running.pid, done))
            while removed < done // SERIES - KEPT:
                remove_series(places, removed)
                removed += 1
            now = time.monotonic()
            if done > last:
                last, moved = done, now
            assert now - moved < 30, f"nothing happened for 30 s after {done} files; {running.stderr[-2000:]}"
            assert running.process.poll() is None, running.stderr[-2000:]
            time.sleep(0.02)
        assert writer.wait(120) == 0
    finally:
        kill_group(writer.pid)
        writer.wait()
    return samples


def tenth(samples: list[Sample], number: int) -> list[Sample]:
    """The samples of one tenth of the time (0 to 9)."""
    return samples[number * len(samples) // 10 : (number + 1) * len(samples) // 10]


def cost(samples: list[Sample]) -> int:
    """Microseconds of processor time a file."""
    first, last = samples[0], samples[-1]
    return round((last.cpu - first.cpu) / max(1, last.done - first.done) * 1e6)


def links(pid: int) -> list[str]:
    """What the descriptors of a process lead to."""
    return [os.readlink(entry.path) for entry in os.scandir(f"/proc/{pid}/fd")]


def no_more(now: Sample, before: Sample) -> bool:
    """Whether the same processes have no more descriptors than before."""
    then = before.descriptors
    return now.descriptors.keys() == then.keys() and all(many <= then[pid] for pid, many in now.descriptors.items())


# -- the test ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("count", "growth"),
    [
        pytest.param(20_000, 0.15, id="smoke", marks=pytest.mark.timeout(900)),
        pytest.param(
            INSTANCES,
            0.03,
            id="long",
            marks=[
                pytest.mark.soak,
                pytest.mark.timeout(7200),
            ],
        ),
    ],
)
def test_nothing_grows(
    tmp_path: Path, count: int, growth: float, record_property: Callable[[str, object], None]
) -> None:
    """Resident memory of the service and its workers in the last tenth is within `growth` of the second tenth;
    descriptors and threads are the same at the end as at the start, and no worker was replaced; what was discovered,
    processed, told and kept is `count`, each once.
    """
    places = make_places(tmp_path)
    with service(places, "--series-quiet", "3") as running:
        # everything that is made at the first file is there
        save(instance(patient=9999, number=0), places.incoming / "first")
        settled(running, 1)
        # A look at the ledger's file leaves sqlite one descriptor more, which it takes again for each further look.
        until(
            lambda: links(running.pid).count(str(places.state / "ledger.sqlite")) == 2, 10, what="a look at the ledger"
        )
        canary, before, begun = Canary(places), look(running.pid, 0), time.monotonic()
        samples = run(places, running, count)
        seconds = time.monotonic() - begun
        page = Page(running)
        scrape = page.scrape()
        # `before` may have met a page being answered or a rescan.
        until(lambda: no_more(look(running.pid, 0), before), 10, what="no more descriptors than before")
        after = look(running.pid, 0)
        assert after.threads == before.threads
        assert {sum(one.threads.values()) for one in samples} == {sum(before.threads.values())}
        busy = [max(map(sum, (one.descriptors.values() for one in tenth(samples, number)))) for number in (1, 9)]
        second, last = (mean(one.resident for one in tenth(samples, number)) for number in (1, 9))
    told = Counter[bytes]()
    with next(places.base.glob("events-*")).open("rb") as lines:
        for line in lines:
            told[line.partition(b'"event":"')[2].partition(b'"')[0]] += 1
    figures = {
        "instances": count,
        "seconds": round(seconds, 1),
        "a second": round(count / seconds),
        "MB in each tenth": [round(mean(one.resident for one in tenth(samples, n)) / 1e6, 1) for n in range(10)],
        "us a file in each tenth": [cost(tenth(samples, number)) for number in range(10)],
        "growth": round(last / second - 1, 4),
        "descriptors when idle": sum(after.descriptors.values()),
        "most descriptors in the second and the last tenth": busy,
        "threads": sum(after.threads.values()),
        "samples": len(samples),
    }
    print(figures)
    record_property("figures", figures)
    for name in ("files_discovered_total", "files_processed_total"):
        assert value(scrape, name) == count + 1
    assert value(scrape, "files_processed_total", outcome="published") == count + 1
    assert value(scrape, "worker_restarts_total") == 0
    assert told[b"published"] == count + 1
    assert told.keys() <= {b"started", b"ready", b"published", b"series-complete", b"draining", b"stopped", b"overflow"}
    for number in range(count // SERIES - KEPT, count // SERIES):
        assert sum(1 for _ in places.data.glob(f"P{number:04d}-*/*/*/*.dcm")) == SERIES
        assert len(os.listdir(places.log / f"seriesData/{uid('series', number, 0, 0)}-img")) == SERIES
    assert not os.listdir(places.incoming)
    assert not list(canary.changed())
    assert max(busy) <= sum(after.descriptors.values()) * 4 + 200
    assert last <= second * (1 + growth), figures


if __name__ == "__main__":
    feed(Path(sys.argv[1]), int(sys.argv[2]))
