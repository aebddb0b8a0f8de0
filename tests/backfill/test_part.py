"""`listener once --part`: a share, beside others, with an account that adds up; killed and begun again; refused."""

from __future__ import annotations

import fcntl
import os
import shutil
import subprocess
from pathlib import Path
from typing import Any

import orjson
import pytest

from listener import cli
from listener.backfill.metric_rows import PART_ROWS
from tests.backfill.archives import NORMAL, SMALL, archive, finish_all, part, total
from tests.instances import write_instance
from tests.ledger_world import assert_ledger_equals_logs
from tests.service_process import (
    Places,
    command,
    environment,
    finish,
    listener,
    make_places,
    parse_page,
    service,
    start,
    value,
)
from tests.workbench import Bench, arrival_of, contents

pytestmark = pytest.mark.real


def account(places: Places, name: str) -> dict[str, Any]:
    found: dict[str, Any] = orjson.loads((places.state / "parts" / name / "account.json").read_bytes())
    return found


def set_aside(places: Places) -> list[str]:
    found = [path for path in (places.state / "parts").glob("*/set-aside/*/*") if not path.name.startswith(".")]
    return sorted(path.name for path in found if path.suffix != ".json")


@pytest.mark.parametrize("by", [(), ("--part-by", "name")])
def test_parts_add_up_to_what_was_listed_and_make_the_tree_of_one_run(tmp_path: Path, by: tuple[str, ...]) -> None:
    places = make_places(tmp_path / "parts")
    files = archive(places)
    whole = make_places(tmp_path / "whole")
    shutil.copytree(places.incoming, whole.incoming, dirs_exist_ok=True)
    running = [start("once", *places.flags(), *SMALL, *NORMAL, *by, "--part", f"{number}/4") for number in range(4)]
    done = [finish(process) for process in running]
    assert sorted(one.status for one in done) == [0, 0, 0, 1], [one.stderr for one in done]
    assert total(places) == {"listed": len(files), "published": len(files) - 2, "duplicate": 1, "set_aside": 1}
    assert set_aside(places) == ["text"]
    assert not contents(places.incoming)
    assert not (places.state / "ledger.sqlite").exists()
    assert cli.main(["once", *whole.flags(), *SMALL]) == 1
    assert contents(places.data) == contents(whole.data)
    relative = {
        name: data.replace(str(tmp_path / "parts").encode(), b"") for name, data in contents(places.log).items()
    }
    assert relative == {
        name: data.replace(str(tmp_path / "whole").encode(), b"") for name, data in contents(whole.log).items()
    }


def test_a_part_that_has_ended_is_not_done_again_unless_it_is_wanted(tmp_path: Path) -> None:
    places = make_places(tmp_path)
    files = archive(places, 3)
    assert part(places, "--part", "0/1") == 1, "something is set aside"
    first = account(places, "0-of-1")
    assert (first["listed"], first["left"], first["set_aside_reasons"]) == (len(files), 0, {"not-dicom": 1})
    assert first["begun"] < first["ended"]
    write_instance(places.incoming / "late", number=99)
    assert part(places, "--part", "0/1") == 1
    assert account(places, "0-of-1") == first
    assert part(places, "--part", "0/1", "--tolerate-set-aside") == 0
    assert part(places, "--part", "0/1", "--tolerate-set-aside", "--again") == 0
    again = account(places, "0-of-1")
    assert (again["listed"], again["begun"]) == (len(files) + 1, first["begun"])
    assert total(places)["published"] == len(files) - 1


def test_a_list_names_the_files_and_each_has_one_end(tmp_path: Path) -> None:
    places = make_places(tmp_path)
    files = archive(places, 4)
    lists = tmp_path / "lists"
    lists.mkdir()
    half = len(files) // 2
    (lists / "list-0000").write_bytes(b"".join(os.fsencode(path) + b"\0" for path in files[:half]))
    # Overlaps with the first one, and names one that is not there.
    (lists / "list-0001").write_bytes(
        b"".join(os.fsencode(path) + b"\0" for path in (*map(str, files[half - 1 :]), "P9/gone"))
    )
    assert part(places, "--files-from", str(lists / "list-0000")) == 0
    assert part(places, "--files-from", str(lists / "list-0001")) == 1
    assert total(places) == {
        "listed": len(files) + 2, "published": len(files) - 2, "duplicate": 1, "set_aside": 1, "vanished": 2
    }  # fmt: skip
    done = listener("parts", "--state", str(places.state), *map(str, sorted(lists.iterdir())))
    assert "of those that vanished 1 came through another part, 1 are nowhere" in done.stdout.decode()
    (lists / "list-0000").write_bytes(b"another\0")
    assert part(places, "--files-from", str(lists / "list-0000"), "--again") == 2


@pytest.mark.parametrize("keeps", [(), ("--keep-source",)])
def test_lists_that_overlap_bring_each_file_once_also_at_the_same_time(tmp_path: Path, keeps: tuple[str, ...]) -> None:
    places = make_places(tmp_path)
    files = archive(places, 20)
    names = [os.fsencode(path) + b"\0" for path in files]
    for name, some in (("one", names), ("other", names[::-1])):
        (tmp_path / name).write_bytes(b"".join(some))
    words = ("once", *places.flags(), *SMALL, *NORMAL, *keeps, "--tolerate-set-aside", "--files-from")
    running = [start(*words, str(tmp_path / name)) for name in ("one", "other")]
    done = [finish(process) for process in running]
    assert [one.status for one in done] == [0, 0], [one.stderr for one in done]
    found = total(places)
    # Of one instance there are two files, and one file is no DICOM.
    assert (found["listed"], found["published"], found["left"]) == (2 * len(files), len(files) - 2, 0)
    assert len(list(places.data.rglob("*.dcm"))) == len(files) - 2
    assert finish_all(places) == 0
    assert_ledger_equals_logs(places)


def test_a_list_comes_through_standard_input(tmp_path: Path) -> None:
    places = make_places(tmp_path)
    files = archive(places, 2)
    words = command("once", *places.flags(), *SMALL, *NORMAL, "--files-from", "-")
    names = b"".join(os.fsencode(path) + b"\n" for path in files)
    done = subprocess.run(words, input=names, capture_output=True, check=False, env=environment())
    assert done.returncode == 1, done.stderr
    assert total(places)["listed"] == len(files)


def test_a_source_that_is_only_read_is_left_as_it_is(tmp_path: Path) -> None:
    places = make_places(tmp_path)
    files = archive(places, 3)
    before = contents(places.incoming)
    assert part(places, "--part", "0/2", "--keep-source") + part(places, "--part", "1/2", "--keep-source") == 1
    assert contents(places.incoming) == before
    assert total(places)["published"] == len(files) - 2
    assert not (places.incoming / ".listener").exists()


def test_one_that_another_process_has_in_hand_is_refused(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    places = make_places(tmp_path)
    archive(places, 2)
    folder = places.state / "parts/0-of-2"
    folder.mkdir(parents=True)
    with (folder / ".owner").open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        assert part(places, "--part", "0/2") == 75
    assert "part 0-of-2" in capfd.readouterr().err
    assert part(places, "--part", "0/2") in (0, 1)


def test_a_service_keeps_parts_out_and_parts_keep_a_service_out(tmp_path: Path) -> None:
    places = make_places(tmp_path)
    with service(places):
        done = listener("once", *places.flags(), *SMALL, *NORMAL, "--part", "0/2")
        assert (done.status, "Another listener owns" in done.stderr) == (75, True)
    descriptor = os.open(places.incoming, os.O_RDONLY)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_SH)  # As a part does.
        assert listener("run", *places.flags(), "--http", "off").status == 1
        assert part(places, "--part", "0/2") == 0
    finally:
        os.close(descriptor)


@pytest.mark.parametrize("missing", ["data", "log", "incoming"])
def test_a_volume_that_is_not_mounted_is_never_written_to(
    tmp_path: Path, missing: str, capfd: pytest.CaptureFixture[str]
) -> None:
    places = make_places(tmp_path)
    archive(places, 4)
    assert part(places, "--part", "0/2") in (0, 1)
    there = getattr(places, missing)
    there.rename(tmp_path / "away")
    assert part(places, "--part", "1/2") == 69
    assert "is not there, and a part makes none" in capfd.readouterr().err
    assert not there.exists()
    there.mkdir()
    assert part(places, "--part", "1/2") == 69
    assert "is not the directory that the first part found" in capfd.readouterr().err
    assert not list(there.iterdir())
    there.rmdir()
    (tmp_path / "away").rename(there)
    assert part(places, "--part", "1/2") in (0, 1)


def test_a_list_of_a_source_that_is_empty_is_refused(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    places = make_places(tmp_path)
    (tmp_path / "list").write_text("P1/x\n")
    assert part(places, "--files-from", str(tmp_path / "list")) == 69
    assert "is empty while a list names files in it" in capfd.readouterr().err
    assert part(places, "--files-from", str(tmp_path / "none")) == 2


def claimed(places: Places, paths: list[Path]) -> None:
    """What is left when a part was killed: its files are claimed, and no end is recorded."""
    state, incoming = f"{places.state}/parts/0-of-1", tuple(map(str, places.incomings))
    bench = Bench(places.data.parent, incoming=incoming, state=state, part="0-of-1")
    assert len(bench.work([arrival_of(path) for path in paths])) == len(paths)


def test_a_host_that_mounts_the_volume_elsewhere_goes_on_with_a_part(tmp_path: Path) -> None:
    here = make_places(tmp_path / "here")
    files = archive(here, 4)
    claimed(here, files[:5])
    (tmp_path / "here").rename(tmp_path / "there")
    there = make_places(tmp_path / "there")
    assert part(there, "--part", "0/1", "--tolerate-set-aside") == 0
    assert total(there) == {"listed": len(files), "published": len(files) - 2, "duplicate": 1, "set_aside": 1}
    assert not contents(there.state / "parts/0-of-1/claim")


def test_kept_files_are_the_same_files_on_a_host_that_mounts_them_elsewhere(tmp_path: Path) -> None:
    here = make_places(tmp_path / "here")
    files = archive(here, 3)
    assert part(here, "--part", "0/1", "--keep-source", "--tolerate-set-aside") == 0
    (tmp_path / "here").rename(tmp_path / "there")
    there = make_places(tmp_path / "there")
    assert part(there, "--part", "0/1", "--keep-source", "--tolerate-set-aside", "--again") == 0
    assert total(there) == {"listed": len(files), "published": len(files) - 2, "duplicate": 1, "set_aside": 1}


def test_claims_of_an_incoming_directory_that_is_not_given_are_not_forgotten(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    places = make_places(tmp_path, incomings=2)
    files = archive(places, 2)
    claimed(places, files[:2])
    other = Places(places.base, places.incomings[1:], places.data, places.log, places.state)
    assert part(other, "--part", "0/1") == 2
    assert "2 claimed files of" in capfd.readouterr().err
    assert part(places, "--part", "0/1", "--tolerate-set-aside") == 0
    assert total(places)["listed"] == len(files)


def test_its_metrics_are_written_when_it_has_ended(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    places = make_places(tmp_path)
    files = archive(places, 3)
    written = tmp_path / "part.prom"
    for _ in range(2):  # One that has ended already says the same.
        assert part(places, "--part", "0/1", "--textfile", str(written)) == 1
        shown = parse_page(written.read_text())
        assert value(shown, "backfill_part_files", part="0-of-1", end="published") == len(files) - 2
        assert value(shown, "backfill_part_files", end="set_aside") == 1
        assert value(shown, "backfill_part_seconds", part="0-of-1") > 0
        assert {name for name, _ in shown} == {row.full_name for row in PART_ROWS}
        written.unlink()
    (tmp_path / "file").touch()
    assert part(places, "--part", "0/1", "--tolerate-set-aside", "--textfile", str(tmp_path / "file/part.prom")) == 0
    assert "the metrics cannot be written" in capfd.readouterr().err
    assert part(places, "--textfile", str(written)) == 2
