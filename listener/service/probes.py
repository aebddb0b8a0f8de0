"""Probes of the machine at the start and by `listener check`: leases, free space, the built revision."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterable

from listener.disk import files, leases, mounts
from listener.disk.mounts import is_network


def lease_supported(directories: Iterable[str]) -> bool:
    """Return whether fcntl leases show in all of `directories` that a file is still open for writing. Not on a network
    file system, where they do not cover other machines.
    """
    return all(not is_network(directory) and _try_lease(directory) for directory in directories)


def _try_lease(directory: str) -> bool:
    path = os.path.join(directory, f".{mounts.trial_name()}")
    writer = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    try:
        reader = files.open_regular(path)
        try:
            while_written = leases.probe(reader)
            os.close(writer)
            writer = -1
            return while_written == leases.BUSY and leases.probe(reader) == leases.FREE
        finally:
            os.close(reader)
    finally:
        if writer >= 0:
            os.close(writer)
        with contextlib.suppress(FileNotFoundError):
            os.unlink(path)


def least_free(paths: Iterable[str]) -> int:
    """Return the free bytes of the fullest volume of `paths`; a path that is gone counts as full."""
    free = []
    for path in paths:
        try:
            found = os.statvfs(path)
        except OSError:
            return 0
        free.append(found.f_bavail * found.f_frsize)
    return min(free, default=0)


def revision() -> str:
    """Return the source revision of the image or package (LISTENER_REVISION, set by the build); "" if unknown."""
    return os.environ.get("LISTENER_REVISION", "")
