"""The quick walk over little endian data sets, which nearly all are: the hot spot of the whole program.

Instances of one series have nearly the same elements with nearly the same lengths. So a stretch of elements that was
walked once is remembered as a *run*: the heads of its elements and the distances between them. Where a run's first head
is met again, one `struct` call takes all heads that should follow (and, in one piece with them, the values that never
change), and one comparison shows whether they do: then every element lies where the run says, because each head is
found where the lengths of those before it lead, exactly what walking them one by one would prove. Where a head differs,
the run is cut short there, and the walk goes on by single steps. What is neither remembered nor simple (undefined
lengths, deep sequences, pixel data, odd VRs) is left to structure.Structure.step(). The outcome never depends on what
is remembered.

Behind the last wanted tag nothing is of interest but that the file is whole. Once every attribute that is wanted for
its text was found, the head of native pixel data is looked for at the one place where it must lie if the file is whole:
so far before the end as Rows, Columns and so on say. A file that was cut does not have it there. Where it is not found,
or something is wanting, the walk goes on, element by element, to the end.
"""

from __future__ import annotations

from functools import lru_cache
from struct import Struct

from listener.dicom import pixels
from listener.dicom.encoding import BULK_TAGS, LONG_VRS, PIXEL_DATA, SHORT_VRS, UNDEFINED
from listener.dicom.runs import Found, Run, Slot, Step, cut, is_far, learn
from listener.dicom.source import FileSource
from listener.dicom.structure import Element, Leap, Structure
from listener.errors import TooLarge

#: Bytes of one value that are read; longer ones are too large for a path or a document.
MAX_VALUE = 1024 * 1024

#: Bytes of a window that one head may need.
_LOOK = 12

#: Elements of a file, from its start, that are worth remembering.
_MEMORABLE = 2000

_explicit = Struct("<L2sH").unpack_from
_implicit = Struct("<LL").unpack_from
_length = Struct("<L").unpack_from

#: Long VRs of defined length that are stepped over without a look at the value.
_BULKY = LONG_VRS - {b"SQ", b"UN"}

#: The heads that native pixel data may have, without their length.
_EXPLICIT_PIXELS = (b"\xe0\x7f\x10\0OW\0\0", b"\xe0\x7f\x10\0OB\0\0")
_IMPLICIT_PIXELS = (b"\xe0\x7f\x10\0",)


@lru_cache(maxsize=64)
def _pixel_heads(length: int, implicit: bool) -> tuple[bytes, ...]:
    """The heads that native pixel data of `length` bytes may have."""
    return tuple(head + length.to_bytes(4, "little") for head in (_IMPLICIT_PIXELS if implicit else _EXPLICIT_PIXELS))


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
        self._texts = frozenset(tag for tag, (keyword, _) in tags.items() if keyword)
        self._last = max(tags, default=0)

    def walk(self, structure: Structure) -> Found:
        """The wanted elements, after a walk to the end of the data set. Raises as Structure.step()."""
        found: Found = {}
        source = structure.source
        if isinstance(source, FileSource) and structure.encoding.little:
            self._quickly(structure, source, found)
            if structure.pos == source.size:
                return found
        for element in structure.elements():
            self._keep(structure, element, found)
        return found

    def _keep(self, structure: Structure, element: Element, found: Found) -> None:
        tag = element.tag
        if tag not in self._tags:
            return
        if element.length > MAX_VALUE:
            raise TooLarge("a wanted value")
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

    def _quickly(self, structure: Structure, source: FileSource, found: Found) -> None:  # noqa: C901, PLR0912
        """Up to the pixel data or the end of the file. One loop, because a call costs as much as an element."""
        runs = self._runs[structure.implicit]
        single = self._single_implicit if structure.implicit else self._single_explicit
        steps: list[Step] = []
        count, size = 0, source.size
        window, start = source.window, source.start
        at, edge = structure.pos - start, len(window)
        near = True
        while True:
            run = runs.get(window[at : at + 8])
            if near and (self._is_far(window, at) if run is None else run.far):
                near = False
                if self._leap(structure, source, found, start + at):
                    break
            if run is not None and at + run.need <= edge:
                heads = run.match(window, at, found)
                if heads is None:
                    count += run.count
                    at += run.step
                    continue
                cut(runs, run, heads)
            elif at and at + (run.need if run else _LOOK) > edge and start + edge < size:
                structure.check_limits(start + at, count)
                source.fill(start + at)
                window, start, at, edge = source.window, source.start, 0, len(source.window)
                continue
            step = single(window, at, start, size)
            if step is not None:
                pos, _, behind, wanted = step
                count += 1
                if count <= _MEMORABLE:
                    steps.append(step)
                if wanted is not None:
                    found[wanted.element.tag] = wanted, source.read(pos + 8, behind - pos - 8)
            else:
                structure.pos = start + at
                element = structure.step() if structure.pos < size else None
                if element is None:
                    break
                self._keep(structure, element, found)
                behind = element.end
                if structure.pixel is not None:
                    break
            window, start = source.window, source.start
            at, edge = behind - start, len(window)
        structure.count += count
        structure.check_limits(structure.pos)
        if steps:
            learn(runs, steps, self._last)

    def _is_far(self, window: bytes, at: int) -> bool:
        """Whether the element at index `at` lies behind all wanted tags."""
        return at + 4 <= len(window) and is_far(window[at : at + 2], self._last)

    def _leap(self, structure: Structure, source: FileSource, found: Found, pos: int) -> bool:
        """From `pos`, where every wanted attribute was passed, to the end, if the pixel data lie right before it."""
        if not self._texts <= found.keys():
            return False
        least = least_pixels(found, little=True)
        length = least + (least & 1)
        begin = source.size - length
        if not 0 < length <= source.size:
            return False
        heads = _pixel_heads(length, structure.implicit)
        there = begin - len(heads[0])
        if there < pos or not structure.may_reach(there):
            return False
        if source.peek(there, begin - there) not in heads:
            return False
        pixel = Element(PIXEL_DATA, b"" if structure.implicit else b"OW", begin, length, source.size)
        structure.leap(Leap(pos, there, heads), pixel)
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
            if length != UNDEFINED and end <= size and key not in self._exchanged:
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
