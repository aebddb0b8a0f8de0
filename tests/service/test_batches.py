"""`listener run --batches`: a real service over real folders."""

from __future__ import annotations

import os
import shutil
import time
from collections.abc import Iterator
from contextlib import contextmanager
from math import inf
from pathlib import Path

import pytest

from listener.ledger.batch_recorder import BatchNews
from listener.ledger.thread import LedgerThread
from listener.service.backlog import BATCH
from listener.service.batches import Batches
from tests.batch_places import BatchPlaces, make_batch_places
from tests.instances import write_instance
from tests.service.engines import Ear
from tests.service_process import Places, Service, service
from tests.waiting import until
from tests.workbench import Bench, contents

pytestmark = pytest.mark.real


class _OnlyBatches(Places):
    """Places whose flags name no incoming."""

    def flags(self) -> list[str]:
        return [*self.outputs(), "--state", str(self.state)]


class _Ear(Ear):
    """Hears of batches too."""

    def announce_batch(self, news: BatchNews) -> None:
        pass


@pytest.fixture
def here(tmp_path: Path) -> BatchPlaces:
    return make_batch_places(tmp_path)


@contextmanager
def running(here: BatchPlaces, *more: str, ready: bool = True) -> Iterator[Service]:
    places = here.places
    only = _OnlyBatches(places.base, places.incomings, places.data, places.log, places.state)
    options = ("--batches", str(here.batches), "--fsync", "none", "--rescan", "0.2", *more)
    with service(only, *options, ready=ready) as found:
        yield found


def until_states(here: BatchPlaces, wanted: dict[str, tuple[str, int, int, int, int]], running: Service) -> None:
    def there() -> bool:
        found = here.states()
        assert found == wanted, (found, str(running))
        return True

    until(there, 40, what=f"batches are {wanted}")


@pytest.mark.parametrize(
    ("fsync", "before", "most"),
    [("batch", 0.5, 4), ("each", 0.5, 4), ("batch", 5.0, BATCH), ("batch", inf, BATCH), ("none", 0.5, BATCH)],
)
def test_messages_are_short_while_files_of_incoming_come_and_are_synced(
    tmp_path: Path, fsync: str, before: float, most: int
) -> None:
    folders = tmp_path / "batches"
    folders.mkdir()
    bench = Bench(tmp_path, batches=(str(folders),), fsync=fsync)
    batches = Batches(bench.config, bench.directories, _Ear(), LedgerThread(bench.config))
    try:
        now = time.monotonic()
        batches.turn(now, now - before)
        assert batches.engine.most == most
    finally:
        batches.close(at_once=True)


def test_a_rename_is_seen_at_once_and_what_has_no_final_name_is_left(here: BatchPlaces) -> None:
    with running(here) as listener:
        (here.batches / "made").mkdir()
        for ending in (".tmp", ".part", ".TMP.7"):
            here.folder(f"X{ending}", 2, patient=len(ending))
        here.folder("Y.tmp", 2).rename(here.batches / "Y")
        listener.wait_for("batch-done")
        (here.batches / "X.TMP.7").rename(here.batches / "X")
        listener.wait_for("batch-done", 2)
        wanted = dict.fromkeys(("X.tmp", "X.part"), ("new", 1, 0, 0, 0))
        until_states(here, {"X": ("done", 1, 1, 2, 0), "Y": ("done", 1, 1, 2, 0), **wanted}, listener)
        assert {event["expected"] for event in listener.events("series-complete")} == {2}
        assert listener.events("batch-queued")[0]["has_error"] is False


def test_without_inotify_a_rename_is_seen_by_scans(here: BatchPlaces) -> None:
    with running(here, "--poll") as listener:
        folder = here.folder("X.tmp", 2)
        until(lambda: here.states() == {"X.tmp": ("new", 1, 0, 0, 0)}, 20)
        folder.rename(here.batches / "X")
        listener.wait_for("batch-done")


def test_a_folder_from_elsewhere_and_one_that_is_quiet(here: BatchPlaces, tmp_path: Path) -> None:
    elsewhere = here.folder("A", 2)
    elsewhere = Path(shutil.move(elsewhere, tmp_path / "A"))
    here.folder("there", 3, patient=1)
    with running(here, "--batch-quiet", "1") as listener:
        elsewhere.rename(here.batches / "A")
        folder = here.folder("slow", 1, patient=2)
        with (folder / "open").open("wb") as file:
            file.write(write_instance(tmp_path / "x", patient=2, number=2).read_bytes())
            file.flush()
            listener.wait_for("batch-done", 2)
            assert not [row for name, row in here.states().items() if name == "slow" and row[0] != "new"]
        listener.wait_for("batch-done", 3)
        until_states(
            here,
            {"A": ("done", 1, 1, 2, 0), "there": ("done", 1, 1, 3, 0), "slow": ("done", 1, 1, 2, 0)},
            listener,
        )
        here.folder("there", 1, patient=1, first=4)
        listener.wait_for("batch-done", 4)
        assert here.states()["there"] == ("done", 2, 1, 4, 0)


def test_an_error_and_its_name_back(here: BatchPlaces) -> None:
    with running(here, "--batch-source", "remove") as listener:
        folder = here.folder("X.tmp", 2)
        (folder / "bad").write_text("x")
        folder.rename(here.batches / "X")
        listener.wait_for("batch-done")
        until(lambda: here.names() == ["X.err"], 10)
        assert contents(here.batches / "X.err").keys() == {"bad"}
        shutil.copy(next(here.places.data.rglob("*.dcm")), here.batches / "X.err/bad")
        (here.batches / "X.err").rename(here.batches / "X")
        listener.wait_for("batch-done", 2)
        until(lambda: here.names() == [], 10)
        assert here.states() == {"X": ("done", 2, 1, 1, 0)}
        assert len(here.published()) == 2


def test_a_killed_service_goes_on_with_what_it_had_begun(here: BatchPlaces) -> None:
    for number in range(5):
        folder = here.folder(f"B{number}", 20, patient=number)
        if number == 3:
            (folder / "bad").write_text("x")
    options = ("--batch-source", "remove", "--batch-quiet", "0", "--batches-at-once", "2")
    with running(here, *options, ready=False) as listener:
        listener.wait_for("published", 30)
        listener.kill()
        listener.process.returncode = 0
    with running(here, *options) as listener:
        wanted = {f"B{number}": ("done", 1, 1, 20, int(number == 3)) for number in range(5)}
        until_states(here, wanted, listener)
        assert here.names() == ["B3.err"]
        assert contents(here.batches / "B3.err").keys() == {"bad"}
        assert len(here.published()) == 100


def test_batches_wait_for_consumers_and_no_more_than_asked_for_are_begun(here: BatchPlaces, tmp_path: Path) -> None:
    gate = tmp_path / "gate"
    for number in range(3):
        here.folder(f"B{number}", 1, patient=number)
    command = f"sh -c 'test -e {gate}'"
    options = ("--batch-quiet", "0", "--batches-at-once", "2", "--on-series-complete-exec", command)
    with running(here, *options) as listener:
        listener.wait_for("series-complete", 2)
        until(lambda: sorted(row[0] for row in here.states().values()) == ["processing", "processing", "queue"], 20)
        gate.touch()
        listener.wait_for("batch-done", 3, seconds=60)


def test_incoming_beside_batches(here: BatchPlaces) -> None:
    here.places.incoming.mkdir()
    with service(
        here.places, "--batches", str(here.batches), "--fsync", "none", "--batch-quiet", "0", "--rescan", "0.2"
    ) as listener:
        here.folder("X.tmp", 3).rename(here.batches / "X")
        write_instance(here.places.incoming / "one", patient=7)
        listener.wait_for("batch-done")
        listener.wait_for("published", 4)
        assert os.listdir(here.places.incoming) == []
        scrape = listener.page()
        assert 'listener_files_discovered_total{source="batch"} 3.0' in scrape
