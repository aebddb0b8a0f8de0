"""The quick walk over little endian data sets, which nearly all are: the hot spot of the whole program.

Instances of one series have nearly the same elements with nearly the same lengths. So a stretch of elements that was
walked once is remembered as a *run*: the heads of its elements and the distances between them. Where a run's first head
is met again, one `struct` call takes all heads that should follow (and, in one piece with them, the values that never
change), and one comparison shows whether they do: then every element lies where the run says, because each head is
found where the lengths of those before it lead, exactly what walking them one by one would prove. Where a head differs,
the run is cut short there, and the walk goes on by single steps. What is neither remembered nor simple (undefined
lengths, deep sequences, pixel data, odd VRs) is left to structure.Structure.step(). The outcome never depends on what
is remembered.

The walk goes to the end of the file, also where nothing more is wanted: that the pixel data met are this file's, and
whole, is only shown by the heads that lead to them. (A head looked for at the end of the file may be that of another
one, which was appended.)
"""

from __future__ import annotations

from struct import Struct

from listener.dicom import pixels
from listener.dicom.encoding import BULK_TAGS, LONG_VRS, MAX_VALUE, PIXEL_DATA, SHORT_VRS, UNDEFINED
from listener.dicom.runs import LEAST_ELEMENTS, Found, Run, Slot, Step, cut, learn
from listener.dicom.source import WINDOW, FileSource
from listener.dicom.structure import Element, Structure
from listener.errors import TooLarge

#: Bytes that are fetched behind a value that was stepped over: mostly little is left of the header there.
_NARROW = 512

#: Bytes of a window that one head may need.
_LOOK = 12

#: Elements of a file, from its start, that are worth remembering.
_MEMORABLE = 2000

#: The heads of native pixel data, explicit and implicit, without their length.
_PIXELS = frozenset((b"\xe0\x7f\x10\0OW\0\0", b"\xe0\x7f\x10\0OB\0\0", b"\xe0\x7f\x10\0"))

_explicit = Struct("<L2sH").unpack_from
_implicit = Struct("<LL").unpack_from
_length = Struct("<L").unpack_from

#: Long VRs of defined length that are stepped over without a look at the value.
_BULKY = LONG_VRS - {b"SQ", b"UN"}


def least_pixels(found: Found, *, little: bool) -> int:
    """Bytes that native pixel data must have at least; 0 where the elements found do not tell."""
    return pixels.least_length(tuple([found[tag][1] if tag in found else b"" for tag in pixels.TAGS]), little)


class Walker:
    """Walks data sets for a fixed choice of tags (tag: keyword and the VR that implicit VR implies), and remembers.

    `shallow` is the length in bytes below which no sequence can be too deep.
    """

    def __init__(self, tags: dict[int, tuple[str, bytes]], shallow: int) -> None:
        self._tags = tags
        # heads hold group and element in this order, which little endian reads with exchanged halves
        self._exchanged = {tag >> 16 | (tag & 0xFFFF) << 16: tag for tag in tags}
        self._special = {tag >> 16 | (tag & 0xFFFF) << 16 for tag in BULK_TAGS}
        self._slots: dict[tuple[int, bytes], Slot] = {}
        self._runs: tuple[dict[bytes, Run], dict[bytes, Run]] = ({}, {})
        self._shallow = shallow
        self._wants_pixels = PIXEL_DATA in tags

    def walk(self, structure: Structure, found: Found) -> None:
        """Walk to the end of the data set, and put the wanted elements into `found`. Raises as Structure.step(); then
        `found` has what stood before.
        """
        source = structure.source
        if isinstance(source, FileSource) and structure.encoding.little:
            self._quickly(structure, source, found)
            if structure.pos == source.size:
                return
        for element in structure.elements():
            self._keep(structure, element, found)

    def _keep(self, structure: Structure, element: Element, found: Found) -> None:
        tag = element.tag
        if tag not in self._tags:
            return
        if element.length > MAX_VALUE:
            raise TooLarge(f"a value that is needed has more than {MAX_VALUE} bytes")
        usual = not element.undefined and (element.vr in SHORT_VRS or element.vr in LONG_VRS)
        slot = self._slot(tag, element.vr) if usual else self._new_slot(element)
        found[tag] = slot, structure.source.read(element.start, element.length)

    def _slot(self, tag: int, vr: bytes) -> Slot:
        slot = self._slots.get((tag, vr))
        if slot is None:
            slot = self._slots[tag, vr] = self._new_slot(Element(tag, vr, 0, 0, 0))
        return slot

    def _new_slot(self, element: Element) -> Slot:
        keyword, usual = self._tags[element.tag]
        return Slot(element, keyword, usual if element.vr in (b"", b"UN") else element.vr)

    def _quickly(self, structure: Structure, source: FileSource, found: Found) -> None:  # noqa: C901
        """Up to the pixel data or the end of the file. One loop, because a call costs as much as an element."""
        runs = self._runs[structure.implicit]
        single = self._single_implicit if structure.implicit else self._single_explicit
        steps: list[Step] = []
        count, size = 0, source.size
        source.hold(structure.pos)
        window, start = source.window, source.start
        at, edge = structure.pos - start, len(window)
        while True:
            run = runs.get(window[at : at + 8])
            if run is not None and at + run.need <= edge:
                heads = run.match(window, at, found)
                if heads is None:
                    count += run.count
                    at += run.step
                    continue
                cut(runs, run, heads)
            elif at and at + (run.need if run else _LOOK) > edge and start + edge < size:
                structure.check_limits(start + at, count)
                source.fill(start + at, WINDOW if at <= edge else _NARROW)
                window, start, at, edge = source.window, source.start, 0, len(source.window)
                continue
            step = single(window, at, start, size)
            if step is not None:
                pos, head, behind, wanted = step
                count += 1
                if head and count <= _MEMORABLE:
                    steps.append(step)
                if wanted is not None:
                    found[wanted.element.tag] = wanted, source.read(pos + 8, behind - pos - 8)
            else:
                structure.pos = start + at
                if self._ends_with_pixels(structure, window, at, size):
                    break
                element = structure.step() if structure.pos < size else None
                if element is None:
                    break
                self._keep(structure, element, found)
                behind = element.end
                if structure.pixel is not None:
                    break
                source.hold(behind)
            window, start = source.window, source.start
            at, edge = behind - start, len(window)
        structure.count += count
        structure.check_limits(structure.pos)
        if len(steps) >= LEAST_ELEMENTS:
            learn(runs, steps)

    def _ends_with_pixels(self, structure: Structure, window: bytes, at: int, size: int) -> bool:
        """Whether native pixel data at index `at` of the window are the last element, as of most files; then they are
        passed. All others are left to structure.step().
        """
        tail = 4 if structure.implicit else 8
        if window[at : at + tail] not in _PIXELS or at + _LOOK > len(window) or self._wants_pixels:
            return False
        length = _length(window, at + tail)[0]
        begin = structure.pos + tail + 4
        if begin + length != size or length == UNDEFINED:
            return False
        vr = b"" if structure.implicit else window[at + 4 : at + 6]
        structure.end_with(Element(PIXEL_DATA, vr, begin, length, size))
        return True

    def _single_explicit(self, window: bytes, at: int, start: int, size: int) -> Step | None:
        """The element at index `at` of the window, which starts at `start`, if it is simple."""
        if at + _LOOK > len(window):
            return None
        key, vr, length = _explicit(window, at)
        if key in self._special:
            return None
        if vr in SHORT_VRS:
            end = start + at + 8 + length
            tag = self._exchanged.get(key, 0)
            slot = self._slot(tag, vr) if tag else None
            return (start + at, window[at : at + 8], end, slot) if end <= size else None
        length = _length(window, at + 8)[0]
        if vr in _BULKY or (vr in LONG_VRS and length <= self._shallow):
            end = start + at + 12 + length
            if length <= MAX_VALUE and end <= size and key not in self._exchanged:
                return start + at, b"", end, None
        return None

    def _single_implicit(self, window: bytes, at: int, start: int, size: int) -> Step | None:
        """The element at index `at` of the window, which starts at `start`, if it is simple."""
        if at + 8 > len(window):
            return None
        key, length = _implicit(window, at)
        end = start + at + 8 + length
        if key == 0 or length > self._shallow or end > size or key in self._special:
            return None
        tag = self._exchanged.get(key, 0)
        return start + at, window[at : at + 8], end, self._slot(tag, b"") if tag else None
