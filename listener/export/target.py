"""What an export writes to, as its kinds of target share it. Every method may be called in any thread."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import NamedTuple, Protocol

#: Bytes that are read and written at a time.
CHUNK = 2**20

#: Key of the object with which a store is asked whether it keeps the condition of a creation. It stays there.
PROBE = ".listener/condition"


#: Bytes as they are read back.
Piece = bytes | memoryview


class Found(NamedTuple):
    """An object that is there: its size in bytes, its SHA-256 if the target knows it ("": read it), and the tag that a
    store gives each content of its own ("": unknown).
    """

    size: int
    sha256: str = ""
    tag: str = ""


class Content(NamedTuple):
    """What is to be written: `key`, size in bytes, SHA-256, and a function that gives the bytes, each time anew.

    The function raises a SeriesFault where they are not any more what was measured.
    """

    key: str
    size: int
    sha256: str
    chunks: Callable[[], Iterator[bytes]]


def held(key: str, data: bytes) -> Content:
    """Return bytes that are in memory as what is to be written."""
    return Content(key, len(data), hashlib.sha256(data).hexdigest(), lambda: iter((data,)))


#: Called with the number of bytes that are about to be written; it may wait, and raises Stopped.
Pace = Callable[[int], None]


class Target(Protocol):
    """A bucket below a prefix, or a directory. Keys are below it. Methods raise TargetFault."""

    #: As people read it, without anything secret.
    shown: str
    #: What stands before each key in the store, and so counts in its length.
    prefix: str
    #: Whether a creation that is not to replace anything can be relied upon; set by probe().
    is_conditional: bool

    def probe(self) -> None:
        """Try whether the target can be written and read, and keeps conditions. Raises TargetRefuses if it never will
        by itself.
        """

    def look(self, key: str) -> Found | None:
        """Return what is there; None if nothing is."""

    def look_at(self, keys: Sequence[str]) -> Mapping[str, Found]:
        """Return what is seen of many keys of one folder, in as few requests as there can be; what is not seen may be
        there all the same: look() tells.
        """

    def create(self, content: Content, pace: Pace) -> Found | None:
        """Write an object, and return what the target says of it; None, and change nothing, where the name is taken."""

    def read(self, key: str, size: int = ...) -> Iterator[Piece]:
        """Yield the bytes of an object, which has `size` as far as that is known. Raises NotThere."""

    def listed(self, folder: str) -> Iterator[tuple[str, int]]:
        """Yield key and size of all objects whose keys begin with `folder` and a slash ("": of all)."""

    def close(self) -> None:
        """Let connections go."""


def whole(chunks: Iterable[Piece]) -> bytes:
    """Return the chunks as one."""
    return b"".join(chunks)
