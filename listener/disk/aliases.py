"""Detect two paths to one file or directory: by links, bind mounts, or a file system mounted twice.

Paths do not show it, not even resolved ones. Files are compared by device, inode and number of links; directories by
device and inode too, and by where each lies in its file system (mountinfo).
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence

from listener.disk.mounts import Location, MountTable


def is_only_name(path: str, kept: str) -> bool:
    """Return whether removing `path` may remove the file at `kept`: both are one directory entry, `kept` is missing, or
    both may be one file of a file system mounted twice, which only its size and times show.
    """
    first = os.lstat(path)
    try:
        second = os.lstat(kept)
    except FileNotFoundError:
        return True
    if first.st_dev != second.st_dev:
        marks = [(status.st_size, status.st_mtime_ns, status.st_ctime_ns) for status in (first, second)]
        return marks[0] == marks[1]
    if first.st_ino != second.st_ino:
        return False
    return first.st_nlink < 2 or _entry(path) == _entry(kept)


def _entry(path: str) -> tuple[int, int, str]:
    """Return the directory entry of a path: device and inode of its directory, and its name."""
    directory, name = os.path.split(path)
    status = os.stat(directory or ".")
    return status.st_dev, status.st_ino, name


def overlaps(named: Sequence[tuple[str, str]], table: MountTable) -> Iterator[str]:
    """Yield a message with a remedy for any two of these existing directories, given as (option, path), that are the
    same or one inside another, by whatever path.
    """
    places = [(option, path, _identity(path), table.location_of(path)) for option, path in named]
    for index, (option, path, identity, location) in enumerate(places):
        for second, other, there, elsewhere in places[index + 1 :]:
            if identity == there or (location and location == elsewhere):
                yield f"{second}: '{other}' is also {option} ('{path}', by another mount or link); give each its own"
            elif _inside(location, elsewhere):
                yield _nested((option, path), (second, other))
            elif _inside(elsewhere, location):
                yield _nested((second, other), (option, path))


def _identity(path: str) -> tuple[int, int]:
    status = os.stat(path)
    return status.st_dev, status.st_ino


def _inside(inner: Location | None, outer: Location | None) -> bool:
    if inner is None or outer is None or inner.volume != outer.volume:
        return False
    return inner.path.startswith(f"{outer.path.rstrip('/')}/") and inner.path != outer.path


def _nested(inner: tuple[str, str], outer: tuple[str, str]) -> str:
    text = f"{inner[0]}: '{inner[1]}' lies inside {outer[0]} ('{outer[1]}', by another mount or link)"
    return f"{text}; put them side by side"
