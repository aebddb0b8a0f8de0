"""Renaming without ever overwriting: for what people's files are moved by, where a name may be taken at any moment."""

from __future__ import annotations

import ctypes
import errno
import os
import secrets
from collections.abc import Callable, Iterator
from functools import cache

from listener.disk.files import cut_name

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
