"""Two machines on one network file system: what the kernel of one does not know of the other. Skipped by name where no
such file system can be had.

Proven: one owner; no file is taken while the other machine writes it; no study of a StudyList is lost; starts side by
side do not disturb each other.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import orjson
import pytest

from listener.checks import check
from listener.checks.finding import NOTE, PROBLEM
from tests.faults.networks import Machines
from tests.instances import write_instance
from tests.service_process import Places, environment, finish, once, rescan_on, service, settled, start
from tests.waiting import until
from tests.workbench import make_config

pytestmark = [pytest.mark.real, pytest.mark.slow, pytest.mark.faults]

#: What an incoming on a network file system wants.
NETWORKED = ("--poll", "--rescan", "0.2", "--settle", "3")


def places_of(root: Path, case: str, name: str, base: Path) -> Places:
    """One machine's directories: incoming, data and log are shared, the state is its own."""
    area = root / case
    base.mkdir(exist_ok=True)
    return Places(base, (area / "incoming",), area / "data", area / "log", area / f"state-{name}").make()


def both(machines: Machines, case: str, tmp_path: Path) -> tuple[Places, Places]:
    one = places_of(machines.one, case, "one", tmp_path / "one")
    return one, places_of(machines.other, case, "other", tmp_path / "other")


def apart(pair: tuple[Places, Places]) -> list[Places]:
    """The same with an incoming directory for each machine."""
    return [
        Places(
            places.base, (places.incoming.parent / f"incoming-{name}",), places.data, places.log, places.state
        ).make()
        for name, places in zip(("one", "other"), pair, strict=True)
    ]


def test_an_incoming_directory_has_one_owner_on_all_machines(machines: Machines, tmp_path: Path) -> None:
    one, other = both(machines, "owner", tmp_path)
    with service(one, *NETWORKED):
        done = once(other)
        assert done.status == 1
        assert "Another listener owns this incoming directory" in done.stderr
    assert once(other).status == 0


def test_a_file_that_another_machine_writes_is_not_taken_before_its_end(machines: Machines, tmp_path: Path) -> None:
    """The kernel here grants a read lease on it, which says nothing."""
    one, other = both(machines, "writer", tmp_path)
    source = write_instance(tmp_path / "whole", pixels=200)
    data = source.read_bytes()
    # Longer than a busy machine takes from part to part.
    with service(one, *NETWORKED, "--settle", "8") as running:
        with (other.incoming / "slow").open("wb") as file:
            for part in range(4):
                file.write(data[part * len(data) // 4 : (part + 1) * len(data) // 4])
                file.flush()
                os.fsync(file.fileno())
                until(lambda: "slow" in os.listdir(one.incoming), 5)
                rescan_on(running, 4)
        settled(running, 1, 20)
        assert [event["event"] for event in running.events("published", "set-aside")] == ["published"]
        (published,) = one.data.rglob("*.dcm")
        assert published.read_bytes() == data
        assert "no leases here" in running.stderr


#: Adds entries to one document, one after the other, as workers add studies; what is refused is tried again.
ADD = """
import sys, time
from listener.config import Config
from listener.disk.directories import prepare_direct
from listener.repacking.document_files import update
from listener.repacking.context import COPY, WorkerContext

data, log, first, count = sys.argv[1], sys.argv[2], int(sys.argv[3]), int(sys.argv[4])
context = WorkerContext(Config(data=data, log=log, fsync="none"), prepare_direct(data, log, ""), COPY)
for number in range(first, first + count):
    while True:
        try:
            update(f"{log}/patientData/P.json", context, lambda there: {**(there or {}), str(number): {}})
            break
        except OSError:
            time.sleep(0.05)
"""


def test_nothing_that_is_added_to_a_document_is_lost(machines: Machines, tmp_path: Path) -> None:
    """Both machines add to one document under its lock, as to a StudyList; what a kernel has read before may be old."""
    each, pair = 100, both(machines, "documents", tmp_path)
    (pair[0].log / "patientData").mkdir()
    running = [
        subprocess.Popen(
            [sys.executable, "-c", ADD, str(places.data), str(places.log), str(number * each), str(each)],
            env=environment(),
        )
        for number, places in enumerate(pair)
    ]
    assert [process.wait(120) for process in running] == [0, 0]
    document = pair[0].log / "patientData/P.json"
    until(lambda: len(orjson.loads(document.read_bytes())) == 2 * each, 5, what="all are there")


def test_starts_side_by_side_do_not_disturb_each_other(machines: Machines, tmp_path: Path) -> None:
    """What each tries out in the shared directories has names of its own."""
    pair, rounds = apart(both(machines, "starts", tmp_path)), 4
    for number in range(rounds):
        for series, places in enumerate(pair):
            path = write_instance(tmp_path / f"{series}-{number}", study=number, series=series)
            shutil.copy(path, places.incoming)
        running = [
            start("once", *places.flags(), "--min-free", "0", "--workers", "1", "--settle", "1") for places in pair
        ]
        done = [finish(process) for process in running]
        assert [one.status for one in done] == [0, 0], [one.stderr for one in done]
    assert len(list(pair[0].data.rglob("*.dcm"))) == 2 * rounds


def test_check_names_what_it_is(machines: Machines, tmp_path: Path) -> None:
    one, _ = both(machines, "check", tmp_path)
    config = make_config(
        tmp_path, incoming=(str(one.incoming),), data=str(one.data), log=str(one.log), state=str(one.state), settle=2.0
    )
    found = list(check.findings(config))
    assert not [finding for finding in found if finding.level == PROBLEM]
    notes = [finding.text for finding in found if finding.level == NOTE]
    assert any("network file system" in text for text in notes)
    assert any("no leases here" in text for text in notes)
    assert not any("by this machine alone" in text for text in notes)
    assert not list(one.incoming.iterdir())
