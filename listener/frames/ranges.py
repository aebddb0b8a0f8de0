"""Where frames lie in something that is read by ranges, over a network: few and small reads, each of which costs."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import NamedTuple

from listener.dicom.attributes import Limits
from listener.dicom.encoding import ITEM, SEQUENCE_END, UNDEFINED
from listener.frames.image import Image, PeekSource, Tables, find_fragments, look_at
from listener.frames.layout import ITEM_HEAD, Fragments, Layout, Run, Spans, spans
from listener.reasons import Incomplete

#: Bytes of the first read, which has most headers whole, and of the others.
_FIRST, _WINDOW = 64 * 1024, 1024 * 1024

#: Bytes between two runs for which they are read together, and the most bytes of one read.
_GAP, _MOST = 64 * 1024, 8 * 1024 * 1024

#: Most bytes of a basic offset table: sixteen million frames.
_MAX_TABLE = 64 * 1024 * 1024


class RangeSource:
    """Bytes that `fetch(offset, length)` gets, of `size` in all."""

    def __init__(self, fetch: Callable[[int, int], bytes], size: int) -> None:
        self._fetch, self.size = fetch, size
        self._start, self._window = 0, b""

    def read(self, offset: int, count: int) -> bytes:
        """See Source."""
        count = max(0, min(count, self.size - offset))
        begin = offset - self._start
        if begin < 0 or begin + count > len(self._window):
            length = max(count, _WINDOW if offset else _FIRST)
            self._window = self._get(offset, length)
            self._start, begin = offset, 0
        return self._window[begin : begin + count]

    def peek(self, offset: int, count: int) -> bytes:
        """See PeekSource."""
        begin = offset - self._start
        if begin >= 0 and begin + count <= len(self._window):
            return self._window[begin : begin + count]
        return self._get(offset, count)

    def _get(self, offset: int, count: int) -> bytes:
        count = min(count, self.size - offset)
        if count <= 0:
            return b""
        data = self._fetch(offset, count)
        if len(data) != count:
            raise Incomplete("it became shorter")
        return data

    def reaches(self, end: int) -> bool:
        """See Source."""
        return end <= self.size

    def rest(self) -> bytes:
        """See Source. There is nothing behind it."""
        return b""


def look_by_ranges(source: RangeSource, limits: Limits, *, by_table: bool) -> Image:
    """Return where the frames lie. `by_table`: a table that can be believed is, and that items are where it says is
    looked at whenever a frame is read. Without one all the heads of items are, which reads nearly everything.

    Raises as frames.image.look().
    """
    return look_at(source, limits, _by_table if by_table else find_fragments)


def _by_table(source: PeekSource, start: int, tables: Tables) -> Fragments | Layout:
    raw = source.read(start, ITEM_HEAD)
    tag, length = _head(raw)
    if tag == ITEM and length <= _MAX_TABLE and source.reaches(start + ITEM_HEAD + length):
        basic = source.read(start + ITEM_HEAD, length)
        behind = start + ITEM_HEAD + length
        found = spans(tables.facts, behind, basic, (tables.offsets, tables.lengths), source.size)
        if found:
            end = _end_of_last(source, found.starts[-1])
            return Spans(found.starts, end, found.exact)
    return find_fragments(source, start)


def _end_of_last(source: PeekSource, start: int) -> int:
    """Return the offset behind the last item, from that of an item on. Raises Incomplete."""
    pos = start
    while True:
        tag, length = _head(source.peek(pos, ITEM_HEAD))
        if tag == SEQUENCE_END:
            return pos
        if tag != ITEM or length == UNDEFINED or not source.reaches(pos + ITEM_HEAD + length):
            raise Incomplete("encapsulated pixel data that are not made of fragments")
        pos += ITEM_HEAD + length


def _head(raw: bytes) -> tuple[int, int]:
    if len(raw) < ITEM_HEAD:
        raise Incomplete("it ends within an item's head")
    group, element = int.from_bytes(raw[:2], "little"), int.from_bytes(raw[2:4], "little")
    return group << 16 | element, int.from_bytes(raw[4:], "little")


class Join(NamedTuple):
    """Runs that are read at once: the bytes that hold all of them."""

    offset: int
    length: int
    runs: tuple[Run, ...]


def joined(runs: Iterable[Run]) -> Iterator[Join]:
    """Yield runs, which ascend, in reads: close ones together."""
    held: list[Run] = []
    for run in runs:
        if held:
            begin, end = held[0].offset, held[-1].offset + held[-1].length
            if run.offset < begin or run.offset - end > _GAP or run.offset + run.length - begin > _MOST:
                yield _join(held)
                held = []
        held.append(run)
    if held:
        yield _join(held)


def _join(runs: list[Run]) -> Join:
    begin = runs[0].offset
    return Join(begin, max(run.offset + run.length for run in runs) - begin, tuple(runs))
