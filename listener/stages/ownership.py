"""One process of a stage works on a collection; another one waits for the lock, and takes over when it is let go."""

from __future__ import annotations

import contextlib
import fcntl
import os


class Ownership:
    """The lock of a stage on a collection: flock on `<state>/<stage>/owner`, which a killed process lets go at once."""

    def __init__(self, folder: str) -> None:
        os.makedirs(folder, mode=0o700, exist_ok=True)
        self._descriptor = os.open(os.path.join(folder, "owner"), os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        self.is_held = False

    def take(self) -> bool:
        """Take the lock if it is free; return whether it is held."""
        if not self.is_held:
            with contextlib.suppress(BlockingIOError):
                fcntl.flock(self._descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
                self.is_held = True
        return self.is_held

    def close(self) -> None:
        """Let the lock go."""
        os.close(self._descriptor)
        self.is_held = False
