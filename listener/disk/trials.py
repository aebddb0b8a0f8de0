"""Finding out by trying where rename and hard link work: two mounts of one file system have one st_dev and still
refuse.
"""

from __future__ import annotations

import contextlib
import os
import secrets
from collections.abc import Callable
from typing import NamedTuple

from listener.planning.names import OWN


class Trial(NamedTuple):
    """What works between two directories."""

    renames: bool
    links: bool


def corner(directory: str) -> str:
    """Our own corner of a user's directory, where nobody else looks."""
    return os.path.join(directory, OWN)


def try_moves(source: str, target: str) -> Trial:
    """Whether a file can be renamed, and hard linked, from one directory of ours into another (made if need be).

    A kill in the middle leaves its files there, for tidy().
    """
    name = f"trial-{secrets.token_hex(8)}"
    first, renamed = os.path.join(source, name), os.path.join(target, name)
    linked = f"{renamed}-linked"
    try:
        for directory in (source, target):
            os.makedirs(directory, mode=0o700, exist_ok=True)
        os.close(os.open(first, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600))
        links = _succeeds(os.link, first, linked)
        return Trial(renames=_succeeds(os.rename, first, renamed), links=links)
    finally:
        for path in (first, linked, renamed):
            with contextlib.suppress(FileNotFoundError):
                os.unlink(path)
        for directory in (source, target):
            if os.path.basename(directory) == OWN:
                with contextlib.suppress(OSError):  # Something of ours lives there.
                    os.rmdir(directory)


def _succeeds(operation: Callable[[str, str], None], source: str, target: str) -> bool:
    try:
        operation(source, target)
    except OSError:
        return False
    return True
