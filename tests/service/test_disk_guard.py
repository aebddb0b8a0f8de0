"""When the disks allow work, and when they do not."""

from __future__ import annotations

import logging
import os
from pathlib import Path

import pytest

from listener.service.disk_guard import DiskGuard
from listener.service.volumes import Volumes
from tests.workbench import Bench

#: More than any volume has.
TOO_MUCH = 2**62


def guard_of(bench: Bench, min_free: int = 0) -> DiskGuard:
    return DiskGuard(bench.directories, Volumes(bench.directories), min_free)


def test_with_all_as_it_was_at_the_start_work_is_taken(tmp_path: Path) -> None:
    guard = guard_of(Bench(tmp_path))
    assert guard.state.may_work, "before the first look"
    state = guard.look(1.0)
    assert (state.may_work, state.space_ok, state.missing) == (True, True, ())
    assert state.writable == dict.fromkeys(("incoming", "data", "log", "state"), True)
    assert [role for role, _ in state.usage] == ["incoming", "data", "log", "state"]
    assert guard.state is state


def test_below_min_free_no_work_is_taken_and_it_is_logged_once(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    guard = guard_of(Bench(tmp_path), TOO_MUCH)
    with caplog.at_level(logging.INFO):
        states = [guard.look(now) for now in (1.0, 2.0)]
    assert [(state.may_work, state.space_ok) for state in states] == [(False, False)] * 2
    assert [record.message for record in caplog.records if "--min-free" in record.message] == [
        "free space is below --min-free; no work is taken, every source is kept"
    ]


@pytest.mark.parametrize("role", ["data", "log", "state", "incoming"])
def test_a_directory_that_is_gone_stops_work_except_for_incoming(tmp_path: Path, role: str) -> None:
    bench = Bench(tmp_path)
    guard = guard_of(bench)
    place = bench.incoming if role == "incoming" else Path(getattr(bench.directories, role))
    os.rename(place, tmp_path / "elsewhere")
    state = guard.look(1.0)
    assert not state.writable[role]
    assert state.may_work == (role == "incoming")
    assert role not in [of for of, _ in state.usage]
    os.rename(tmp_path / "elsewhere", place)
    assert guard.look(2.0).may_work
