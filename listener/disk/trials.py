"""Finding out by trying where rename and hard link work: two mounts of one file system have one st_dev and still
refuse.
"""

from __future__ import annotations

import contextlib
import os
import secrets
import time
from collections.abc import Callable
from functools import cache
from typing import NamedTuple

from listener.planning.names import OWN, short_hash

#: How old a trial file of another machine is when it is taken for left over, in seconds.
_DAY = 86_400.0

#: How long, and how often, a directory is made again that others take away meanwhile, in seconds.
_PATIENCE, _PAUSE = 3.0, 0.002


class Trial(NamedTuple):
    """What works between two directories."""

    renames: bool
    links: bool


def corner(directory: str) -> str:
    """Our own corner of a user's directory, where nobody else looks."""
    return os.path.join(directory, OWN)


def name() -> str:
    """A name for a trial file that no other process gives: its first part is this machine's run and process space."""
    return f"trial-{_space()}-{os.getpid():x}-{secrets.token_hex(8)}"


def is_left_over(entry: os.DirEntry[str]) -> bool:
    """Whether a trial file is nobody's any more: of a process of this machine that has ended, or a day old."""
    parts = entry.name.lstrip(".").removeprefix("listener-").split("-")
    if parts[0] != "trial":
        return False
    if len(parts) >= 4 and parts[1] == _space():
        pid = int(parts[2], 16)
        return pid == os.getpid() or not os.path.exists(f"/proc/{pid}")
    return time.time() - entry.stat(follow_symlinks=False).st_mtime > _DAY


@cache
def _space() -> str:
    """This run of the machine, and its space of process numbers: containers have one each."""
    try:
        with open("/proc/sys/kernel/random/boot_id", encoding="ascii") as file:
            return short_hash(f"{file.read()}{os.stat('/proc/self/ns/pid').st_ino}")
    except OSError:  # A kernel that does not tell.
        return short_hash(os.uname().nodename)


def try_moves(source: str, target: str, *, stays: bool = False) -> Trial:
    """Whether a file can be renamed, and hard linked, from one directory of ours into another (made if need be).

    A kill in the middle leaves its files there, for tidy(). An empty corner is removed, unless it `stays`.
    """
    trial = name()
    first, renamed = os.path.join(source, trial), os.path.join(target, trial)
    linked, anchor = f"{renamed}-linked", f"{renamed}-anchor"
    try:
        # One in each directory, so that nobody who tries the same takes an empty one away meanwhile.
        for path in (first, anchor):
            _make(path)
        links = _succeeds(os.link, first, linked)
        return Trial(renames=_succeeds(os.rename, first, renamed), links=links)
    finally:
        for path in (first, linked, renamed, anchor):
            with contextlib.suppress(FileNotFoundError):
                os.unlink(path)
        for directory in (source, target):
            if os.path.basename(directory) == OWN and not stays:
                with contextlib.suppress(OSError):  # Something of ours lives there.
                    os.rmdir(directory)


def _make(path: str) -> None:
    """An empty file, in a directory that is made if need be."""

    def make() -> None:
        os.makedirs(os.path.dirname(path), mode=0o700, exist_ok=True)
        os.close(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600))

    _beside_others(make)


def make_private(path: str) -> None:
    """Make a directory of ours, and those above it; a start beside this one may take an empty one away meanwhile."""
    _beside_others(lambda: os.makedirs(path, mode=0o700, exist_ok=True))


def _beside_others(make: Callable[[], None]) -> None:
    """What another one took away a moment ago, the kernel may still remember as there (a network file system)."""
    end = time.monotonic() + _PATIENCE
    while time.monotonic() < end:
        with contextlib.suppress(FileNotFoundError, FileExistsError):
            make()
            return
        time.sleep(_PAUSE)
    make()


def _succeeds(operation: Callable[[str, str], None], source: str, target: str) -> bool:
    try:
        operation(source, target)
    except OSError:
        return False
    return True
