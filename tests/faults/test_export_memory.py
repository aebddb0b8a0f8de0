"""An exporter's memory depends neither on the sizes of objects nor on those of archives."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from contextlib import closing
from pathlib import Path

import pytest

from tests.export.collection import Collection
from tests.export.stores import Store, versitygw
from tests.instances import uid, write_instance

pytestmark = [pytest.mark.real, pytest.mark.slow, pytest.mark.faults, pytest.mark.timeout(900)]

MiB = 2**20

#: Resident at most, in MiB, as the issue has it.
MOST = 150

#: How many instances of how many bytes, with which options.
CASES = {
    "as large as one request may be": (80, 8 * MiB - 5000, []),
    "in parts": (4, 200 * MiB, []),
    "in an archive": (4, 200 * MiB, ["--archive", "series"]),
}


def grown(path: Path, size: int) -> None:
    """Make the pixel data, which come last, so long; the file is sparse."""
    raw = bytearray(path.read_bytes())
    at = raw.rindex(b"\xe0\x7f\x10\x00") + 8
    raw[at : at + 4] = size.to_bytes(4, "little")
    path.write_bytes(raw[: at + 4])
    os.truncate(path, at + 4 + size)


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
    count, size, flags = CASES[case]
    with closing(Collection(tmp_path)) as world:
        assert world.export("once") == 0
        for number in range(1, count + 1):
            path = Path(world.config.data, world.place("p/s/0", number, str(uid("instance", 0, 0, 0, number))))
            path.parent.mkdir(parents=True, exist_ok=True)
            grown(write_instance(path, number=number, PatientIdentityRemoved="YES"), size)
        world.came(0, *range(1, count + 1))
        world.end()
    with versitygw(tmp_path) as store:
        assert resident(tmp_path, store, *flags) < MOST
