"""Whether two paths lead to one thing: by links, by bind mounts, by one file system that is mounted twice.

Paths do not tell, not even resolved ones. Of files the kernel tells by device, inode and number of links; of
directories by device and inode too, and where each lies in its file system (mountinfo).
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence

from listener.disk.mounts import Location, location_of


def is_only_name(path: str, kept: str) -> bool:
    """Whether the file at `kept` may be gone with the name `path`: they are one directory entry by two ways, `kept` is
    not there, or both may be one file of a file system that is mounted twice, which its size and times tell alone.
    """
    one = os.lstat(path)
    try:
        other = os.lstat(kept)
    except FileNotFoundError:
        return True
    if one.st_dev != other.st_dev:
        told = [(status.st_size, status.st_mtime_ns, status.st_ctime_ns) for status in (one, other)]
        return told[0] == told[1]
    if one.st_ino != other.st_ino:
        return False
    return one.st_nlink < 2 or _entry(path) == _entry(kept)


def _entry(path: str) -> tuple[int, int, str]:
    """The directory entry that a path is: its directory, by device and inode, and its name."""
    directory, name = os.path.split(path)
    status = os.stat(directory or ".")
    return status.st_dev, status.st_ino, name


def overlaps(named: Sequence[tuple[str, str]]) -> Iterator[str]:
    """What is wrong with directories that are there, given as (option, path): two that are one, or one inside another,
    by whatever way. For people, with what to do.
    """
    places = [(option, path, _identity(path), location_of(path)) for option, path in named]
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
