"""What became of the elements of the last instance: instances of a series have most elements in common, so that one
comparison of bytes tells what becomes of the next one's.

An element is remembered only where what becomes of it depends on its own bytes alone.
"""

from __future__ import annotations

from collections.abc import Sequence

Done = Sequence[tuple[int, str]]


class Remembered:
    """An element: its tag, its bytes from its head on (b"": what becomes of it is not remembered), what is written in
    their place (None: it is kept), the (tag, action) pairs that this counts for, and the element that followed it.
    """

    __slots__ = ("after", "done", "piece", "raw", "tag")

    def __init__(self, tag: int, raw: bytes = b"", piece: bytes | None = None, done: Done = ()) -> None:
        self.tag, self.raw, self.piece, self.done = tag, raw, piece, done
        self.after: Remembered | None = None


class Memory:
    """Elements at the top level of data sets in one form, in their order: `first` stands before all."""

    def __init__(self) -> None:
        self.first = Remembered(-1)
        self._by_tag: dict[int, Remembered] = {}

    def note(self, before: Remembered, tag: int, raw: bytes, piece: bytes | None, done: Done) -> Remembered:
        """Remember the element of this tag, which followed `before`, in place of the last one; return it."""
        node = Remembered(tag, raw, piece, done)
        last = self._by_tag.get(tag)
        node.after = last.after if last else None
        self._by_tag[tag] = before.after = node
        return node
