"""Where the directories that documents tell of are now: a tree may have been moved, or be mounted elsewhere."""

from __future__ import annotations

import os
from functools import lru_cache
from typing import NamedTuple

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
