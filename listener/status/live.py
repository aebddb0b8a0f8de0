"""`<state>/live`: the word of the running service, renewed once a second, read by `listener status`.

A file and no request to the HTTP port, so that it also answers with `--http off`, from another network namespace, and
after a crash (with what was known last). It is overwritten in place and always of the same size, unlike all else here:
a volume that has become full, which is when people ask, has room for that; and a disk is not made to sync a new file
every second. A reader that meets a write sees it by the checksum and reads again.
"""

from __future__ import annotations

import os
import time
from collections.abc import Mapping
from typing import Any
from zlib import crc32

import orjson

#: Bytes of the file; a word that needs more gets a multiple.
_SIZE = 8192

_TRIES = 50


def path_of(state: str) -> str:
    """Where it lies in a state directory."""
    return os.path.join(state, "live")


class Writer:
    """Renews the word. Methods raise OSError."""

    def __init__(self, state: str) -> None:
        self._path = path_of(state)
        self._descriptor = -1

    def write(self, live: Mapping[str, Any]) -> None:
        """Replace the word; made anew where somebody removed it."""
        if self._descriptor < 0 or not os.fstat(self._descriptor).st_nlink:
            self.close()
            self._descriptor = os.open(self._path, os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o644)
        os.pwrite(self._descriptor, packed(live), 0)

    def close(self) -> None:
        """Give the file back; the last word stays."""
        if self._descriptor >= 0:
            os.close(self._descriptor)
            self._descriptor = -1


def packed(live: Mapping[str, Any]) -> bytes:
    """Checksum, JSON, and blanks up to a multiple of _SIZE."""
    body = orjson.dumps(live)
    line = b"%08x %s\n" % (crc32(body), body)
    return line.ljust(-(-len(line) // _SIZE) * _SIZE)


def unpacked(data: bytes) -> dict[str, Any] | None:
    """The word, or None when it is not whole."""
    checksum, _, rest = data.partition(b"\n")[0].partition(b" ")
    if checksum != b"%08x" % crc32(rest):
        return None
    word: dict[str, Any] = orjson.loads(rest)
    return word


def read(state: str) -> dict[str, Any] | None:
    """The last word of the service of this state directory; None when none ever ran, or it cannot be understood.

    Raises OSError when the file cannot be read.
    """
    for _ in range(_TRIES):
        try:
            with open(path_of(state), "rb") as file:
                found = unpacked(file.read())
        except FileNotFoundError:
            return None
        if found is not None:
            return found
        time.sleep(0.002)  # It is being renewed, which takes some microseconds.
    return None
