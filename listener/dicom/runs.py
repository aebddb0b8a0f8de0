"""What the quick walk remembers: runs of elements that have followed each other (see walk.py)."""

from __future__ import annotations

from struct import Struct

from listener.dicom.source import WINDOW
from listener.dicom.structure import Element

#: Runs that are remembered (all are forgotten when there are more: some megabytes), and the elements of one.
_MAX_RUNS = 1024
_MAX_ELEMENTS = 128
_LEAST_ELEMENTS = 3
#: The longest element within a run, and the longest run, in bytes.
_MAX_STEP = 1024
_MAX_BYTES = WINDOW // 2


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
Step = tuple[int, bytes, int, Slot | None]

#: Stands among steps before the first one behind all wanted tags: no run goes across.
BORDER: Step = (0, b"", 0, None)


class Run:
    """A stretch of elements: `take` gives their heads from an index on, `need` and `step` are the bytes looked at and
    passed, `wanted` has tag, slot, begin and end (bytes from the run's start) of each wanted value, `far` says that it
    lies behind all wanted tags.
    """

    __slots__ = ("count", "far", "heads", "need", "step", "steps", "take", "wanted")

    def __init__(self, steps: list[Step], *, far: bool) -> None:
        self.far = far
        first = steps[0][0]
        gaps = "".join([f"8s{end - pos - 8}x" for pos, _, end, _ in steps[:-1]])
        self.steps = steps
        self.heads = tuple([head for _, head, _, _ in steps])
        self.take = Struct(f"<{gaps}8s").unpack_from
        self.wanted = [(slot.element.tag, slot, pos + 8 - first, end - first) for pos, _, end, slot in steps if slot]
        self.need = max([steps[-1][0] + 8 - first, *(end for _, _, _, end in self.wanted)])
        self.step = steps[-1][2] - first
        self.count = len(steps)


def cut(runs: dict[bytes, Run], run: Run, heads: tuple[bytes, ...]) -> None:
    """Keep of a run what comes before the first head that differs; its very first never does."""
    same = next(index for index, head in enumerate(heads) if head != run.heads[index])
    runs[heads[0]] = Run(run.steps[:same], far=run.far)


def learn(runs: dict[bytes, Run], steps: list[Step]) -> None:
    """Remember the stretches of simple elements that were passed one by one in a file that proved whole."""
    if len(runs) >= _MAX_RUNS:
        runs.clear()
    stretch: list[Step] = []
    far = False
    for step in [*steps, BORDER]:
        pos, head, end, _ = step
        if stretch and not (
            head and stretch[-1][2] == pos and len(stretch) < _MAX_ELEMENTS and end - stretch[0][0] <= _MAX_BYTES
        ):
            if len(stretch) >= _LEAST_ELEMENTS and len(runs) < _MAX_RUNS:
                runs.setdefault(stretch[0][1], Run(stretch, far=far))
            stretch = []
        far |= step is BORDER
        if head and end - pos <= _MAX_STEP:
            stretch.append(step)
