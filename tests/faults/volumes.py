"""File systems of the test's own: in a file on a loop device, or in memory."""

from __future__ import annotations

import ctypes
import errno
import fcntl
import os
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.waiting import until

#: ext4 and xfs alike: _IOR('X', 125, __u32). NOLOGFLUSH: what the journal does not have yet is lost, as in a power cut.
_SHUTDOWN = 0x8004587D
_NOLOGFLUSH = 2

MAKERS = {"ext4": ("mkfs.ext4", "-q", "-F"), "xfs": ("mkfs.xfs", "-q", "-f")}
SIZES = {"ext4": 128 << 20, "xfs": 320 << 20}


def _do(*command: str) -> None:
    done = subprocess.run(command, capture_output=True, check=False)
    assert not done.returncode, f"{command}: {done.stderr.decode()}"


class Disk:
    """A file system in a file, whose power can be cut."""

    def __init__(self, kind: str, base: Path) -> None:
        self._image = base / f"{kind}.image"
        self.mounted = base / kind
        self.mounted.mkdir()
        self._image.touch()
        os.truncate(self._image, SIZES[kind])
        _do(*MAKERS[kind], str(self._image))

    def mount(self) -> None:
        _do("mount", "-o", "loop", str(self._image), str(self.mounted))

    def cut(self) -> None:
        """From now on nothing reaches the disk, and every call fails with EIO, until it is mounted again."""
        descriptor = os.open(self.mounted, os.O_RDONLY)
        try:
            fcntl.ioctl(descriptor, _SHUTDOWN, bytes(ctypes.c_uint32(_NOLOGFLUSH)))
        finally:
            os.close(descriptor)

    def unmount(self) -> None:
        """Once the last of the killed processes has really ended."""

        def done() -> bool:
            _do("umount", str(self.mounted))
            return True

        until(done, 20)


@contextmanager
def disk(kind: str, base: Path) -> Iterator[Disk]:
    """A fresh file system of this kind, mounted; skips by name where that cannot be."""
    if os.geteuid() != 0:
        pytest.skip("needs root: it mounts a file system")
    if shutil.which(MAKERS[kind][0]) is None:
        pytest.skip(f"{MAKERS[kind][0]} is not installed")
    made = Disk(kind, base)
    try:
        made.mount()
    except AssertionError as error:
        pytest.skip(f"no loop mounts here: {error}")
    try:
        yield made
    finally:
        subprocess.run(["umount", "-l", str(made.mounted)], capture_output=True, check=False)


@contextmanager
def until_full() -> Iterator[None]:
    """Leave the block when there is no space; no other error is expected."""
    try:
        yield
    except OSError as error:
        if error.errno != errno.ENOSPC:
            raise


def fill(directory: Path, leave: int = 0) -> None:
    """Take all the space there is but `leave` bytes; called again it takes what has become free since."""
    descriptor = os.open(directory / ".ballast", os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
    try:
        with until_full():
            while (free := os.statvfs(directory).f_bavail * os.statvfs(directory).f_frsize - leave) > 0:
                os.write(descriptor, b"\0" * free)
    finally:
        os.close(descriptor)
