"""What --keep-source has done already, so that neither a sweep nor a restart reports it again.

`<state>/kept` holds one 16-byte digest of (path, inode, size, mtime) a file, appended; a torn tail after a crash
costs at most one file a second look, which ends as a duplicate.
"""

from __future__ import annotations

import os
from hashlib import blake2b

_LENGTH = 16


class Kept:
    """A set that survives restarts. About 100 bytes of memory a file that is kept."""

    def __init__(self, state: str) -> None:
        self._file = open(os.path.join(state, "kept"), "a+b", buffering=0)  # noqa: SIM115 - close() does
        self._file.seek(0)
        data = self._file.read()
        whole = len(data) - len(data) % _LENGTH
        self._file.truncate(whole)
        self._done = {data[start : start + _LENGTH] for start in range(0, whole, _LENGTH)}
        self._offered: dict[str, bytes] = {}

    def holds(self, path: str, status: os.stat_result) -> bool:
        """Whether this very file was done; if not, it is noted as offered."""
        told = f"{status.st_ino} {status.st_size} {status.st_mtime_ns} ".encode() + os.fsencode(path)
        key = blake2b(told, digest_size=_LENGTH).digest()
        if key in self._done:
            return True
        self._offered[path] = key
        return False

    def add(self, path: str) -> None:
        """The file that was offered under `path` is done. What replaced it meanwhile has another key, and is not."""
        key = self._offered.pop(path, None)
        if key is not None and key not in self._done:
            self._done.add(key)
            self._file.write(key)

    def close(self) -> None:
        """Give back the file."""
        self._file.close()
