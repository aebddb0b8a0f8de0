"""Open files of the collection: opened below data without following links, and only what the index described."""

from __future__ import annotations

import os
from collections import OrderedDict

from listener.serve.faults import NotFound
from listener.serve.tables import Entry, stamp_of

#: Files that are kept open.
_OPEN = 512

_DIRECTORY = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_FILE = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC


class Open:
    """An open file; a context manager, which gives its descriptor and keeps it open."""

    __slots__ = ("descriptor", "readers")

    def __init__(self, descriptor: int) -> None:
        self.descriptor, self.readers = descriptor, 1

    def __enter__(self) -> int:
        self.readers += 1
        return self.descriptor

    def __exit__(self, *_: object) -> None:
        self.release()

    def release(self) -> None:
        """Close it, unless others use it."""
        self.readers -= 1
        if not self.readers:
            os.close(self.descriptor)


class Files:
    """Files below a directory, kept open; for the event loop's thread."""

    def __init__(self, data: str) -> None:
        self._data = data
        self._kept: OrderedDict[tuple[str, tuple[int, ...]], Open] = OrderedDict()

    def opened(self, entry: Entry) -> Open:
        """Open the file of an entry, for a `with` block that begins now; it is closed when nobody uses it.

        Raises NotFound where it is gone, or another.
        """
        key = (entry.path, entry.stamp)
        opened = self._kept.get(key)
        if opened is None:
            opened = self._kept[key] = Open(self._open(entry.path))
            if len(self._kept) > _OPEN:
                self._kept.popitem(last=False)[1].release()
        self._kept.move_to_end(key)
        if stamp_of(os.fstat(opened.descriptor)) != entry.stamp:
            del self._kept[key]
            opened.release()
            raise NotFound("the instance has just been replaced or removed; ask again")
        return opened

    def _open(self, path: str) -> int:
        folder = os.open(self._data, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            *folders, name = path.split("/")
            for one in folders:
                if one in ("", ".", ".."):
                    raise NotFound
                inner = os.open(one, _DIRECTORY, dir_fd=folder)
                os.close(folder)
                folder = inner
            return os.open(name, _FILE, dir_fd=folder)
        except OSError:
            raise NotFound("the instance has just been replaced or removed; ask again") from None
        finally:
            os.close(folder)

    def close(self) -> None:
        """Close all files that nobody uses, and keep none."""
        for opened in self._kept.values():
            opened.release()
        self._kept.clear()
