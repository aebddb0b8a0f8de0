from __future__ import annotations

import os
from pathlib import Path

import pytest

from listener.export.directory import DirectoryTarget
from listener.export.faults import NotThere, TargetFault, TargetRefuses
from listener.export.target import Content
from tests.export.memory import content


def target(root: Path) -> DirectoryTarget:
    return DirectoryTarget(str(root))


def pace(_size: int) -> None:
    """As fast as it goes."""


def staged(root: Path) -> list[str]:
    folder = root / ".listener/staging"
    return os.listdir(folder) if folder.exists() else []


def test_an_object_is_there_whole_and_nothing_else_is(tmp_path: Path) -> None:
    one = target(tmp_path)
    one.probe()
    assert one.look("data/a/b") is None
    assert one.create(content("data/a/b", b"xyz"), pace)
    assert one.look("data/a/b") == (3, "", "")
    assert list(one.read("data/a/b")) == [b"xyz"]
    assert list(one.listed("")) == [("data/a/b", 3)]
    assert list(one.listed("data/a")) == [("data/a/b", 3)]
    assert list(one.listed("manifests")) == []
    assert staged(tmp_path) == []


def test_nothing_is_replaced(tmp_path: Path) -> None:
    one = target(tmp_path)
    (tmp_path / "x").write_bytes(b"old")
    assert not one.create(content("x", b"new"), pace)

    def meanwhile(_size: int) -> None:
        (tmp_path / "y").write_bytes(b"old")

    assert not one.create(content("y", b"new"), meanwhile)
    assert [path.read_bytes() for path in (tmp_path / "x", tmp_path / "y")] == [b"old"] * 2
    assert staged(tmp_path) == []


def test_a_content_that_fails_leaves_nothing(tmp_path: Path) -> None:
    def chunks() -> object:
        yield b"x"
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        target(tmp_path).create(Content("x", 2, "", chunks), pace)  # type: ignore[arg-type]
    assert not (tmp_path / "x").exists()
    assert staged(tmp_path) == []


def test_what_is_not_there_is_told(tmp_path: Path) -> None:
    with pytest.raises(NotThere):
        list(target(tmp_path).read("x"))
    with pytest.raises(TargetRefuses, match="there is no directory"):
        target(tmp_path / "absent").probe()
    (tmp_path / "file").touch()
    with pytest.raises(TargetFault, match="cannot be used"):
        target(tmp_path).create(content("file/x", b""), pace)
    assert target(tmp_path).look("file/x") is None


def test_temporaries_that_a_killed_exporter_left_go_after_a_day(tmp_path: Path) -> None:
    one = target(tmp_path)
    one.probe()
    folder = tmp_path / ".listener/staging"
    for name in ("export-1-0", "export-2-0"):
        (folder / name).touch()
    os.utime(folder / "export-1-0", (1, 1))
    one.probe()
    assert staged(tmp_path) == ["export-2-0"]
