"""The quick walk over little endian data sets, which nearly all are: the hot spot of the whole program.

Instances of one series have nearly the same elements with nearly the same lengths. So a stretch of elements that was
walked once is remembered as a *run*: the heads of its elements and the distances between them. Where a run's first
head is met again, one `struct` call takes all heads that should follow, and one comparison shows whether they do: then
every element lies where the run says, because each head is found where the lengths of those before it lead, exactly
what walking them one by one would prove. Where a head differs, the run is cut short there, and the walk goes on by
single steps. What is neither remembered nor simple (undefined lengths, deep sequences, pixel data, odd VRs) is left to
structure.Structure.step(). The outcome never depends on what is remembered.
"""

from __future__ import annotations

from struct import Struct

from listener.encoding import BULK_TAGS, LONG_VRS, SHORT_VRS, UNDEFINED
from listener.errors import TooLarge
from listener.source import WINDOW, FileSource
from listener.structure import Element, Structure

#: Bytes of one value that are read; longer ones are too large for a path or a document.
MAX_VALUE = 1024 * 1024

#: Runs that are remembered (all are forgotten when there are more), and the elements of one.
_MAX_RUNS = 4096
_RUN_ELEMENTS = 256
_RUN_LEAST = 3
#: The longest value within a run, and the longest run, in bytes.
_RUN_VALUE = 1024
_RUN_BYTES = WINDOW // 2

#: Bytes of a window that one head may need.
_LOOK = 12

_explicit = Struct("<L2sH").unpack_from
_implicit = Struct("<LL").unpack_from
_length = Struct("<L").unpack_from

#: Long VRs of defined length that are stepped over without a look at the value.
_BULKY = LONG_VRS - {b"SQ", b"UN"}


class Slot:
    """A wanted attribute as it is encoded: its element (position and length are not told, but for undefined lengths),
    its keyword ("" for what is wanted for our own use only), and the texts of values met before.
    """

    __slots__ = ("element", "keyword", "texts", "vr")

    def __init__(self, element: Element, keyword: str, vr: bytes) -> None:
        self.element = element
        self.keyword = keyword
        self.vr = vr
        self.texts: dict[bytes, str] = {}


#: The wanted elements of a file: tag, slot and bytes of the value; of the same tag twice the last one counts.
Found = dict[int, tuple[Slot, bytes]]


#: A simple element that was passed: where, its head (b"" if it is none for a run), the offset behind it, and its slot
#: if it is wanted. A bare tuple, because nothing else is made as quickly.
_Step = tuple[int, bytes, int, Slot | None]


_NO_STEP: _Step = (0, b"", 0, None)


class _Run:
    """A stretch of elements: `take` gives their heads from an index on, `need` and `step` are the bytes looked at and
    passed, `wanted` has tag, slot, begin and end (bytes from the run's start) of each wanted value.
    """

    __slots__ = ("count", "heads", "need", "step", "steps", "take", "wanted")

    def __init__(self, steps: list[_Step]) -> None:
        first = steps[0][0]
        gaps = "".join([f"8s{end - pos - 8}x" for pos, _, end, _ in steps[:-1]])
        self.steps = steps
        self.heads = tuple([head for _, head, _, _ in steps])
        self.take = Struct(f"<{gaps}8s").unpack_from
        self.wanted = [(slot.element.tag, slot, pos + 8 - first, end - first) for pos, _, end, slot in steps if slot]
        self.need = max([steps[-1][0] + 8 - first, *(end for _, _, _, end in self.wanted)])
        self.step = steps[-1][2] - first
        self.count = len(steps)


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
        self._runs: tuple[dict[bytes, _Run], dict[bytes, _Run]] = ({}, {})
        self._shallow = shallow

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

    def _quickly(self, structure: Structure, source: FileSource, found: Found) -> None:
        """Up to the pixel data or the end of the file. One loop, because a call costs as much as an element."""
        runs = self._runs[structure.implicit]
        single = self._single_implicit if structure.implicit else self._single_explicit
        steps: list[_Step] = []
        count, size = 0, source.size
        window, start = source.window, source.start
        at, edge = structure.pos - start, len(window)
        while True:
            run = runs.get(window[at : at + 8])
            if run is not None and at + run.need <= edge:
                heads = run.take(window, at)
                if heads == run.heads:
                    for tag, slot, begin, end in run.wanted:
                        found[tag] = slot, window[at + begin : at + end]
                    count += run.count
                    at += run.step
                    continue
                _cut(runs, run, heads)
            elif at and at + (run.need if run else _LOOK) > edge and start + edge < size:
                structure.check_limits(start + at, count)
                source.fill(start + at)
                window, start, at, edge = source.window, source.start, 0, len(source.window)
                continue
            step = single(window, at, start, size)
            if step is not None:
                pos, _, behind, wanted = step
                count += 1
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
        _learn(runs, steps)

    def _single_explicit(self, window: bytes, at: int, start: int, size: int) -> _Step | None:
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

    def _single_implicit(self, window: bytes, at: int, start: int, size: int) -> _Step | None:
        """The element at index `at` of the window, which starts at `start`, if it is simple."""
        if at + 8 > len(window):
            return None
        key, length = _implicit(window, at)
        end = start + at + 8 + length
        if key == 0 or length > self._shallow or end > size or key in self._special:
            return None
        tag = self._exchanged.get(key, 0)
        return start + at, window[at : at + 8], end, self._slot(tag, b"") if tag else None


def _cut(runs: dict[bytes, _Run], run: _Run, heads: tuple[bytes, ...]) -> None:
    """Keep of a run what comes before the first head that differs; its very first never does."""
    same = next(index for index, head in enumerate(heads) if head != run.heads[index])
    runs[heads[0]] = _Run(run.steps[:same])


def _learn(runs: dict[bytes, _Run], steps: list[_Step]) -> None:
    """Remember the stretches of simple elements that were passed one by one in a file that proved whole."""
    if len(runs) > _MAX_RUNS:
        runs.clear()
    stretch: list[_Step] = []
    for step in [*steps, _NO_STEP]:
        pos, head, end, _ = step
        if stretch and not (
            head and stretch[-1][2] == pos and len(stretch) < _RUN_ELEMENTS and end - stretch[0][0] <= _RUN_BYTES
        ):
            if len(stretch) >= _RUN_LEAST:
                runs.setdefault(stretch[0][1], _Run(stretch))
            stretch = []
        if head and end - pos <= _RUN_VALUE:
            stretch.append(step)
