"""What whole files have in common: one that is as long as an earlier one is compared with it at once.

Native files of one series that have the same size nearly always have the same elements at the same places. What the
quick walk looks at of them lies between the start and the last tag that is wanted, and behind it only the heads that
lead to the pixel data and so to the end of the file. Where all of that is as it was, but for the values of elements
that were seen to differ and that decide nothing of how the others are read, the walk would pass the same elements: then
only these values are read anew. In all other cases the file is walked, and may be learnt from. The outcome never
depends on what is remembered.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from itertools import pairwise
from typing import NamedTuple

from listener.dicom.encoding import BULK_TAGS, LONG_VRS, PIXEL_TAGS, SEQUENCE_VRS, SHORT_VRS, Encoding
from listener.dicom.header import META_UID, Header
from listener.dicom.nested import shallow_bytes
from listener.dicom.prologue import MEDIA_STORAGE_SOP_INSTANCE_UID, PREAMBLE, meta_text
from listener.dicom.runs import Found, Slot, around
from listener.dicom.source import WINDOW, FileSource
from listener.dicom.structure import Element, Structure

#: Values of one shape that may differ before it is forgotten, for another series has come.
_MOST_LOOSE = 64

#: VRs of values that are never looked into, however long.
_OPAQUE_VRS = LONG_VRS - SEQUENCE_VRS

#: Pieces of a file, beside its start, that are read for the heads in them. Where there are more, it is walked.
_MOST_PIECES = 4


class Span(NamedTuple):
    """The bytes of a value that may differ, and what reads it: a slot where it is wanted for its text; `is_uid` says
    that it is the UID in the file meta information.
    """

    begin: int
    end: int
    slot: Slot | None = None
    is_uid: bool = False


class Walked(NamedTuple):
    """A file that was walked: its header, and what was found."""

    source: FileSource
    structure: Structure
    found: Found
    header: Header


class Heads(NamedTuple):
    """Heads behind the last tag that is wanted: of `size` bytes of the file from `begin`, `chop` takes `heads`."""

    begin: int
    size: int
    chop: Callable[[bytes, int], tuple[bytes, ...]]
    heads: tuple[bytes, ...]

    def are_in(self, source: FileSource) -> bool:
        """Whether a file whose start is in the window has the same heads there."""
        begin, size, chop, heads = self
        if begin + size <= len(source.window):
            return chop(source.window, begin) == heads
        data = source.peek(begin, size)
        return len(data) == size and chop(data, 0) == heads


class Likeness:
    """What files of one size and one shape have in common: the start of one of them, and where others differ."""

    __slots__ = (
        "_chop",
        "_far",
        "_frame",
        "_loose",
        "_pieces",
        "_rest",
        "_sample",
        "_spans",
        "_uid",
        "_values",
        "_wanted",
    )

    def __init__(self, sample: bytes, spans: list[Span], far: list[Heads], header: Header) -> None:
        self._sample = sample
        self._spans = spans
        self._far = far
        self._frame = around([span[:2] for span in spans], len(sample))
        self._loose: set[int] = set()
        self._settle(header)

    @classmethod
    def of(cls, walked: Walked, fixed: frozenset[int], last: int) -> Likeness | None:
        """From a file whose start is in the window. The values of the tags `fixed` decide how others are read; `last`
        is the last tag that is wanted. None where the heads do not tell all that the walk looked at.
        """
        window = walked.source.window
        near, far = _split(walked, last)
        if not far or far[-1].tag not in PIXEL_TAGS:
            return None
        begin = far[0].head
        if begin > len(window):
            return None
        heads = _heads(walked.source, far)
        if len(heads) > _MOST_PIECES:
            return None
        spans = _uid_span(walked.source, walked.header.dataset_offset) + _spans(walked, near, fixed)
        return cls(window[:begin], spans, heads, walked.header)

    def header(self, source: FileSource) -> Header | None:
        """The header of a file whose start is in the window; None where it is not like the earlier ones."""
        window = source.window
        if len(window) < len(self._sample) or self._chop(window, 0) != self._pieces:
            return None
        for heads in self._far:
            if not heads.are_in(source):
                return None
        values = self._values.copy()
        for keyword, slot, begin, end in self._wanted:
            raw = window[begin:end]
            text = slot.texts.get(raw) or slot.text(raw, little=True)
            if not text:
                return None
            values[keyword] = text
        if self._uid:
            values[META_UID] = text = meta_text(window[self._uid.begin : self._uid.end])
            if not text:
                return None
        told = values.get(META_UID)
        if told and told != values.get("SOPInstanceUID"):
            return None
        return Header(values, *self._rest)

    def has_shape_of(self, source: FileSource) -> bool:
        """Whether a file whose start is in the window differs from the sample only in values that may."""
        data, length = source.window, len(self._sample)
        return (
            len(data) >= length
            and self._frame(data, 0) == self._frame(self._sample, 0)
            and all(heads.are_in(source) for heads in self._far)
        )

    def learn(self, window: bytes, header: Header) -> bool:
        """Where a file of this shape differs, others may, too. False when too much differs to go on with this."""
        for index, (begin, end, slot, _) in enumerate(self._spans):
            if window[begin:end] != self._sample[begin:end]:
                if slot and slot.keyword not in header.values:
                    return True
                self._loose.add(index)
        self._sample = window[: len(self._sample)]
        self._settle(header)
        return len(self._loose) <= _MOST_LOOSE

    def _settle(self, header: Header) -> None:
        loose = [self._spans[index] for index in sorted(self._loose)]
        self._chop = around([one[:2] for one in loose], len(self._sample))
        self._pieces = self._chop(self._sample, 0)
        self._wanted = [(one.slot.keyword, one.slot, one.begin, one.end) for one in loose if one.slot]
        self._uid = next((one for one in loose if one.is_uid), None)
        self._values, self._rest = dict(header.values), header[1:]


class _Passed(NamedTuple):
    """An element, and the offset of its head."""

    head: int
    element: Element

    @property
    def tag(self) -> int:
        return self.element.tag


def _split(walked: Walked, last: int) -> tuple[list[_Passed], list[_Passed]]:
    """The elements up to the tag `last`, and those behind it up to the pixel data.

    Nothing where a tag is there twice, where the two are not apart, or where the walk looked into a value behind.
    """
    structure = Structure(walked.source, walked.header.dataset_offset, walked.structure.limits)
    shallow = shallow_bytes(structure.limits.max_depth)
    near: list[_Passed] = []
    far: list[_Passed] = []
    tags: set[int] = set()
    begin = structure.pos
    while structure.pixel is None and (element := structure.step()) is not None:
        if element.tag in tags or (far and element.tag <= last):
            return [], []
        if element.tag > last and not (element.tag in BULK_TAGS or _is_simple(element, shallow)):
            return [], []
        tags.add(element.tag)
        (far if element.tag > last else near).append(_Passed(begin, element))
        begin = structure.pos
    return near, far


def _heads(source: FileSource, far: Iterable[_Passed]) -> list[Heads]:
    """The heads of these elements: those that lie close together in one piece."""
    groups: list[list[_Passed]] = []
    for passed in far:
        if groups and passed.element.start - groups[-1][0].head <= WINDOW:
            groups[-1].append(passed)
        else:
            groups.append([passed])
    found = []
    for group in groups:
        begin, size = group[0].head, group[-1].element.start - group[0].head
        values = [(one.element.start - begin, other.head - begin) for one, other in pairwise(group)]
        chop = around(values, size)
        found.append(Heads(begin, size, chop, chop(source.peek(begin, size), 0)))
    return found


def _spans(walked: Walked, near: Iterable[_Passed], fixed: frozenset[int]) -> list[Span]:
    """The values that may differ, in the order of the file."""
    shallow = shallow_bytes(walked.structure.limits.max_depth)
    spans = []
    for _, element in near:
        if element.tag not in fixed and _is_simple(element, shallow):
            slot = walked.found[element.tag][0] if element.tag in walked.found else None
            spans.append(Span(element.start, element.end, slot if slot and slot.keyword else None))
    return spans


def _is_simple(element: Element, shallow: int) -> bool:
    """Whether the walk never looks into the value: no sequence that may be too deep, nothing of undefined length."""
    if element.undefined or element.tag in BULK_TAGS:
        return False
    return element.length <= shallow or element.vr in SHORT_VRS or element.vr in _OPAQUE_VRS


def _uid_span(source: FileSource, end: int) -> list[Span]:
    """The one value of the file meta information that differs from file to file."""
    encoding = Encoding(source, little=True)
    pos = PREAMBLE
    while pos < end:
        head = encoding.head(pos, implicit=False)
        pos = head.start + head.length
        if head.tag == MEDIA_STORAGE_SOP_INSTANCE_UID and pos <= end:
            return [Span(head.start, pos, is_uid=True)]
    return []
