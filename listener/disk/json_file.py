"""Read JSON documents that other programs may have written."""

from __future__ import annotations

import errno
import os
from typing import Any

import orjson

from listener.disk.files import open_regular

#: Errors that mean that there is no document: nothing, or a link, a directory, a socket.
_NO_DOCUMENT = frozenset({errno.ENOENT, errno.ENOTDIR, errno.ELOOP, errno.EISDIR, errno.ENXIO})


#: Inode, modification time in nanoseconds and size of a document.
Signature = tuple[int, int, int]


def signature(path: str) -> Signature | None:
    """Return the signature by which a document is known to be unchanged; None where there is none."""
    try:
        status = os.lstat(path)
    except OSError:
        return None
    return (status.st_ino, status.st_mtime_ns, status.st_size)


def load(path: str) -> dict[str, Any] | None:
    """Return a JSON document; None where there is none, or something else (garbage, a link, a directory).

    Raises OSError when the system refuses to read it: a document that is unreadable now must not be taken for absent,
    or it would be replaced (a StudyList without its studies).
    """
    return parsed(read(path))


def parsed(data: bytes | None) -> dict[str, Any] | None:
    """Parse a document; return None for anything but a JSON object."""
    try:
        document = orjson.loads(data) if data is not None else None
    except orjson.JSONDecodeError:
        return None
    return document if isinstance(document, dict) else None


def read(path: str) -> bytes | None:
    """Return the bytes of a document; None where there is none (as in `load`). Raises OSError when it is unreadable."""
    try:
        # An opener: open() of a directory's descriptor would leave that open.
        with open(path, "rb", opener=lambda name, _: open_regular(name)) as file:
            return file.read()
    except OSError as error:
        if error.errno in _NO_DOCUMENT:
            return None
        raise


def load_if_readable(path: str) -> dict[str, Any] | None:
    """Return a document as `load` does, and None too where it cannot be read."""
    try:
        return load(path)
    except OSError:
        return None
