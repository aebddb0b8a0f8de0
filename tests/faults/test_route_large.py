"""What is large: an instance of a gigabyte, and a queue of a hundred thousand."""

from __future__ import annotations

import contextlib
import os
import time
from pathlib import Path

import pytest
from pydicom import dcmread

from listener.route.schema import ROUTE
from listener.stages.database import open_writer, transaction
from tests.instances import element, instance, save, uid
from tests.route.machines import scrape, ward
from tests.service_process import Places, value
from tests.waiting import until

pytestmark = [pytest.mark.real, pytest.mark.faults, pytest.mark.slow, pytest.mark.timeout(900)]

SIZE = 2**30

#: Most bytes that `listener route` may have resident, whatever it sends.
MOST = 80_000_000


def resident(pid: int) -> int:
    """The most bytes that a process had resident."""
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith("VmHWM:"))


def test_an_instance_of_a_gigabyte_comes_to_its_worker_in_little_memory(places: Places) -> None:
    """The file is sparse, and its pixels are zeros; those that the worker wrote lie on its disk."""
    made = save(instance(pixels=None, Rows=32768, Columns=16384, number=2), places.base / "made")
    with made.open("ab") as file:
        file.write(element(0x7FE00010, "OW", b"", length=SIZE))
    os.truncate(made, made.stat().st_size + SIZE)
    with ward(places, workers=1, quiet=5) as (here, _), here.route() as route:
        study = here.send(0, 0)
        made.rename(places.incoming / "large")
        worker = here.workers["gpu1"]
        until(lambda: len(route.events("delivered")) == 2, 200, what=str(route))
        assert here.holders(study) == {"gpu1": 2}
        there = max(worker.folder.iterdir(), key=lambda path: path.stat().st_size)
        data = dcmread(there, defer_size=1000)
        assert data["PixelData"].VR == "OW"
        assert len(data.PixelData) == SIZE
        assert not any(data.PixelData[:: 2**20])
        assert resident(route.process.pid) < MOST


STUDIES, INSTANCES, TARGETS = 1000, 100_000, 8


def fill_the_queue(places: Places) -> None:
    """Queue that many instances for all workers, in studies that each of them has."""
    now, studies = time.time_ns(), range(1, STUDIES + 1)
    instances = range(1, INSTANCES + 1)

    def worker(study: int) -> str:
        return f"gpu{study % TARGETS + 1}"

    def of(number: int) -> int:
        return number % STUDIES + 1

    with contextlib.closing(open_writer(str(places.state), ROUTE)) as connection, transaction(connection):
        connection.execute("INSERT INTO folders (id, path) VALUES (1, 'a/b')")
        connection.executemany(
            "INSERT INTO series (id, SeriesInstanceUID, StudyInstanceUID, open) VALUES (?, ?, ?, 0)",
            ((study, uid("series", study), uid("study", study)) for study in studies),
        )
        connection.executemany(
            "INSERT INTO studies (id, route, StudyInstanceUID, worker, began_ns, last_ns) "
            "VALUES (?, 'all', ?, ?, ?, ?)",
            ((study, uid("study", study), worker(study), now, now) for study in studies),
        )
        connection.executemany(
            "INSERT INTO instances (id, series_id, SOPInstanceUID, folder_id, name) VALUES (?, ?, ?, 1, ?)",
            ((number, of(number), uid("instance", number), f"{number}.dcm") for number in instances),
        )
        connection.executemany(
            "INSERT INTO sends (instance_id, study_id, kind, target, queued_ns) VALUES (?, ?, 'worker', ?, ?)",
            ((number, of(number), worker(of(number)), now) for number in instances),
        )


def test_a_hundred_thousand_that_wait_for_eight_workers_need_little_memory(places: Places) -> None:
    """All workers are down; while not all of them are, studies move from one to another."""
    with ward(places, workers=TARGETS, start=False, quiet=5) as (here, _):
        with here.route():
            pass
        fill_the_queue(places)
        with here.route() as route:
            until(lambda: value(scrape(route), "route_target_up") == 0, 60, what=str(route))
            assert value(scrape(route), "route_pending_instances") == INSTANCES
            assert resident(route.process.pid) < MOST
