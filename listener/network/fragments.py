"""A data set cut into P-DATA-TFs, in a buffer that has the heads between the contents: a file is read right into it,
and all of it is sent as one piece.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import NamedTuple, Protocol

from listener.network import pdu

#: About so many bytes are read and sent at a time.
_PIECE = 1024 * 1024

#: Most fragments at a time: one preadv takes 1,024 buffers at most.
_FRAGMENTS = 480


class Content(Protocol):
    """Bytes to be sent: `size` of them, an even number."""

    size: int

    def read(self, slots: Sequence[memoryview], offset: int) -> None:
        """Fill the slots, one after the other, with what stands at `offset`. Raises Unsendable where it ends before."""


class Bytes:
    """Content in memory; see Content."""

    def __init__(self, data: bytes) -> None:
        self._data, self.size = memoryview(data), len(data)

    def read(self, slots: Sequence[memoryview], offset: int) -> None:
        """See Content."""
        for slot in slots:
            slot[:] = self._data[offset : offset + len(slot)]
            offset += len(slot)


class _Piece(NamedTuple):
    """What of a data set lies in the buffer: `length` bytes of it, from its beginning or behind another piece, whose
    fragments are whole but for the one with number `last`.
    """

    sent: memoryview
    length: int
    last: int


class Fragments:
    """The buffer of an association, in which a fragment has at most `most` bytes of content."""

    def __init__(self, most: int) -> None:
        self._most, self._step = most, pdu.HEAD + most
        count = max(1, min(_FRAGMENTS, _PIECE // self._step))
        self._whole = memoryview(bytearray(count * self._step))
        starts = range(0, len(self._whole), self._step)
        self._heads = [self._whole[start : start + pdu.HEAD] for start in starts]
        self._contents = [self._whole[start + pdu.HEAD : start + self._step] for start in starts]
        self._context = 0
        self._loaded: tuple[Content, int, _Piece] | None = None

    def load(self, content: Content, context: int) -> None:
        """Read the first piece of what is sent next; what pieces() gave before is good no longer. Raises as
        Content.read.
        """
        self._unload()
        self._loaded = (content, context, self._read(content, context, 0))

    def pieces(self, content: Content, context: int) -> Iterator[memoryview]:
        """Yield the P-DATA-TFs of a data set, piece by piece; each is good until the next."""
        loaded = self._loaded
        if loaded and not (loaded[0] is content and loaded[1] == context):
            self._unload()
            loaded = None
        self._loaded = None
        offset = 0
        while offset < content.size:
            piece = loaded[2] if loaded and not offset else self._read(content, context, offset)
            offset += piece.length
            yield piece.sent
            self._write_heads(piece.last, piece.last + 1)

    def _read(self, content: Content, context: int, offset: int) -> _Piece:
        """Fill the buffer with what stands at `offset`."""
        if context != self._context:
            self._context = context
            self._write_heads(0, len(self._heads))
        length = min(content.size - offset, len(self._contents) * self._most)
        last = (length - 1) // self._most
        rest = length - last * self._most
        content.read([*self._contents[:last], self._contents[last][:rest]], offset)
        self._heads[last][:] = pdu.fragment_head(context, rest, is_last=offset + length == content.size)
        return _Piece(self._whole[: last * self._step + pdu.HEAD + rest], length, last)

    def _unload(self) -> None:
        """Forget what was loaded, and is not sent now."""
        if self._loaded:
            last = self._loaded[2].last
            self._write_heads(last, last + 1)
        self._loaded = None

    def _write_heads(self, begin: int, end: int) -> None:
        """Write the heads of whole fragments behind which the data set goes on."""
        head = pdu.fragment_head(self._context, self._most, is_last=False)
        for place in self._heads[begin:end]:
            place[:] = head
