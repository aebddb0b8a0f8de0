"""The lock on an incoming directory: flock on the directory itself, which needs no file there, and on a network file
system also on `.listener/owner` in it, which other machines see.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import time

from listener.disk.mounts import is_network, make_private
from listener.errors import OwnedElsewhere
from listener.planning.names import OWN

_NO_DIRECTORY_LOCKS = (errno.EBADF, errno.ENOLCK, errno.EOPNOTSUPP)

#: How long a start waits until the workers of a killed service have ended, in seconds.
PATIENCE = 2.0


class IncomingLock:
    """Holds the locks until close(). Raises OwnedElsewhere if another listener does after `patience` seconds.

    Workers inherit `descriptors`, so the lock outlives a killed parent. `makes`: create a missing lock file; a mere
    check must not. `shared`: with others that share it, as the parts of a backfill do; they may only read incoming.
    """

    def __init__(
        self, roots: tuple[str, ...], patience: float = PATIENCE, *, makes: bool = True, shared: bool = False
    ) -> None:
        self._roots = roots
        self._operation = (fcntl.LOCK_SH if shared else fcntl.LOCK_EX) | fcntl.LOCK_NB
        self._flags = os.O_RDWR | os.O_CLOEXEC | (os.O_CREAT if makes else 0)
        self.descriptors: list[int] = []
        try:
            for root in roots:
                self._lock(root, time.monotonic() + patience)
        except BaseException:
            self.close()
            raise

    def renew(self) -> None:
        """Lock the directories now at these paths (a replaced one has a new inode); locks already held are kept. Raises
        OwnedElsewhere.
        """
        held = {(status.st_dev, status.st_ino) for status in map(os.fstat, self.descriptors)}
        for root in self._roots:
            with contextlib.suppress(FileNotFoundError):
                status = os.stat(root)
                if (status.st_dev, status.st_ino) not in held:
                    self._lock(root, time.monotonic())

    def _lock(self, root: str, end: float) -> None:
        descriptor = os.open(root, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        self.descriptors.append(descriptor)
        while True:
            with contextlib.suppress(BlockingIOError):
                self._try(descriptor, root)
                return
            if time.monotonic() >= end:
                raise OwnedElsewhere(f"'{root}'; stop the other one, or give this one another --incoming")
            time.sleep(0.02)

    def _try(self, descriptor: int, root: str) -> None:
        """Lock without waiting. Raises BlockingIOError if another process holds the lock."""
        network = is_network(root)
        try:
            fcntl.flock(descriptor, self._operation)
        except OSError as error:
            if error.errno not in _NO_DIRECTORY_LOCKS:
                raise
            # Network file systems lock only files that are open for writing.
            network = True
        if network and os.access(root, os.W_OK):  # Other machines do not see the lock of a directory.
            self._lock_file(owner_file(root))

    def _lock_file(self, path: str) -> None:
        if self._flags & os.O_CREAT:
            make_private(os.path.dirname(path))
        elif not os.path.lexists(path):
            return  # No machine has ever locked it.
        descriptor = os.open(path, self._flags, 0o600)
        try:
            fcntl.flock(descriptor, self._operation)
        except BaseException:
            os.close(descriptor)
            raise
        self.descriptors.append(descriptor)

    def close(self) -> None:
        """Release the locks."""
        for descriptor in self.descriptors:
            os.close(descriptor)
        self.descriptors = []


def owner_file(root: str) -> str:
    """Return the path of the lock file for an incoming directory that other machines may mount."""
    return os.path.join(root, OWN, "owner")


def is_owned(root: str) -> bool:
    """Return whether a listener holds the lock on this directory now; False if there is no such directory."""
    try:
        IncomingLock((root,), patience=0, makes=False).close()
    except OwnedElsewhere:
        return True
    except OSError:
        pass
    return False
