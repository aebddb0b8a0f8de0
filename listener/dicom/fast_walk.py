"""The fast walk over little endian data sets, which remembers runs of elements: the hot spot."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from struct import Struct

from listener.dicom import attributes
from listener.dicom.encoding import BULK_TAGS, LONG_VRS, MAX_VALUE, PIXEL_DATA, SHORT_VRS, UNDEFINED
from listener.dicom.source import WINDOW, FileSource
from listener.dicom.texts import plain_text
from listener.dicom.walk import Element, Structure
from listener.reasons import TooLarge

#: Most runs in memory (some megabytes; beyond it all are dropped), and most elements of a run.
_MAX_RUNS = 1024
_MAX_ELEMENTS = 128
LEAST_ELEMENTS = 3
#: The longest element within a run, and the longest run, in bytes.
_MAX_STEP = 1024
_MAX_BYTES = WINDOW // 2

#: Most cached texts of an attribute, and the longest value in bytes whose text is cached.
_TEXTS = 256
_TEXT_BYTES = 256


class WantedElement:
    """A wanted attribute in one encoding: its element (position and length only for undefined lengths), its keyword (""
    for internal use only), and a cache of texts by value.
    """

    __slots__ = ("element", "keyword", "texts", "vr")

    def __init__(self, element: Element, keyword: str, vr: bytes) -> None:
        self.element = element
        self.keyword = keyword
        self.vr = vr
        self.texts: dict[bytes, str] = {}

    def text(self, raw: bytes, *, little: bool) -> str | None:
        """Return the text of a value, "" for none, None if it is not plain. Cached: most values repeat throughout a
        series.
        """
        if self.element.undefined:
            return None
        text = plain_text(self.vr, raw, little=little) if raw else ""
        if text is None:
            return None
        if not text.strip():
            text = ""
        if little and len(raw) <= _TEXT_BYTES:
            if len(self.texts) >= _TEXTS:
                self.texts.clear()
            self.texts[raw] = text
        return text


#: The wanted elements of a file, by tag, with the bytes of the value; of a repeated tag the last one counts.
Elements = dict[int, tuple[WantedElement, bytes]]

#: A simple element: offset, head (b"" if it cannot be in a run), offset behind it, and its WantedElement if wanted.
#: A bare tuple, because nothing else is made as quickly.
Step = tuple[int, bytes, int, WantedElement | None]

_END: Step = (0, b"", 0, None)

#: Number of changed elements after which a run determines its constant ones anew.
_MOST_CHANGES = 64


class ElementRun:
    """A run of consecutive elements; `need` and `step` are the numbers of bytes examined and passed.

    Within a series most values are the same in each file. Elements seen with one value only are compared together,
    neighbours in one piece, and their wanted values are ready. An element that once had another value is compared by
    its head only.
    """

    __slots__ = (
        "_changed",
        "_fixed",
        "_heads",
        "_pieces",
        "_same",
        "_sample",
        "_spans",
        "_unpack_heads",
        "_unpack_pieces",
        "_variable",
        "_wanted",
        "count",
        "need",
        "step",
        "steps",
    )

    def __init__(self, steps: list[Step]) -> None:
        first = steps[0][0]
        gaps = "".join([f"8s{end - pos - 8}x" for pos, _, end, _ in steps[:-1]])
        self.steps = steps
        self._heads = tuple([head for _, head, _, _ in steps])
        self._unpack_heads = Struct(f"<{gaps}8s").unpack_from
        # In bytes from the run's start: begin and end of each; tag, element, begin and end of each wanted value.
        self._spans = [(pos - first, end - first) for pos, _, end, _ in steps]
        self._wanted = [(slot.element.tag, slot, pos + 8 - first, end - first) for pos, _, end, slot in steps if slot]
        self.need = max([self._spans[-1][0] + 8, *(end for _, _, _, end in self._wanted)])
        self.step = self._spans[-1][1]
        self.count = len(steps)
        self._reset()

    def match(self, window: bytes, at: int, found: Elements) -> tuple[bytes, ...] | None:
        """Match the run at index `at`. Return None and put its wanted values into `found`, or return the
        heads there.
        """
        if self._pieces and at + self.step <= len(window) and self._unpack_pieces(window, at) == self._pieces:
            found.update(self._fixed)
            for tag, slot, begin, end in self._variable:
                found[tag] = slot, window[at + begin : at + end]
            return None
        heads: tuple[bytes, ...] = self._unpack_heads(window, at)
        if heads != self._heads:
            return heads
        for tag, slot, begin, end in self._wanted:
            found[tag] = slot, window[at + begin : at + end]
        self._observe(window[at : at + self.step])
        return None

    def _reset(self) -> None:
        self._sample = b""
        self._same = [True] * self.count
        self._pieces: tuple[bytes, ...] = ()
        self._changed = 0

    def _observe(self, data: bytes) -> None:
        """Find out which elements have the same value as before."""
        if len(data) < self.step:
            return
        if self._changed > _MOST_CHANGES or len({tag for tag, *_ in self._wanted}) < len(self._wanted):
            self._reset()
        if not self._sample:
            self._sample = data
            return
        for index, (begin, end) in enumerate(self._spans):
            if self._same[index] and data[begin:end] != self._sample[begin:end]:
                self._same[index] = False
                self._changed += 1
        self._update_pieces()

    def _update_pieces(self) -> None:
        """Update the constant pieces: each goes from behind one changing value to the head of the next."""
        changing = [(begin + 8, end) for (begin, end), same in zip(self._spans, self._same, strict=True) if not same]
        constant = {begin + 8 for (begin, _), same in zip(self._spans, self._same, strict=True) if same}
        self._unpack_pieces = around(changing, self.step)
        self._pieces = self._unpack_pieces(self._sample, 0)
        self._variable = [one for one in self._wanted if one[2] not in constant]
        self._fixed = {
            tag: (slot, self._sample[begin:end]) for tag, slot, begin, end in self._wanted if begin in constant
        }


def around(spans: Iterable[tuple[int, int]], size: int) -> Callable[[bytes, int], tuple[bytes, ...]]:
    """Return a function that unpacks, from a window at an index, the pieces of the next `size` bytes around these
    spans.
    """
    shape, pos = "<", 0
    for begin, end in spans:
        shape += f"{begin - pos}s{end - begin}x"
        pos = end
    return Struct(f"{shape}{size - pos}s").unpack_from


def cut(runs: dict[bytes, ElementRun], run: ElementRun, heads: tuple[bytes, ...]) -> None:
    """Shorten a run to the elements before the first head that differs; its very first never does."""
    same = next(index for index, (_, head, _, _) in enumerate(run.steps) if head != heads[index])
    runs[heads[0]] = ElementRun(run.steps[:same])


def remember(runs: dict[bytes, ElementRun], steps: list[Step]) -> None:
    """Add the runs of simple elements passed one by one in a file that proved complete."""
    if len(runs) >= _MAX_RUNS:
        runs.clear()
    stretch: list[Step] = []
    for step in [*steps, _END]:
        pos, head, end, _ = step
        if stretch and not (
            head and stretch[-1][2] == pos and len(stretch) < _MAX_ELEMENTS and end - stretch[0][0] <= _MAX_BYTES
        ):
            if len(stretch) >= LEAST_ELEMENTS and len(runs) < _MAX_RUNS:
                runs.setdefault(stretch[0][1], ElementRun(stretch))
            stretch = []
        if head and end - pos <= _MAX_STEP:
            stretch.append(step)


#: Bytes to fetch behind a skipped value: mostly little of the header is left there.
_NARROW = 512

#: Most bytes of a head.
_LOOK = 12

#: Number of elements of a file, from its start, that are remembered.
_MEMORABLE = 2000

#: The heads of native pixel data, explicit and implicit, without their length.
_PIXELS = frozenset((b"\xe0\x7f\x10\0OW\0\0", b"\xe0\x7f\x10\0OB\0\0", b"\xe0\x7f\x10\0"))

_explicit = Struct("<L2sH").unpack_from
_implicit = Struct("<LL").unpack_from
_length = Struct("<L").unpack_from

#: Long VRs whose values of defined length are skipped unread.
_BULKY = LONG_VRS - {b"SQ", b"UN"}


def least_pixels(found: Elements, *, little: bool) -> int:
    """Return the least length in bytes of native pixel data; 0 where the elements found do not determine it."""
    return attributes.least_length(tuple([found[tag][1] if tag in found else b"" for tag in attributes.TAGS]), little)


class Walker:
    """Walks data sets for a fixed set of tags (tag: keyword and the VR that implicit VR implies), and remembers runs.

    `shallow` is the length in bytes below which no sequence can be too deep.
    """

    def __init__(self, tags: dict[int, tuple[str, bytes]], shallow: int) -> None:
        self._tags = tags
        # heads hold group and element in this order, which little endian reads with exchanged halves
        self._exchanged = {tag >> 16 | (tag & 0xFFFF) << 16: tag for tag in tags}
        self._special = {tag >> 16 | (tag & 0xFFFF) << 16 for tag in BULK_TAGS}
        self._slots: dict[tuple[int, bytes], WantedElement] = {}
        self._runs: tuple[dict[bytes, ElementRun], dict[bytes, ElementRun]] = ({}, {})
        self._shallow = shallow
        self._wants_pixels = PIXEL_DATA in tags

    def walk(self, structure: Structure, found: Elements) -> None:
        """Walk to the end of the data set and put the wanted elements into `found`. Raises as Structure.step(); then
        `found` has what stood before.
        """
        source = structure.source
        if isinstance(source, FileSource) and structure.encoding.little:
            self._walk_fast(structure, source, found)
            if structure.pos == source.size:
                return
        for element in structure.elements():
            self._store(structure, element, found)

    def _store(self, structure: Structure, element: Element, found: Elements) -> None:
        tag = element.tag
        if tag not in self._tags:
            return
        if element.length > MAX_VALUE:
            raise TooLarge(f"a value that is needed has more than {MAX_VALUE} bytes")
        usual = not element.undefined and (element.vr in SHORT_VRS or element.vr in LONG_VRS)
        slot = self._slot(tag, element.vr) if usual else self._new_slot(element)
        found[tag] = slot, structure.source.read(element.start, element.length)

    def _slot(self, tag: int, vr: bytes) -> WantedElement:
        slot = self._slots.get((tag, vr))
        if slot is None:
            slot = self._slots[tag, vr] = self._new_slot(Element(tag, vr, 0, 0, 0))
        return slot

    def _new_slot(self, element: Element) -> WantedElement:
        keyword, usual = self._tags[element.tag]
        return WantedElement(element, keyword, usual if element.vr in (b"", b"UN") else element.vr)

    def _walk_fast(self, structure: Structure, source: FileSource, found: Elements) -> None:  # noqa: C901
        """Walk up to the pixel data or the end of the file. One loop, because a call costs as much as an element."""
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
                self._store(structure, element, found)
                behind = element.end
                if structure.pixel is not None:
                    break
                source.hold(behind)
            window, start = source.window, source.start
            at, edge = behind - start, len(window)
        structure.count += count
        structure.check_limits(structure.pos)
        if len(steps) >= LEAST_ELEMENTS:
            remember(runs, steps)

    def _ends_with_pixels(self, structure: Structure, window: bytes, at: int, size: int) -> bool:
        """Return whether native pixel data at index `at` of the window are the last element, as in most files, and if
        so pass them. All others are left to structure.step().
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
        """Return the element at index `at` of the window, which starts at offset `start`, if it is simple,
        else None.
        """
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
        """Return the element at index `at` of the window, which starts at offset `start`, if it is simple,
        else None.
        """
        if at + 8 > len(window):
            return None
        key, length = _implicit(window, at)
        end = start + at + 8 + length
        if key == 0 or length > self._shallow or end > size or key in self._special:
            return None
        tag = self._exchanged.get(key, 0)
        return start + at, window[at : at + 8], end, self._slot(tag, b"") if tag else None
