"""Forcing to disk: file data, and names in directories. An I/O error here is fatal and never repeated in place."""

from __future__ import annotations

import errno
import os
from collections.abc import Iterable, Iterator
from contextlib import contextmanager

from listener.errors import FatalFault

_DIRECTORY = os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC


def descriptors(opened: Iterable[int]) -> None:
    """Force file data to disk. Raises FatalFault on EIO: the kernel has dropped the pages, so a repetition would
    lie.
    """
    for descriptor in opened:
        with _fatal_io():
            os.fdatasync(descriptor)


def directories(paths: Iterable[str]) -> None:
    """Force names to disk: entries made in these directories survive a power cut."""
    for path in paths:
        descriptor = os.open(path, _DIRECTORY)
        try:
            with _fatal_io():
                os.fsync(descriptor)
        finally:
            os.close(descriptor)


@contextmanager
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
