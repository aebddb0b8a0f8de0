"""Giving what is set aside its place: by a link where one works, by a copy across mounts, by a rename where neither
may be.

Links, FIFOs, sockets and devices are never opened: they are linked, or made anew.
"""

from __future__ import annotations

import errno
import os
import stat

from listener.disk import files, sync
from listener.planning.names import short_hash

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
        _, copy = files.Stage(os.path.dirname(target)).copy(file.fileno(), size, hidden)
    try:
        with open(copy, "wb"):
            sync.descriptors([copy])
        os.rename(hidden, target)
    except BaseException:
        files.discard(hidden)
        raise
