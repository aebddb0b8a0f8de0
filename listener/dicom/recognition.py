"""Which file is like one that was read before: what is remembered by size, and how much of it.

Files of one size may have several shapes, where one value is longer and another one shorter. Learning a shape costs as
much as some dozens of recognised files save, so a size where nothing is gained is not tried for ever.
"""

from __future__ import annotations

from listener.dicom.header import Header
from listener.dicom.likeness import Likeness, Walked
from listener.dicom.prologue import PREAMBLE, PREFIX
from listener.dicom.source import FileSource
from listener.dicom.structure import Leap

#: Bytes of a tag: that from which the walk leaps must be the same.
_TAG = 4

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

    def learn(self, data: bytes, walked: Walked, leap: Leap) -> None:
        for likeness in self.likenesses:
            if likeness.has_shape_of(data):
                if not likeness.learn(data, walked.header):
                    self.likenesses.remove(likeness)
                return
        if self.tries < _TRIES + self.hits // _HITS_A_TRY:
            self.tries += 1
            self.likenesses = [Likeness(data, walked, leap), *self.likenesses[: _MOST_SHAPES - 1]]


class Likenesses:
    """What is remembered of files that were read with the same limits."""

    __slots__ = ("_sizes",)

    def __init__(self) -> None:
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
        source, leap = walked.source, walked.structure.leapt
        if leap is None or not walked.header.fast or source.start or leap.begin + _TAG > len(source.window):
            return
        if source.window[PREAMBLE - len(PREFIX) : PREAMBLE] != PREFIX:
            return
        known = self._sizes.get(source.size)
        if known is not None:
            known.learn(source.window[: leap.begin + _TAG], walked, leap)
            return
        if len(self._sizes) >= _MOST_SIZES:
            self._sizes.clear()
        self._sizes[source.size] = _Size()
