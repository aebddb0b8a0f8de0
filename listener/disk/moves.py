"""Renaming, linking and copying without ever overwriting."""

from __future__ import annotations

import ctypes
import errno
import os
import secrets
import stat
from collections.abc import Callable, Iterator
from functools import cache

from listener.disk import files, sync
from listener.disk.files import cut_name
from listener.planning.names import short_hash

_AT_FDCWD = -100
_NOREPLACE = 1

#: What a kernel or file system says that does not know renameat2's flag (NFS, old FUSE), or has no such call.
_UNKNOWN = frozenset({errno.EINVAL, errno.ENOSYS, errno.ENOTSUP})
_NO_LINKS = frozenset({errno.EPERM, errno.ENOTSUP, errno.ENOSYS, errno.EMLINK})

_TRIES = 100


def rename_new(source: str, target: str) -> None:
    """Rename in one step; FileExistsError when the name is taken, EXDEV across mounts.

    Where the kernel cannot do that in one step, link and unlink: a crash in between leaves two names, never none.
    """
    try:
        _renameat2(source, target)
    except OSError as error:
        if error.errno not in _UNKNOWN:
            raise
        _link_and_unlink(source, target)


def rename_free(source: str, directory: str, name: str) -> str:
    """Rename into `directory` as `name`, or with a suffix when that is taken; where it lies now."""
    for candidate in _candidates(name):
        target = os.path.join(directory, candidate)
        try:
            rename_new(source, target)
        except FileExistsError:
            continue
        return target
    raise FileExistsError(errno.EEXIST, "no free name", directory)


def _candidates(name: str) -> Iterator[str]:
    yield name
    for _ in range(_TRIES):
        yield cut_name("", name, f"-{secrets.token_hex(4)}")


@cache
def _function() -> Callable[..., int] | None:
    return getattr(ctypes.CDLL(None, use_errno=True), "renameat2", None)


def _renameat2(source: str, target: str) -> None:
    function = _function()
    if function is None:
        raise OSError(errno.ENOSYS, os.strerror(errno.ENOSYS))
    if function(_AT_FDCWD, os.fsencode(source), _AT_FDCWD, os.fsencode(target), _NOREPLACE):
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number), source, None, target)


def _link_and_unlink(source: str, target: str) -> None:
    try:
        os.link(source, target, follow_symlinks=False)
    except OSError as error:
        if error.errno not in _NO_LINKS:
            raise
        # No links either (FAT and its like): look first. Nothing better can be done there.
        if os.path.lexists(target):
            raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST), target) from None
        os.rename(source, target)
    else:
        os.unlink(source)


_NO_LINK = (errno.EPERM, errno.EMLINK, errno.ENOTSUP, errno.ENOSYS)


#: How names of copies begin that are not whole yet.
COPYING = ".copying"


def _link(source: str, target: str) -> None:
    os.link(source, target, follow_symlinks=False)


def keep_claim(source: str, target: str) -> None:
    """A second name (a copy across mounts), so that the claim stays until the parent has heard of it; a rename where
    the system wants no link of it (a special file, or somebody else's).
    """
    try:
        _link(source, target)
    except OSError as error:
        if error.errno == errno.EXDEV:
            copy(source, target)
        elif error.errno in _NO_LINK:
            os.rename(source, target)
        else:
            raise


def link_or_copy(source: str, target: str) -> None:
    """A second name, or a copy where no link works; the source stays."""
    try:
        _link(source, target)
    except OSError as error:
        if error.errno not in (errno.EXDEV, *_NO_LINK):
            raise
        copy(source, target)


def copy(source: str, target: str, hidden: str = "") -> None:
    """Copy whatever `source` is to a new name, on disk when it is there; a link, FIFO or device is made anew.

    A copy that is not whole has the name `hidden`, or one beside the target that is the same each time, so that a
    crash leaves only one, and the next try none.
    """
    status = os.lstat(source)
    if stat.S_ISLNK(status.st_mode):
        os.symlink(os.readlink(source), target)
    elif not stat.S_ISREG(status.st_mode):
        os.mknod(target, status.st_mode, status.st_rdev)
    else:
        directory, name = os.path.split(target)
        _copy_regular(source, target, status.st_size, hidden or f"{directory}/{COPYING}-{short_hash(name)}")


def _copy_regular(source: str, target: str, size: int, hidden: str) -> None:
    files.discard(hidden)
    with open(files.open_regular(source), "rb") as file:
        _, copy = files.StagingDir(os.path.dirname(target)).copy(file.fileno(), size, hidden)
    try:
        with open(copy, "wb"):
            sync.descriptors([copy])
        os.rename(hidden, target)
    except BaseException:
        files.discard(hidden)
        raise
