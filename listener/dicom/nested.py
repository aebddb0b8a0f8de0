"""Find the end of sequences of any depth, and of fragments of encapsulated pixels. Iterative, linear."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

from listener.dicom.encoding import HEAD, ITEM, ITEM_END, SEQUENCE_END, SEQUENCE_VRS, UNDEFINED, Encoding, Head
from listener.dicom.source import WINDOW, Source
from listener.reasons import Incomplete, NotDicom, TooDeep

#: End of a value that only a delimiter ends: beyond every file.
OPEN = 1 << 63

#: Fewest bytes of a level of nesting: the heads of an item and of an element.
_LEVEL = 2 * HEAD

#: Returned instead of an offset where the encoding is broken.
_LOST = -1


def shallow_bytes(depth: int) -> int:
    """Return the most bytes that cannot hold more than `depth` levels of sequences."""
    return _LEVEL * depth - 1


class _Frame(NamedTuple):
    """A sequence or item that the walk is in: its end (OPEN: at its delimiter), the nearest known end around it, and
    whether its elements are implicit VR.
    """

    is_item: bool
    end: int
    limit: int
    implicit: bool


class Nested:
    """Finds the end of sequences and fragments.

    `tick()` is called for each element and item, and raises when there are too many. `lost` is set when a value of
    undefined length was not made of fragments, so that its end was searched for. `visit`, if set, is called for each
    element of known length within items, and then nothing is passed over for being shallow.
    """

    def __init__(self, source: Source, encoding: Encoding, max_depth: int, tick: Callable[[], None]) -> None:
        self._source = source
        self._encoding = encoding
        self._max_depth = max_depth
        self._tick = tick
        self.lost = False
        self.visit: Callable[[Head], None] | None = None

    def prove_depth(self, pos: int, *, end: int, implicit: bool) -> None:
        """Raise TooDeep if the value between `pos` and `end` is a sequence that nests too deeply."""
        if self._encoding.starts_items(pos):
            self.sequence_end(pos, end=end, implicit=implicit)

    def sequence_end(self, pos: int, *, end: int, implicit: bool) -> int:
        """Return the offset behind the sequence whose first item is at `pos` and which ends at `end` or (OPEN) at a
        delimiter.

        Where the end is known, a broken part is skipped: the walk only proves the depth. Otherwise raises NotDicom for
        it, and Incomplete when the source ends first; TooDeep beyond the limit.
        """
        stack = [_Frame(is_item=False, end=end, limit=end, implicit=implicit)]
        while stack:
            frame = stack[-1]
            if pos >= frame.end:
                stack.pop()
                continue
            self._tick()
            try:
                moved = (self._in_item if frame.is_item else self._in_sequence)(pos, frame, stack)
            except Incomplete:
                if frame.limit == OPEN:
                    raise
                moved = _LOST
            pos = moved if 0 <= moved <= frame.limit else _skip_to_known_end(stack)
        return pos

    def _in_sequence(self, pos: int, frame: _Frame, stack: list[_Frame]) -> int:
        tag, length = self._encoding.item(pos)
        pos += HEAD
        if tag == SEQUENCE_END:
            stack.pop()
            return pos
        if tag != ITEM:
            return _LOST
        end = OPEN
        if length != UNDEFINED:
            end = pos + length
            if end > frame.limit:
                return _LOST
            if not self._source.reaches(end):
                raise Incomplete("an item is longer than the file")
            if self._is_shallow(stack, length):
                return end
        implicit = frame.implicit or self._encoding.looks_implicit(pos)
        stack.append(_Frame(is_item=True, end=end, limit=min(end, frame.limit), implicit=implicit))
        return pos

    def _in_item(self, pos: int, frame: _Frame, stack: list[_Frame]) -> int:
        head = self._encoding.head(pos, implicit=frame.implicit)
        if head.tag == ITEM_END:
            stack.pop()
            return head.start
        end = OPEN if head.length == UNDEFINED else head.start + head.length
        if end == OPEN and head.vr == b"UN" and (little := self._little_end(head.start, len(stack) // 2)):
            return little
        if end != OPEN:
            if end <= frame.limit and not self._source.reaches(end):
                raise Incomplete("an element is longer than the file")
            if self.visit and end <= frame.limit:
                self.visit(head)
            if end > frame.limit or head.vr not in SEQUENCE_VRS or self._is_shallow(stack, head.length):
                return end
        if not (self._encoding.starts_items(head.start) or head.vr == b"SQ"):
            return end if end != OPEN else self.fragments_end(head.start, frame.limit)
        if end == OPEN and head.vr not in SEQUENCE_VRS:
            return self.fragments_end(head.start, frame.limit)
        # sequences and items alternate, so half of the frames are sequences
        if len(stack) // 2 + 1 > self._max_depth:
            raise TooDeep(f"more than {self._max_depth} sequences within each other")
        stack.append(_Frame(is_item=False, end=end, limit=min(end, frame.limit), implicit=frame.implicit))
        return head.start

    def unknown_end(self, start: int, *, implicit: bool) -> int:
        """Return the offset behind the value of UN of undefined length at `start`, which is a sequence."""
        return self._little_end(start, 0) or self.sequence_end(start, end=OPEN, implicit=implicit)

    def _little_end(self, start: int, depth: int) -> int:
        """Return the end of a UN sequence, `depth` sequences deep, in a big endian data set, where it is nonetheless
        implicit VR little endian (PS3.5 section 6.2.2, note 7; CP-246). Return 0 where its encoding is that of its
        surroundings.
        """
        encoding = Encoding(self._source, little=True)
        if self._encoding.little or not encoding.starts_items(start):
            return 0
        if depth >= self._max_depth:
            raise TooDeep(f"more than {self._max_depth} sequences within each other")
        other = Nested(self._source, encoding, self._max_depth - depth, self._tick)
        other.visit = self.visit
        end = other.sequence_end(start, end=OPEN, implicit=True)
        self.lost = self.lost or other.lost
        return end

    def _is_shallow(self, stack: list[_Frame], length: int) -> bool:
        """Return whether `length` bytes are too few to exceed the remaining depth."""
        return not self.visit and len(stack) // 2 + 1 + length // _LEVEL <= self._max_depth

    def fragments_end(self, start: int, limit: int = OPEN) -> int:
        """Return the offset behind the delimiter of encapsulated pixels, or of another value of undefined length that
        is no sequence (PS3.5 section A.4). Raises Incomplete when the source ends first.
        """
        pos = start
        while True:
            # counted, because elements made to overlap could have the same fragments followed again and again
            self._tick()
            tag, length = self._encoding.item(pos)
            pos += HEAD
            if tag == SEQUENCE_END:
                return pos
            if tag != ITEM or length == UNDEFINED:
                return self._find_delimiter(start, limit)
            pos += length
            if pos > limit:
                return _LOST

    def _find_delimiter(self, pos: int, limit: int) -> int:
        """Return the end of a value of undefined length without fragments: the first delimiter in it, as in pydicom.

        Searches up to `limit`, so that no byte is searched twice.
        """
        self.lost = True
        delimiter = self._encoding.delimiter
        while pos < limit:
            window = self._source.read(pos, WINDOW)
            found = window.find(delimiter)
            if found >= 0:
                if not self._source.reaches(pos + found + HEAD):
                    break
                return pos + found + HEAD
            if len(window) < WINDOW:
                break
            pos += WINDOW - len(delimiter) + 1
        raise Incomplete("a value of undefined length has no end")


def _skip_to_known_end(stack: list[_Frame]) -> int:
    """Leave a broken part for the innermost sequence or item whose end is known, and return that."""
    while stack:
        frame = stack.pop()
        if frame.end != OPEN:
            return frame.end
    raise NotDicom("a sequence cannot be followed")
