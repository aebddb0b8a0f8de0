"""Encodings of elements and items (PS3.5 section 7): tags, VRs, lengths, in three transfer formats.

An unlisted VR has a 32-bit length (PS3.5 section 7.1.2: all future VRs have), or, where that is impossible, a 16-bit
one; what is no pair of capitals may also be an element in implicit VR among explicit ones.
"""

from __future__ import annotations

from collections.abc import Callable
from struct import Struct
from typing import NamedTuple

from listener.dicom.source import Source
from listener.reasons import Incomplete

ITEM = 0xFFFEE000
ITEM_END = 0xFFFEE00D
SEQUENCE_END = 0xFFFEE0DD
UNDEFINED = 0xFFFFFFFF

#: Float, double float and other pixel data: at most one of them in a data set, and nearly last (PS3.5 section 8).
PIXEL_DATA = 0x7FE00010
PIXEL_TAGS = frozenset({0x7FE00008, 0x7FE00009, PIXEL_DATA})

#: Bulk values (pixels, an encapsulated document, spectroscopy data), which --max-header does not count.
BULK_TAGS = PIXEL_TAGS | {0x00420011, 0x56000020}

#: VRs with two reserved bytes and a 32-bit length (PS3.5 table 7.1-1), and those with a 16-bit length (7.1-2).
LONG_VRS = frozenset(b"OB OD OF OL OV OW SQ SV UC UN UR UT UV".split())
SHORT_VRS = frozenset(b"AE AS AT CS DA DS DT FD FL IS LO LT PN SH SL SS ST TM UI UL US".split())

#: Most bytes of a value that is read; longer ones are skipped, or only measured.
MAX_VALUE = 1024 * 1024

#: VRs of a possible sequence; b"" is implicit VR, where only the dictionary tells.
SEQUENCE_VRS = frozenset((b"SQ", b"UN", b""))

#: The group of items and delimiters, which have no VR.
_ITEMS = 0xFFFE

#: Bytes of an item's head and of most elements' heads, and of an explicit one with a long VR.
HEAD = 8
LONG_HEAD = 12


class Head(NamedTuple):
    """Head of an element: `vr` is b"" for implicit VR; `start` is the offset of the value and `length` its length in
    bytes or UNDEFINED.
    """

    tag: int
    vr: bytes
    start: int
    length: int


class _Order(NamedTuple):
    """Functions that unpack tags and lengths in one byte order, and the two tags with which the content of a sequence
    can begin.
    """

    tag: Callable[..., tuple[int, int]]
    u16: Callable[..., tuple[int]]
    u32: Callable[..., tuple[int]]
    delimiter: bytes
    item: bytes


def _order(sign: str) -> _Order:
    tag = Struct(sign + "HH")
    delimiter, item = (tag.pack(one >> 16, one & 0xFFFF) for one in (SEQUENCE_END, ITEM))
    return _Order(tag.unpack_from, Struct(sign + "H").unpack_from, Struct(sign + "L").unpack_from, delimiter, item)


_LITTLE, _BIG = _order("<"), _order(">")


def _is_capitals(vr: bytes) -> bool:
    return vr.isalpha() and vr.isupper()


def _is_printable(vr: bytes) -> bool:
    return all(0x20 <= byte < 0x7F for byte in vr)


class Encoding:
    """Reads heads of elements and items from a source in one byte order."""

    __slots__ = ("_item", "_reaches", "_read", "_tag", "_u16", "_u32", "delimiter", "little")

    def __init__(self, source: Source, *, little: bool) -> None:
        self.little = little
        self._read = source.read
        self._reaches = source.reaches
        self._tag, self._u16, self._u32, self.delimiter, self._item = _LITTLE if little else _BIG

    def head(self, pos: int, *, implicit: bool) -> Head:
        """Return the head of the element at `pos`. Raises Incomplete when the source ends within it."""
        raw = self._read(pos, LONG_HEAD)
        if len(raw) < HEAD:
            raise Incomplete("it ends within an element's head")
        group, element = self._tag(raw)
        tag = group << 16 | element
        vr = raw[4:6]
        if implicit or group == _ITEMS:
            return Head(tag, b"", pos + HEAD, self._u32(raw, 4)[0])
        if vr in SHORT_VRS:
            return Head(tag, vr, pos + HEAD, self._u16(raw, 6)[0])
        if vr not in LONG_VRS:
            return self._unknown(tag, raw, pos)
        if len(raw) < LONG_HEAD:
            raise Incomplete("it ends within an element's head")
        return Head(tag, vr, pos + LONG_HEAD, self._u32(raw, 8)[0])

    def _unknown(self, tag: int, raw: bytes, pos: int) -> Head:
        """Return the head of an element with an unlisted VR: the first reading behind which something can follow.

        Capitals are a future VR or a private one. Other printable characters (`??`, blanks, `--`) come from programs
        that did not know the VR and give it 16 bits. Anything else is implicit VR.
        """
        vr = raw[4:6]
        short = Head(tag, vr if _is_capitals(vr) else b"", pos + HEAD, self._u16(raw, 6)[0])
        implicit = Head(tag, b"", pos + HEAD, self._u32(raw, 4)[0])
        if not _is_capitals(vr):
            readings = [short, implicit] if _is_printable(vr) else [implicit, short]
        elif len(raw) == LONG_HEAD and raw[6:HEAD] == b"\0\0":
            readings = [Head(tag, vr, pos + LONG_HEAD, self._u32(raw, 8)[0]), short]
        else:
            return short
        default = implicit if not _is_capitals(vr) else readings[0]
        return next((head for head in readings if self._may_be(head, vr)), default)

    def _may_be(self, head: Head, vr: bytes) -> bool:
        """Return whether the end of the data, an element or an item follows the value of this head."""
        if head.length == UNDEFINED:
            return self.starts_items(head.start)
        end = head.start + head.length
        if not self._reaches(end):
            return False
        raw = self._read(end, HEAD)
        return not any(raw) or self._has_known_vr(raw) or raw[4:6] == vr or raw[:2] == self._item[:2]

    @staticmethod
    def _has_known_vr(raw: bytes) -> bool:
        return raw[4:6] in SHORT_VRS or raw[4:6] in LONG_VRS

    def tag(self, raw: bytes) -> int:
        """Return the tag in four bytes."""
        group, element = self._tag(raw)
        return group << 16 | element

    def item(self, pos: int) -> tuple[int, int]:
        """Return tag and length of the item or delimiter at `pos`, which have one encoding everywhere (PS3.5 section
        7.5).
        """
        raw = self._read(pos, HEAD)
        if len(raw) < HEAD:
            raise Incomplete("it ends within an item's head")
        group, element = self._tag(raw)
        return group << 16 | element, self._u32(raw, 4)[0]

    def starts_items(self, pos: int) -> bool:
        """Return whether an item or the end of a sequence is at `pos`."""
        return self._read(pos, 4) in (self._item, self.delimiter)

    def looks_implicit(self, pos: int) -> bool:
        """Return whether the element at `pos` is implicit VR: its VR is no two capitals. False when there are no six
        bytes.

        Two printable characters are an unknown VR if an element in explicit VR follows.
        """
        raw = self._read(pos, HEAD)
        vr = raw[4:6]
        if len(vr) < len("VR") or _is_capitals(vr):
            return False
        if len(raw) < HEAD or not _is_printable(vr):
            return True
        end = pos + HEAD + self._u16(raw, 6)[0]
        return not (self._reaches(end + HEAD) and self._has_known_vr(self._read(end, HEAD)))
