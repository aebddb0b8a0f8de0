"""Rename, link and copy without ever overwriting."""

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

#: Errors where renameat2 or its flag is not supported (NFS, old FUSE).
_UNKNOWN = frozenset({errno.EINVAL, errno.ENOSYS, errno.ENOTSUP})
_NO_LINKS = frozenset({errno.EPERM, errno.ENOTSUP, errno.ENOSYS, errno.EMLINK})

_TRIES = 100


def rename_new(source: str, target: str) -> None:
    """Rename in one step. Raises FileExistsError when the name is taken, OSError (EXDEV) across mounts.

    Where the kernel has no such call, link and unlink: a crash between the two leaves two names, never none.
    """
    try:
        renameat2(source, target)
    except OSError as error:
        if error.errno not in _UNKNOWN:
            raise
        _link_and_unlink(source, target)


def rename_free(source: str, directory: str, name: str) -> str:
    """Rename into `directory` as `name`, with a suffix if that is taken; return the new path."""
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


def renameat2(source: str, target: str) -> None:
    """Rename without replacing (renameat2(2)). Raises OSError: ENOSYS where the system has no such call."""
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
        # No links either (FAT): checking first is the best that can be done.
        if os.path.lexists(target):
            raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST), target) from None
        os.rename(source, target)
    else:
        os.unlink(source)


_NO_LINK = (errno.EPERM, errno.EMLINK, errno.ENOTSUP, errno.ENOSYS)


#: Prefix of the names of incomplete copies.
COPYING = ".copying"


def _link(source: str, target: str) -> None:
    os.link(source, target, follow_symlinks=False)


def keep_claim(source: str, target: str) -> None:
    """Give a claim a second name (a copy across mounts), so that it stays until the parent has its outcome; rename it
    where the system allows no link (a special file, or another user's).
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
    """Give `source` a second name, or copy it where no link works."""
    try:
        _link(source, target)
    except OSError as error:
        if error.errno not in (errno.EXDEV, *_NO_LINK):
            raise
        copy(source, target)


def copy(source: str, target: str, hidden: str = "") -> None:
    """Copy `source` to a new name and sync it; a link, FIFO or device is made anew.

    Until it is complete, the copy is called `hidden`, or by one fixed name beside the target, so that a crash leaves at
    most one, which the next attempt replaces.
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
