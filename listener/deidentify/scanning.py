"""Read the values of a file for verification: lenient, and sharing nothing with the code that rewrites.

Values of every depth come in the order of the file. Native pixels are never read; of encapsulated JPEG the comments and
application segments are.
"""

from __future__ import annotations

import os
import zlib
from collections.abc import Iterator
from struct import Struct
from typing import NamedTuple

from listener.dicom.attributes import dictionary_vr
from listener.dicom.syntaxes import ALL_DEFLATED, EXPLICIT_BIG, IMPLICIT_LITTLE

_LONG = frozenset((b"OB", b"OW", b"SQ", b"UN", b"UT", b"UC", b"UR", b"OD", b"OF", b"OL", b"OV", b"SV", b"UV"))
_OPEN = 0xFFFFFFFF
_PIXELS = 0x7FE00010
_BULK = frozenset({0x7FE00008, 0x7FE00009, _PIXELS})

#: Bytes of a file that are read at first, and the most before its pixels.
_FIRST, _MOST = 256 * 1024, 64 * 1024 * 1024

#: Bytes that are read beyond where pixels began before.
_ROOM = 4096

#: Bytes of a fragment that are searched for segments, and of a deflated data set that are inflated at once.
_SEGMENTS, _MOST_INFLATED = 64 * 1024, 1024 * 1024
_JPEG, _JPEG2000 = b"\xff\xd8", b"\xff\x4f"


_NOTHING = (b"", 0)


class Leaf(NamedTuple):
    """A value: tag, VR (of the dictionary where the file has none), bytes without padding."""

    tag: int
    vr: str
    value: bytes


class Scanned(NamedTuple):
    """What was read of a file: bytes (inflated), their values, segments of its frames, and where in the data set the
    pixels end (-1: there are none).
    """

    data: bytes
    leaves: list[Leaf]
    segments: list[bytes]
    end: int


class Seen:
    """Elements at the top level of the files that were scanned with it: one whose bytes were seen has no leaves any
    more. Whoever gives it to scan() has dealt with the leaves that it had.
    """

    def __init__(self) -> None:
        #: The elements of the last file, as bytes from the head on, and where each is, by the bytes of its tag.
        self.elements: list[bytes] = []
        self.places: dict[bytes, int] = {}
        #: By the place where they begin: elements that are the same in every file, as one piece, and how many they are.
        self.stretches: dict[int, tuple[bytes, int]] = {}
        #: Tags of the elements that are not.
        self.changing: set[bytes] = set()
        #: Bytes that suffice to come to the pixels.
        self.size = 0

    def keep(self, elements: list[bytes], pixels: int) -> None:
        """Keep the elements of another file, in their order."""
        self.size = max(self.size, pixels + _ROOM)
        known, self.elements = self.elements, elements
        changes = [pair for pair in zip(elements, known, strict=False) if pair[0] is not pair[1]]
        if len(elements) != len(known) or any(one[:4] != other[:4] for one, other in changes):
            self.places = {raw[:4]: place for place, raw in enumerate(elements)}
            self.stretches = {}
            return
        changed = {one[:4] for one, _ in changes}
        if not self.stretches or not changed <= self.changing:
            self.changing |= changed
            self.stretches = dict(self._joined())

    def _joined(self) -> Iterator[tuple[int, tuple[bytes, int]]]:
        """Yield the stretches between elements that change."""
        first = 0
        for place, raw in enumerate((*self.elements, b"")):
            if not raw or raw[:4] in self.changing:
                if place > first + 1:
                    yield first, (b"".join(self.elements[first:place]), place - first)
                first = place + 1


class Unreadable(Exception):
    """The file cannot be read for verification."""


class _Cut(Exception):
    """The bytes at hand end too early."""


def scan(descriptor: int, begin: int, syntax: str, seen: Seen | None = None) -> Scanned:
    """Read a file whose data set starts at `begin`, to its pixels; without leaves of what was seen. Raises Unreadable
    and OSError.
    """
    seen = seen or Seen()
    implicit, little, deflated = _form_of(syntax)
    count = seen.size or _FIRST
    while count <= _MOST:
        data, is_whole = _inflated(descriptor, begin, 0, count) if deflated else _read(descriptor, begin, count)
        walk = _Walk(data, little=little)
        try:
            elements = walk.top(seen, implicit=implicit)
        except _Cut:
            if is_whole:
                raise Unreadable("it ends within a value") from None
            count *= 4
            continue
        if walk.pixels < 0 and not is_whole:
            count *= 4
            continue
        if elements is not seen.elements:
            seen.keep(elements, walk.pixels)
        if walk.pixels < 0:
            return Scanned(data, walk.leaves, [], -1)
        segments: list[bytes] = []
        end = walk.pixels + walk.pixels_length
        if walk.pixels_length == _OPEN and not deflated:
            segments, end = _fragments(descriptor, begin + walk.pixels)
            end -= begin
        return Scanned(data[: walk.pixels], walk.leaves, segments, end)
    raise Unreadable("it has too much before its pixels")


def scan_behind(descriptor: int, begin: int, syntax: str, before: Scanned) -> Scanned:
    """Read what stands behind the pixels of a file that was scanned before. Raises Unreadable and OSError."""
    implicit, little, deflated = _form_of(syntax)
    data, is_whole = b"", True
    if before.end >= 0:
        data, is_whole = (
            _inflated(descriptor, begin, before.end, _MOST)
            if deflated
            else _read(descriptor, begin + before.end, _MOST)
        )
    if not is_whole:
        raise Unreadable("it has too much behind its pixels")
    walk = _Walk(data, little=little)
    try:
        walk.run(0, len(data), implicit=implicit)
    except _Cut:
        raise Unreadable("it ends within a value") from None
    return Scanned(data, walk.leaves, [], -1)


def _form_of(syntax: str) -> tuple[bool, bool, bool]:
    """Return whether a transfer syntax has implicit VR, is in little endian, and is deflated."""
    return syntax == IMPLICIT_LITTLE, syntax != EXPLICIT_BIG, syntax in ALL_DEFLATED


def _read(descriptor: int, begin: int, count: int) -> tuple[bytes, bool]:
    left = os.fstat(descriptor).st_size - begin
    data = os.pread(descriptor, max(0, min(count, left)), begin)
    return data, len(data) >= left


def _inflated(descriptor: int, begin: int, start: int, count: int) -> tuple[bytes, bool]:
    """Return at most `count` inflated bytes from `start` on, and whether these are all."""
    engine = zlib.decompressobj(-zlib.MAX_WBITS)
    made, left, at = bytearray(), start, begin
    try:
        while len(made) < count and not engine.eof:
            piece = engine.unconsumed_tail or os.pread(descriptor, _FIRST, at)
            at += 0 if engine.unconsumed_tail else len(piece)
            # What is left once all was read is less than a match of DEFLATE is long.
            found = engine.decompress(piece, min(left + count - len(made), _MOST_INFLATED)) if piece else engine.flush()
            made += found[left:]
            left = max(left - len(found), 0)
            if not piece:
                break
    except zlib.error:
        raise Unreadable("it cannot be inflated") from None
    return bytes(made), engine.eof


class _Walk:
    """Values of a data set; `pixels` is where the pixel data's value starts, -1 if it was not met, and `pixels_length`
    the length that its head tells.
    """

    def __init__(self, data: bytes, *, little: bool) -> None:
        self.leaves: list[Leaf] = []
        self.pixels, self.pixels_length = -1, 0
        self._data = data
        self._set_order(little=little)

    def _set_order(self, *, little: bool) -> None:
        sign = "<" if little else ">"
        self._little = little
        self._tag, self._u16 = Struct(f"{sign}HH").unpack_from, Struct(f"{sign}H").unpack_from
        self._u32 = Struct(f"{sign}L").unpack_from

    def top(self, seen: Seen, *, implicit: bool) -> list[bytes]:
        """Collect the values of a data set that were not seen, and return its elements. Raises _Cut."""
        data, known, places, stretches = self._data, seen.elements, seen.places, seen.stretches
        found: list[bytes] = []
        at, place, end = 0, 0, len(data)
        is_new = False
        while at + 8 <= end:
            stretch, count = stretches.get(place, _NOTHING)
            if count and data.startswith(stretch, at):
                found += known[place : place + count]
                at += len(stretch)
                place += count
                continue
            if place < len(known) and data.startswith(raw := known[place], at):
                found.append(raw)
                at += len(raw)
                place += 1
                continue
            group, element = self._tag(data, at)
            tag = group << 16 | element
            if tag in _BULK:
                _, self.pixels, self.pixels_length = self._head(at, tag, implicit=implicit)
                break
            if group == 0xFFFE:
                break
            before, is_new = at, True
            at = self._element(at, tag, implicit=implicit, depth=0)
            found.append(raw := data[before:at])
            place = places.get(raw[:4], place - 1) + 1
        return found if is_new or len(found) != len(known) else known

    def run(self, at: int, end: int, *, implicit: bool, depth: int = 0) -> int:
        """Collect the values from `at` on, to `end` or the delimiter of an item. Return the offset behind. Raises
        _Cut.
        """
        while at + 8 <= end:
            group, element = self._tag(self._data, at)
            tag = group << 16 | element
            if group == 0xFFFE:
                return at + 8
            at = self._element(at, tag, implicit=implicit, depth=depth)
        return end

    def _element(self, at: int, tag: int, *, implicit: bool, depth: int) -> int:
        """Collect the values of an element; return the offset behind."""
        vr, start, length = self._head(at, tag, implicit=implicit)
        return self._value(Leaf(tag, vr, b""), start, length, implicit=implicit, depth=depth)

    def _head(self, at: int, tag: int, *, implicit: bool) -> tuple[str, int, int]:
        if implicit:
            return dictionary_vr(tag) or "UN", at + 8, self._u32(self._data, at + 4)[0]
        vr = self._data[at + 4 : at + 6]
        if vr in _LONG:
            if at + 12 > len(self._data):
                raise _Cut
            return vr.decode("latin-1"), at + 12, self._u32(self._data, at + 8)[0]
        return vr.decode("latin-1"), at + 8, self._u16(self._data, at + 6)[0]

    def _value(self, leaf: Leaf, start: int, length: int, *, implicit: bool, depth: int) -> int:
        items = self._data[start : start + 4] in (b"\xfe\xff\x00\xe0", b"\xff\xfe\xe0\x00")
        if length == _OPEN or leaf.vr == "SQ" or (leaf.vr == "UN" and items):
            stop = len(self._data) if length == _OPEN else start + length
            if stop > len(self._data):
                raise _Cut
            end = self._items(start, stop, implicit=implicit or leaf.vr == "UN", depth=depth, alien=leaf.vr == "UN")
            return end if length == _OPEN else stop
        if start + length > len(self._data):
            raise _Cut
        # An element that is known may have been written as UN: its text is one nonetheless.
        vr = (dictionary_vr(leaf.tag) or "UN")[:2] if leaf.vr == "UN" else leaf.vr
        self.leaves.append(Leaf(leaf.tag, vr, self._data[start : start + length].strip(b" \0")))
        return start + length

    def _items(self, at: int, end: int, *, implicit: bool, depth: int, alien: bool) -> int:
        """Collect the values of items. UN is in little endian, whatever is around it."""
        if depth > 100:
            return end
        before = self._little
        if alien:
            self._set_order(little=True)
        try:
            while at + 8 <= end:
                group, element = self._tag(self._data, at)
                length = self._u32(self._data, at + 4)[0]
                at += 8
                if group != 0xFFFE or element == 0xE0DD:
                    return at
                if element == 0xE000:
                    stop = end if length == _OPEN else at + length
                    at = self.run(at, min(stop, end), implicit=implicit, depth=depth + 1)
            if at < end:
                raise _Cut
            return end
        finally:
            self._set_order(little=before)


def _fragments(descriptor: int, at: int) -> tuple[list[bytes], int]:
    """Return comments and application segments of the fragments of encapsulated JPEG at `at`, and where what follows
    the fragments starts. Raises Unreadable.
    """
    found: list[bytes] = []
    while True:
        head = os.pread(descriptor, 8, at)
        length = int.from_bytes(head[4:], "little")
        at += 8
        if head[:4] == b"\xfe\xff\xdd\xe0":
            return found, at
        if head[:4] != b"\xfe\xff\x00\xe0" or len(head) < 8:
            raise Unreadable("its pixels are not made of fragments")
        found += _segments(descriptor, at, length)
        at += length


def _segments(descriptor: int, at: int, length: int) -> list[bytes]:
    """Return the segments at the start of a fragment. Raises Unreadable where they have no end."""
    count = _SEGMENTS
    while True:
        found, goes_on = _walked(os.pread(descriptor, min(length, count), at))
        if not goes_on or count >= length:
            return found
        if count > _MOST:
            raise Unreadable("a frame has too much before its pixels")
        count *= 4


def segments_of(data: bytes) -> list[bytes]:
    """Return the comments and application segments at the start of a JPEG or JPEG 2000 stream."""
    return _walked(data)[0]


def _walked(data: bytes) -> tuple[list[bytes], bool]:
    """Return segments as segments_of does, and whether the stream may have more behind these bytes."""
    found: list[bytes] = []
    is_jpeg = data[:2] == _JPEG
    if not is_jpeg and data[:2] != _JPEG2000:
        return found, False
    at = 2
    while at + 4 <= len(data):
        marker = data[at + 1]
        if data[at] != 0xFF or marker in ((0xDA, 0xD9) if is_jpeg else (0x90, 0xD9)):
            return found, False
        length = int.from_bytes(data[at + 2 : at + 4], "big")
        if (marker == 0xFE or 0xE0 <= marker <= 0xEF) if is_jpeg else marker == 0x64:
            found.append(data[at + 4 : at + 2 + length])
        at += 2 + max(length, 2)
    return found, True
