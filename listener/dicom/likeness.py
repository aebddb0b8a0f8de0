"""What whole files have in common: one that is as long as an earlier one is compared with it at once.

Native files of one series that have the same size nearly always have the same elements at the same places. What the
quick walk looks at of them lies between the start and the tag from which it leaps (see walk.py). Where all of that is
as it was, but for the values of elements that were seen to differ and that decide nothing of how the others are read,
the walk would pass the same elements: then only these values are read anew. In all other cases the file is walked, and
may be learnt from. The outcome never depends on what is remembered.
"""

from __future__ import annotations

from typing import NamedTuple

from listener.dicom.encoding import BULK_TAGS, SHORT_VRS, Encoding
from listener.dicom.header import META_UID, Header
from listener.dicom.nested import shallow_bytes
from listener.dicom.prologue import MEDIA_STORAGE_SOP_INSTANCE_UID, PREAMBLE, meta_text
from listener.dicom.runs import Found, Slot, around
from listener.dicom.source import FileSource
from listener.dicom.structure import Element, Leap, Structure

#: Values of one shape that may differ before it is forgotten, for another series has come.
_MOST_LOOSE = 64


class Span(NamedTuple):
    """The bytes of a value that may differ, and what reads it: a slot where it is wanted for its text; `is_uid` says
    that it is the UID in the file meta information.
    """

    begin: int
    end: int
    slot: Slot | None = None
    is_uid: bool = False


class Walked(NamedTuple):
    """A file that was walked: its header, what was found, and the tags whose values decide how others are read."""

    source: FileSource
    structure: Structure
    found: Found
    header: Header
    fixed: frozenset[int]


class Likeness:
    """What files of one size and one shape have in common: the start of one of them, and where others differ."""

    __slots__ = (
        "_chop",
        "_frame",
        "_leap",
        "_loose",
        "_pieces",
        "_rest",
        "_sample",
        "_spans",
        "_uid",
        "_values",
        "_wanted",
    )

    def __init__(self, data: bytes, walked: Walked, leap: Leap) -> None:
        self._sample = data
        self._spans = _spans(walked, leap.begin)
        self._frame = around([span[:2] for span in self._spans], len(data))
        self._leap = leap
        self._loose: set[int] = set()
        self._settle(walked.header)

    def header(self, source: FileSource) -> Header | None:
        """The header of a file whose start is in the window; None where it is not like the earlier ones."""
        window = source.window
        if len(window) < len(self._sample) or self._chop(window, 0) != self._pieces:
            return None
        if source.peek(self._leap.head, len(self._leap.heads[0])) not in self._leap.heads:
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
        return Header(values, *self._rest)

    def has_shape_of(self, data: bytes) -> bool:
        """Whether a file that begins so differs from the sample only in values that may."""
        return len(data) == len(self._sample) and self._frame(data, 0) == self._frame(self._sample, 0)

    def learn(self, data: bytes, header: Header) -> bool:
        """Where a file of this shape differs, others may, too. False when too much differs to go on with this."""
        for index, (begin, end, slot, _) in enumerate(self._spans):
            if data[begin:end] != self._sample[begin:end]:
                if slot and slot.keyword not in header.values:
                    return True
                self._loose.add(index)
        self._sample = data
        self._settle(header)
        return len(self._loose) <= _MOST_LOOSE

    def _settle(self, header: Header) -> None:
        loose = [self._spans[index] for index in sorted(self._loose)]
        self._chop = around([one[:2] for one in loose], len(self._sample))
        self._pieces = self._chop(self._sample, 0)
        self._wanted = [(one.slot.keyword, one.slot, one.begin, one.end) for one in loose if one.slot]
        self._uid = next((one for one in loose if one.is_uid), None)
        self._values, self._rest = dict(header.values), header[1:]


def _spans(walked: Walked, end: int) -> list[Span]:
    """The values before `end` that may differ, in the order of the file; none where a tag is there twice."""
    header, found = walked.header, walked.found
    structure = Structure(walked.source, header.dataset_offset, walked.structure.limits)
    shallow = shallow_bytes(structure.limits.max_depth)
    spans = _uid_span(walked.source, header.dataset_offset)
    tags = set()
    while structure.pos < end and (element := structure.step()) is not None:
        if element.tag in tags:
            return []
        tags.add(element.tag)
        if element.tag not in walked.fixed and _is_simple(element, shallow):
            slot = found[element.tag][0] if element.tag in found else None
            spans.append(Span(element.start, element.end, slot if slot and slot.keyword else None))
    return spans if structure.pos == end else []


def _is_simple(element: Element, shallow: int) -> bool:
    """Whether the walk never looks into the value: no sequence that may be too deep, nothing of undefined length."""
    if element.undefined or element.tag in BULK_TAGS:
        return False
    return element.length <= shallow or element.vr in SHORT_VRS


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
