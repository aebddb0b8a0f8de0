"""Reading JSON documents that others may have written: what is there, what is none, and what cannot be said now."""

from __future__ import annotations

import errno
import os
from typing import Any

import orjson

from listener.disk.files import open_regular

#: There is no document: nothing, or a link, a directory, a socket.
_NO_DOCUMENT = frozenset({errno.ENOENT, errno.ENOTDIR, errno.ELOOP, errno.EISDIR, errno.ENXIO})


#: Inode, modification time in nanoseconds and size of a document.
Signature = tuple[int, int, int]


def signature(path: str) -> Signature | None:
    """By what a document is known to be the same as before; None where there is none."""
    try:
        status = os.lstat(path)
    except OSError:
        return None
    return (status.st_ino, status.st_mtime_ns, status.st_size)


def load(path: str) -> dict[str, Any] | None:
    """A JSON document; None where there is none, or something that is no document (garbage, a link, a directory).

    Raises OSError when the system refuses to say: a document that cannot be read now must not be taken for absent, or
    it would be written anew (a StudyList without its studies).
    """
    return parsed(read(path))


def parsed(data: bytes | None) -> dict[str, Any] | None:
    """The document that these bytes are; None where they are none."""
    try:
        document = orjson.loads(data) if data is not None else None
    except orjson.JSONDecodeError:
        return None
    return document if isinstance(document, dict) else None


def read(path: str) -> bytes | None:
    """The bytes of a document; None where there is none (as for `load`). Raises OSError when the system refuses."""
    try:
        # An opener, since open() of a descriptor that is a directory's would leave it open.
        with open(path, "rb", opener=lambda name, _: open_regular(name)) as file:
            return file.read()
    except OSError as error:
        if error.errno in _NO_DOCUMENT:
            return None
        raise


def load_if_readable(path: str) -> dict[str, Any] | None:
    """The same for those who only look: what cannot be read is None too."""
    try:
        return load(path)
    except OSError:
        return None
