"""`listener once --batches`: folders that are finished, to the end of their source, with the accounts."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from tests.batch_places import BatchPlaces, make_batch_places
from tests.instances import write_instance
from tests.service_process import listener
from tests.waiting import file_clock_tick
from tests.workbench import contents, tmpfs

pytestmark = pytest.mark.real


@pytest.fixture
def here(tmp_path: Path) -> BatchPlaces:
    return make_batch_places(tmp_path)


def test_folders_are_batches_and_their_source_stays_as_it_is(here: BatchPlaces) -> None:
    folder = here.folder("A0001", 3)
    (folder / "deep/er").mkdir(parents=True)
    write_instance(folder / "deep/er/x", number=9)
    here.folder("A0002", 2, patient=1)
    here.folder("A0003.tmp", 2, patient=2)
    (here.batches / "nothing").mkdir()
    before = contents(here.batches)
    done = here.once()
    assert done.status == 0, done
    assert contents(here.batches) == before
    assert len(here.published()) == 6
    assert here.states() == {
        "A0001": ("done", 1, 1, 4, 0),
        "A0002": ("done", 1, 1, 2, 0),
        "A0003.tmp": ("new", 1, 0, 0, 0),
    }
    ended = [event for event in done.events if event["event"] == "series-complete"]
    assert {(event["result"], event["expected"]) for event in ended} == {("expected", 4), ("expected", 2)}
    told = [(event["event"], event["instances"]) for event in done.events if event["event"].startswith("batch")]
    assert sorted(told) == [("batch-done", 2), ("batch-done", 4), ("batch-queued", 0), ("batch-queued", 0)]
    assert b"A0001" not in b"".join(line for line in done.stdout.splitlines() if b"batch" in line)
    assert not here.places.incoming.exists(), "without --incoming there is none"
    again = here.once()
    assert (again.status, again.events) == (0, []), "what has ended is not begun again"


def test_columns_are_sendits_and_then_ours(here: BatchPlaces) -> None:
    here.folder("X", 2)
    here.once()
    done = listener("report", "--state", str(here.places.state), "--by", "batch", "--tsv")
    head, row = done.stdout.decode().splitlines()
    assert head.split("\t") == [
        "batch_id",
        "status",
        "size_mb",
        "start_time",
        "finish_time",
        "total_time_sec",
        "total_time_min",
        "has_error",
        "series",
        "instances",
        "errors",
        "generation",
    ]
    values = dict(zip(head.split("\t"), row.split("\t"), strict=True))
    assert values["status"] == "done"
    assert float(values["finish_time"]) > float(values["start_time"]) > 1.7e9
    assert float(values["total_time_sec"]) == pytest.approx(
        float(values["finish_time"]) - float(values["start_time"]), abs=0.01
    )


def test_of_what_is_to_be_removed_all_goes_that_has_passed(here: BatchPlaces) -> None:
    folder = here.folder("X", 3)
    (folder / "deep").mkdir()
    write_instance(folder / "deep/x", number=9)
    inode = os.stat(folder / "1.dcm").st_ino
    assert here.once("--batch-source", "remove").status == 0
    assert here.names() == []
    assert here.states() == {"X": ("done", 1, 1, 4, 0)}
    assert inode in {path.stat().st_ino for path in here.places.data.rglob("*.dcm")}, "it is published by a link"
    here.folder("X", 2, first=3)
    assert here.once("--batch-source", "remove").status == 0
    assert here.names() == []
    assert here.states() == {"X": ("done", 2, 1, 2, 0)}
    assert len(here.published()) == 5


@pytest.mark.parametrize("source", ["keep", "remove"])
def test_what_fails_stays_in_its_folder_which_is_refused_until_it_gets_its_name_back(
    here: BatchPlaces, source: str
) -> None:
    folder = here.folder("X", 2)
    (folder / "sub").mkdir()
    (folder / "sub/readme").write_text("hello")
    (here.batches / "X.err").mkdir()
    done = here.once("--batch-source", source)
    assert done.status == 1
    assert here.names() == ["X.1.err", "X.err"]
    left = {"1.dcm", "2.dcm", "sub/readme"} if source == "keep" else {"sub/readme"}
    assert contents(here.batches / "X.1.err").keys() == left
    assert here.states() == {"X": ("done", 1, 1, 2, 1)}
    assert not any(path.is_file() for path in (here.places.state / "set-aside").rglob("*") if path.name != ".lock")
    assert here.once("--batch-source", source).events == []
    (here.batches / "X.1.err").rename(here.batches / "X")
    done = here.once("--batch-source", source, quiet=60)
    assert done.status == 1, "renamed back it is finished at once"
    instances = 2 if source == "keep" else 0
    state = "done" if source == "keep" else "empty"
    assert here.states() == {"X": (state, 2, int(source == "keep"), instances, 1)}
    (here.batches / "X.1.err/sub/readme").unlink()
    (here.batches / "X.1.err").rename(here.batches / "X")
    assert here.once("--batch-source", source).status == 0
    assert here.names() == ["X", "X.err"]


def test_without_any_dicom_a_batch_is_empty(here: BatchPlaces) -> None:
    folder = here.folder("X", 0)
    (folder / "readme").write_text("hello")
    here.once()
    assert here.states() == {"X": ("empty", 1, 0, 0, 1)}
    assert here.names() == ["X.err"]


def test_the_oldest_folders_are_taken_first_and_no_more_than_asked_for(here: BatchPlaces) -> None:
    for age, name in enumerate(["C", "A", "B"]):
        folder = here.folder(name, 1, patient=age)
        for path in (folder / "1.dcm", folder):
            os.utime(path, ns=(0, 10**18 + age * 10**9))
        file_clock_tick()  # st_ctime counts too, and cannot be set: it is as old as the making of each
    done = here.once("--number", "2")
    assert done.status == 0
    assert {name for name, row in here.states().items() if row[0] == "done"} == {"C", "A"}
    assert here.once("--number", "2").status == 0
    assert {row[0] for row in here.states().values()} == {"done"}


def test_a_folder_that_is_not_quiet_is_left(here: BatchPlaces) -> None:
    folder = here.folder("X", 2)
    assert here.once(quiet=60).events == []
    with (folder / "open").open("wb") as file:
        file.write((folder / "1.dcm").read_bytes())
        file.flush()
        assert here.once().events == [], "it is still open for writing"
    assert here.once().status == 0
    assert here.states() == {"X": ("done", 1, 1, 3, 0)}


def test_what_is_added_begins_the_next_generation(here: BatchPlaces) -> None:
    here.folder("X", 2)
    here.once()
    here.folder("X", 1, first=3)
    done = here.once()
    assert done.status == 0
    assert sorted(event["event"] for event in done.events if "src" in event) == ["duplicate", "duplicate", "published"]
    assert here.states() == {"X": ("done", 2, 1, 3, 0)}


def test_odd_names_and_links(here: BatchPlaces) -> None:
    for name in ("new\nline", "\udcff\udcfe", "x" * 255):
        here.folder(name, 1, patient=len(name))
    folder = here.folder("linked", 1, patient=5)
    (folder / "link").symlink_to(folder / "1.dcm")
    (here.batches / "link").symlink_to(folder)
    (here.batches / "file").write_text("x")
    done = here.once()
    assert done.status == 1
    assert {row[0] for row in here.states().values()} == {"done"}
    assert len(here.states()) == 4
    assert "linked.err" in here.names()
    assert done.stderr.count("are left; put them in a folder") == 1
    bad = here.batches / ("x" * 255)
    (bad / "bad").write_text("x")
    here.once()
    assert "x" * 251 + ".err" in here.names()


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can mount")
def test_a_directory_that_cannot_be_written_is_told_once(here: BatchPlaces) -> None:
    folder = here.folder("X", 1)
    (folder / "bad").write_text("x")
    os.system(f"mount --bind '{here.batches}' '{here.batches}' && mount -o remount,bind,ro '{here.batches}'")  # noqa: S605
    try:
        done = here.once()
        assert done.status == 1
        assert "cannot be renamed or removed" in done.stderr
        assert here.states() == {"X": ("done", 1, 1, 1, 1)}
        assert here.once().events == []
    finally:
        os.system(f"umount '{here.batches}'")  # noqa: S605


def test_number_needs_batches(tmp_path: Path) -> None:
    done = listener("once", "--number", "1", "--state", str(tmp_path / "state"), "--data", str(tmp_path / "data"))
    assert done.status == 2
    assert "--batches" in done.stderr


def test_two_hundred_at_once(here: BatchPlaces) -> None:
    for number in range(200):
        here.folder(f"A{number:04d}", 1, patient=number % 7, series=number)
    done = here.once("--batch-source", "remove", "--batches-at-once", "0")
    assert done.status == 0, done
    assert here.states() == {f"A{number:04d}": ("done", 1, 1, 1, 0) for number in range(200)}
    assert len(here.published()) == 200
    assert here.names() == []


@pytest.mark.parametrize("source", ["keep", "remove"])
def test_from_another_mount(here: BatchPlaces, source: str) -> None:
    with tmpfs(here.batches):
        here.folder("A0001", 3)
        (here.batches / "A0001/bad").write_bytes(b"no DICOM at all\n" * 20)
        before = contents(here.batches / "A0001")
        done = here.once("--batch-source", source)
        assert done.status == 1, done
        assert here.states()["A0001"] == ("done", 1, 1, 3, 1)
        assert len(here.published()) == 3
        assert here.names() == ["A0001.err"]
        left = contents(here.batches / "A0001.err")
        assert left == (before if source == "keep" else {"bad": before["bad"]})
