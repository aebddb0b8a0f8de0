"""Which file is like one that was read before: what is remembered by size, and how much of it.

Files of one size may have several shapes, where one value is longer and another one shorter. Learning a shape costs as
much as some dozens of recognised files save, so a size where nothing is gained is not tried for ever.
"""

from __future__ import annotations

from listener.dicom.header import Header
from listener.dicom.likeness import Likeness, Walked
from listener.dicom.prologue import PREAMBLE, PREFIX
from listener.dicom.source import FileSource

#: Sizes that are remembered, all are forgotten when there are more; and shapes of files of one size (some kilobytes
#: each).
_MOST_SIZES = 128
_MOST_SHAPES = 8

#: How many shapes a size may try, and one more after so many files that were recognised.
_TRIES = 16
_HITS_A_TRY = 64


class _Size:
    """Likenesses of files of one size, the one that was met last first."""

    __slots__ = ("hits", "likenesses", "tries")

    def __init__(self) -> None:
        self.likenesses: list[Likeness] = []
        self.tries = 0
        self.hits = 0

    def header(self, source: FileSource) -> Header | None:
        for index, likeness in enumerate(self.likenesses):
            header = likeness.header(source)
            if header is not None:
                self.hits += 1
                if index:
                    self.likenesses.insert(0, self.likenesses.pop(index))
                return header
        return None

    def learn(self, walked: Walked, fixed: frozenset[int], last: int) -> None:
        for likeness in self.likenesses:
            if likeness.has_shape_of(walked.source):
                if not likeness.learn(walked.source.window, walked.header):
                    self.likenesses.remove(likeness)
                return
        if self.tries < _TRIES + self.hits // _HITS_A_TRY:
            self.tries += 1
            made = Likeness.of(walked, fixed, last)
            if made is not None:
                self.likenesses = [made, *self.likenesses[: _MOST_SHAPES - 1]]


class Likenesses:
    """What is remembered of files that were read with the same limits and for the same tags: `fixed` are those whose
    values decide how others are read, `last` is the last of all.
    """

    __slots__ = ("_fixed", "_last", "_sizes")

    def __init__(self, fixed: frozenset[int], last: int) -> None:
        self._fixed = fixed
        self._last = last
        self._sizes: dict[int, _Size] = {}

    def header(self, source: FileSource) -> Header | None:
        """The header of a file that is like earlier ones; None where it is not."""
        known = self._sizes.get(source.size)
        if known is None or not known.likenesses:
            return None
        source.fill(0)
        return known.header(source)

    def learn(self, walked: Walked) -> None:
        """Learn from a file that was not recognised: from the second of its size on."""
        source, structure, header = walked.source, walked.structure, walked.header
        pixel = structure.pixel
        if structure.source is not source or not structure.encoding.little or not header.fast or header.warning:
            return
        if pixel is None or pixel.undefined or pixel.end != source.size:
            return
        known = self._sizes.get(source.size)
        if known is not None:
            if source.start:
                source.fill(0)
            if source.window[PREAMBLE - len(PREFIX) : PREAMBLE] == PREFIX:
                known.learn(walked, self._fixed, self._last)
            return
        if len(self._sizes) >= _MOST_SIZES:
            self._sizes.clear()
        self._sizes[source.size] = _Size()
