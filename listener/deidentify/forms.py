"""Heads of elements and items in the three forms of a data set (PS3.5 section 7), read strictly and written.

Strictly: what does not follow the standard is refused, since what is not understood must not pass.
"""

from __future__ import annotations

from struct import Struct
from typing import NamedTuple

from listener.deidentify.faults import NotUnderstood
from listener.dicom.attributes import dictionary_vr
from listener.dicom.encoding import (
    HEAD,
    ITEM,
    ITEM_END,
    LONG_HEAD,
    LONG_VRS,
    SEQUENCE_END,
    SHORT_VRS,
    UNDEFINED,
    Encoding,
)
from listener.dicom.file_meta import FileMeta
from listener.dicom.source import Source
from listener.dicom.syntaxes import EXPLICIT_BIG, EXPLICIT_LITTLE, IMPLICIT_LITTLE

#: Of each VR its name, and whether its length has 32 bits.
_VRS = {vr: (vr.decode(), vr in LONG_VRS) for vr in LONG_VRS | SHORT_VRS}

_ITEMS = 0xFFFE

#: Why a value of undefined length that is no sequence cannot be followed.
NO_FRAGMENTS = "a value of undefined length is not made of fragments"
_MOST_SHORT = 0xFFFF

#: VRs that are padded with NUL; texts with a blank.
_NUL = frozenset({"UI", "OB", "UN"})


class Short(Exception):
    """The bytes at hand end within an element; more may follow in the file."""


class Head(NamedTuple):
    """Head of an element: its VR (of the dictionary in implicit VR, "UN" where that has none), where its value starts,
    and its length or UNDEFINED.
    """

    tag: int
    vr: str
    start: int
    length: int


def told_vr(head: Head) -> str:
    """Return the VR of an element: the dictionary's, where it has one of it alone, else the file's."""
    known = dictionary_vr(head.tag)
    return head.vr if not known or " " in known else known


class Form:
    """How a data set is encoded; one object each of FORMS."""

    def __init__(self, *, implicit: bool, little: bool) -> None:
        self.implicit, self.little = implicit, little
        sign = "<" if little else ">"
        self._explicit, self._plain = Struct(f"{sign}HH2sH"), Struct(f"{sign}HHL")
        self._u32 = Struct(f"{sign}L")

    def head(self, data: bytes, at: int) -> Head:
        """Return the head at `at`. Raises Short where `data` ends within it, NotUnderstood for an unknown VR."""
        if at + HEAD > len(data):
            raise Short
        if self.implicit:
            group, element, length = self._plain.unpack_from(data, at)
            tag = group << 16 | element
            return Head(tag, "" if group == _ITEMS else dictionary_vr(tag) or "UN", at + HEAD, length)
        group, element, vr, length = self._explicit.unpack_from(data, at)
        tag = group << 16 | element
        if group == _ITEMS:
            return Head(tag, "", at + HEAD, self._u32.unpack_from(data, at + 4)[0])
        name, is_long = _VRS.get(vr, ("", False))
        if not name:
            raise NotUnderstood("an element has a value representation that is not known")
        if not is_long:
            return Head(tag, name, at + HEAD, length)
        if at + LONG_HEAD > len(data):
            raise Short
        return Head(tag, name, at + LONG_HEAD, self._u32.unpack_from(data, at + HEAD)[0])

    def item(self, data: bytes, at: int) -> tuple[int, int]:
        """Return tag and length of the item or delimiter at `at`. Raises Short."""
        if at + HEAD > len(data):
            raise Short
        group, element, length = self._plain.unpack_from(data, at)
        return group << 16 | element, length

    def fragment(self, data: bytes, at: int, otherwise: str) -> int | None:
        """Return the length of the fragment at `at`, None where the delimiter stands. Raises Short, and NotUnderstood
        with the text `otherwise` where something else stands.
        """
        tag, length = self.item(data, at)
        if tag == SEQUENCE_END:
            return None
        if tag != ITEM or length == UNDEFINED:
            raise NotUnderstood(otherwise)
        return length

    def element(self, tag: int, vr: str, value: bytes) -> bytes:
        """Return an element with its value, padded to even length. Raises NotUnderstood where the VR cannot hold it."""
        if len(value) & 1:
            value += b"\0" if vr in _NUL else b" "
        return self._head(tag, vr, len(value)) + value

    def open_element(self, tag: int, vr: str) -> bytes:
        """Return the head of an element of undefined length."""
        return self._head(tag, vr, UNDEFINED)

    def item_head(self, length: int) -> bytes:
        """Return the head of an item with its length or UNDEFINED."""
        return self._plain.pack(ITEM >> 16, ITEM & 0xFFFF, length)

    def item_end(self) -> bytes:
        """Return the delimiter of an item."""
        return self._plain.pack(ITEM_END >> 16, ITEM_END & 0xFFFF, 0)

    def sequence_end(self) -> bytes:
        """Return the delimiter of a sequence."""
        return self._plain.pack(SEQUENCE_END >> 16, SEQUENCE_END & 0xFFFF, 0)

    def _head(self, tag: int, vr: str, length: int) -> bytes:
        group, element = tag >> 16, tag & 0xFFFF
        if self.implicit:
            return self._plain.pack(group, element, length)
        code = vr.encode()
        if _VRS[code][1]:
            return self._explicit.pack(group, element, code, 0) + self._u32.pack(length)
        if length > _MOST_SHORT:
            raise NotUnderstood("a value is too long for its value representation")
        return self._explicit.pack(group, element, code, length)


#: By (implicit, little).
FORMS = {
    (implicit, little): Form(implicit=implicit, little=little) for implicit in (False, True) for little in (False, True)
}

#: In which UN of undefined length, and sequences in UN, are encoded (PS3.5 section 6.2.2, note 7).
UNKNOWN_FORM = FORMS[True, True]


def syntax_of(meta: FileMeta, source: Source, begin: int) -> str:
    """Return the transfer syntax, from the data set's form where none is told. Raises NotUnderstood if they differ."""
    encoding = Encoding(source, little=meta.little)
    implicit = encoding.looks_implicit(begin)
    told = meta.TransferSyntaxUID
    if not told:
        return IMPLICIT_LITTLE if implicit else (EXPLICIT_LITTLE if meta.little else EXPLICIT_BIG)
    if implicit != (told == IMPLICIT_LITTLE):
        raise NotUnderstood("its transfer syntax is another than the one it names")
    return told
