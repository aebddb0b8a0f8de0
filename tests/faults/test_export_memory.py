"""An exporter's memory depends neither on the sizes of objects nor on those of archives."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from contextlib import closing
from pathlib import Path

import pytest

from tests.export.collection import Collection, grown
from tests.export.stores import Store, versitygw

pytestmark = [pytest.mark.real, pytest.mark.slow, pytest.mark.faults, pytest.mark.timeout(900)]

MiB = 2**20

#: Resident at most, in MiB, as the issue has it.
MOST = 150

#: In how many series how many instances of how many bytes, with which options.
CASES = {
    "as large as one request may be": (1, 80, 8 * MiB - 5000, []),
    "in parts": (1, 4, 200 * MiB, []),
    "in an archive": (1, 4, 200 * MiB, ["--archive", "series"]),
    "in many archives": (10, 100, MiB // 4, ["--archive", "series"]),
}


def resident(base: Path, store: Store, *flags: str) -> float:
    """The most that one run had resident, in MiB."""
    words = [f"--state={base}/state", f"--data={base}/data", *store.flags(), *flags]
    environment = {**os.environ, **store.environment}
    process = subprocess.Popen([sys.executable, "-m", "listener", "export", "once", *words], env=environment)
    most = 0
    while process.poll() is None:
        with (Path("/proc") / str(process.pid) / "status").open() as status:
            most = max([most, *(int(line.split()[1]) for line in status if line.startswith("VmHWM"))])
        time.sleep(0.02)
    assert process.returncode == 0
    return most / 1024


@pytest.mark.parametrize("case", CASES)
def test_it_stays_below_its_limit(case: str, tmp_path: Path) -> None:
    several, count, size, flags = CASES[case]
    with closing(Collection(tmp_path)) as world:
        assert world.export("once") == 0
        for series in range(several):
            for number in range(1, count + 1):
                (path,) = world.write(series, number)
                grown(path, size)
            world.came(series, *range(1, count + 1))
        world.end()
    with versitygw(tmp_path) as store:
        assert resident(tmp_path, store, *flags) < MOST
