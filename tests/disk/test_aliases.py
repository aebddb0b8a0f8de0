"""One thing by two ways: no file loses its only name, and no two directories of a service are one."""

from __future__ import annotations

import os
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path

import pytest

from listener import cli
from listener.disk.aliases import is_only_name
from listener.disk.directories import prepare, prepare_direct
from listener.disk.mounts import MountTable
from listener.errors import ConfigError
from listener.repacking.context import MOVE
from tests.checks.configured import about, made
from tests.workbench import Bench, bound, contents, make_config

# -- files -------------------------------------------------------------------------------------------------------------


def _twice(base: Path) -> tuple[Path, Path]:
    os.link(base / "a/file", base / "b/file")
    return base / "a/file", base / "b/file"


def _linked_directory(base: Path) -> tuple[Path, Path]:
    (base / "way").symlink_to(base / "a")
    return base / "way/file", base / "a/file"


def _linked_directory_and_backup(base: Path) -> tuple[Path, Path]:
    os.link(base / "a/file", base / "b/backup")
    return _linked_directory(base)


def _equal(base: Path) -> tuple[Path, Path]:
    (base / "b/file").write_bytes((base / "a/file").read_bytes())
    return base / "a/file", base / "b/file"


#: Two paths, and whether the first is all that the second has.
FILES: dict[str, tuple[Callable[[Path], tuple[Path, Path]], bool]] = {
    "two names of one file": (_twice, False),
    "two names in one directory": (
        lambda base: (_twice(base)[0], Path(os.path.join(base, "b", "..", "b", "file"))),
        False,
    ),
    "one path twice": (lambda base: (base / "a/file", base / "a/file"), True),
    "by a linked directory": (_linked_directory, True),
    "by a linked directory, and another name elsewhere": (_linked_directory_and_backup, True),
    "two equal files": (_equal, False),
    "the other one is not there": (lambda base: (base / "a/file", base / "b/file"), True),
}


@pytest.mark.parametrize("what", FILES)
def test_whether_a_name_is_the_only_one(what: str, tmp_path: Path) -> None:
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
    (tmp_path / "a/file").write_bytes(b"contents")
    make, only = FILES[what]
    path, kept = make(tmp_path)
    assert is_only_name(str(path), str(kept)) is only


def test_one_file_by_two_device_numbers(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A network file system that is mounted twice: size and times are all that tells."""
    (tmp_path / "file").write_bytes(b"contents")
    (tmp_path / "other").write_bytes(b"contents")
    os.utime(tmp_path / "other", ns=(1, 1))
    real = os.lstat

    def lstat(path: str) -> os.stat_result:
        status = list(real(path.replace("again", "file")))
        status[2] = {"file": 7, "again": 8, "other": 9}[os.path.basename(path)]
        times = real(path.replace("again", "file"))
        return os.stat_result(status, {"st_mtime_ns": times.st_mtime_ns, "st_ctime_ns": times.st_ctime_ns})

    monkeypatch.setattr(os, "lstat", lstat)
    assert is_only_name(str(tmp_path / "file"), str(tmp_path / "again"))
    assert not is_only_name(str(tmp_path / "file"), str(tmp_path / "other"))


WAYS = ("by its path", "by a link", "by a bind mount", "by a bind mount of a patient")


@pytest.mark.parametrize("way", WAYS)
def test_a_tree_that_is_repacked_onto_itself_keeps_every_file(way: str, tmp_path: Path) -> None:
    bench = Bench(tmp_path)
    for number in range(1, 4):
        bench.publish(f"a{number}", number=number)
    before = contents(bench.data)
    given = bench.data if way == "by its path" else tmp_path / "way"
    with ExitStack() as stack:
        if way == "by a link":
            given.symlink_to(bench.data)
        elif way != "by its path":
            source = bench.data if way == "by a bind mount" else next(bench.data.iterdir())
            stack.enter_context(bound(source, given))
        arguments = [f"--data={bench.data}", f"--log={bench.log}", str(given)]
        assert cli.main(["repack", "--cleanup", *arguments]) == 0
    assert contents(bench.data) == before


def test_what_is_moved_into_the_tree_leaves_its_place(tmp_path: Path) -> None:
    bench = Bench(tmp_path, MOVE)
    path = bench.put()
    assert bench.outcome(path).kind == "published"
    assert not path.exists()
    again = bench.put("again")
    assert bench.outcome(again).kind == "duplicate"
    assert not again.exists()


# -- directories -------------------------------------------------------------------------------------------------------


def test_side_by_side_nothing_overlaps(tmp_path: Path) -> None:
    config = made(tmp_path)
    prepare(config)
    assert not [text for text in about(config, "problem") if "mount or link" in text]


#: Which directory is mounted where, and what is told.
MOUNTED = {
    ("data", "incoming"): "also --incoming",
    ("incoming", "data"): "also --incoming",
    ("log", "state"): "also --log",
    ("data", "log"): "also --data",
    ("data/below", "incoming"): "lies inside --data",
    ("incoming/below", "data"): "lies inside --incoming",
    ("state/below", "log"): "lies inside --state",
}


@pytest.mark.parametrize(("source", "place"), MOUNTED)
def test_one_directory_by_two_mounts_is_refused_by_check_and_start(source: str, place: str, tmp_path: Path) -> None:
    config = make_config(tmp_path)
    (tmp_path / source).mkdir(parents=True)
    with bound(tmp_path / source, tmp_path / place):
        made(tmp_path)
        told = [text for text in about(config, "problem") if "by another mount or link" in text]
        assert len(told) == 1
        assert MOUNTED[source, place] in told[0]
        with pytest.raises(ConfigError, match="by another mount or link"):
            prepare(config)
        if "incoming" not in (source.partition("/")[0], place):
            with pytest.raises(ConfigError, match="by another mount or link"):
                prepare_direct(config.data, config.log, config.state)
        else:
            prepare_direct(config.data, config.log, config.state)


def test_where_a_directory_lies_in_its_file_system(tmp_path: Path) -> None:
    (tmp_path / "a b" / "c").mkdir(parents=True)
    with bound(tmp_path / "a b", tmp_path / "d e") as mounted:
        assert MountTable().location_of(str(mounted / "c")) == MountTable().location_of(str(tmp_path / "a b" / "c"))
        assert MountTable().location_of(str(mounted)) != MountTable().location_of(str(tmp_path))
    assert MountTable().location_of(str(tmp_path / "absent")) is None
