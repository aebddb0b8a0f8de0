"""An instance of a gigabyte, from incoming to a worker."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from pydicom import dcmread

from tests.instances import element, instance, save
from tests.route.machines import ward
from tests.service_process import Places
from tests.waiting import until

pytestmark = [pytest.mark.real, pytest.mark.faults, pytest.mark.slow, pytest.mark.timeout(300)]

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
