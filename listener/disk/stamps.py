"""Stamps in a lock's file: digests of what was last written under the lock.

On a network file system the kernel may still show an old document although the lock is held; changing that one would
lose what another machine wrote. The file has a fixed size from its first stamp on, and is read bypassing the page
cache.
"""

from __future__ import annotations

import errno
import mmap
import os
import re
import time
from hashlib import blake2b
from typing import NamedTuple

from listener.errors import NotCurrent

#: Bytes of the file: one page, the unit of reads with O_DIRECT.
SIZE = 4096

_HEX = 16
_LINE = 3 * (_HEX + 1)
_MOST = SIZE // _LINE
_STAMP = re.compile(rf"^(\S+) (\S+) ([0-9a-f]{{{_HEX}}})$", re.MULTILINE)

#: Seconds for which a stamp counts: no kernel shows an old document for longer (NFS: acregmax 60 s).
VALID_SECONDS = 60.0


class Stamp(NamedTuple):
    """Records that a document (hash of its path) was written with this digest, at nanoseconds since the epoch."""

    document: str
    digest: str
    time_ns: int


def require_current(stamps: list[Stamp], lock: str, path: str, data: bytes | None) -> None:
    """Raise NotCurrent, naming the lock, when `data` is not what was last written to `path` (relative to the log) by
    the stamps. Stamps older than VALID_SECONDS do not count: another program may have written since.
    """
    name, now = _hash(path.encode(errors="surrogateescape")), time.time_ns()
    last = next((stamp for stamp in reversed(stamps) if stamp.document == name), None)
    if last and abs(now - last.time_ns) < VALID_SECONDS * 1e9 and last.digest != _hash(data or b""):
        raise NotCurrent(lock)


def write(descriptor: int, stamps: list[Stamp], path: str, data: bytes) -> None:
    """Record in an open lock file, which holds `stamps`, that `data` was written to `path`."""
    name = _hash(path.encode(errors="surrogateescape"))
    kept = [stamp for stamp in stamps if stamp.document != name]
    kept.append(Stamp(name, _hash(data), time.time_ns()))
    lines = [f"{stamp.document} {stamp.digest} {stamp.time_ns:016x}\n" for stamp in kept[-_MOST:]]
    os.pwrite(descriptor, "".join(lines).encode().ljust(SIZE, b"\n"), 0)


def read(descriptor: int) -> list[Stamp]:
    """Return the stamps in an open lock file, the oldest first."""
    return _parsed(os.pread(descriptor, SIZE, 0))


def read_direct(descriptor: int) -> list[Stamp]:
    """Return the stamps as read does, but from the file system instead of the page cache."""
    try:
        direct = os.open(f"/proc/self/fd/{descriptor}", os.O_RDONLY | os.O_DIRECT | os.O_CLOEXEC)
    except OSError as error:
        if error.errno not in (errno.EINVAL, errno.ENOENT):
            raise
        return read(descriptor)
    try:
        with mmap.mmap(-1, SIZE) as page:
            count = os.preadv(direct, [page], 0)
            return _parsed(page[:count])
    finally:
        os.close(direct)


def _parsed(data: bytes) -> list[Stamp]:
    # One expression over the page, most of which is empty lines: each change of a shared document costs it.
    lines = _STAMP.findall(data.rstrip(b"\n").decode("ascii", "replace"))
    return [Stamp(document, digest, int(time_ns, 16)) for document, digest, time_ns in lines]


def _hash(data: bytes) -> str:
    return blake2b(data, digest_size=_HEX // 2).hexdigest()
