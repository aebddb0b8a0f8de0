"""An instance to be sent: an open file, what it is, and the bytes of its data set as they lie there."""

from __future__ import annotations

import os
import stat
from collections.abc import Sequence
from types import TracebackType
from typing import Self

from listener.dicom.attributes import Limits
from listener.dicom.beginning import read_beginning
from listener.dicom.reader import Identity, Wanted, read_identity
from listener.dicom.syntaxes import ALL_DEFLATED
from listener.disk.files import open_regular
from listener.errors import Unsendable
from listener.network.contexts import Pair
from listener.reasons import FileFault
from listener.uids import is_uid

_LIMITS = Limits()


def wanted() -> Wanted:
    """Return what is read of each file. It remembers headers, so each thread has its own."""
    return Wanted(("SOPClassUID", "SOPInstanceUID"))


class Instance:
    """An open file. `pair` and `SOPInstanceUID` are those of the data set, whatever the file meta information says;
    `size` is the data set's length in bytes, as it is sent; `about` is what stat says. A context manager, which closes
    it. `reads` is what wanted() returned to this thread. Of one that was proven whole under the SOP Instance UID
    `proven`, only the beginning is read, if it has that.

    Raises Unsendable for what is no whole DICOM file, does not tell its transfer syntax, has no valid UIDs, or has an
    odd number of bytes, which no fragment may have (PS3.8 annex E.1); OSError from the system.
    """

    def __init__(
        self, path: str, limits: Limits | None = None, reads: Wanted | None = None, *, proven: str = ""
    ) -> None:
        self._descriptor = open_regular(path)
        try:
            self.about = os.fstat(self._descriptor)
            self._take(self._beginning(proven) or self._whole(limits or _LIMITS, reads or wanted()))
        except BaseException:
            self.close()
            raise

    def _beginning(self, proven: str) -> Identity | None:
        if not stat.S_ISREG(self.about.st_mode):
            raise Unsendable("it is no regular file")
        found = read_beginning(self._descriptor, self.about.st_size) if proven else None
        return found if found and found.SOPInstanceUID == proven else None

    def _whole(self, limits: Limits, reads: Wanted) -> Identity:
        try:
            return read_identity(self._descriptor, self.about.st_size, reads, limits)
        except FileFault as fault:
            raise Unsendable(str(fault)) from None

    def _take(self, found: Identity) -> None:
        if not (is_uid(found.SOPClassUID) and is_uid(found.SOPInstanceUID)):
            raise Unsendable("it has no valid SOP Class UID or SOP Instance UID")
        if not is_uid(found.TransferSyntaxUID):
            raise Unsendable("it does not say its transfer syntax, as a file without meta information")
        self.pair = Pair(found.SOPClassUID, found.TransferSyntaxUID)
        self.SOPInstanceUID = found.SOPInstanceUID
        self._start, self._end = found.dataset_offset, self.about.st_size
        # A deflated stream of odd length is padded (PS3.5 section A.5).
        self._pads = (self._end - self._start) % 2 == 1
        if self._pads and found.TransferSyntaxUID not in ALL_DEFLATED:
            raise Unsendable("its data set has an odd number of bytes")
        self.size = self._end - self._start + self._pads

    @property
    def descriptor(self) -> int:
        """The open file's descriptor."""
        return self._descriptor

    def read(self, slots: Sequence[memoryview], offset: int) -> None:
        """Read from `offset` of the data set on into the slots, one after the other; see fragments.Content.

        Raises Unsendable when the file became shorter.
        """
        there = min(sum(map(len, slots)), self._end - self._start - offset)
        count = os.preadv(self._descriptor, slots, self._start + offset)
        while count < there:
            left = _behind(slots, count)
            more = os.preadv(self._descriptor, left, self._start + offset + count)
            if not more:
                raise Unsendable("it became shorter while it was sent")
            count += more
        if self._pads and offset + sum(map(len, slots)) == self.size:
            slots[-1][-1:] = b"\0"

    def close(self) -> None:
        """Close the file."""
        os.close(self._descriptor)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def _behind(slots: Sequence[memoryview], count: int) -> list[memoryview]:
    """Return what is left of the slots behind so many bytes."""
    for index, slot in enumerate(slots):
        if count < len(slot):
            return [slot[count:], *slots[index + 1 :]]
        count -= len(slot)
    return []
