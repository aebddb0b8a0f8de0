"""One owner an incoming directory: a flock on the directory itself, so that no file of ours lies there; on a network
file system on a file in it too, `.listener/owner`, for the other machines.
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

#: How long a start waits for the workers of a killed predecessor to end, in seconds.
PATIENCE = 2.0


class IncomingLock:
    """Holds the locks until close(); `descriptors` are passed on to workers, so that the lock outlives a killed
    parent. `makes` says whether a lock file that is missing is made; who only asks makes none.
    """

    def __init__(self, roots: tuple[str, ...], patience: float = PATIENCE, *, makes: bool = True) -> None:
        self._roots = roots
        self._flags = os.O_RDWR | os.O_CLOEXEC | (os.O_CREAT if makes else 0)
        self.descriptors: list[int] = []
        try:
            for root in roots:
                self._lock(root, time.monotonic() + patience)
        except BaseException:
            self.close()
            raise

    def renew(self) -> None:
        """Own what lies at the paths now: a directory that was replaced or mounted over is another one. The old ones
        stay ours. Raises OwnedElsewhere.
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
        """Raises BlockingIOError where another one has it."""
        network = is_network(root)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            if error.errno not in _NO_DIRECTORY_LOCKS:
                raise
            # Network file systems lock only what is open for writing.
            network = True
        if network:  # The lock of a directory is not seen by other machines: a file of ours, then.
            self._lock_file(owner_file(root))

    def _lock_file(self, path: str) -> None:
        if self._flags & os.O_CREAT:
            make_private(os.path.dirname(path))
        elif not os.path.lexists(path):
            return  # No machine has ever owned it.
        descriptor = os.open(path, self._flags, 0o600)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BaseException:
            os.close(descriptor)
            raise
        self.descriptors.append(descriptor)

    def close(self) -> None:
        """Let go."""
        for descriptor in self.descriptors:
            os.close(descriptor)
        self.descriptors = []


def owner_file(root: str) -> str:
    """The file whose lock an owner holds where other machines may come to the same incoming directory."""
    return os.path.join(root, OWN, "owner")


def is_owned(root: str) -> bool:
    """Whether a listener works on this directory now; False for one that is not there."""
    try:
        IncomingLock((root,), patience=0, makes=False).close()
    except OwnedElsewhere:
        return True
    except OSError:
        pass
    return False
