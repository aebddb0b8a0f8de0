"""What is done to files: open without danger, copy, write beside and rename, sync. No decision is taken here."""

from __future__ import annotations

import contextlib
import errno
import itertools
import os
from collections.abc import Callable
from contextlib import AbstractContextManager

from listener.disk import locks, sync

#: Regular files only, the last component never a link, never waiting for a FIFO's writer.
_OPEN = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
_CREATE = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC
_NO_LINKS = frozenset({errno.EXDEV, errno.EPERM, errno.ENOTSUP, errno.ENOSYS, errno.EMLINK})
_NAME_MAX = 255


def open_regular(path: str) -> int:
    """A read-only descriptor. Raises OSError (ELOOP for a link)."""
    return os.open(path, _OPEN)


def cut_name(prefix: str, name: str, suffix: str = "") -> str:
    """The name prefix + name + suffix, with `name` cut so that the whole fits a directory entry (255 bytes)."""
    whole = prefix + name + suffix
    if len(whole) <= _NAME_MAX and whole.isascii():
        return whole
    room = _NAME_MAX - len(os.fsencode(prefix + suffix))
    return prefix + os.fsdecode(os.fsencode(name)[:room]) + suffix


def link_or_false(source: str, target: str, mode: int, *, syncs: bool) -> bool:
    """Give `source` a second name, making directories with `mode` as needed; False where links cannot work.

    Raises FileExistsError when the name is taken: a link never overwrites.
    """
    try:
        with_parents(_link, source, target, mode, syncs)
    except _NoLinks:
        return False
    return True


class _NoLinks(Exception):
    """A link cannot work here; other errors, and those of making directories, are no sign of that."""


def _link(source: str, target: str) -> None:
    try:
        os.link(source, target)
    except OSError as error:
        if error.errno in _NO_LINKS:
            raise _NoLinks from None
        raise


def rename(source: str, target: str, mode: int = 0o755, *, syncs: bool) -> None:
    """Rename over whatever is there, making the directories of `target` with `mode` as needed."""
    with_parents(os.rename, source, target, mode, syncs)


def with_parents(operation: Callable[[str, str], None], source: str, target: str, mode: int, syncs: bool) -> None:
    """`operation` on both names, after making the directories of `target` with `mode` where they are missing."""
    # Tried first, looked for afterwards: the directory is there for all but the first instance of a series.
    try:
        operation(source, target)
    except FileNotFoundError:
        os.lstat(source)
        make_directories(os.path.dirname(target), mode, syncs=syncs)
        operation(source, target)


def make_directories(path: str, mode: int, *, syncs: bool) -> None:
    """Like makedirs, but `mode` holds for every directory made, whatever the umask; with `syncs` they survive a power
    cut.
    """
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
    """A staging directory: files are written here, beside where they will be, and renamed when they are whole.

    A crash leaves only temporaries here, which nobody counts and the next start removes.
    """

    def __init__(self, directory: str, prefix: str = "file") -> None:
        self._directory = directory
        self._serial = itertools.count()
        # Two processes, and two stages of one process, may share a directory.
        self._prefix = f"{directory}/{prefix}-{os.getpid():x}-"

    def name(self) -> str:
        """A path that nothing has."""
        return f"{self._prefix}{next(self._serial):x}"

    def create(self, path: str) -> int:
        """A new file at `path` (one that `name` gave), open for writing."""
        try:
            return os.open(path, _CREATE, 0o644)
        except FileNotFoundError:  # Somebody took our directory away.
            os.makedirs(self._directory, mode=0o700, exist_ok=True)
            return os.open(path, _CREATE, 0o644)

    def copy(self, descriptor: int, size: int, path: str = "") -> tuple[str, int]:
        """A copy of the first `size` bytes of an open file, at `path` or a name that nothing has: its path and a
        descriptor to sync and close.
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
        """A new temporary holding `data`: its path and a descriptor to sync and close."""
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
    """Whether a temporary's name was given by a Stage of process `pid`."""
    return f"-{pid:x}-" in name


def write_document(
    staging: StagingDir, path: str, data: bytes, *, syncs: bool, operation: Callable[[str, str], None] = os.rename
) -> None:
    """Write beside, (sync), rename: a reader sees all of it or what was there before. Survives kill and power cut
    alike. `operation` renames; moves.rename_new raises FileExistsError where something is there.
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
    """Hold the lock of `name` below `directory` for a command, which waits for it so many seconds. Raises LockHeld.

    Workers take theirs by `context.locks`.
    """
    return locks.Locks(timeout).locked(directory, name)


def discard(path: str) -> None:
    """Remove a temporary of ours, if it is still there."""
    try:  # noqa: SIM105 - called for each file; contextlib.suppress would cost as much as the call
        os.unlink(path)
    except FileNotFoundError:
        pass
