"""Frames of a collection: its data directory, and the ledger that says where an instance lies."""

from __future__ import annotations

import contextlib
import os
from collections import OrderedDict
from collections.abc import Iterator, Sequence
from threading import Lock
from typing import NamedTuple

from listener.dicom.attributes import Limits
from listener.frames.errors import UnknownInstance
from listener.frames.image import ImageFile
from listener.frames.origins import Reading
from listener.frames.reference import InstanceReference
from listener.ledger.reader import reading

#: Instances that are kept open.
_OPEN = 64


class Stamp(NamedTuple):
    """What identifies a file's content as long as nobody writes into it."""

    device: int
    inode: int
    size: int
    mtime_ns: int

    @classmethod
    def of(cls, status: os.stat_result) -> Stamp:
        """Return the stamp in a file's status."""
        return cls(status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns)


class _Open:
    """An instance that is kept open; closed when it is kept no more and nobody reads it. The tree's lock guards it."""

    __slots__ = ("image", "path", "readers", "stamp")

    def __init__(self, path: str, limits: Limits, cap: int) -> None:
        self.path = path
        self.image = ImageFile(path, limits, cap=cap)
        self.stamp = Stamp.of(self.image.status)
        self.readers = 1  # that of being kept

    def is_current(self) -> bool:
        """Return whether the same file is at the path."""
        try:
            return Stamp.of(os.stat(self.path, follow_symlinks=False)) == self.stamp
        except OSError:
            return False

    def release(self) -> None:
        """One reader less."""
        self.readers -= 1
        if not self.readers:
            self.image.close()


class Tree:
    """An origin: the instances of the ledger in `state`, below `data`. It only reads."""

    def __init__(self, data: str, state: str, limits: Limits, cap: int) -> None:
        self._data, self._state, self._limits, self._cap = data, state, limits, cap
        self._lock = Lock()
        self._kept: OrderedDict[InstanceReference, _Open] = OrderedDict()

    def stamp(self, instance: InstanceReference) -> object:
        """See Origin."""
        with self._opened(instance) as opened:
            return opened.stamp

    @contextlib.contextmanager
    def read(self, instance: InstanceReference, numbers: Sequence[int], whole: bool) -> Iterator[Reading]:
        """See Origin."""
        with self._opened(instance) as opened:
            count = opened.image.count
            wanted = range(1, count + 1) if whole and len(numbers) != count else numbers
            frames = ((number, opened.image.read(number - 1)) for number in wanted if number <= count)
            yield Reading(opened.stamp, count, frames)

    @contextlib.contextmanager
    def _opened(self, instance: InstanceReference) -> Iterator[_Open]:
        opened = self._take(instance)
        try:
            yield opened
        finally:
            with self._lock:
                opened.release()

    def _take(self, instance: InstanceReference) -> _Open:
        """Return an instance as it is now, with one reader more."""
        with self._lock:
            opened = self._kept.get(instance)
            if opened:
                self._kept.move_to_end(instance)
                opened.readers += 1
        if opened:
            if opened.is_current():
                return opened
            with self._lock:
                opened.release()
        return self._open(instance)

    def _open(self, instance: InstanceReference) -> _Open:
        opened = _Open(os.path.join(self._data, self._path(instance)), self._limits, self._cap)
        with self._lock:
            opened.readers += 1
            before = self._kept.pop(instance, None)
            self._kept[instance] = opened
            if not before and len(self._kept) > _OPEN:
                before = self._kept.popitem(last=False)[1]
            if before:
                before.release()
        return opened

    def _path(self, instance: InstanceReference) -> str:
        """Return the path below the data directory. Raises UnknownInstance, LedgerFault."""
        with reading(self._state) as reader:
            paths = reader.paths_of_instance(*instance)
        if not paths:
            raise UnknownInstance
        return paths[-1]

    def close(self) -> None:
        """See Origin."""
        with self._lock:
            for opened in self._kept.values():
                opened.release()
            self._kept.clear()
