"""The bytes of a data set: windows of a file, or inflated as needed; never more than was asked for."""

from __future__ import annotations

import os
import zlib
from typing import Protocol

from listener.reasons import Incomplete, NotDicom, TooLarge

#: Bytes that one system call fetches for a small piece: a header's usual length, 0.5 us.
WINDOW = 8 * 1024

#: Most bytes that one step inflates.
_STEP = 256 * 1024

#: How often a deflated data set may be inflated as a whole, to read values further back.
_PASSES = 4

#: Beyond `max_header`, a deflated data set may inflate to this many times its file's size. Real pixels reach ratios of
#: 2 to 20, empty masks more; a bomb (1,032 is the most that DEFLATE can do) is stopped after a fraction of a second.
INFLATE_RATIO = 128


#: Wrappers of a deflated stream (RFC 1950, RFC 1952), and their `wbits` for zlib.
_BITS = {"": -zlib.MAX_WBITS, "zlib": zlib.MAX_WBITS, "gzip": zlib.MAX_WBITS + 16}

#: Bytes that identify a wrapper.
_LOOK = 5


class Source(Protocol):
    """The bytes of a data set, as the walks need them; offsets count from the start of the source."""

    def read(self, offset: int, count: int) -> bytes:
        """Return `count` bytes at `offset`, fewer where the source ends. The caller, not the file, bounds `count`."""

    def reaches(self, end: int) -> bool:
        """Return whether there are at least `end` bytes."""

    def rest(self) -> bytes:
        """Return some bytes that the file has behind the source, of which the end must have been reached."""


class FileSource:
    """A file descriptor, read with pread in windows; large values are skipped unread.

    `window` is what was read last, `start` its offset; the fast walk uses them directly.
    """

    __slots__ = ("_fd", "size", "start", "window")

    def __init__(self, fd: int, size: int) -> None:
        self._fd = fd
        self.size = size
        self.start = 0
        self.window = b""

    def read(self, offset: int, count: int) -> bytes:
        """See Source. OSError of the system passes."""
        begin = offset - self.start
        if begin < 0 or begin + count > len(self.window):
            self.fill(offset, max(count, WINDOW))
            begin = 0
        return self.window[begin : begin + count]

    def fill(self, offset: int, count: int = WINDOW) -> None:
        """Read a window of `count` bytes at `offset`, fewer where the file ends."""
        self.window = _pread(self._fd, count, offset, self.size)
        self.start = offset

    def hold(self, offset: int) -> None:
        """Make sure that the window does not start behind `offset`: trying several readings of a head may have moved
        it.
        """
        if offset < self.start:
            self.fill(offset)

    def peek(self, offset: int, count: int) -> bytes:
        """Return bytes as read() does, without moving the window."""
        return _pread(self._fd, count, offset, self.size)

    def reaches(self, end: int) -> bool:
        """See Source."""
        return end <= self.size

    def rest(self) -> bytes:
        """See Source. There is nothing behind the file."""
        return b""


def _pread(fd: int, count: int, offset: int, size: int) -> bytes:
    """Read as os.pread, but completely (the kernel may return less), and never beyond `size` (the file may grow
    meanwhile).
    """
    count = min(count, size - offset)
    if count <= 0:
        return b""
    data = os.pread(fd, count, offset)
    while 0 < len(data) < count:
        more = os.pread(fd, count - len(data), offset + len(data))
        if not more:
            break
        data += more
    return data


def _wrapper(data: bytes) -> str:
    """Return the format that wraps the deflated stream beginning with these bytes, "" for none.

    gzip's mark is no DEFLATE at all (a block of type 3). The first byte of zlib's begins a stored block in DEFLATE,
    whose length stands behind it, once plainly and once inverted (RFC 1951 section 3.2.4).
    """
    if data[:3] == b"\x1f\x8b\x08":
        return "gzip"
    if len(data) < _LOOK or data[0] & 0x0F != zlib.DEFLATED or int.from_bytes(data[:2], "big") % 31:
        return ""
    is_stored = int.from_bytes(data[1:3], "little") ^ int.from_bytes(data[3:5], "little") == 0xFFFF
    return "" if is_stored else "zlib"


class InflatedSource:
    """The data set of a deflated file (PS3.5 section A.5), inflated as far as it is read. `wrapped` names the format
    that wraps the stream against the standard, "" for none.

    Memory is bounded: what lies before the offset read last is dropped, and reading further back inflates again from
    the start. Raises TooLarge beyond `cap` bytes, or when it had to inflate four times as much in all, Incomplete where
    the compressed stream is cut, NotDicom where it is none.
    """

    __slots__ = (
        "_bits",
        "_cap",
        "_engine",
        "_fd",
        "_first",
        "_input",
        "_left",
        "_next",
        "_size",
        "_start",
        "_window",
        "wrapped",
    )

    def __init__(self, fd: int, size: int, first: int, cap: int) -> None:
        self._fd = fd
        self._size = size
        self._first = first
        self._cap = cap
        self._left = _PASSES * cap
        self.wrapped = _wrapper(_pread(fd, _LOOK, first, size))
        self._bits = _BITS[self.wrapped]
        self._rewind()

    def _rewind(self) -> None:
        self._engine = zlib.decompressobj(self._bits)
        self._next = self._first  # offset in the file of the next compressed byte
        self._input = b""
        self._window = b""
        self._start = 0

    def read(self, offset: int, count: int) -> bytes:
        """See Source."""
        if offset < self._start:
            self._rewind()
        end = offset + count
        while self._start + len(self._window) < end and self._inflate(offset):
            pass
        begin = offset - self._start
        return self._window[begin : begin + count]

    def reaches(self, end: int) -> bool:
        """See Source. Inflates up to `end`."""
        return end <= 0 or len(self.read(end - 1, 1)) == 1

    def _inflate(self, keep_from: int) -> bool:
        """Inflate one step more, dropping what lies before `keep_from`; return False at the end of the stream."""
        if self._engine.eof:
            return False
        if not self._input:
            self._input = _pread(self._fd, _STEP, self._next, self._size)
            self._next += len(self._input)
        begun = bool(self._input)
        try:
            piece = self._engine.decompress(self._input, _STEP)
        except zlib.error:
            raise NotDicom("the deflated data set cannot be inflated") from None
        self._input = self._engine.unconsumed_tail
        if not piece and not begun and not self._engine.eof:
            raise Incomplete("the deflated data set is cut")
        drop = min(max(keep_from - self._start, 0), len(self._window))
        self._window = self._window[drop:] + piece
        self._start += drop
        self._left -= len(piece)
        if self._start + len(self._window) > self._cap or self._left < 0:
            raise TooLarge("the deflated data set inflates beyond its limit")
        return True

    def rest(self) -> bytes:
        """Return up to WINDOW bytes that follow the compressed stream: padding, if any (PS3.5 section A.5)."""
        begin = self._next - len(self._engine.unused_data)
        return _pread(self._fd, WINDOW, begin, self._size)
