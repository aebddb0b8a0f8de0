"""Claims of incoming directories that this configuration does not name any more.

A claim lies below `<state>/claim/<hash of incoming>/`, and the symbolic link `<state>/incoming/<the same hash>` says
of which directory. Whoever changes `--incoming` while files are unfinished would otherwise never hear of them again.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable
from typing import NamedTuple


class Orphans(NamedTuple):
    """Unfinished files of one incoming directory (empty: not known) that nobody takes up."""

    incoming: str
    claims: str
    files: int

    def text(self) -> str:
        """For people: what lies where."""
        whose = f"'{self.incoming}'" if self.incoming else "an incoming directory that is not known"
        return f"{self.files} claimed files of {whose} are unfinished in '{self.claims}'"

    def remedy(self) -> str:
        """For people: what finishes them."""
        return f"finish them: listener once --incoming '{self.incoming or 'DIR'}' with the same --state"


def record(state: str, name: str, incoming: str) -> None:
    """Say whose the claims in the directory `name` are."""
    home = os.path.join(state, "incoming")
    os.makedirs(home, mode=0o700, exist_ok=True)
    with contextlib.suppress(FileExistsError):
        os.symlink(os.path.realpath(incoming), os.path.join(home, name))


def find(state: str, ours: set[str], is_owned: Callable[[str], bool]) -> list[Orphans]:
    """What lies below `<state>/claim/` beside the directories `ours` and those that another listener works on."""
    found = [
        Orphans(_whose(state, os.path.basename(path)), path, count)
        for path in _directories(os.path.join(state, "claim"))
        if path not in ours and (count := _count(path))
    ]
    return [one for one in found if not (one.incoming and is_owned(one.incoming))]


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
