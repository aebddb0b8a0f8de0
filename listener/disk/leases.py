"""Leases: find out whether a file is open for writing, and keep writers out while the lease is held."""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os

from listener.disk import files, mounts

FREE, BUSY, UNKNOWN = "free", "busy", "unknown"


def take(descriptor: int) -> str:
    """Take a read lease. Return FREE when it is held now, BUSY while the file is open for writing, UNKNOWN where the
    kernel cannot tell.

    The kernel refuses one (EAGAIN) while any descriptor is open for writing. Until it is released or the descriptor
    closed, an open for writing waits. Needs the file's owner or CAP_LEASE, a local file system, and SIGIO ignored
    (fcntl(2), F_SETLEASE).
    """
    try:
        fcntl.fcntl(descriptor, fcntl.F_SETLEASE, fcntl.F_RDLCK)
    except OSError as error:
        return BUSY if error.errno == errno.EAGAIN else UNKNOWN
    return FREE


def holds(descriptor: int) -> bool:
    """Return whether the lease is held and no writer waits for it: the file has not changed since it was taken."""
    return fcntl.fcntl(descriptor, fcntl.F_GETLEASE) == fcntl.F_RDLCK


def release(descriptor: int) -> None:
    """Release a lease; a waiting writer continues."""
    fcntl.fcntl(descriptor, fcntl.F_SETLEASE, fcntl.F_UNLCK)


def probe(descriptor: int) -> str:
    """Take a lease and release it at once; return as take does."""
    state = take(descriptor)
    if state == FREE:
        release(descriptor)
    return state


def work_in(directory: str) -> bool:
    """Return whether leases show in `directory`, by a trial file, that a file is still open for writing."""
    path = os.path.join(directory, f".{mounts.trial_name()}")
    writer = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    try:
        reader = files.open_regular(path)
        try:
            while_written = probe(reader)
            os.close(writer)
            writer = -1
            return while_written == BUSY and probe(reader) == FREE
        finally:
            os.close(reader)
    finally:
        if writer >= 0:
            os.close(writer)
        with contextlib.suppress(FileNotFoundError):
            os.unlink(path)
