"""List the tree and the log directory; find the directories of a tree that was moved."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterable, Iterator
from functools import lru_cache
from typing import NamedTuple

from listener.planning.names import OWN, is_temporary

IMAGES, _META, _PACK, _SERIES = "-img", "-meta.json", "-pack.json", "-series"


class Folder(NamedTuple):
    """One directory of the tree: names of possible instances, and paths of entries that can be none (`foreign`)."""

    path: str
    names: list[str]
    foreign: list[str]


def names_in(directory: str) -> list[str]:
    """Return the sorted names in a directory; [] where there is none."""
    try:
        return sorted(os.listdir(directory))
    except (FileNotFoundError, NotADirectoryError):
        return []


def series_in(log: str) -> list[str]:
    """Return the UID of every series that has documents of its own or of instances, sorted."""
    uids = set()
    for name in names_in(f"{log}/seriesData"):
        for ending in (IMAGES, _META, _PACK):
            if name.endswith(ending) and not name.startswith("."):
                uids.add(name.removesuffix(ending))
    return sorted(uids)


def studies_in(log: str) -> Iterator[tuple[str, list[str]]]:
    """Yield each study's directory of series documents, and the names in it."""
    for name in names_in(f"{log}/studyData"):
        if name.endswith(_SERIES) and os.path.isdir(f"{log}/studyData/{name}"):
            yield f"{log}/studyData/{name}", names_in(f"{log}/studyData/{name}")


def is_foreign(name: str, ending: str = ".json") -> bool:
    """Return whether an entry is no document, in a directory whose entries px-status counts."""
    return is_temporary(name) or not name.endswith(ending)


def folders_in(data: str) -> Iterator[Folder]:
    """Yield every directory of the tree that has files. A link to a directory outside the tree (a patient's, on another
    file system) is followed, each target once; other links are foreign.
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
    """Return whether a link leads to a directory not in, inside or above any of `followed`, and add that to these."""
    real = os.path.realpath(link.path)
    both = [(f"{real}/".replace("//", "/"), f"{root}/") for root in followed]
    if not os.path.isdir(real) or any(mine.startswith(other) or other.startswith(mine) for mine, other in both):
        return False
    followed.add(real)
    return True


def changed_ns(paths: Iterable[str]) -> int:
    """Return the newest modification time of these directories, in ns since the epoch; 0 where none exists."""
    moments = [0]
    for path in paths:
        with contextlib.suppress(OSError):
            moments.append(os.stat(path).st_mtime_ns)
    return max(moments)


#: Trailing components by which a directory is recognised below another root, at least.
_LEAST = 2


class Location(NamedTuple):
    """The present path of a directory; `moved`: documents must be rewritten before readers find it."""

    path: str
    moved: bool = False


class Relocation:
    """Maps directories named in documents to those below the data directory, by the longest common end."""

    def __init__(self, data: str) -> None:
        self.data = data
        self._former: list[str] = []
        self.find = lru_cache(maxsize=1024)(self._find)

    def holds(self, path: str) -> bool:
        """Return whether a path is below the data directory."""
        return path.startswith(f"{self.data.rstrip('/')}/")

    def _find(self, recorded: str) -> Location:
        directory = os.path.normpath(recorded)
        if self.holds(directory) or directory == self.data:
            return Location(directory)
        ours = self._below(directory)
        if not ours:
            return Location(directory)
        # The same directory by another name (a link, a bind mount): readers find it as it is.
        same = os.path.isdir(directory) and os.path.samefile(directory, ours)
        return Location(ours, moved=not same)

    def _below(self, directory: str) -> str:
        """Return the directory below the data directory with the longest end in common with this; "" if none."""
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
