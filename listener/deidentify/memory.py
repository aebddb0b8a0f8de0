"""What became of the elements of the last instance: instances of a series have most elements in common, so that one
comparison of bytes tells what becomes of the next one's.

An element is remembered only where what becomes of it depends on its own bytes alone, and on the values of recipes'
lists, which are the same in all instances of a memory.
"""

from __future__ import annotations

from collections.abc import Sequence

from listener.deidentify.recipe_lists import Lists

Done = Sequence[tuple[int, str]]


class Remembered:
    """An element: its tag, its bytes from its head on (b"": what becomes of it is not remembered), what is written in
    their place (None: it is kept), the (tag, action) pairs that this counts for, and the element that followed it;
    `block`: of a private element whose creator decides too, the block that it is in, and whose that was; `vr`: with
    this VR it is kept or removed as it was, whatever its value ("": the value decides too).
    """

    __slots__ = ("after", "block", "done", "piece", "raw", "stretch", "tag", "vr")

    def __init__(self, tag: int, raw: bytes = b"", piece: bytes | None = None, done: Done = ()) -> None:
        self.tag, self.raw, self.piece, self.done = tag, raw, piece, done
        self.after: Remembered | None = None
        self.block: tuple[int, str] | None = None
        self.vr = ""
        self.stretch: Stretch | None = None

    @property
    def joins(self) -> bool:
        """Return whether it can be a part of a stretch: it is kept or removed, whoever its creator is."""
        return not (self.piece or self.block)


class Stretch:
    """Elements that follow one, all kept or all removed, as one piece: their bytes, and what Remembered has of them."""

    __slots__ = ("done", "is_kept", "last", "raw")

    def __init__(self, first: Remembered) -> None:
        self.raw, self.last, self.is_kept, self.done = first.raw, first, first.piece is None, list(first.done)

    def takes(self, node: Remembered) -> bool:
        """Add an element, if it is treated as the others; return whether it is."""
        if not node.joins or (node.piece is None) != self.is_kept:
            return False
        self.raw += node.raw
        self.done += node.done
        self.last = node
        return True


class Memory:
    """Elements at the top level of data sets in one form, in their order: `first` stands before all. `lists`: what the
    lists of recipes have taken from each of these data sets, None where there are no lists.
    """

    def __init__(self, lists: Lists | None = None) -> None:
        self.lists = lists
        #: Tags of elements that lines of recipes meant by their values.
        self.found: set[int] = set()
        self.first = Remembered(-1)
        #: Elements that recipes add, where these are known.
        self.added: dict[int, bytes] | None = None
        self._by_tag: dict[int, Remembered] = {}

    def last(self, tag: int) -> Remembered | None:
        """Return the last element of this tag."""
        return self._by_tag.get(tag)

    def note(self, before: Remembered, tag: int, raw: bytes, piece: bytes | None, done: Done) -> Remembered:
        """Remember the element of this tag, which followed `before`, in place of the last one; return it."""
        node = Remembered(tag, raw, piece, done)
        last = self._by_tag.get(tag)
        if last:  # What followed it follows this one.
            node.after, node.stretch = last.after, last.stretch
        self._by_tag[tag] = before.after = node
        return node
