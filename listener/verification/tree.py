"""The tree and its documents as listed, and where instances were moved to."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterable, Iterator
from functools import lru_cache
from typing import NamedTuple

from listener.planning.names import OWN, is_temporary

IMAGES, _META, _PACK, _SERIES = "-img", "-meta.json", "-pack.json", "-series"


class Folder(NamedTuple):
    """One directory of the tree: its files by name, and what is no instance by its look."""

    path: str
    names: list[str]
    foreign: list[str]


def names_in(directory: str) -> list[str]:
    """What lies in a directory, in order; nothing where there is none."""
    try:
        return sorted(os.listdir(directory))
    except (FileNotFoundError, NotADirectoryError):
        return []


def series_in(log: str) -> list[str]:
    """The UID of every series that has documents, of instances or its own."""
    found = set()
    for name in names_in(f"{log}/seriesData"):
        for ending in (IMAGES, _META, _PACK):
            if name.endswith(ending) and not name.startswith("."):
                found.add(name.removesuffix(ending))
    return sorted(found)


def studies_in(log: str) -> Iterator[tuple[str, list[str]]]:
    """Each study's directory of series documents, and the names in it."""
    for name in names_in(f"{log}/studyData"):
        if name.endswith(_SERIES) and os.path.isdir(f"{log}/studyData/{name}"):
            yield f"{log}/studyData/{name}", names_in(f"{log}/studyData/{name}")


def is_foreign(name: str, ending: str = ".json") -> bool:
    """Whether something in a directory whose entries readers count is none of the documents that belong there."""
    return is_temporary(name) or not name.endswith(ending)


def folders_in(data: str) -> Iterator[Folder]:
    """Every directory of the tree that holds files. A link is followed that leads to a directory outside of the tree (a
    patient's, on another file system), each of these once; other links are foreign.
    """
    pending, followed = [data], {os.path.realpath(data)}
    while pending:
        directory = pending.pop()
        folder = Folder(directory, [], [])
        below = []
        with contextlib.suppress(FileNotFoundError), os.scandir(directory) as entries:
            for entry in entries:
                if entry.is_dir(follow_symlinks=False):
                    below += [] if entry.name == OWN else [entry.path]
                elif entry.is_symlink() and _leads_outside(entry, followed):
                    below.append(entry.path)
                elif is_temporary(entry.name) or not entry.is_file(follow_symlinks=False):
                    folder.foreign.append(entry.path)
                else:
                    folder.names.append(entry.name)
        pending += sorted(below, reverse=True)
        if folder.names or folder.foreign:
            yield folder._replace(names=sorted(folder.names))


def _leads_outside(link: os.DirEntry[str], followed: set[str]) -> bool:
    """Whether a link leads to a directory that is none of `followed`, nor inside or above one; it joins them then."""
    real = os.path.realpath(link.path)
    both = [(f"{real}/".replace("//", "/"), f"{one}/") for one in followed]
    if not os.path.isdir(real) or any(mine.startswith(other) or other.startswith(mine) for mine, other in both):
        return False
    followed.add(real)
    return True


def changed_ns(paths: Iterable[str]) -> int:
    """When the newest of these directories changed, in nanoseconds since the epoch; 0 when there is none."""
    moments = [0]
    for path in paths:
        with contextlib.suppress(OSError):
            moments.append(os.stat(path).st_mtime_ns)
    return max(moments)


#: A directory is known again by at least so many of its last components.
_LEAST = 2


class Place(NamedTuple):
    """A directory as it is now; `moved` when documents must be rewritten before readers find it."""

    path: str
    moved: bool = False


class Places:
    """Finds directories of documents below the data root; remembers the roots that trees had before."""

    def __init__(self, data: str) -> None:
        self.data = data
        self._former: list[str] = []
        self.find = lru_cache(maxsize=1024)(self._find)

    def holds(self, path: str) -> bool:
        """Whether a path lies in our tree."""
        return path.startswith(f"{self.data.rstrip('/')}/")

    def _find(self, told: str) -> Place:
        directory = os.path.normpath(told)
        if self.holds(directory) or directory == self.data:
            return Place(directory)
        ours = self._below(directory)
        if not ours:
            return Place(directory)
        # The same directory by another name (a link, a bind mount): readers find it as it is.
        same = os.path.isdir(directory) and os.path.samefile(directory, ours)
        return Place(ours, moved=not same)

    def _below(self, directory: str) -> str:
        """The directory below our root that has the longest end in common with this one; "" if there is none."""
        for former in self._former:
            if directory.startswith(f"{former}/") and os.path.isdir(self.data + directory[len(former) :]):
                return self.data + directory[len(former) :]
        parts = directory.split("/")
        for start in range(1, len(parts) - _LEAST + 1):
            ours = os.path.join(self.data, *parts[start:])
            if os.path.isdir(ours):
                self._former.append("/".join(parts[:start]))
                return ours
        return ""
