"""An instance to be sent: an open file, what it is, and the bytes of its data set as they lie there."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from types import TracebackType
from typing import Self

from listener.dicom.attributes import Limits
from listener.dicom.file_meta import ALL_DEFLATED
from listener.dicom.reader import Wanted, read_header
from listener.disk.files import open_regular
from listener.errors import FileFault, Unsendable
from listener.network.contexts import Pair
from listener.uids import is_uid

_IDENTITY = ("SOPClassUID", "SOPInstanceUID")


def wanted() -> Wanted:
    """Return what is read of each file. It remembers headers, so each thread has its own."""
    return Wanted(tuple(sorted(_IDENTITY)))


class Instance:
    """An open file. `pair` and `SOPInstanceUID` are those of the data set, whatever the file meta information says;
    `size` is the data set's length in bytes, as it is sent; `about` is what stat says. A context manager, which closes
    it. `reads` is what wanted() returned to this thread.

    Raises Unsendable for what is no whole DICOM file, does not tell its transfer syntax, has no valid UIDs, or has an
    odd number of bytes, which no fragment may have (PS3.8 annex E.1); OSError from the system.
    """

    def __init__(self, path: str, limits: Limits | None = None, reads: Wanted | None = None) -> None:
        self._descriptor = open_regular(path)
        try:
            self._read(limits or Limits(), reads or wanted())
        except BaseException:
            self.close()
            raise

    def _read(self, limits: Limits, reads: Wanted) -> None:
        about = os.fstat(self._descriptor)
        if not stat.S_ISREG(about.st_mode):
            raise Unsendable("it is no regular file")
        try:
            header = read_header(self._descriptor, about.st_size, reads, limits)
        except FileFault as fault:
            raise Unsendable(str(fault)) from None
        identity = [header.get(keyword) for keyword in _IDENTITY]
        if not all(map(is_uid, identity)):
            raise Unsendable("it has no valid SOP Class UID or SOP Instance UID")
        if not is_uid(header.TransferSyntaxUID):
            raise Unsendable("it does not say its transfer syntax, as a file without meta information")
        self.about = about
        self.pair = Pair(identity[0], header.TransferSyntaxUID)
        self.SOPInstanceUID = identity[1]
        self._start, self._end = header.dataset_offset, about.st_size
        # A deflated stream of odd length is padded (PS3.5 section A.5).
        self._pads = (self._end - self._start) % 2 == 1
        if self._pads and header.TransferSyntaxUID not in ALL_DEFLATED:
            raise Unsendable("its data set has an odd number of bytes")
        self.size = self._end - self._start + self._pads

    @property
    def descriptor(self) -> int:
        """The open file's descriptor."""
        return self._descriptor

    def pieces(self, buffer: memoryview) -> Iterator[memoryview]:
        """Read the data set piece by piece into `buffer`, which has an even length; each piece is good until the next.

        Raises Unsendable when the file became shorter.
        """
        sent = 0
        while sent < self.size:
            piece = buffer[: self.size - sent]
            there = self._end - self._start - sent
            self._fill(piece[:there], self._start + sent)
            piece[there:] = bytes(max(0, len(piece) - there))
            yield piece
            sent += len(piece)

    def _fill(self, piece: memoryview, offset: int) -> None:
        while piece:
            count = os.preadv(self._descriptor, [piece], offset)
            if not count:
                raise Unsendable("it became shorter while it was sent")
            piece, offset = piece[count:], offset + count

    def close(self) -> None:
        """Close the file."""
        os.close(self._descriptor)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()
