"""The structure of any data set: which element lies where, and whether the bytes go as far as they say.

This is the thorough walk (PS3.5 section 7): every encoding, sequences of undefined length, encapsulated pixels, bad
input. It is iterative, holds one window of the file, and believes no length that it has not compared with the size.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

from listener.encoding import (
    BULK_TAGS,
    HEAD,
    LONG_VRS,
    PIXEL_TAGS,
    SEQUENCE_VRS,
    SHORT_VRS,
    UNDEFINED,
    Encoding,
    Head,
)
from listener.errors import Incomplete, TooLarge
from listener.header import Limits
from listener.nested import OPEN, Nested
from listener.source import WINDOW, Source

#: Elements and items in one data set: far above the largest enhanced multi-frame, a few seconds of walking.
MAX_ELEMENTS = 2_000_000


class Element(NamedTuple):
    """A top-level element: `vr` is b"" where it was read as implicit VR; `start`, `length` (bytes) of its value without
    the sequence delimiter; `end` is the offset behind all of it; `is_sequence` is said of undefined lengths only.
    """

    tag: int
    vr: bytes
    start: int
    length: int
    end: int
    undefined: bool = False
    is_sequence: bool = False


class Structure:
    """The walk over the data set that starts at `begin` of `source`, little endian or not.

    `implicit` is decided as pydicom does: by the first element's VR, whatever the transfer syntax says. `warning`
    tells, once elements() has ended, what is odd but no fault; `pixel_seen` whether pixel data were met.
    """

    def __init__(self, source: Source, begin: int, limits: Limits, *, little: bool = True) -> None:
        self.source = source
        self.encoding = Encoding(source, little=little)
        self.implicit = self.encoding.looks_implicit(begin)
        self.warning = ""
        self.pixel_seen = False
        self._begin = begin
        self._max_header = limits.max_header
        self._nested = Nested(source, self.encoding, limits.max_depth, self._tick)
        self._bulk = 0
        self._count = 0

    def elements(self) -> Iterator[Element]:
        """The top-level elements in the order of the file, up to its end.

        Raises Incomplete when the file ends first, TooDeep and TooLarge beyond the limits, NotDicom when a sequence
        cannot be followed.
        """
        pos = self._begin
        last = -1
        while self.source.reaches(pos + HEAD):
            head = self.encoding.head(pos, implicit=self.implicit)
            if self._is_padding(pos, head, last):
                break
            element = self._element(head)
            if head.tag in BULK_TAGS:
                self._bulk += element.length
                self.pixel_seen = self.pixel_seen or head.tag in PIXEL_TAGS
            self._tick(element.end)
            yield element
            last = head.tag
            pos = element.end
        self._check_rest(pos)

    def _tick(self, pos: int) -> None:
        self._count += 1
        if self._count > MAX_ELEMENTS:
            raise TooLarge(f"more than {MAX_ELEMENTS} elements")
        if pos - self._begin - self._bulk > self._max_header:
            raise TooLarge(f"more than {self._max_header} bytes")

    def _element(self, head: Head) -> Element:
        tag, vr, start, length = head
        if length == UNDEFINED:
            # UN of undefined length is a sequence (PS3.5 section 6.2.2 note 7)
            is_sequence = vr in (b"SQ", b"UN") or (not vr and self.encoding.starts_items(start))
            is_sequence = is_sequence and tag not in PIXEL_TAGS
            if is_sequence:
                end = self._nested.sequence_end(start, end=OPEN, implicit=self.implicit)
            else:
                end = self._nested.fragments_end(start)
            return Element(tag, vr, start, end - HEAD - start, end, undefined=True, is_sequence=is_sequence)
        end = start + length
        if not self.source.reaches(end):
            raise Incomplete("an element is longer than the file")
        if vr in SEQUENCE_VRS and tag not in BULK_TAGS and self._nested.may_be_too_deep(start, length):
            self._nested.sequence_end(start, end=end, implicit=self.implicit)
        return Element(tag, vr, start, length, end)

    def _is_padding(self, pos: int, head: Head, last: int) -> bool:
        """Whether what follows is no element: NULs, or behind the pixels anything that does not look like one."""
        if head.tag == 0 and not any(self.source.read(pos, HEAD)):
            return True
        looks_right = self.implicit or head.vr in LONG_VRS or head.vr in SHORT_VRS
        return self.pixel_seen and (head.tag <= last or not looks_right)

    def _check_rest(self, pos: int) -> None:
        """What follows the last element: nothing or NULs are fine; behind the pixels anything else is worth a word."""
        while window := self.source.read(pos, WINDOW):
            if window.strip(b"\0"):
                if not self.pixel_seen:
                    raise Incomplete("it ends within an element's head")
                self.warning = "bytes behind the data set"
                return
            pos += len(window)
            self._tick(pos)
