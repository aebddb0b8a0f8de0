"""Whether the directory at a path is still the one of the start."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from listener.disk.identity import DirectoryIdentity
from tests.workbench import need_root, tmpfs


@contextmanager
def bound(source: Path, target: Path) -> Iterator[None]:
    """What lies at `source` is seen at `target` too, as a mount."""
    done = subprocess.run(["mount", "--bind", source, target], capture_output=True, check=False)
    if done.returncode:
        pytest.skip(f"no bind mount here: {done.stderr.decode().strip()}")
    try:
        yield
    finally:
        subprocess.run(["umount", "--lazy", target], check=True)


def test_a_directory_that_is_left_alone_is_there(tmp_path: Path) -> None:
    directory = DirectoryIdentity(str(tmp_path))
    (tmp_path / "file").write_bytes(b"x")
    assert directory.is_there()
    assert directory.is_on_its_volume()


def test_one_that_was_moved_away_or_replaced_is_not(tmp_path: Path) -> None:
    path = tmp_path / "data"
    path.mkdir()
    directory = DirectoryIdentity(str(path))
    path.rename(tmp_path / "away")
    assert not directory.is_there()
    assert not directory.is_on_its_volume()
    path.mkdir()
    assert not directory.is_there()
    assert directory.is_on_its_volume(), "another directory, of the same volume"
    path.rmdir()
    (tmp_path / "away").rename(path)
    assert directory.is_there()


def test_a_volume_that_goes_and_comes(tmp_path: Path) -> None:
    path = tmp_path / "data"
    path.mkdir()
    with tmpfs(tmp_path / "volume") as volume:
        with bound(volume, path):
            directory = DirectoryIdentity(str(path))
            assert directory.is_there()
        assert not directory.is_there()
        assert not directory.is_on_its_volume()
        with bound(volume, path):
            assert directory.is_there()
        with tmpfs(path):
            assert not directory.is_there(), "another file system of the same kind"


def test_a_volume_under_another_device_number_is_known_by_its_file_system(tmp_path: Path) -> None:
    """A loop device, a FUSE or an NFS mount may get another number when it is mounted again."""
    need_root()
    with tmpfs(tmp_path / "volume") as volume:
        directory = DirectoryIdentity(str(volume))
        directory._device += 1  # What a second mount would have given it.
        assert directory.is_there()
        directory._device, directory._inode = directory._device + 1, directory._inode + 1
        assert not directory.is_there()
