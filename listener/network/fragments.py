"""A data set cut into P-DATA-TFs, in a buffer that has the heads between the contents: a file is read right into it,
and all of it is sent as one piece.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Protocol

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

    def pieces(self, content: Content, context: int) -> Iterator[memoryview]:
        """Yield the P-DATA-TFs of a data set, piece by piece; each is good until the next."""
        if context != self._context:
            self._context = context
            self._write_heads(0, len(self._heads))
        offset = 0
        while offset < content.size:
            length = min(content.size - offset, len(self._contents) * self._most)
            full = (length - 1) // self._most
            rest = length - full * self._most
            content.read([*self._contents[:full], self._contents[full][:rest]], offset)
            offset += length
            self._heads[full][:] = pdu.fragment_head(context, rest, is_last=offset == content.size)
            yield self._whole[: full * self._step + pdu.HEAD + rest]
            self._write_heads(full, full + 1)

    def _write_heads(self, begin: int, end: int) -> None:
        """Write the heads of whole fragments behind which the data set goes on."""
        head = pdu.fragment_head(self._context, self._most, is_last=False)
        for place in self._heads[begin:end]:
            place[:] = head
