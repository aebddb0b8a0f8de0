"""Read what an instance refers to: the UIDs in its sequences, at any depth.

Evidence of a report and of a key object (PS3.3 section C.17.2), source images of a segmentation (C.8.20.2), images of a
presentation state (C.11.11), contours of a structure set (C.8.8.5), derivation and source images of anything (C.7.6.1).
"""

from __future__ import annotations

from typing import NamedTuple

from listener.dicom.attributes import Limits
from listener.dicom.encoding import BULK_TAGS, SEQUENCE_VRS, Encoding, Head
from listener.dicom.file_meta import meta_text, read_file_meta
from listener.dicom.nested import OPEN, Nested
from listener.dicom.reader import structure_of
from listener.dicom.source import FileSource
from listener.dicom.walk import Element, Structure
from listener.reasons import FileFault, TooLarge
from listener.uids import is_uid

#: UIDs of one kind after which reading ends: who made something of so many images, made it of those before.
MOST_UIDS = 2_000

#: Elements and items within sequences after which reading ends: a segmentation has some 50 a frame.
MOST_ELEMENTS = 100_000

_STUDY, _SERIES, _INSTANCE = 0x0020000D, 0x0020000E, 0x00081155
_LONGEST_UID = 64


class References(NamedTuple):
    """UIDs that an instance refers to, each once, in the order of the file. `instances` are all values of
    ReferencedSOPInstanceUID: in a structure set and in old objects some of these are studies.
    """

    studies: tuple[str, ...] = ()
    series: tuple[str, ...] = ()
    instances: tuple[str, ...] = ()


def read_references(fd: int, size: int, limits: Limits) -> References:
    """Return what the file behind `fd`, which has `size` bytes, refers to. Of a file that is broken, or beyond
    `limits`, MOST_UIDS or MOST_ELEMENTS, what was found up to there. Raises OSError from the system.
    """
    found: dict[int, dict[str, None]] = {tag: {} for tag in (_STUDY, _SERIES, _INSTANCE)}
    source = FileSource(fd, size)
    try:
        structure = structure_of(fd, source, read_file_meta(source), limits)
        reading = _Reading(structure, found)
        for element in structure.elements():
            reading.look_into(element)
    except FileFault:
        pass
    return References(*(tuple(uids) for uids in found.values()))


class _Reading:
    """Looks into the sequences of a data set for the tags of `found`."""

    def __init__(self, structure: Structure, found: dict[int, dict[str, None]]) -> None:
        self._structure, self._found = structure, found
        self._count = 0
        self._nested = Nested(structure.source, structure.encoding, structure.limits.max_depth, self._tick)
        self._nested.visit = self._visit

    def look_into(self, element: Element) -> None:
        """Find what an element refers to, if it is a sequence."""
        if element.vr not in SEQUENCE_VRS or element.tag in BULK_TAGS or not self._starts_items(element):
            return
        implicit = self._structure.implicit
        if element.undefined and element.vr == b"UN":
            self._nested.unknown_end(element.start, implicit=implicit)
        else:
            end = OPEN if element.undefined else element.end
            self._nested.sequence_end(element.start, end=end, implicit=implicit)

    def _starts_items(self, element: Element) -> bool:
        """Return whether items follow: in the order of the data set's bytes, or of UN's (PS3.5 section 6.2.2)."""
        little = Encoding(self._structure.source, little=True)
        return self._structure.encoding.starts_items(element.start) or little.starts_items(element.start)

    def _tick(self) -> None:
        self._count += 1
        if self._count > MOST_ELEMENTS:
            raise TooLarge(f"more than {MOST_ELEMENTS} elements within sequences")

    def _visit(self, head: Head) -> None:
        found = self._found.get(head.tag)
        if found is None or not 0 < head.length <= _LONGEST_UID:
            return
        uid = meta_text(self._structure.source.read(head.start, head.length))
        if is_uid(uid):
            found[uid] = None
            if len(found) >= MOST_UIDS:
                raise TooLarge(f"more than {MOST_UIDS} references")
