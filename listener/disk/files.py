"""File operations: open safely, copy, write to a temporary and rename. No policy here."""

from __future__ import annotations

import contextlib
import errno
import itertools
import os
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager

from listener.disk import locks, sync

#: Never follow a link as the last component, never wait for a FIFO's writer.
_OPEN = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
_CREATE = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC
_NO_LINKS = frozenset({errno.EXDEV, errno.EPERM, errno.ENOTSUP, errno.ENOSYS, errno.EMLINK})
_NAME_MAX = 255


def open_regular(path: str) -> int:
    """Open a file read-only and return its descriptor. Raises OSError (ELOOP for a link)."""
    return os.open(path, _OPEN)


@contextlib.contextmanager
def opened(path: str) -> Iterator[int]:
    """Open as open_regular does, and close at the end."""
    descriptor = open_regular(path)
    try:
        yield descriptor
    finally:
        os.close(descriptor)


def cut_name(prefix: str, name: str, suffix: str = "") -> str:
    """Return prefix + name + suffix, with `name` cut so that the whole fits a directory entry (255 bytes)."""
    whole = prefix + name + suffix
    if len(whole) <= _NAME_MAX and whole.isascii():
        return whole
    length = _NAME_MAX - len(os.fsencode(prefix + suffix))
    return prefix + os.fsdecode(os.fsencode(name)[:length]) + suffix


def link_or_false(source: str, target: str, mode: int, *, syncs: bool) -> bool:
    """Hard link `source` as `target`, making directories with `mode` as needed; return False where links cannot work.

    Raises FileExistsError when the name is taken: a link never overwrites.
    """
    try:
        with_parents(_link, source, target, mode, syncs)
    except _NoLinks:
        return False
    return True


class _NoLinks(Exception):
    """Links cannot work here. Other errors, and those of making directories, do not mean that."""


def _link(source: str, target: str) -> None:
    try:
        os.link(source, target)
    except OSError as error:
        if error.errno in _NO_LINKS:
            raise _NoLinks from None
        raise


def rename(source: str, target: str, mode: int = 0o755, *, syncs: bool) -> None:
    """Rename, replacing `target`, and make its directories with `mode` as needed."""
    with_parents(os.rename, source, target, mode, syncs)


def with_parents(operation: Callable[[str, str], None], source: str, target: str, mode: int, syncs: bool) -> None:
    """Call `operation(source, target)`, making the directories of `target` with `mode` if they are missing."""
    # Try first: the directory exists for all but the first instance of a series.
    try:
        operation(source, target)
    except FileNotFoundError:
        os.lstat(source)
        make_directories(os.path.dirname(target), mode, syncs=syncs)
        operation(source, target)


def make_directories(path: str, mode: int, *, syncs: bool) -> None:
    """Make directories as makedirs does, each with `mode` whatever the umask; with `syncs` they survive a power cut."""
    if os.path.isdir(path):
        return
    parent = os.path.dirname(path)
    make_directories(parent, mode, syncs=syncs)
    with contextlib.suppress(FileExistsError):
        os.mkdir(path)
        os.chmod(path, mode)
        if syncs:
            sync.directories([parent])


def _send(source: int, target: int, size: int) -> None:
    done = 0
    while done < size:
        count = os.sendfile(target, source, done, size - done)
        if not count:
            return
        done += count


class StagingDir:
    """A directory of temporaries, which are written here and renamed to their place when they are complete.

    After a crash the next start removes them.
    """

    def __init__(self, directory: str, prefix: str = "file") -> None:
        self._directory = directory
        self.serial = itertools.count()
        # Two processes, and two StagingDirs of one process, may share a directory.
        self._prefix = f"{directory}/{prefix}-{os.getpid():x}-"

    def name(self) -> str:
        """Return an unused path."""
        return f"{self._prefix}{next(self.serial):x}"

    def create(self, path: str) -> int:
        """Create a file at `path` (from `name`) and return its descriptor, open for writing."""
        try:
            return os.open(path, _CREATE, 0o644)
        except FileNotFoundError:  # The directory was removed meanwhile.
            os.makedirs(self._directory, mode=0o700, exist_ok=True)
            return os.open(path, _CREATE, 0o644)

    def copy(self, descriptor: int, size: int, path: str = "") -> tuple[str, int]:
        """Copy the first `size` bytes of an open file to `path`, or an unused name. Return its path and a descriptor to
        sync and close.
        """
        path = path or self.name()
        copy = self.create(path)
        try:
            _send(descriptor, copy, size)
        except BaseException:
            os.close(copy)
            os.unlink(path)
            raise
        return path, copy

    def write(self, data: bytes) -> tuple[str, int]:
        """Write `data` to a new temporary. Return its path and a descriptor to sync and close."""
        path = self.name()
        descriptor = self.create(path)
        try:
            view = memoryview(data)
            while view:
                view = view[os.write(descriptor, view) :]
        except BaseException:
            os.close(descriptor)
            os.unlink(path)
            raise
        return path, descriptor


def made_by(name: str, pid: int) -> bool:
    """Return whether a temporary's name was given by a StagingDir of process `pid`."""
    return f"-{pid:x}-" in name


def write_document(
    staging: StagingDir, path: str, data: bytes, *, syncs: bool, operation: Callable[[str, str], None] = os.rename
) -> None:
    """Write a temporary, sync it if `syncs`, rename it: readers see the whole new document or what was there before,
    after a kill or power cut too. `operation` renames; moves.rename_new raises FileExistsError where the name is taken.
    """
    temporary, descriptor = staging.write(data)
    try:
        try:
            if syncs:
                sync.descriptors([descriptor])
        finally:
            os.close(descriptor)
        with_parents(operation, temporary, path, 0o755, syncs)
        if syncs:
            sync.directories([os.path.dirname(path)])
    except BaseException:
        discard(temporary)
        raise


def locked(directory: str, name: str, timeout: float = locks.COMMAND_SECONDS) -> AbstractContextManager[int]:
    """Hold the lock of `name` below `directory` for a command, waiting `timeout` seconds. Raises LockHeld.

    Workers use `context.locks` instead.
    """
    return locks.Locks(timeout).locked(directory, name)


def discard(path: str) -> None:
    """Remove a temporary, if it is still there."""
    try:  # noqa: SIM105 - called for each file; contextlib.suppress would cost as much as the call
        os.unlink(path)
    except FileNotFoundError:
        pass
