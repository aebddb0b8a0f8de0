"""The structure of any data set: where each element lies, and whether the file is as long as its elements say.

This is the thorough walk (PS3.5 section 7): every encoding, sequences of undefined length, encapsulated pixels, bad
input. It is iterative, holds one window of the file, and compares every length with the size before using it.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

from listener.dicom.attributes import Limits, is_defined
from listener.dicom.encoding import (
    BULK_TAGS,
    HEAD,
    LONG_VRS,
    MAX_VALUE,
    PIXEL_TAGS,
    SEQUENCE_END,
    SEQUENCE_VRS,
    SHORT_VRS,
    UNDEFINED,
    Encoding,
    Head,
)
from listener.dicom.file_meta import PREAMBLE, PREFIX
from listener.dicom.nested import OPEN, Nested, shallow_bytes
from listener.dicom.source import WINDOW, FileSource, Source
from listener.reasons import Incomplete, NotDicom, TooLarge

#: Warnings about a data set that is usable; texts of events.
BEHIND = "bytes behind the data set"
UNKNOWN_VR = "a value representation that is not known"
TWO_ENDS = "a second delimiter behind the pixel data"
LOST_FRAGMENTS = "a value of undefined length that is not made of fragments"

#: Elements and items in one data set: far above the largest enhanced multi-frame, a few seconds of walking.
MAX_ELEMENTS = 2_000_000

#: NULs that may follow a data set without pixel data; more are a hole.
MAX_PADDING = 512

#: Bytes that, too short for a tag, begin no element either: ends of lines and of files, erased memory.
_ENDS = b"\r\n\x1a\xff"

#: The prefix and the first tag of file meta information: another file that begins within or behind this one.
_ANOTHER = PREFIX + b"\2\0"

#: Bytes searched for it at once.
_PIECE = 1024 * 1024

_TAG = 4

#: Text, ends of lines and of files, erased memory.
_TEXT = bytes(range(0x20, 0x7F)) + b"\t" + _ENDS


class Element(NamedTuple):
    """A top-level element: `vr` is b"" where it was read as implicit VR; `start`, `length` (bytes) of its value without
    the sequence delimiter; `end` is the offset behind all of it; `is_sequence` is set for undefined lengths only.
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

    `implicit` is decided as in pydicom: by the first element's VR, whatever the transfer syntax is. `warnings` are
    complete once the walk has ended; `pixel` is the element of the pixel data, once met. `pos` is the offset of the
    next element; the fast walk moves it, and counts the elements it passed in `count`; `limits` bound the header.
    """

    __slots__ = (
        "_begin",
        "_ended",
        "_last",
        "_passed",
        "_searched",
        "_stepped",
        "count",
        "encoding",
        "implicit",
        "limits",
        "pixel",
        "pos",
        "source",
        "warnings",
    )

    def __init__(self, source: Source, begin: int, limits: Limits, *, little: bool = True) -> None:
        self.source = source
        self.encoding = Encoding(source, little=little)
        self.implicit = self.encoding.looks_implicit(begin)
        self.warnings: list[str] = []
        self.pixel: Element | None = None
        self.pos = begin
        self.count = 0
        self.limits = limits
        self._begin = begin
        self._passed = 0  # bytes of skipped values
        self._searched = begin  # up to here no other file begins
        self._stepped = begin
        self._last = -1
        self._ended = False

    def elements(self) -> Iterator[Element]:
        """Yield the top-level elements in the order of the file, up to its end; raises as step()."""
        while (element := self.step()) is not None:
            yield element

    def step(self) -> Element | None:
        """Return the element at `pos`, or None at the end of the data set.

        Raises Incomplete when the file ends first, TooDeep and TooLarge beyond the limits, NotDicom when a sequence is
        broken.
        """
        if self._ended:
            return None
        while self.source.reaches(self.pos + HEAD):
            pos = self.pos
            head = self.encoding.head(pos, implicit=self.implicit)
            if self._is_second_end(head):
                self.warn(TWO_ENDS)
                self._tick()
                self.pos = head.start
                continue
            if self._is_padding(pos, head):
                break
            try:
                element = self._element(head)
            except (Incomplete, NotDicom):
                if not self._is_behind(pos, head):
                    raise
                break
            self._pass(head, element)
            return element
        self._check_rest(self.pos)
        self._ended = True
        return None

    def end_with(self, pixel: Element) -> None:
        """Pass pixel data that the fast walk found to be the last element."""
        self.pixel = pixel
        self.count += 1
        self._passed += pixel.length
        self._last = pixel.tag
        self.pos = self._stepped = pixel.end

    def _pass(self, head: Head, element: Element) -> None:
        if head.tag in BULK_TAGS or element.length > MAX_VALUE:
            self._passed += element.length
        if head.tag in PIXEL_TAGS:
            self.pixel = element
        if not self.implicit and not _is_known(head.vr):
            self.warn(UNKNOWN_VR)
        self._tick()
        self.check_limits(element.end)
        self._last = head.tag
        self.pos = self._stepped = element.end

    def warn(self, text: str) -> None:
        """Add a warning, once."""
        if text not in self.warnings:
            self.warnings.append(text)

    def check_limits(self, pos: int, more: int = 0) -> None:
        """Raise TooLarge when the header up to `pos` has too many bytes, or elements (`count` and `more`).

        Skipped values do not count: they cost no memory.
        """
        if self.count + more > MAX_ELEMENTS:
            raise TooLarge(f"more than {MAX_ELEMENTS} elements")
        if pos - self._begin - self._passed > self.limits.max_header:
            raise TooLarge(f"more than the {self.limits.max_header} bytes of --max-header")

    def _tick(self) -> None:
        self.count += 1
        if self.count > MAX_ELEMENTS:
            raise TooLarge(f"more than {MAX_ELEMENTS} elements")

    def _element(self, head: Head) -> Element:
        tag, vr, start, length = head
        if length == UNDEFINED:
            # UN of undefined length is a sequence (PS3.5 section 6.2.2 note 7)
            is_sequence = vr in (b"SQ", b"UN") or (not vr and self.encoding.starts_items(start))
            is_sequence = is_sequence and tag not in PIXEL_TAGS
            nested = self._nested()
            if is_sequence and vr == b"UN":
                end = nested.unknown_end(start, implicit=self.implicit)
            elif is_sequence:
                end = nested.sequence_end(start, end=OPEN, implicit=self.implicit)
            else:
                end = nested.fragments_end(start)
            if nested.lost:
                self.warn(LOST_FRAGMENTS)
                self._check_is_one_file(end)
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
        """Return whether padding follows instead of an element: NULs, or behind the pixels anything that does not look
        like one.
        """
        if head.tag == 0 and not any(self.source.read(pos, HEAD)):
            return True
        looks_right = self.implicit or _is_known(head.vr)
        return self.pixel is not None and (head.tag <= self._last or not looks_right)

    def _is_second_end(self, head: Head) -> bool:
        """Return whether this is one more delimiter behind encapsulated pixels, which some programs write."""
        return head.tag == SEQUENCE_END and not head.length and self.pixel is not None and self.pixel.undefined

    def _is_behind(self, pos: int, head: Head) -> bool:
        """Return whether the unreadable bytes at `pos` are no element at all, so that the data set ended there."""
        return self.pixel is None and pos > self._begin and not (_is_known(head.vr) or self._is_expected(head.tag))

    def _is_expected(self, tag: int) -> bool:
        """Return whether a data set may continue with this tag: a standard one, or a private one that is none by
        chance, because it is of the same group as the one before, or because no text has such bytes.
        """
        if not tag >> 16 & 1:
            return is_defined(tag)
        last = self._tag_before(self.pos)
        return tag > last and (tag >> 16 == last >> 16 or bool(tag.to_bytes(_TAG, "big").strip(_TEXT)))

    def _tag_before(self, pos: int) -> int:
        """Return the tag of the element that ends at `pos`. The fast walk does not keep it: walk there again."""
        if self._stepped == pos:
            return self._last
        again = Structure(self.source, self._begin, self.limits, little=self.encoding.little)
        while again.pos < pos and again.step() is not None:
            pass
        return again._last

    def _may_begin(self, tail: bytes) -> bool:
        """Return whether these bytes, fewer than a head has, can be the beginning of one."""
        if len(tail) < _TAG:
            group = self._tag_before(self.pos) >> 16
            is_group = tail[:2] == group.to_bytes(2, "little" if self.encoding.little else "big")[: len(tail)]
            return is_group or bool(tail.strip(_ENDS))
        return (not self.implicit and _is_known(tail[4:6])) or self._is_expected(self.encoding.tag(tail))

    def _check_rest(self, begin: int) -> None:
        """Check what follows the last element: nothing and NULs are fine, anything else is a warning.

        Without pixel data, many NULs are no padding but a hole that a power cut left, so they raise Incomplete; and so
        does the beginning of an element's head.
        """
        if begin == self._begin or not self.source.reaches(begin):
            raise Incomplete("there is no data set" if begin == self._begin else "an element is longer than the file")
        pos = begin
        while window := self.source.read(pos, WINDOW):
            zeros = len(window) - len(window.lstrip(b"\0"))
            if self.pixel is None and pos + zeros - begin > MAX_PADDING:
                raise Incomplete("zeros in place of elements")
            if zeros < len(window):
                is_short = self.pixel is None and not self.source.reaches(begin + HEAD)
                if is_short and self._may_begin(self.source.read(begin, HEAD)):
                    raise Incomplete("it ends within an element's head")
                self._check_is_one_file(begin)
                self.warn(BEHIND)
                return
            pos += len(window)
            self._tick()
        if self.source.rest().strip(b"\0"):
            self.warn(BEHIND)

    def _check_is_one_file(self, end: int) -> None:
        """Raise Incomplete if another file begins before `end`, where this one seems to end: then it was cut.

        Its preamble and prefix are searched for in all that was skipped; done only for files with something odd.
        """
        if not isinstance(self.source, FileSource):
            return
        while self._searched < end + PREAMBLE:
            count = min(_PIECE, end + PREAMBLE - self._searched)
            piece = self.source.peek(self._searched, count + len(_ANOTHER) - 1)
            found = piece.find(_ANOTHER)
            if found >= 0:
                if self._searched + found + len(PREFIX) - PREAMBLE < end:
                    raise Incomplete("another file begins within it")
                return
            self._searched += count


def _is_known(vr: bytes) -> bool:
    return vr in SHORT_VRS or vr in LONG_VRS
