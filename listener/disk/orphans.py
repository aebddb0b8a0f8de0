"""Unfinished claims of incoming directories that are no longer configured.

Claims lie below `<state>/claim/<hash of incoming>/`, and the symbolic link `<state>/incoming/<same hash>` names the
directory. After a change of `--incoming`, nothing else would show them.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable
from typing import NamedTuple


class Orphans(NamedTuple):
    """Unfinished files of one incoming directory ("": unknown) that no listener works on."""

    incoming: str
    claims: str
    files: int

    def text(self) -> str:
        """Return a message: how many files lie where."""
        whose = f"'{self.incoming}'" if self.incoming else "an incoming directory that is not known"
        return f"{self.files} claimed files of {whose} are unfinished in '{self.claims}'"

    def remedy(self) -> str:
        """Return how to finish them."""
        return f"finish them: listener once --incoming '{self.incoming or 'DIR'}' with the same --state"


def record(state: str, name: str, incoming: str) -> None:
    """Record for which incoming directory `name` below <state>/claim holds claims."""
    home = os.path.join(state, "incoming")
    os.makedirs(home, mode=0o700, exist_ok=True)
    with contextlib.suppress(FileExistsError):
        os.symlink(os.path.realpath(incoming), os.path.join(home, name))


def find(state: str, ours: set[str], is_owned: Callable[[str], bool]) -> list[Orphans]:
    """Return the claims below `<state>/claim/` of directories that are neither `ours` nor another listener's."""
    found = [
        Orphans(_whose(state, os.path.basename(path)), path, count)
        for path in _directories(os.path.join(state, "claim"))
        if path not in ours and (count := _count(path))
    ]
    return [orphans for orphans in found if not (orphans.incoming and is_owned(orphans.incoming))]


def _directories(home: str) -> list[str]:
    try:
        with os.scandir(home) as entries:
            return sorted(entry.path for entry in entries if entry.is_dir(follow_symlinks=False))
    except FileNotFoundError:
        return []


def _count(path: str) -> int:
    with os.scandir(path) as entries:
        return sum(not entry.name.startswith(".") for entry in entries)


def _whose(state: str, name: str) -> str:
    try:
        return os.readlink(os.path.join(state, "incoming", name))
    except OSError:
        return ""
