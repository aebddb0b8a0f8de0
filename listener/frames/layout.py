"""PURE. Where a frame lies: facts of the header and tables in, runs of bytes out.

Native pixel data hold one frame behind the other, without a gap (PS3.5 section 8.1.1), frames of single bits too.
Encapsulated ones are fragments (PS3.5 section A.4); which of them a frame has is told by the extended offset table
(PS3.3 section C.7.6.3.1.8), by the basic one, or follows from their number. A table is used only when it agrees with
the fragments: programs write tables that wrap beyond 4 GiB, count from elsewhere, or are left from another encoding.
"""

from __future__ import annotations

import struct
from array import array
from bisect import bisect_right
from collections.abc import Sequence
from itertools import pairwise
from typing import NamedTuple

from listener.frames.errors import FrameChanged, FramesUnclear, NoSingleFrames

#: Transfer syntaxes of video (PS3.5 sections 8.2.5 to 8.2.8 and A.4.5 on; PS3.6 table A-1), of which the fragments are
#: one stream: MPEG-2, MPEG-4 AVC/H.264, HEVC/H.265, and SMPTE ST 2110.
_VIDEO = (*(f"1.2.840.10008.1.2.4.{number}" for number in range(100, 109)), "1.2.840.10008.1.2.7.")

#: Bytes of an item's head: its tag, the halves exchanged, and its length.
ITEM_HEAD = 8
_item_head = struct.Struct("<LL")
_ITEM_TAG = 0xE000FFFE

#: The marks with which a JPEG, JPEG-LS or JPEG 2000 stream begins, and the one with which each of them ends.
_STARTS = (b"\xff\xd8\xff", b"\xff\x4f\xff\x51")
_END = b"\xff\xd9"


class Facts(NamedTuple):
    """What a header says of its pixel data; 0 and "" where it says nothing. `little` is the byte order of the data set,
    `vr` that of the pixel data (b"" in implicit VR, which is OW). `Rows`, `Columns` and the others by their keywords.
    """

    Rows: int
    Columns: int
    BitsAllocated: int
    SamplesPerPixel: int = 1
    NumberOfFrames: int = 1
    PhotometricInterpretation: str = ""
    TransferSyntaxUID: str = ""
    little: bool = True
    vr: bytes = b""


class Run(NamedTuple):
    """Bytes that lie together: offset in the source, and how many."""

    offset: int
    length: int


class Frame(NamedTuple):
    """One frame: the bytes of its `runs`, joined. Of native pixel data: then words of `word` bytes are reversed, `skip`
    bits are left out, and `bits` taken, the rest of the last byte being 0; `bits` 0 is all there is. Of encapsulated
    ones each run is the value of an item, of which `padded` bytes more are stored.
    """

    runs: tuple[Run, ...]
    word: int = 1
    skip: int = 0
    bits: int = 0
    padded: int = 0

    @property
    def size(self) -> int:
        """The bytes of the frame."""
        return (self.bits + 7) // 8 or sum(run.length for run in self.runs)


class Native:
    """Native pixel data: `start` is the offset of their value, `length_of_all` its bytes; `count` is of frames that are
    there.
    """

    __slots__ = ("_bits", "_word", "count", "length_of_all", "start")

    encapsulated = False

    def __init__(self, facts: Facts, start: int, length: int) -> None:
        """Raise FramesUnclear where the header does not say how long a frame is."""
        self._bits = frame_bits(facts)
        self.start, self.length_of_all = start, length
        self._word = _word(facts)
        whole = length * 8 // self._bits if self._bits else 0
        self.count = min(max(facts.NumberOfFrames, 1), whole)
        if not self.count:
            raise FramesUnclear("the pixel data are shorter than one frame")

    def frame(self, index: int) -> Frame:
        """Return where a frame lies, counted from 0. Raises IndexError beyond the last one."""
        if not 0 <= index < self.count:
            raise IndexError(index)
        first, end = index * self._bits, (index + 1) * self._bits
        word = self._word
        # Whole words around the frame, of which the bytes are reversed: an odd frame begins or ends within one.
        begin = first // 8 // word * word
        behind = ((end + 7) // 8 + word - 1) // word * word
        skip = first - begin * 8
        bits = self._bits if skip or (behind - begin) * 8 != self._bits else 0
        return Frame((Run(self.start + begin, behind - begin),), word, skip, bits)

    def length(self) -> int:
        """Return the bytes of each frame."""
        return (self._bits + 7) // 8


class Encapsulated:
    """Encapsulated pixel data of `count` frames. `starts` and `lengths` are those of the fragments' values, the basic
    offset table left out; `first` the number of each frame's first fragment, None where each has one; `exact` the
    frames' lengths without padding, where the extended table says them.
    """

    __slots__ = ("count", "exact", "first", "lengths", "starts")

    encapsulated = True

    def __init__(
        self,
        starts: Sequence[int],
        lengths: Sequence[int],
        first: Sequence[int] | None = None,
        exact: Sequence[int] | None = None,
    ) -> None:
        self.starts, self.lengths, self.first, self.exact = starts, lengths, first, exact
        self.count = len(starts if first is None else first)

    def frame(self, index: int) -> Frame:
        """Return where a frame lies, counted from 0. Raises IndexError beyond the last one."""
        if not 0 <= index < self.count:
            raise IndexError(index)
        if self.first is None:
            length = self.lengths[index]
            exact = self.exact[index] if self.exact else length
            return Frame((Run(self.starts[index], exact),), padded=length - exact)
        end = self.first[index + 1] if index + 1 < self.count else len(self.starts)
        fragments = range(self.first[index], end)
        return Frame(tuple(Run(self.starts[number], self.lengths[number]) for number in fragments))


class Spans:
    """Encapsulated pixel data as a table tells them, of which the fragments were not looked at: a frame is all items
    from its start to the next one's. `starts` are the offsets of each frame's first item, `end` that behind the last
    item; `exact` the frames' lengths without padding, where the extended table says them.
    """

    __slots__ = ("count", "end", "exact", "starts")

    encapsulated = True

    def __init__(self, starts: Sequence[int], end: int, exact: Sequence[int] | None = None) -> None:
        self.starts, self.end, self.exact = starts, end, exact
        self.count = len(starts)

    def frame(self, index: int) -> Frame:
        """Return where the items of a frame lie, heads included, counted from 0. Raises IndexError beyond the last."""
        if not 0 <= index < self.count:
            raise IndexError(index)
        end = self.starts[index + 1] if index + 1 < self.count else self.end
        return Frame((Run(self.starts[index], end - self.starts[index]),))

    def value(self, index: int, data: bytes) -> bytes:
        """Return the frame in the bytes of its items. Raises FrameChanged where they are no items, or not as long as
        the table says.
        """
        values, pos = [], 0
        while pos < len(data):
            if len(data) - pos < ITEM_HEAD:
                raise FrameChanged
            tag, length = _item_head.unpack_from(data, pos)
            pos += ITEM_HEAD
            if tag != _ITEM_TAG or length > len(data) - pos:
                raise FrameChanged
            values.append(data[pos : pos + length])
            pos += length
        frame = b"".join(values)
        if self.exact is None:
            return frame
        if not 0 <= len(frame) - self.exact[index] <= 1:
            raise FrameChanged
        return frame[: self.exact[index]]


Layout = Native | Encapsulated | Spans


class Fragments(NamedTuple):
    """The items of encapsulated pixel data, as their heads say: the basic offset table's value, offset of the first
    byte behind that item, starts and lengths of the fragments' values, and, where they were looked at, the first and
    last bytes of each (`edges`).
    """

    basic: bytes
    base: int
    starts: Sequence[int]
    lengths: Sequence[int]
    edges: Sequence[tuple[bytes, bytes]] = ()


def frame_bits(facts: Facts) -> int:
    """Return the bits of a native frame. Raises FramesUnclear where the header does not say them."""
    if facts.BitsAllocated != 1 and facts.BitsAllocated not in (8, 16, 32, 64):
        raise FramesUnclear(f"BitsAllocated is {facts.BitsAllocated}")
    samples = facts.SamplesPerPixel or 1
    if facts.PhotometricInterpretation in ("YBR_FULL_422", "YBR_PARTIAL_422"):
        samples = 2  # chroma of every second pixel only (PS3.3 section C.7.6.3.1.2)
    elif facts.PhotometricInterpretation == "YBR_PARTIAL_420":
        raise FramesUnclear("YBR_PARTIAL_420 is no native format")
    bits = facts.Rows * facts.Columns * samples * facts.BitsAllocated
    if not bits:
        raise FramesUnclear("Rows, Columns or BitsAllocated is missing")
    return bits


def _word(facts: Facts) -> int:
    """Return how many bytes are reversed together, to be little endian: those of a sample, but of OW at least two."""
    if facts.little:
        return 1
    return max(facts.BitsAllocated // 8, 1 if facts.vr == b"OB" else 2)


def is_video(syntax: str) -> bool:
    """Return whether a transfer syntax is one of video; also in its fragmentable form, of which the UID ends in .1."""
    return syntax.removesuffix(".1") in _VIDEO[:-1] or syntax.startswith(_VIDEO[-1])


def encapsulated(facts: Facts, fragments: Fragments, offsets: bytes = b"", lengths: bytes = b"") -> Encapsulated:
    """Return the layout of encapsulated pixel data. `offsets` and `lengths` are the values of the extended offset
    table, b"" where it is absent.

    Raises NoSingleFrames for video, FramesUnclear where no table can be used and the fragments cannot be told apart.
    """
    if is_video(facts.TransferSyntaxUID):
        raise NoSingleFrames(facts.TransferSyntaxUID)
    count, starts = max(facts.NumberOfFrames, 1), fragments.starts
    exact = _exact_lengths(count, fragments, _numbers("Q", offsets), _numbers("Q", lengths))
    if len(starts) == count or exact:
        return Encapsulated(starts, fragments.lengths, exact=exact)
    if count == 1 and len(starts) > 0:
        return Encapsulated(starts, fragments.lengths, first=array("Q", [0]))
    first = _by_table(count, fragments, _numbers("L", fragments.basic)) or _by_marks(count, fragments)
    if not first:
        raise FramesUnclear(f"{len(starts)} fragments for {count} frames, and no offset table that fits them")
    return Encapsulated(starts, fragments.lengths, first=first)


def needs_edges(facts: Facts, fragments: Fragments) -> bool:
    """Return whether the fragments can be told apart by their first and last bytes only."""
    count, found = max(facts.NumberOfFrames, 1), len(fragments.starts)
    return 1 < count < found and not _by_table(count, fragments, _numbers("L", fragments.basic))


def _numbers(code: str, value: bytes) -> Sequence[int]:
    """Return the unsigned numbers in the value of a table, which is little endian; none where it is no table."""
    size = struct.calcsize(f"<{code}")
    return struct.unpack(f"<{len(value) // size}{code}", value) if value and len(value) % size == 0 else ()


def spans(facts: Facts, start: int, basic: bytes, tables: tuple[bytes, bytes], end: int) -> Spans | None:
    """Return the layout by the extended offset table, or the basic one, without a look at the fragments; None where
    neither can be believed: of the right count, ascending by at least an item's head, and inside the source.

    `start` is the offset behind the basic table's item, and `end` of the source. Of the layout, `end` is that of the
    last frame's first item at least: who uses it must find out where the last frame ends.
    """
    if is_video(facts.TransferSyntaxUID):
        raise NoSingleFrames(facts.TransferSyntaxUID)
    count = max(facts.NumberOfFrames, 1)
    offsets, lengths = _numbers("Q", tables[0]), _numbers("Q", tables[1])
    if len(offsets) == len(lengths) == count and _ascends(offsets, end - start):
        return Spans(array("Q", [start + one for one in offsets]), start + offsets[-1], array("Q", lengths))
    offsets = _numbers("L", basic)
    if len(offsets) == count and _ascends(offsets, end - start):
        return Spans(array("Q", [start + one for one in offsets]), start + offsets[-1])
    return None


def _ascends(offsets: Sequence[int], room: int) -> bool:
    return (
        offsets[0] == 0
        and offsets[-1] + ITEM_HEAD <= room
        and all(before + ITEM_HEAD <= offset for before, offset in pairwise(offsets))
    )


def _exact_lengths(
    count: int, fragments: Fragments, offsets: Sequence[int], lengths: Sequence[int]
) -> Sequence[int] | None:
    """Return the lengths of the extended offset table, if it can be believed: one fragment a frame, each where the
    table says, and as long but for padding. Otherwise None.
    """
    if not len(offsets) == len(lengths) == len(fragments.starts) == count:
        return None
    behind = fragments.base + ITEM_HEAD
    fits = all(
        behind + offset == start and 0 <= stored - length <= 1
        for offset, length, start, stored in zip(offsets, lengths, fragments.starts, fragments.lengths, strict=True)
    )
    return array("Q", lengths) if fits else None


def _by_table(count: int, fragments: Fragments, offsets: Sequence[int]) -> Sequence[int] | None:
    """Return the number of each frame's first fragment by the basic offset table, None if it cannot be believed."""
    if len(offsets) != count or offsets[0] != 0:
        return None
    first = array("Q")
    last = -1
    for offset in offsets:
        start = fragments.base + ITEM_HEAD + offset
        number = bisect_right(fragments.starts, start) - 1
        if number <= last or fragments.starts[number] != start:
            return None
        first.append(number)
        last = number
    return first


def _by_marks(count: int, fragments: Fragments) -> Sequence[int] | None:
    """Return the number of each frame's first fragment by the marks of JPEG streams: a frame begins with one, behind
    the end of another. None if that gives another number of frames, or is not known.
    """
    first = array("Q")
    ended = True
    for number, (head, tail) in enumerate(fragments.edges):
        if ended != head.startswith(_STARTS):
            return None
        if ended:
            first.append(number)
        ended = tail.rstrip(b"\0").endswith(_END)
    return first if ended and len(first) == count else None
