"""How elements and items are encoded (PS3.5 section 7): tags, VRs, lengths, in the three ways there are.

Where the standard leaves a choice it is pydicom's, so that both see the same elements: an element whose VR is no pair
of letters is read as implicit VR, and an unknown pair of letters has a 16-bit length.
"""

from __future__ import annotations

from collections.abc import Callable
from struct import Struct
from typing import NamedTuple

from listener.dicom.source import Source
from listener.errors import Incomplete

ITEM = 0xFFFEE000
ITEM_END = 0xFFFEE00D
SEQUENCE_END = 0xFFFEE0DD
UNDEFINED = 0xFFFFFFFF

#: Float, double float and other pixel data: at most one of them in a data set, and nearly last (PS3.5 section 8).
PIXEL_DATA = 0x7FE00010
PIXEL_TAGS = frozenset({0x7FE00008, 0x7FE00009, PIXEL_DATA})

#: Values that are no header: pixels, an encapsulated document, spectroscopy data. --max-header does not count them.
BULK_TAGS = PIXEL_TAGS | {0x00420011, 0x56000020}

#: VRs with two reserved bytes and a 32-bit length (PS3.5 table 7.1-1), and those with a 16-bit length (7.1-2).
LONG_VRS = frozenset(b"OB OD OF OL OV OW SQ SV UC UN UR UT UV".split())
SHORT_VRS = frozenset(b"AE AS AT CS DA DS DT FD FL IS LO LT PN SH SL SS ST TM UI UL US".split())

#: VRs under which a sequence may hide; b"" is implicit VR, where only the dictionary knows.
SEQUENCE_VRS = frozenset((b"SQ", b"UN", b""))

#: Bytes of an item's head and of most elements' heads, and of an explicit one with a long VR.
HEAD = 8
LONG_HEAD = 12


class Head(NamedTuple):
    """The head of an element: `vr` is b"" where it was read as implicit VR; `start` is the offset of the value and
    `length` its length in bytes or UNDEFINED.
    """

    tag: int
    vr: bytes
    start: int
    length: int


class _Order(NamedTuple):
    """What unpacks tags and lengths in one byte order, and the two tags that begin what a sequence holds."""

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


class Encoding:
    """Heads read from a source in one byte order."""

    __slots__ = ("_item", "_read", "_tag", "_u16", "_u32", "delimiter", "little")

    def __init__(self, source: Source, *, little: bool) -> None:
        self.little = little
        self._read = source.read
        self._tag, self._u16, self._u32, self.delimiter, self._item = _LITTLE if little else _BIG

    def head(self, pos: int, *, implicit: bool) -> Head:
        """The head of the element at `pos`; Incomplete when the source ends within it."""
        raw = self._read(pos, LONG_HEAD)
        if len(raw) < HEAD:
            raise Incomplete("it ends within an element's head")
        group, element = self._tag(raw)
        tag = group << 16 | element
        vr = raw[4:6]
        # the comparison is of bytes, not of letters, because pydicom's is
        if implicit or not b"AA" <= vr <= b"ZZ":
            return Head(tag, b"", pos + HEAD, self._u32(raw, 4)[0])
        if vr not in LONG_VRS:
            return Head(tag, vr, pos + HEAD, self._u16(raw, 6)[0])
        if len(raw) < LONG_HEAD:
            raise Incomplete("it ends within an element's head")
        return Head(tag, vr, pos + LONG_HEAD, self._u32(raw, 8)[0])

    def item(self, pos: int) -> tuple[int, int]:
        """Tag and length of the item or delimiter at `pos`, which are encoded alike everywhere (PS3.5 section 7.5)."""
        raw = self._read(pos, HEAD)
        if len(raw) < HEAD:
            raise Incomplete("it ends within an item's head")
        group, element = self._tag(raw)
        return group << 16 | element, self._u32(raw, 4)[0]

    def starts_items(self, pos: int) -> bool:
        """Whether an item or the end of a sequence is at `pos`."""
        return self._read(pos, 4) in (self._item, self.delimiter)

    def looks_implicit(self, pos: int) -> bool:
        """Whether the element at `pos` is implicit VR: its VR is no two capitals. False when there are no six bytes."""
        vr = self._read(pos, 6)[4:]
        return len(vr) == len("VR") and not (vr.isalpha() and vr.isupper())
