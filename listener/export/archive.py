"""PURE. Tar archives (POSIX.1-2001, pax) that are the same bytes for the same content: no owner, no time but the epoch.

Members are given in their order with their sizes, so an archive's size and each member's offset are known before a byte
is read.
"""

from __future__ import annotations

import zlib
from collections.abc import Iterator, Sequence
from typing import NamedTuple

BLOCK = 512

#: An archive's size is a multiple of this, as GNU tar and POSIX have it.
RECORD = 20 * BLOCK

#: Twelve bytes hold eleven octal digits; larger sizes stand in a pax header.
_MOST_OCTAL = 8**11 - 1


class Member(NamedTuple):
    """A file of an archive: its name in it, and its size in bytes."""

    name: str
    size: int


def padding(size: int) -> int:
    """Return the zeros between a member's content and the next header."""
    return -size % BLOCK


def header(member: Member) -> bytes:
    """Return what stands before a member's content: a ustar header, behind a pax header where that cannot say all."""
    name = member.name.encode("utf-8", "surrogateescape")
    records = b""
    if len(name) > 100 or not name.isascii():
        records += _record(b"path", name)
    if member.size > _MOST_OCTAL:
        records += _record(b"size", b"%d" % member.size)
    if not records:
        return _ustar(name, member.size, b"0")
    short = name.decode("utf-8", "replace").encode("ascii", "replace")[-100:].lstrip(b"/") or b"_"
    extended = _ustar(b"PaxHeaders/" + short[-80:], len(records), b"x") + records + bytes(padding(len(records)))
    return extended + _ustar(short, min(member.size, _MOST_OCTAL), b"0")


def _record(keyword: bytes, value: bytes) -> bytes:
    """Return a record of a pax header, which begins with its own length."""
    rest = b" %s=%s\n" % (keyword, value)
    length = len(rest) + 1
    while len(b"%d" % length) + len(rest) != length:
        length = len(b"%d" % length) + len(rest)
    return b"%d" % length + rest


def _ustar(name: bytes, size: int, kind: bytes) -> bytes:
    numbers = b"0000644\0" + b"0000000\0" * 2 + b"%011o\0" % size + b"%011o\0" % 0
    devices = b"0000000\0" * 2
    tail = kind + bytes(100) + b"ustar\x0000" + bytes(64) + devices + bytes(155)
    block = (name.ljust(100, b"\0") + numbers + b" " * 8 + tail).ljust(BLOCK, b"\0")
    # The sum of its bytes: they are ASCII, so it is below 65,521, by which Adler-32 would divide.
    return block[:148] + b"%06o\0 " % ((zlib.adler32(block) & 0xFFFF) - 1) + block[156:]


def trailer(size: int) -> bytes:
    """Return what stands behind the last member of an archive that has `size` bytes until there."""
    return bytes(2 * BLOCK + -(size + 2 * BLOCK) % RECORD)


def offsets(members: Sequence[Member]) -> tuple[list[int], int]:
    """Return where the content of each member begins, and the size of the whole archive."""
    found, at = [], 0
    for member in members:
        at += len(header(member))
        found.append(at)
        at += member.size + padding(member.size)
    return found, at + len(trailer(at))


def volumes(members: Sequence[Member], most: int) -> Iterator[Sequence[Member]]:
    """Yield runs of members whose archives have at most `most` bytes each; a member that is larger has one alone."""
    begin, size = 0, 0
    for index, member in enumerate(members):
        own = len(header(member)) + member.size + padding(member.size)
        if index > begin and size + own + len(trailer(size + own)) > most:
            yield members[begin:index]
            begin, size = index, 0
        size += own
    if members:
        yield members[begin:]
