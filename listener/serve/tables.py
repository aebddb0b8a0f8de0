"""Tables of frames: where the frames of a series' instances lie, in a file that is mapped into memory.

Behind the mark and the length of its head (eight bytes each) a table has its head, which is JSON, and then, from a
multiple of eight bytes on, numbers of 64 bits: of encapsulated pixel data starts, lengths, first fragments, and lengths
without padding.
"""

from __future__ import annotations

import mmap
import os
from array import array
from collections.abc import Sequence
from typing import Any, NamedTuple

import orjson

from listener.errors import ListenerError
from listener.frames.layout import Encapsulated, Facts, Layout, Native

_MARK = b"LFRAMES1"
_HEAD = 16


class TableDamaged(ListenerError):
    """A table of the index is damaged."""


def stamp_of(status: os.stat_result) -> tuple[int, int, int, int]:
    """Return what changes when another file is in a place: device, inode, size and mtime."""
    return status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns


class Entry(NamedTuple):
    """An instance: UID, path below data, device, inode, size and mtime of the file, transfer syntax, offset and length
    of its part of the document; why it has no frames ("": it has), its layout and facts; tag and VR of its pixel data
    (0 and "": none).
    """

    uid: str
    path: str
    stamp: tuple[int, int, int, int]
    syntax: str
    document: tuple[int, int]
    reason: str = ""
    layout: Layout | None = None
    facts: Facts | None = None
    pixels: int = 0
    pixel_vr: str = ""


def write_table(entries: Sequence[Entry]) -> bytes:
    """Return the bytes of a table."""
    numbers = array("Q")
    head = [[*entry[:6], _layout(entry, numbers), entry.pixels, entry.pixel_vr] for entry in entries]
    text = orjson.dumps(head)
    text += b" " * (-len(text) % 8)
    return _MARK + len(text).to_bytes(8, "little") + text + numbers.tobytes()


def _layout(entry: Entry, numbers: array[int]) -> Any:
    """Return what the head has of a layout; put its numbers behind the others."""
    layout, facts = entry.layout, entry.facts
    if layout is None or facts is None:
        return None
    said = [*facts[:-1], facts.vr.decode("ascii")]
    if isinstance(layout, Native):
        return [said, layout.start, layout.length_of_all]
    assert isinstance(layout, Encapsulated)
    where = []
    for values in (layout.starts, layout.lengths, layout.first, layout.exact):
        where.append([-1, 0] if values is None else [len(numbers), len(values)])
        numbers.extend(values or ())
    return [said, *where]


class Table:
    """A table that is mapped into memory. `entries` are found by UID, in the order of the series."""

    def __init__(self, path: str) -> None:
        """Raise TableDamaged, OSError."""
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        try:
            self._map = mmap.mmap(descriptor, 0, prot=mmap.PROT_READ)
        except ValueError:
            raise TableDamaged from None
        finally:
            os.close(descriptor)
        try:
            self._read()
        except (ValueError, TypeError, IndexError, KeyError):
            raise TableDamaged from None

    def _read(self) -> None:
        length = int.from_bytes(self._map[8:_HEAD], "little")
        if self._map[:8] != _MARK or _HEAD + length > len(self._map):
            raise TableDamaged
        self._numbers = memoryview(self._map)[_HEAD + length :].cast("Q")
        head = orjson.loads(self._map[_HEAD : _HEAD + length])
        self.entries = {row[0]: self._entry(row) for row in head}

    def _entry(self, row: Sequence[Any]) -> Entry:
        uid, path, stamp, syntax, document, reason, said, pixels, vr = row
        layout: Layout | None = None
        facts: Facts | None = None
        if said:
            facts = Facts(*said[0])._replace(vr=said[0][-1].encode("ascii"))
            if len(said) == 3:
                layout = Native(facts, said[1], said[2])
            else:
                layout = Encapsulated(*(self._slice(*where) for where in said[1:]))  # type: ignore[arg-type]
        return Entry(uid, path, tuple(stamp), syntax, tuple(document), reason, layout, facts, pixels, vr)

    def _slice(self, begin: int, count: int) -> Sequence[int] | None:
        if begin < 0:
            return None
        if begin + count > len(self._numbers):
            raise TableDamaged
        return self._numbers[begin : begin + count]
