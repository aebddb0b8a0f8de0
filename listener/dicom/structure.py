"""The structure of any data set: which element lies where, and whether the bytes go as far as they say.

This is the thorough walk (PS3.5 section 7): every encoding, sequences of undefined length, encapsulated pixels, bad
input. It is iterative, holds one window of the file, and believes no length that it has not compared with the size.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

from listener.dicom.encoding import (
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
from listener.dicom.header import Limits
from listener.dicom.nested import OPEN, Nested, shallow_bytes
from listener.dicom.source import WINDOW, Source
from listener.errors import Incomplete, TooLarge

#: Elements and items in one data set: far above the largest enhanced multi-frame, a few seconds of walking.
MAX_ELEMENTS = 2_000_000

#: NULs that may follow a data set without pixel data.
MAX_PADDING = 512


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


class Leap(NamedTuple):
    """What stands from `begin` to `head`, where one of `heads` is that of native pixel data, was not looked at."""

    begin: int
    head: int
    heads: tuple[bytes, ...]


class Structure:
    """The walk over the data set that starts at `begin` of `source`, little endian or not.

    `implicit` is decided as pydicom does: by the first element's VR, whatever the transfer syntax says. `warning`
    tells, once the walk has ended, what is odd but no fault; `pixel` is the element of the pixel data, once met. `pos`
    is the offset of the next element; the quick walk moves it, and counts what it passed in `count`; `leapt` is its
    leap, `limits` what of a header is accepted.
    """

    __slots__ = (
        "_begin",
        "_bulk",
        "_last",
        "count",
        "encoding",
        "implicit",
        "leapt",
        "limits",
        "pixel",
        "pos",
        "source",
        "warning",
    )

    def __init__(self, source: Source, begin: int, limits: Limits, *, little: bool = True) -> None:
        self.source = source
        self.encoding = Encoding(source, little=little)
        self.implicit = self.encoding.looks_implicit(begin)
        self.warning = ""
        self.pixel: Element | None = None
        self.leapt: Leap | None = None
        self.pos = begin
        self.count = 0
        self._begin = begin
        self.limits = limits
        self._bulk = 0
        self._last = -1

    def elements(self) -> Iterator[Element]:
        """The top-level elements in the order of the file, up to its end; raises as step()."""
        while (element := self.step()) is not None:
            yield element

    def step(self) -> Element | None:
        """The element at `pos`, or None at the end of the data set.

        Raises Incomplete when the file ends first, TooDeep and TooLarge beyond the limits, NotDicom when a sequence
        cannot be followed.
        """
        pos = self.pos
        if not self.source.reaches(pos + HEAD):
            self._check_rest(pos)
            return None
        head = self.encoding.head(pos, implicit=self.implicit)
        if self._is_padding(pos, head):
            self._check_rest(pos)
            return None
        element = self._element(head)
        if head.tag in BULK_TAGS:
            self._bulk += element.length
            if head.tag in PIXEL_TAGS:
                self.pixel = element
        self._tick(element.end)
        self._last = head.tag
        self.pos = element.end
        return element

    def leap(self, leapt: Leap, pixel: Element) -> None:
        """Go on behind the pixel data, which are no header."""
        self.leapt, self.pixel = leapt, pixel
        self._bulk += pixel.length
        self.pos = pixel.end

    def may_reach(self, pos: int) -> bool:
        """Whether a header up to `pos` is within the limits, whatever of it is no header."""
        return pos - self._begin <= self.limits.max_header

    def check_limits(self, pos: int, more: int = 0) -> None:
        """TooLarge when the header up to `pos` has too many bytes, or elements (`count` and `more`)."""
        if self.count + more > MAX_ELEMENTS:
            raise TooLarge(f"more than {MAX_ELEMENTS} elements")
        if pos - self._begin - self._bulk > self.limits.max_header:
            raise TooLarge(f"more than {self.limits.max_header} bytes")

    def _tick(self, pos: int) -> None:
        self.count += 1
        self.check_limits(pos)

    def _element(self, head: Head) -> Element:
        tag, vr, start, length = head
        if length == UNDEFINED:
            # UN of undefined length is a sequence (PS3.5 section 6.2.2 note 7)
            is_sequence = vr in (b"SQ", b"UN") or (not vr and self.encoding.starts_items(start))
            is_sequence = is_sequence and tag not in PIXEL_TAGS
            nested = self._nested()
            if is_sequence:
                end = nested.sequence_end(start, end=OPEN, implicit=self.implicit)
            else:
                end = nested.fragments_end(start)
            return Element(tag, vr, start, end - HEAD - start, end, undefined=True, is_sequence=is_sequence)
        end = start + length
        if not self.source.reaches(end):
            raise Incomplete("an element is longer than the file")
        if vr in SEQUENCE_VRS and tag not in BULK_TAGS and length > shallow_bytes(self.limits.max_depth):
            self._nested().prove_depth(start, end=end, implicit=self.implicit)
        return Element(tag, vr, start, length, end)

    def _nested(self) -> Nested:
        return Nested(self.source, self.encoding, self.limits.max_depth, self._tick)

    def _is_padding(self, pos: int, head: Head) -> bool:
        """Whether what follows is no element: NULs, or behind the pixels anything that does not look like one."""
        if head.tag == 0 and not any(self.source.read(pos, HEAD)):
            return True
        looks_right = self.implicit or head.vr in LONG_VRS or head.vr in SHORT_VRS
        return self.pixel is not None and (head.tag <= self._last or not looks_right)

    def _check_rest(self, begin: int) -> None:
        """What follows the last element: nothing or NULs are fine; behind the pixels anything else is worth a word.

        Without pixel data, many NULs are no padding but a hole that a power cut left, so they make it Incomplete.
        """
        if begin == self._begin or not self.source.reaches(begin):
            raise Incomplete("there is no data set" if begin == self._begin else "an element is longer than the file")
        pos = begin
        while window := self.source.read(pos, WINDOW):
            if window.strip(b"\0"):
                if self.pixel is None:
                    raise Incomplete("it ends within an element's head")
                self.warning = "bytes behind the data set"
                return
            pos += len(window)
            if self.pixel is None and pos - begin > MAX_PADDING:
                raise Incomplete("zeros in place of elements")
            self._tick(pos)
        if self.source.rest().strip(b"\0"):
            self.warning = "bytes behind the data set"
