"""What is done to files, on real ones: leases against a real writer, links, renames, copies, locks, syncs."""

from __future__ import annotations

import errno
import os
import threading
from contextlib import suppress
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from listener.disk import files, json_file, sync
from listener.errors import FatalFault
from tests.holders import opened
from tests.waiting import until
from tests.workbench import tmpfs

# -- open ------------------------------------------------------------------------------------------------------------


def test_a_link_is_not_opened_and_a_fifo_does_not_hang(tmp_path: Path) -> None:
    (tmp_path / "a").touch()
    (tmp_path / "link").symlink_to("a")
    os.mkfifo(tmp_path / "fifo")
    with pytest.raises(OSError) as caught:
        files.open_regular(str(tmp_path / "link"))
    assert caught.value.errno == errno.ELOOP
    with opened(tmp_path / "fifo"):
        pass


# -- names ------------------------------------------------------------------------------------------------------------


@given(
    prefix=st.text("abc.", max_size=40),
    name=st.binary(min_size=1, max_size=400).map(lambda raw: os.fsdecode(raw.replace(b"\0", b""))),
    suffix=st.sampled_from(["", ".json"]),
)
def test_a_cut_name_fits_a_directory_entry(prefix: str, name: str, suffix: str) -> None:
    cut = files.cut_name(prefix, name, suffix)
    assert len(os.fsencode(cut)) <= 255
    assert cut.startswith(prefix)
    assert cut.endswith(suffix)
    if len(os.fsencode(prefix + name + suffix)) <= 255:
        assert cut == prefix + name + suffix


# -- link and rename --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("syncs", [False, True])
def test_a_link_makes_directories_and_never_overwrites(tmp_path: Path, syncs: bool) -> None:
    (tmp_path / "a").write_bytes(b"a")
    (tmp_path / "b").write_bytes(b"b")
    target = tmp_path / "x/y/z"
    assert files.link_or_false(str(tmp_path / "a"), str(target), 0o2750, syncs=syncs)
    assert target.samefile(tmp_path / "a")
    assert [path.stat().st_mode & 0o7777 for path in (tmp_path / "x", tmp_path / "x/y")] == [0o2750] * 2
    with pytest.raises(FileExistsError):
        files.link_or_false(str(tmp_path / "b"), str(target), 0o755, syncs=syncs)
    with pytest.raises(FileNotFoundError):
        files.link_or_false(str(tmp_path / "absent"), str(tmp_path / "n/m"), 0o755, syncs=syncs)
    assert not (tmp_path / "n").exists()


def test_a_link_to_another_file_system_cannot_be(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(b"a")
    with tmpfs(tmp_path / "mount"):
        assert not files.link_or_false(str(tmp_path / "a"), str(tmp_path / "mount/a"), 0o755, syncs=False)


def test_directories_have_their_mode_whatever_the_umask(tmp_path: Path) -> None:
    before = os.umask(0o077)
    try:
        files.make_directories(str(tmp_path / "a/b"), 0o775, syncs=False)
        files.make_directories(str(tmp_path / "a/b"), 0o700, syncs=False)
    finally:
        os.umask(before)
    assert (tmp_path / "a").stat().st_mode & 0o777 == (tmp_path / "a/b").stat().st_mode & 0o777 == 0o775


def test_many_may_make_one_directory_at_once(tmp_path: Path) -> None:
    problems: list[OSError] = []

    def make() -> None:
        try:
            for number in range(50):
                files.make_directories(str(tmp_path / f"{number}/x/y"), 0o755, syncs=False)
        except OSError as error:
            problems.append(error)

    threads = [threading.Thread(target=make) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert problems == []


def test_a_rename_replaces_what_is_there(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(b"new")
    (tmp_path / "d").mkdir()
    (tmp_path / "d/b").write_bytes(b"old")
    files.rename(str(tmp_path / "a"), str(tmp_path / "d/b"), syncs=False)
    files.rename(str(tmp_path / "d/b"), str(tmp_path / "e/f/b"), syncs=True)
    assert (tmp_path / "e/f/b").read_bytes() == b"new"


# -- write beside -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("data", [b"", b"x", b"y" * 3_000_000])
@pytest.mark.parametrize("syncs", [False, True])
def test_a_document_is_there_whole_or_not_at_all(tmp_path: Path, data: bytes, syncs: bool) -> None:
    stage = files.StagingDir(str(tmp_path / "staging"))
    target = tmp_path / "log/deep/d.json"
    for _ in range(2):
        files.write_document(stage, str(target), data, syncs=syncs)
    assert target.read_bytes() == data
    assert os.listdir(tmp_path / "staging") == []


def test_a_document_that_cannot_be_placed_leaves_nothing_behind(tmp_path: Path) -> None:
    (tmp_path / "staging").mkdir()
    (tmp_path / "d.json/below").mkdir(parents=True)
    stage = files.StagingDir(str(tmp_path / "staging"))
    before = set(os.listdir("/proc/self/fd"))
    with pytest.raises(OSError):
        files.write_document(stage, str(tmp_path / "d.json"), b"x", syncs=False)
    assert os.listdir(tmp_path / "staging") == []
    assert set(os.listdir("/proc/self/fd")) == before


def test_a_full_disk_leaves_no_temporary(tmp_path: Path) -> None:
    with tmpfs(tmp_path / "small", "64k") as small:
        stage = files.StagingDir(str(small))
        with pytest.raises(OSError) as caught:
            stage.write(b"x" * 2**20)
        assert caught.value.errno == errno.ENOSPC
        with (tmp_path / "big").open("wb") as file:
            file.write(b"x" * 2**20)
        with opened(tmp_path / "big") as descriptor, pytest.raises(OSError):
            stage.copy(descriptor, 2**20)
        assert os.listdir(small) == []


@pytest.mark.parametrize("size", [0, 1, 2**20 + 1, 5_000_000])
def test_a_copy_has_the_first_bytes(tmp_path: Path, size: int) -> None:
    data = os.urandom(2**20) * 5
    (tmp_path / "a").write_bytes(data)
    with opened(tmp_path / "a") as descriptor:
        path, copy = files.StagingDir(str(tmp_path)).copy(descriptor, size)
        os.close(copy)
    assert Path(path).read_bytes() == data[:size]


def test_names_of_temporaries_are_all_different(tmp_path: Path) -> None:
    one, other = files.StagingDir(str(tmp_path)), files.StagingDir(str(tmp_path), ".")
    names = [stage.name() for stage in (one, other) for _ in range(10)]
    assert len(set(names)) == 20


# -- locks ------------------------------------------------------------------------------------------------------------


def test_one_at_a_time_holds_a_lock(tmp_path: Path) -> None:
    steps: list[str] = []

    def wait() -> None:
        with files.locked(str(tmp_path), "a"):
            steps.append("second")

    thread = threading.Thread(target=wait)
    with files.locked(str(tmp_path), "a"):
        thread.start()
        with files.locked(str(tmp_path), "b"):
            pass  # Another name is another lock.
        until(lambda: _opened(tmp_path / "a") == 2 and thread.is_alive(), what="the second waits")
        steps.append("first")
    thread.join()
    assert steps == ["first", "second"]


def _opened(path: Path) -> int:
    """How often this process has a file open."""
    found = []
    for number in os.listdir("/proc/self/fd"):
        with suppress(OSError):
            found.append(os.readlink(f"/proc/self/fd/{number}"))
    return found.count(str(path))


def test_a_lock_ends_with_an_exception(tmp_path: Path) -> None:
    with pytest.raises(RuntimeError), files.locked(str(tmp_path), "a"):
        raise RuntimeError
    with files.locked(str(tmp_path), "a"):
        pass


# -- read back --------------------------------------------------------------------------------------------------------


def test_what_is_no_document_reads_as_none_and_keeps_no_descriptor(tmp_path: Path) -> None:
    (tmp_path / "list").write_text("[1]")
    (tmp_path / "garbage").write_bytes(b"{\xff")
    (tmp_path / "cut").write_text('{"a": ')
    (tmp_path / "empty").touch()
    (tmp_path / "directory").mkdir()
    (tmp_path / "fine").write_text('{"a": 1}')
    (tmp_path / "link").symlink_to("fine")
    os.mkfifo(tmp_path / "fifo")
    before = set(os.listdir("/proc/self/fd"))
    for name in ("list", "garbage", "cut", "empty", "directory", "link", "fifo", "absent"):
        assert json_file.load(str(tmp_path / name)) is None, name
    assert json_file.load(str(tmp_path / "fine")) == {"a": 1}
    assert set(os.listdir("/proc/self/fd")) == before


def test_discarding_twice_is_no_error(tmp_path: Path) -> None:
    (tmp_path / "a").touch()
    for _ in range(2):
        files.discard(str(tmp_path / "a"))
    assert os.listdir(tmp_path) == []


# -- sync -------------------------------------------------------------------------------------------------------------


def test_data_and_names_are_forced_to_disk(tmp_path: Path) -> None:
    with (tmp_path / "a").open("wb") as file:
        file.write(b"x")
        file.flush()
        sync.descriptors([file.fileno()])
    sync.directories([str(tmp_path), str(tmp_path)])


def test_what_cannot_be_synced_at_all_is_no_error() -> None:
    reader, writer = os.pipe()
    sync.descriptors([reader])
    for descriptor in (reader, writer):
        os.close(descriptor)


def test_an_io_error_of_a_sync_is_fatal_and_others_are_the_system_s(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """EIO: the kernel has dropped the pages, a second sync would lie. A fake: no disk breaks on demand."""

    def broken(number: int) -> None:
        def refuse(descriptor: int) -> None:
            raise OSError(number, os.strerror(number))

        monkeypatch.setattr(os, "fdatasync", refuse)
        monkeypatch.setattr(os, "fsync", refuse)

    broken(errno.EIO)
    with pytest.raises(FatalFault, match="EIO"):
        sync.descriptors([0])
    with pytest.raises(FatalFault, match="EIO"):
        sync.directories([str(tmp_path)])
    broken(errno.ENOSPC)
    with pytest.raises(OSError) as caught:
        sync.descriptors([0])
    assert caught.value.errno == errno.ENOSPC
    assert len(os.listdir("/proc/self/fd")) < 100
