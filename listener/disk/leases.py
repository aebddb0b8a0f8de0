"""Leases: who writes to a file? Held, one keeps everybody from opening it to write."""

from __future__ import annotations

import errno
import fcntl

FREE, BUSY, UNKNOWN = "free", "busy", "unknown"


def take(descriptor: int) -> str:
    """FREE when nobody has the file open for writing, BUSY when somebody has, UNKNOWN where the kernel cannot say.

    A read lease is refused (EAGAIN) while any descriptor is open for writing. Where it is FREE it is now held, until it
    is given back or the descriptor closed: who opens the file for writing waits that long. Needs the file's owner or
    CAP_LEASE, a local file system, and SIGIO ignored (fcntl(2), F_SETLEASE).
    """
    try:
        fcntl.fcntl(descriptor, fcntl.F_SETLEASE, fcntl.F_RDLCK)
    except OSError as error:
        return BUSY if error.errno == errno.EAGAIN else UNKNOWN
    return FREE


def holds(descriptor: int) -> bool:
    """Whether a lease that was taken is held and nobody waits for it: then the file has not changed since."""
    return fcntl.fcntl(descriptor, fcntl.F_GETLEASE) == fcntl.F_RDLCK


def release(descriptor: int) -> None:
    """Whoever waits to write may go on."""
    fcntl.fcntl(descriptor, fcntl.F_SETLEASE, fcntl.F_UNLCK)


def probe(descriptor: int) -> str:
    """As take, but given back at once."""
    state = take(descriptor)
    if state == FREE:
        release(descriptor)
    return state
