"""PURE. What the name and the looks of a folder say: unfinished, refused, or finished and a batch."""

from __future__ import annotations

import itertools
import re
from collections.abc import Iterator
from hashlib import blake2b
from typing import NamedTuple

#: What a folder's name says of it.
UNFINISHED, REFUSED, FINAL = "unfinished", "refused", "final"

#: A dot in front, or `.part`, `.tmp` and `.tmp` with more behind it at the end: whoever fills it will rename it.
_UNFINISHED = re.compile(r"\..*|.*\.part|.*\.tmp[^/]*", re.IGNORECASE | re.DOTALL)
_REFUSED_ENDING = ".err"

_LONGEST_NAME = 255
_BITS = 128


def standing(name: str) -> str:
    """Return what a folder's name says: UNFINISHED, REFUSED or FINAL."""
    if name.lower().endswith(_REFUSED_ENDING):
        return REFUSED
    return UNFINISHED if _UNFINISHED.fullmatch(name) else FINAL


def refused_names(name: bytes) -> Iterator[bytes]:
    """Yield the names for a folder with an error, in the order in which they are tried: `X.err`, `X.1.err` and so on,
    with X cut so that the whole fits a directory entry.
    """
    for number in itertools.count():
        ending = (f".{number}" if number else "").encode() + _REFUSED_ENDING.encode()
        yield name[: _LONGEST_NAME - len(ending)] + ending


def is_refused_of(refused: bytes, name: bytes) -> bool:
    """Return whether `refused` is a name that refused_names() gives to `name`."""
    match = re.fullmatch(rb"(.*?)(\.[1-9][0-9]*)?\.err", refused, re.DOTALL)
    ending = len(refused) - len(match[1]) if match else 0
    return bool(match) and (match is not None) and match[1] == name[: _LONGEST_NAME - ending]


class FileEntry(NamedTuple):
    """A file of a folder: its path, that below the folder, size in bytes, mtime and ctime in nanoseconds, inode, and
    how many names it has.
    """

    path: str
    below: str
    size: int
    mtime_ns: int
    ctime_ns: int
    inode: int
    names: int = 1

    @property
    def mark(self) -> int:
        """Return a number by which the same file, unchanged, is known again."""
        text = f"{self.below}\0{self.inode} {self.size} {self.mtime_ns}"
        digest = blake2b(text.encode("utf-8", "surrogateescape"), digest_size=_BITS // 8).digest()
        return int.from_bytes(digest, "big")


class Signature:
    """Of all files of a folder, in whatever order they are listed: equal only if all of them are the same ones."""

    def __init__(self) -> None:
        self._sum = 0
        self._files = 0

    def add(self, mark: int) -> None:
        """Add a file, by its mark."""
        self._sum = (self._sum + mark) % 2**_BITS
        self._files += 1

    def __str__(self) -> str:
        """Return the text that is kept in the ledger; "" without any file."""
        return f"{self._files}-{self._sum:032x}" if self._files else ""


class Look(NamedTuple):
    """What one look at a folder found: its files, when the last one of files and directories changed (nanoseconds since
    the epoch), the signature of its files, and the mtime of each directory by path.
    """

    files: int
    newest_ns: int
    signature: str
    directories: dict[str, int]


def quiet_in(newest_ns: int, now_ns: int, quiet: float) -> float:
    """Return in how many seconds a folder whose last change was at `newest_ns` is quiet if nothing more happens; 0 or
    less: it is. A change that lies in the future, since the clock was set back, counts as one of now.
    """
    return quiet - max(0, now_ns - newest_ns) / 1e9
