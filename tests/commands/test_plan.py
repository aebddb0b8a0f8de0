"""`listener plan`: where files would go, and nothing is touched."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import orjson
import pytest

from listener import cli
from listener.planning import documents
from tests.instances import ABSENT, uid, write_instance
from tests.workbench import Bench, contents


def plan(folder: Path, *paths: Path | str, options: tuple[str, ...] = ()) -> int:
    named = [f"--{name}={folder / name}" for name in ("data", "log", "state")]
    return cli.main(["plan", *named, *options, *map(str, paths)])


def plans(capsysbinary: pytest.CaptureFixture[bytes]) -> list[dict[str, Any]]:
    return [orjson.loads(line) for line in capsysbinary.readouterr().out.splitlines()]


def test_a_plan_in_words(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = write_instance(tmp_path / "one", number=7)
    assert plan(tmp_path, path) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == str(path)
    assert lines[1].startswith(f"  -> {tmp_path}/data/P0000-Patient_0-19700102/Study_0-A00-20240101/00001-Series_0-")
    assert lines[1].endswith(f"/0007-{uid('instance', 0, 0, 0, 7)}.dcm")
    assert len(lines) == 2 + 6
    assert all(line.startswith(f"   + {tmp_path}/log/") for line in lines[2:])


def test_nothing_is_touched(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = write_instance(tmp_path / "one")
    before = os.stat(path)
    plan(tmp_path, path)
    assert os.listdir(tmp_path) == ["one"]
    assert os.stat(path).st_mtime_ns == before.st_mtime_ns
    assert os.stat(path).st_nlink == 1
    capsys.readouterr()


@pytest.mark.parametrize("layout", ["rx", "px", "px311", "oxidicom"])
def test_a_plan_is_what_repacking_does(layout: str, tmp_path: Path, capsysbinary: pytest.CaptureFixture[bytes]) -> None:
    bench = Bench(tmp_path, layout=layout)
    path = bench.put()
    assert plan(tmp_path, path, options=("--json", f"--layout={layout}")) == 0
    (told,) = plans(capsysbinary)
    outcome = bench.outcome(path)
    assert told["target"] == outcome.dst
    assert [path for path in told["documents"] if not os.path.exists(path)] == []
    assert len(told["documents"]) == len(contents(bench.log)) == 6
    assert told["SeriesInstanceUID"] == outcome.SeriesInstanceUID
    assert told["documents"][-1].endswith(documents.instance_path(outcome.SeriesInstanceUID, Path(outcome.dst).name))


def test_what_could_not_be_repacked_says_why(tmp_path: Path, capsysbinary: pytest.CaptureFixture[bytes]) -> None:
    (tmp_path / "text").write_text("hello" * 100)
    (tmp_path / "empty").touch()
    (tmp_path / "link").symlink_to("text")
    os.mkfifo(tmp_path / "fifo")
    write_instance(tmp_path / "uid", SeriesInstanceUID=ABSENT)
    write_instance(tmp_path / "fine")
    names = ["text", "empty", "link", "fifo", "uid", "absent", "fine"]
    assert plan(tmp_path, *(tmp_path / name for name in names), options=("--json",)) == 1
    told = plans(capsysbinary)
    reasons = ["not-dicom", "empty", "not-regular", "not-regular", "missing-uid", "unreadable", None]
    assert [one.get("reason") for one in told] == reasons
    assert [one["file"] for one in told] == [str(tmp_path / name) for name in names]
    assert all(one.get("error") or "target" in one for one in told)


@pytest.mark.parametrize("options", [(), ("--json",)])
def test_a_name_that_is_not_utf_8(
    options: tuple[str, ...], tmp_path: Path, capsysbinary: pytest.CaptureFixture[bytes]
) -> None:
    path = os.fsdecode(os.fsencode(tmp_path) + b"/\xff\xfe")
    write_instance(path)
    assert plan(tmp_path, path, os.fsdecode(b"\xffabsent"), options=options) == 1
    assert b"\\xff\\xfe" in capsysbinary.readouterr().out.replace(b"\\\\", b"\\")


def test_something_odd_is_told(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = write_instance(tmp_path / "one")
    path.write_bytes(path.read_bytes() + b"what is this?")
    assert plan(tmp_path, path) == 0
    assert "   ! bytes behind the data set" in capsys.readouterr().out
