"""PURE. Multipart messages (RFC 2046 section 5.1) as they arrive: part by part, in memory bounded by the largest."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator

from listener.frames.errors import FramesFault

#: Longest head of a part.
_LONGEST_HEAD = 16 * 1024

_boundary = re.compile(r';\s*boundary\s*=\s*(?:"([^"]{1,200})"|([^\s;"]{1,200}))', re.IGNORECASE).search
_length = re.compile(rb"^content-length:\s*([0-9]{1,18})\s*$", re.IGNORECASE | re.MULTILINE).search


class NoMessage(FramesFault):
    """The answer is no multipart message, or was cut."""

    reason = "answer"


def boundary_of(content_type: str) -> bytes:
    """Return the boundary that a Content-Type names; b"" where it is not of a multipart message. Raises NoMessage."""
    if not content_type.lower().lstrip().startswith("multipart/"):
        return b""
    found = _boundary(content_type)
    if not found:
        raise NoMessage("no boundary is named")
    return (found[1] or found[2]).encode("latin-1")


def parts(chunks: Iterable[bytes], boundary: bytes) -> Iterator[bytes]:
    """Yield the contents of the parts of a message. Raises NoMessage where it ends before its last boundary."""
    reader = _Reader(chunks)
    mark = b"\r\n--" + boundary
    reader.data += b"\r\n"  # The first boundary needs none before it.
    reader.take(reader.find(mark, 0) + len(mark))
    while True:
        reader.need(2)
        if reader.data.startswith(b"--"):
            return
        end = reader.find(b"\r\n\r\n", 0, _LONGEST_HEAD)
        head = reader.take(end + 4)
        said = _length(head)
        # A part that says its length may hold the boundary; one that does not is searched for it.
        size = int(said[1]) if said else reader.find(mark, 0)
        content = reader.take(size)
        if reader.take(len(mark)) != mark:
            raise NoMessage("a part has another length than it says")
        yield content


class _Reader:
    """What came and was not taken yet."""

    def __init__(self, chunks: Iterable[bytes]) -> None:
        self._chunks = iter(chunks)
        self.data = bytearray()

    def more(self) -> None:
        """Wait for more. Raises NoMessage where there is no more."""
        chunk = next(self._chunks, None)
        if chunk is None:
            raise NoMessage("it was cut")
        self.data += chunk

    def need(self, count: int) -> None:
        """Wait until there are `count` bytes."""
        while len(self.data) < count:
            self.more()

    def find(self, mark: bytes, begin: int, most: int = 0) -> int:
        """Return where `mark` is, waiting for it; within `most` bytes, where that is not 0."""
        while (found := self.data.find(mark, begin)) < 0:
            begin = max(0, len(self.data) - len(mark) + 1)
            if most and begin > most:
                raise NoMessage("the head of a part is too long")
            self.more()
        return found

    def take(self, count: int) -> bytes:
        """Take bytes away."""
        self.need(count)
        taken = bytes(memoryview(self.data)[:count])
        del self.data[:count]
        return taken
