"""Directories of `storescp -su`: gone a day after the last traffic, never sooner, and no other is."""

from __future__ import annotations

import os
import time
from pathlib import Path
from types import SimpleNamespace

import pytest

from listener.service.backlog import Backlog
from listener.service.emptied import Emptied
from listener.service.rescan import Rescan, walk
from tests.dicomnet import storescp, storescu
from tests.instances import write_instance
from tests.service_process import make_places, once

DAY = 86_400.0

#: Names of directories, and whether storescp makes such.
NAMES = {
    "st_1.2.826.0.1.3680043": True,
    "_1.2.3": True,
    "Doe^Jane_20260131_081500123": True,
    "st_20260131_081500123": True,
    "scanner1": False,
    "from_ward_3": False,
    "st_1.2.3.old": False,
    "1.2.3": False,
    ".listener": False,
}

#: The newest of each kind stays: a storescp that received it last would refuse the rest of its study.
NEWEST = ("st_1.2.9", "_1.2.9", "Roe^Richard_20260131_081500124")


def a_pass(emptied: Emptied, root: Path, now: float, now_ns: int) -> int:
    for _ in walk(str(root), empty=emptied.found):
        pass
    return emptied.remove(now, now_ns)


def test_what_storescp_made_goes_after_a_day(tmp_path: Path) -> None:
    for name in (*NAMES, *NEWEST):
        (tmp_path / name).mkdir()
    emptied, wall = Emptied(), time.time_ns()
    for name in NEWEST:
        os.utime(tmp_path / name, ns=(wall + 1, wall + 1))
    assert a_pass(emptied, tmp_path, 0, wall) == 0
    assert a_pass(emptied, tmp_path, DAY - 60, wall + int((DAY - 60) * 1e9)) == 0
    assert a_pass(emptied, tmp_path, DAY + 60, wall + int((DAY + 60) * 1e9)) == sum(NAMES.values())
    left = [*NEWEST, *(name for name, made in NAMES.items() if not made)]
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted(left)


def test_what_something_lies_in_stays_and_traffic_begins_the_day_anew(tmp_path: Path) -> None:
    emptied, wall = Emptied(), time.time_ns()
    used, touched = tmp_path / "st_1.2.3", tmp_path / "st_1.2.4"
    for path in (used, touched):
        path.mkdir()
    (used / ".half.part").write_bytes(b"")
    late = wall + int(DAY * 0.9e9)
    a_pass(emptied, tmp_path, 0, wall)
    os.utime(touched, ns=(late, late))
    assert a_pass(emptied, tmp_path, DAY + 60, wall + int((DAY + 60) * 1e9)) == 0
    assert used.exists()
    assert touched.exists()


def test_a_clock_that_was_set_forward_makes_no_directory_old(tmp_path: Path) -> None:
    emptied, wall = Emptied(), time.time_ns()
    for name in ("st_1.2.3", "st_1.2.9"):
        (tmp_path / name).mkdir()
    a_pass(emptied, tmp_path, 0, wall)
    jumped = wall + int(30 * DAY * 1e9)
    assert a_pass(emptied, tmp_path, 3600, jumped) == 0
    assert a_pass(emptied, tmp_path, DAY, jumped + int((DAY - 3600) * 1e9)) == 0
    assert a_pass(emptied, tmp_path, 3660 + DAY, jumped + int((DAY + 60) * 1e9)) == 1


def test_it_is_looked_once_an_hour_and_what_waits_is_bounded() -> None:
    emptied = Emptied()
    assert emptied.due(0)
    emptied.remove(10, 0)
    assert not emptied.due(3000)
    assert emptied.due(3700)
    for number in range(20_000):
        emptied.found(f"/in/st_1.{number}")
    assert len(emptied._found) == 10_000


@pytest.mark.real
@pytest.mark.parametrize("option", [("-su", "st"), ("-sp",)])
def test_of_a_real_storescp(option: tuple[str, ...], tmp_path: Path, dcmtk: None) -> None:
    """It names them so; it goes on with the study that it received last, and makes one again that went."""
    places = make_places(tmp_path)
    with storescp(places.incoming, *option) as receiver:
        for number, study in enumerate((1, 2, 2, 1), 1):
            storescu(receiver.port, write_instance(tmp_path / f"s{number}", study=study, number=number))
            assert once(places).status == 0
            days_later = time.time_ns() + int(2 * DAY * 1e9)
            assert a_pass(Emptied(), places.incoming, 0, days_later) == (number in (2, 4))
            assert len(list(places.incoming.iterdir())) == 1
    assert len(list(places.data.rglob("*.dcm"))) == 4


def test_a_rescan_of_the_service_comes_by_them(tmp_path: Path) -> None:
    for name in ("st_1.2.3", "st_1.2.4"):
        (tmp_path / "below" / name).mkdir(parents=True)
    engine = SimpleNamespace(backlog=Backlog(), intake=None)
    scanner = Rescan((str(tmp_path),), engine, 2.0, Emptied(quiet=0.0))  # type: ignore[arg-type]
    scanner.begin(1.0)
    assert scanner.step(1.0)
    assert sorted(path.name for path in tmp_path.rglob("*")) == ["below", "st_1.2.4"]
