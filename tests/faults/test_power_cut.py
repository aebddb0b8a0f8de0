"""The power goes: what was reported done is on the disk, whole, and nothing that readers see is torn."""

from __future__ import annotations

import random
import time
from collections import Counter
from pathlib import Path

import pytest

from tests.accounting import Sent, account, data_set_digest, files_below, read_set_aside, read_tree
from tests.dicomnet import kill_group
from tests.faults.hosts import Host
from tests.faults.readers import Reader
from tests.faults.traffic import Inflow
from tests.faults.volumes import MAKERS, Disk, disk
from tests.service_process import Places, once, service
from tests.waiting import until

pytestmark = [pytest.mark.real, pytest.mark.slow, pytest.mark.faults]

#: What storescp had acknowledged and nobody had synced yet may come back empty, short or full of zeros.
UNSYNCED = ("empty", "not-dicom", "incomplete")


class Outages:
    """One volume with all four directories on it, and power cuts, one after the other."""

    def __init__(self, tmp_path: Path, volume: Disk, seed: int) -> None:
        area = volume.mounted / "area"
        #: What the service says is kept outside, as a terminal or a log collector would.
        self._places = Places(tmp_path, (area / "incoming",), area / "data", area / "log", area / "state").make()
        self._volume = volume
        self._random = random.Random(seed)
        self._seed = seed
        self._sent: Sent = {}
        self._numbers = 0
        self.reported: set[str] = set()
        self.cuts = 0

    def cut(self, *args: str) -> None:
        """Traffic, a cut at a random moment, and a look at what is there then."""
        flow = Inflow(self._places, self._seed + self.cuts, bad=False, side=32, first=self._numbers)
        flow.start()
        try:
            with service(self._places, *args, ready=False) as running:
                until(lambda: running.stdout.count(b'"published"') > 0, 20, what=f"one is published; {running}")
                time.sleep(self._random.uniform(0, 0.5))
                # What anybody could have read up to now:
                told = {event["SOPInstanceUID"] for event in running.events("published", "duplicate")}
                self._volume.cut()
                flow.stop()
                kill_group(running.pid)
                running.process.wait()
        finally:
            flow.stop()
        self.cuts += 1
        self.reported |= told
        self._sent |= flow.sent
        self._numbers += flow.files
        self._volume.unmount()
        self._volume.mount()
        self._look()

    def _look(self) -> None:
        """Before anything of ours runs again: every document parses, every instance is whole, nothing told is gone."""
        reader = Reader(str(self._places.data), str(self._places.log))
        wrong = list(reader.round())
        tree = read_tree(self._places)
        there = {one.SOPInstanceUID: one.digest for one in tree.instances}
        wrong += tree.strange
        wrong += [f"{uid} was reported done and is gone" for uid in self.reported - there.keys()]
        wrong += [f"{uid} is not as it was sent" for uid, digest in there.items() if self._sent[uid] != digest]
        assert not wrong, "\n".join([f"after cut {self.cuts}:", *wrong[:20]])

    def account(self) -> int:
        """The next run completes everything; how many instances are in the tree."""
        assert once(self._places).status in (0, 1)
        whole = [path for path in files_below(self._places.state / "set-aside") if self._is_whole(path)]
        assert not whole, f"whole instances were set aside: {whole}"
        there = {one.SOPInstanceUID for one in read_tree(self._places).instances}
        expected = {uid: digest for uid, digest in self._sent.items() if uid in there | self.reported}
        torn = Counter(one.reason for one in read_set_aside(self._places) if one.reason in UNSYNCED)
        account(self._places, expected, aside=torn)
        return len(there)

    def _is_whole(self, path: Path) -> bool:
        data = path.read_bytes()
        return data[128:132] == b"DICM" and data_set_digest(data) in self._sent.values()


def outages(tmp_path: Path, kind: str, cuts: int, args: tuple[str, ...], seed: int) -> None:
    with disk(kind, tmp_path) as volume:
        made = Outages(tmp_path, volume, seed)
        for number in range(cuts):
            made.cut(*args)
            if number % 3 == 2:
                made.account()
        there = made.account()
    print(f"{kind}: {made.cuts} cuts, {len(made.reported)} reported done, none gone; {there} in the tree")
    assert len(made.reported) > cuts


def test_a_host_of_another_test_does_not_keep_a_volume_as_it_was(tmp_path: Path) -> None:
    """It begins with a copy of every mount; what is mounted again after a cut must be new all the same."""
    with disk("ext4", tmp_path) as volume:
        host = Host("keeper", tmp_path / "elsewhere")
        try:
            volume.cut()
            volume.unmount()
            volume.mount()
            (volume.mounted / "file").write_text("it takes files again")
        finally:
            host.die()


@pytest.mark.timeout(900)
@pytest.mark.parametrize("kind", MAKERS)
def test_power_cuts(tmp_path: Path, kind: str) -> None:
    outages(tmp_path, kind, 10, (), seed=1)


@pytest.mark.soak
@pytest.mark.timeout(3600)
@pytest.mark.parametrize("level", ["batch", "each"])
@pytest.mark.parametrize("kind", MAKERS)
def test_power_cuts_for_long(tmp_path: Path, kind: str, level: str) -> None:
    outages(tmp_path, kind, 60, ("--fsync", level), seed=2)


@pytest.mark.parametrize("kind", MAKERS)
def test_an_unsynced_file_is_really_lost(tmp_path: Path, kind: str) -> None:
    """The cut is one: without it, the tests above would prove nothing."""
    with disk(kind, tmp_path) as volume:
        (volume.mounted / "written").write_bytes(b"x" * 1000)
        volume.cut()
        volume.unmount()
        volume.mount()
        path = volume.mounted / "written"
        assert not path.exists() or path.read_bytes() != b"x" * 1000
