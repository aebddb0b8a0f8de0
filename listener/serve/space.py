"""The space that the index takes: how much, and what goes when it is too much."""

from __future__ import annotations

import contextlib
import os
import shutil
import time
from collections.abc import Iterator
from typing import NamedTuple

from listener.serve.index import LEFT

#: The part of the space that is left after old documents went, so that not each new one lets another go.
_AFTER = 0.9


class Taken(NamedTuple):
    """A series' directory in the index: when it was last used (seconds since the epoch), its bytes, and its path."""

    used: float
    bytes: int
    path: str


def taken(folder: str) -> int:
    """Return the bytes of an index."""
    return sum(one.bytes for one in _series(folder)) + _catalogue(folder)


def tidy(folder: str, limit: int) -> int:
    """Remove series that were not used for the longest time until an index takes less than `limit` bytes (0: any
    number), and what killed workers left. Return the bytes that it then takes.
    """
    _remove_left(folder)
    found = sorted(_series(folder))
    size = sum(one.bytes for one in found) + _catalogue(folder)
    if not limit or size <= limit:
        return size
    for one in found:
        if size <= limit * _AFTER:
            break
        shutil.rmtree(one.path, ignore_errors=True)
        size -= one.bytes
    return size


def _series(folder: str) -> Iterator[Taken]:
    for group in _scanned(os.path.join(folder, "series")):
        for series in _scanned(group.path):
            status = []
            for file in _scanned(series.path):
                with contextlib.suppress(OSError):
                    status.append(file.stat(follow_symlinks=False))
            yield Taken(
                max((one.st_mtime for one in status), default=0.0), sum(one.st_size for one in status), series.path
            )


def _scanned(folder: str) -> list[os.DirEntry[str]]:
    with contextlib.suppress(OSError), os.scandir(folder) as entries:
        return list(entries)
    return []


def _catalogue(folder: str) -> int:
    size = 0
    for one in _scanned(folder):
        with contextlib.suppress(OSError):
            size += one.stat(follow_symlinks=False).st_size if one.name.startswith("catalogue.") else 0
    return size


def _remove_left(folder: str) -> None:
    for one in _scanned(folder):
        with contextlib.suppress(OSError):
            if one.name.startswith("bulk-") and time.time() - one.stat(follow_symlinks=False).st_mtime > LEFT:
                os.unlink(one.path)
