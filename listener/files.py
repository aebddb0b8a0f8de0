"""What is done to files: open without danger, ask who writes, copy, write beside and rename, sync. No decision is
taken here.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import itertools
import os
from collections.abc import Iterable, Iterator

from listener.errors import FatalFault

#: Regular files only, the last component never a link, never waiting for a FIFO's writer.
_OPEN = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
_CREATE = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC
_DIRECTORY = os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC
_NO_LINKS = frozenset({errno.EXDEV, errno.EPERM, errno.ENOTSUP, errno.ENOSYS, errno.EMLINK})
_NAME_MAX = 255

FREE, BUSY, UNKNOWN = "free", "busy", "unknown"


def open_regular(path: str) -> int:
    """A read-only descriptor. Raises OSError (ELOOP for a link)."""
    return os.open(path, _OPEN)


def lease(descriptor: int) -> str:
    """FREE when nobody has the file open for writing, BUSY when somebody has, UNKNOWN where the kernel cannot say.

    A read lease is refused (EAGAIN) while any descriptor is open for writing; it is given back at once. Needs the
    file's owner or CAP_LEASE, and a local file system (fcntl(2), F_SETLEASE).
    """
    try:
        fcntl.fcntl(descriptor, fcntl.F_SETLEASE, fcntl.F_RDLCK)
    except OSError as error:
        return BUSY if error.errno == errno.EAGAIN else UNKNOWN
    fcntl.fcntl(descriptor, fcntl.F_SETLEASE, fcntl.F_UNLCK)
    return FREE


def cut_name(prefix: str, name: str, suffix: str = "") -> str:
    """The name prefix + name + suffix, with `name` cut so that the whole fits a directory entry (255 bytes)."""
    whole = prefix + name + suffix
    if len(whole) <= _NAME_MAX and whole.isascii():
        return whole
    room = _NAME_MAX - len(os.fsencode(prefix + suffix))
    return prefix + os.fsdecode(os.fsencode(name)[:room]) + suffix


def link_or_false(source: str, target: str, mode: int) -> bool:
    """Give `source` a second name, making directories with `mode` as needed; False where links cannot work.

    Raises FileExistsError when the name is taken: a link never overwrites.
    """
    try:
        _with_parents(os.link, source, target, mode)
    except OSError as error:
        if error.errno in _NO_LINKS:
            return False
        raise
    return True


def rename(source: str, target: str, mode: int = 0o755) -> None:
    """Rename over whatever is there, making the directories of `target` with `mode` as needed."""
    _with_parents(os.rename, source, target, mode)


def _with_parents(operation: object, source: str, target: str, mode: int) -> None:
    # Tried first, looked for afterwards: the directory is there for all but the first instance of a series.
    try:
        operation(source, target)  # type: ignore[operator]
    except FileNotFoundError:
        os.lstat(source)
        make_directories(os.path.dirname(target), mode)
        operation(source, target)  # type: ignore[operator]


def make_directories(path: str, mode: int) -> None:
    """Like makedirs, but `mode` holds for every directory made, whatever the umask."""
    if os.path.isdir(path):
        return
    make_directories(os.path.dirname(path), mode)
    with contextlib.suppress(FileExistsError):
        os.mkdir(path)
        os.chmod(path, mode)


def copy_to(descriptor: int, target: str, size: int) -> int:
    """Copy the first `size` bytes of an open file into a new file; a descriptor of the copy, open for writing (sync
    it).
    """
    copy = os.open(target, _CREATE, 0o644)
    try:
        done = 0
        while done < size:
            count = os.sendfile(copy, descriptor, done, size - done)
            if not count:
                break
            done += count
    except BaseException:
        os.close(copy)
        os.unlink(target)
        raise
    return copy


class Stage:
    """A staging directory: files are written here, beside where they will be, and renamed when they are whole.

    A crash leaves only temporaries here, which nobody counts and the next start removes.
    """

    def __init__(self, directory: str, prefix: str = "") -> None:
        self._serial = itertools.count()
        self._prefix = f"{directory}/{prefix}{os.getpid():x}-"

    def name(self) -> str:
        """A path that nothing has."""
        return f"{self._prefix}{next(self._serial):x}"

    def write(self, data: bytes) -> tuple[str, int]:
        """A new temporary holding `data`: its path and a descriptor to sync and close."""
        path = self.name()
        descriptor = os.open(path, _CREATE, 0o644)
        try:
            view = memoryview(data)
            while view:
                view = view[os.write(descriptor, view) :]
        except BaseException:
            os.close(descriptor)
            os.unlink(path)
            raise
        return path, descriptor


def write_document(stage: Stage, path: str, data: bytes, syncs: bool) -> None:
    """Write beside, (sync), rename: a reader sees all of it or what was there before. Survives kill and power cut
    alike.
    """
    temporary, descriptor = stage.write(data)
    try:
        try:
            if syncs:
                sync_descriptors([descriptor])
        finally:
            os.close(descriptor)
        rename(temporary, path)
    except BaseException:
        discard(temporary)
        raise


def sync_descriptors(descriptors: Iterable[int]) -> None:
    """Force file data to disk. Raises FatalFault on EIO: the kernel has dropped the pages, so a repetition would
    lie.
    """
    for descriptor in descriptors:
        with _fatal_io():
            os.fdatasync(descriptor)


def sync_directories(paths: Iterable[str]) -> None:
    """Force names to disk: entries made in these directories survive a power cut."""
    for path in paths:
        descriptor = os.open(path, _DIRECTORY)
        try:
            with _fatal_io():
                os.fsync(descriptor)
        finally:
            os.close(descriptor)


@contextlib.contextmanager
def _fatal_io() -> Iterator[None]:
    try:
        yield
    except OSError as error:
        if error.errno == errno.EIO:
            raise FatalFault(
                "a sync failed (EIO); what was not yet released waits as a claim for the next start"
            ) from error
        # A descriptor that cannot be synced at all (some FUSE): the kernel says so, nothing was lost.
        if error.errno not in (errno.EINVAL, errno.ENOTSUP, errno.ENOSYS):
            raise


@contextlib.contextmanager
def locked(directory: str, name: str) -> Iterator[None]:
    """Hold the flock of `name` below `directory`: read-modify-write of a shared document, and settling a conflict."""
    descriptor = os.open(f"{directory}/{name}", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)


def discard(path: str) -> None:
    """Remove a temporary of ours, if it is still there."""
    with contextlib.suppress(FileNotFoundError):
        os.unlink(path)
