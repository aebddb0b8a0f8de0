"""Which mount a directory lies on, as the kernel tells it (proc(5), mountinfo)."""

from __future__ import annotations

import os
import re
from typing import NamedTuple

_PROC = "/proc/self"

#: File systems whose files other machines change, which inotify never hears of. FUSE may be one.
_NETWORK = frozenset(
    ("9p", "afs", "beegfs", "ceph", "cifs", "fuse", "fuseblk", "gfs2", "glusterfs", "gpfs", "lustre", "ncpfs", "nfs")
) | {"nfs4", "ocfs2", "orangefs", "smb3", "smbfs", "virtiofs"}


class Mount(NamedTuple):
    """The mount's number, and the name of its file system."""

    number: str
    kind: str

    @property
    def is_network(self) -> bool:
        """Whether other machines may change files there."""
        return self.kind in _NETWORK or self.kind.startswith("fuse.")


class Location(NamedTuple):
    """Where a directory lies in its file system: `volume` tells which one, `path` is from its root, whatever of it is
    mounted where.
    """

    volume: str
    path: str


def mount_of(directory: str) -> Mount | None:
    """The mount that a directory lies on; None where the system does not say."""
    try:
        number, _, kind, _ = _row_of(directory)
    except (OSError, KeyError, ValueError):
        return None
    return Mount(number, kind)


def location_of(directory: str) -> Location | None:
    """Where a directory lies in its file system; None where the system does not say."""
    try:
        _, row, kind, source = _row_of(directory)
        root, point = map(_unescaped, row[3:5])
        below = os.path.relpath(os.path.realpath(directory), point)
    except (OSError, KeyError, ValueError):
        return None
    volume, above = row[2], ""
    if kind in ("nfs", "nfs4"):  # Mounted twice it may have two device numbers.
        volume, _, above = source.rpartition(":")
    return Location(volume, os.path.normpath(f"/{above}/{root}/{below}"))


def _row_of(directory: str) -> tuple[str, list[str], str, str]:
    """A directory's line of mountinfo: the mount's number, the fields before the separator, file system and source."""
    descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY)
    try:
        with open(f"{_PROC}/fdinfo/{descriptor}", encoding="ascii") as file:
            told = dict(line.split(":", 1) for line in file if ":" in line)
    finally:
        os.close(descriptor)
    number = told["mnt_id"].strip()
    with open(f"{_PROC}/mountinfo", encoding="utf-8", errors="surrogateescape") as file:
        lines = {line.split(" ", 1)[0]: line for line in file}
    before, _, after = lines[number].partition(" - ")
    kind, source = after.split(" ")[:2]
    return number, before.split(" "), kind, source


def _unescaped(text: str) -> str:
    r"""A path of mountinfo: blanks, tabs, newlines and backslashes are written as `\040` and its like."""
    return re.sub(r"\\([0-7]{3})", lambda found: chr(int(found[1], 8)), text)
