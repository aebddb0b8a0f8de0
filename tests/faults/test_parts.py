"""Parts of a backfill on two machines that share one file system, killed while they work: the accounts add up to what
was listed, nothing is lost or doubled. Skipped by name where no such file system can be had.
"""

from __future__ import annotations

import os
import signal
import time
from collections import Counter
from pathlib import Path

import orjson
import pytest

from tests.accounting import data_set_digest
from tests.backfill.archives import NORMAL
from tests.dicomnet import kill_group
from tests.faults.networks import Machines
from tests.faults.traffic import body
from tests.service_process import Places, finish, listener, start
from tests.waiting import until

pytestmark = [pytest.mark.real, pytest.mark.slow, pytest.mark.faults]

STUDIES, EACH, PARTS = 24, 10, 6

KINDS = ("published", "duplicate", "set_aside", "vanished", "left")


def places_on(root: Path, base: Path) -> Places:
    """One machine's view: all four directories are shared."""
    base.mkdir(exist_ok=True)
    return Places(base, (root / "incoming",), root / "data", root / "log", root / "state").make()


def words(places: Places, part: int) -> tuple[str, ...]:
    return (
        "once", *places.flags(), "--min-free", "0", "--workers", "1", "--settle", "0.5", "--fsync", "none",
        "--events", "off", "--part", f"{part}/{PARTS}", "--tolerate-set-aside", *NORMAL,
    )  # fmt: skip


def archive(places: Places) -> Counter[str]:
    """Studies in directories, every twentieth file twice, one that is no DICOM; digests of what must be in the tree."""
    wanted: Counter[str] = Counter()
    for number in range(STUDIES):
        (places.incoming / f"study-{number}").mkdir()
    for number in range(STUDIES * EACH):
        folder = places.incoming / f"study-{number % STUDIES}"
        (folder / str(number)).write_bytes(body(number))
        wanted[data_set_digest(body(number))] = 1
        if number % 20 == 0:
            (places.incoming / f"study-{(number + 1) % STUDIES}/again-{number}").write_bytes(body(number))
    (places.incoming / "study-0/text").write_text("no DICOM\n" * 40)
    return wanted


def written(places: Places) -> list[Path]:
    """The accounts of all parts; none until each is seen, which takes a moment on the other machine."""
    found = sorted((places.state / "parts").glob("*/account.json"))
    return found if len(found) == PARTS else []


def test_parts_on_two_machines_add_up_whatever_is_killed(machines: Machines, tmp_path: Path) -> None:
    here, there = places_on(machines.one, tmp_path / "one"), places_on(machines.other, tmp_path / "other")
    wanted = archive(here)
    twice = STUDIES * EACH // 20
    time.sleep(1)  # Settled, by the clock of a file system that keeps whole seconds.
    running = {part: start(*words((here, there)[part % 2], part)) for part in range(PARTS)}
    for part in (1, 2, 3):
        time.sleep(0.7)
        if running[part].poll() is None:
            os.killpg(running[part].pid, signal.SIGKILL)
        kill_group(running[part].pid)
        running[part].communicate()
        # It goes on on the other machine.
        running[part] = start(*words((there, here)[part % 2], part))
    done = {part: finish(process, 120) for part, process in running.items()}
    again = {part: one for part, one in done.items() if one.status}
    for part in again:  # In hand still: its workers were ending.
        done[part] = listener(*words(here, part), seconds=120)
    assert [one.status for one in done.values()] == [0] * PARTS, [one.stderr for one in done.values()]
    accounts = [orjson.loads(path.read_bytes()) for path in until(lambda: written(here), 30)]
    total = Counter({kind: sum(one[kind] for one in accounts) for kind in ("listed", *KINDS)})
    assert +total == {
        "listed": len(wanted) + twice + 1, "published": len(wanted), "duplicate": twice, "set_aside": 1
    }  # fmt: skip
    assert Counter(data_set_digest(path.read_bytes()) for path in here.data.rglob("*.dcm")) == wanted
    assert not [path for path in here.incoming.rglob("*") if path.is_file() and ".listener" not in path.parts]
    assert listener("parts", "--state", str(there.state)).status == 0
