"""What the quick walk remembers: runs of elements that have followed each other (see walk.py)."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from struct import Struct

from listener.dicom.source import WINDOW
from listener.dicom.structure import Element
from listener.dicom.texts import plain_text

#: Runs that are remembered (all are forgotten when there are more: some megabytes), and the elements of one.
_MAX_RUNS = 1024
_MAX_ELEMENTS = 128
LEAST_ELEMENTS = 3
#: The longest element within a run, and the longest run, in bytes.
_MAX_STEP = 1024
_MAX_BYTES = WINDOW // 2

#: Texts of one attribute that are remembered, and the longest value of which the text is.
_TEXTS = 256
_TEXT_BYTES = 256


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

    def text(self, raw: bytes, *, little: bool) -> str | None:
        """The text of a value, "" for none, if it is plain; remembered, for most are the same in the whole series."""
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


#: The wanted elements of a file: tag, slot and bytes of the value; of the same tag twice the last one counts.
Found = dict[int, tuple[Slot, bytes]]

#: A simple element that was passed: where, its head (b"" if it is none for a run), the offset behind it, and its slot
#: if it is wanted. A bare tuple, because nothing else is made as quickly.
Step = tuple[int, bytes, int, Slot | None]

_END: Step = (0, b"", 0, None)

#: After so many elements that were found not to be constant, a run looks for constant ones anew.
_PATIENCE = 64


class Run:
    """A stretch of elements: `need` and `step` are the bytes looked at and passed.

    Within a series most values are the same from file to file. Elements that were met with one value only are compared
    as a whole, neighbours among them in one piece, and what is wanted of them is at hand. An element that is met with
    another value is no longer among these.
    """

    __slots__ = (
        "_changed",
        "_chop",
        "_fixed",
        "_heads",
        "_loose",
        "_pieces",
        "_same",
        "_sample",
        "_spans",
        "_take",
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
        self._take = Struct(f"<{gaps}8s").unpack_from
        # In bytes from the run's start: begin and end of each element; tag, slot, begin and end of each wanted value.
        self._spans = [(pos - first, end - first) for pos, _, end, _ in steps]
        self._wanted = [(slot.element.tag, slot, pos + 8 - first, end - first) for pos, _, end, slot in steps if slot]
        self.need = max([self._spans[-1][0] + 8, *(end for _, _, _, end in self._wanted)])
        self.step = self._spans[-1][1]
        self.count = len(steps)
        self._begin_anew()

    def match(self, window: bytes, at: int, found: Found) -> tuple[bytes, ...] | None:
        """Whether this stretch lies at index `at`: None, and `found` has its wanted values; else the heads there."""
        if self._pieces and at + self.step <= len(window) and self._chop(window, at) == self._pieces:
            found.update(self._fixed)
            for tag, slot, begin, end in self._loose:
                found[tag] = slot, window[at + begin : at + end]
            return None
        heads: tuple[bytes, ...] = self._take(window, at)
        if heads != self._heads:
            return heads
        for tag, slot, begin, end in self._wanted:
            found[tag] = slot, window[at + begin : at + end]
        self._observe(window[at : at + self.step])
        return None

    def _begin_anew(self) -> None:
        self._sample = b""
        self._same = [True] * self.count
        self._pieces: tuple[bytes, ...] = ()
        self._changed = 0

    def _observe(self, data: bytes) -> None:
        """Find out which elements have the value that they had before."""
        if len(data) < self.step:
            return
        if self._changed > _PATIENCE or len({tag for tag, *_ in self._wanted}) < len(self._wanted):
            self._begin_anew()
        if not self._sample:
            self._sample = data
            return
        for index, (begin, end) in enumerate(self._spans):
            if self._same[index] and data[begin:end] != self._sample[begin:end]:
                self._same[index] = False
                self._changed += 1
        self._settle()

    def _settle(self) -> None:
        """What is compared in one piece: from behind one changing value to the head of the next."""
        changing = [(begin + 8, end) for (begin, end), same in zip(self._spans, self._same, strict=True) if not same]
        constant = {begin + 8 for (begin, _), same in zip(self._spans, self._same, strict=True) if same}
        self._chop = around(changing, self.step)
        self._pieces = self._chop(self._sample, 0)
        self._loose = [one for one in self._wanted if one[2] not in constant]
        self._fixed = {
            tag: (slot, self._sample[begin:end]) for tag, slot, begin, end in self._wanted if begin in constant
        }


def around(spans: Iterable[tuple[int, int]], size: int) -> Callable[[bytes, int], tuple[bytes, ...]]:
    """What takes, from a window and an index in it, the pieces of the next `size` bytes that lie around these spans."""
    shape, pos = "<", 0
    for begin, end in spans:
        shape += f"{begin - pos}s{end - begin}x"
        pos = end
    return Struct(f"{shape}{size - pos}s").unpack_from


def cut(runs: dict[bytes, Run], run: Run, heads: tuple[bytes, ...]) -> None:
    """Keep of a run what comes before the first head that differs; its very first never does."""
    same = next(index for index, (_, head, _, _) in enumerate(run.steps) if head != heads[index])
    runs[heads[0]] = Run(run.steps[:same])


def learn(runs: dict[bytes, Run], steps: list[Step]) -> None:
    """Remember the stretches of simple elements that were passed one by one in a file that proved whole."""
    if len(runs) >= _MAX_RUNS:
        runs.clear()
    stretch: list[Step] = []
    for step in [*steps, _END]:
        pos, head, end, _ = step
        if stretch and not (
            head and stretch[-1][2] == pos and len(stretch) < _MAX_ELEMENTS and end - stretch[0][0] <= _MAX_BYTES
        ):
            if len(stretch) >= LEAST_ELEMENTS and len(runs) < _MAX_RUNS:
                runs.setdefault(stretch[0][1], Run(stretch))
            stretch = []
        if head and end - pos <= _MAX_STEP:
            stretch.append(step)
