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


#: Object stores that are shown as directories: no file is renamed in one step, linked or locked there. Prefixes of the
#: names that their programs give.
_OBJECT_STORES = ("s3fs", "mount-s3", "goofys", "geesefs", "gcsfuse", "blobfuse", "ossfs", "rclone", "riofs", "cosfs")

#: Options by which locks are kept on this machine alone.
_LOCAL_LOCKS = frozenset(("nolock", "local_lock=all", "local_lock=flock", "nobrl", "localflock", "noflock"))


class Mount(NamedTuple):
    """The mount's number, the name of its file system, what is mounted, and the options that it is mounted with."""

    number: str
    kind: str
    source: str = ""
    options: frozenset[str] = frozenset()

    @property
    def is_network(self) -> bool:
        """Whether other machines may change files there."""
        return self.kind in _NETWORK or self.kind.startswith("fuse.")

    @property
    def is_object_store(self) -> bool:
        """Whether an object store is shown as directories; by the name that its program gives the mount."""
        names = (self.kind.removeprefix("fuse."), self.source)
        return self.is_network and any(name.startswith(_OBJECT_STORES) for name in names)

    @property
    def local_locks(self) -> str:
        """The option by which locks are not seen by other machines; "" without one."""
        return min(self.options & _LOCAL_LOCKS, default="") if self.is_network else ""


class Location(NamedTuple):
    """Where a directory lies in its file system: `volume` tells which one, `path` is from its root, whatever of it is
    mounted where.
    """

    volume: str
    path: str


def mount_of(directory: str) -> Mount | None:
    """The mount that a directory lies on; None where the system does not say."""
    try:
        number, row, kind, source, options = _row_of(directory)
    except (OSError, KeyError, ValueError):
        return None
    return Mount(number, kind, source, frozenset([*row[5].split(","), *options.split(",")]))


def location_of(directory: str) -> Location | None:
    """Where a directory lies in its file system; None where the system does not say."""
    try:
        _, row, kind, source, _ = _row_of(directory)
        root, point = map(_unescaped, row[3:5])
        below = os.path.relpath(os.path.realpath(directory), point)
    except (OSError, KeyError, ValueError):
        return None
    volume, above = row[2], ""
    if kind in ("nfs", "nfs4"):  # Mounted twice it may have two device numbers.
        volume, _, above = source.rpartition(":")
    return Location(volume, os.path.normpath(f"/{above}/{root}/{below}"))


def _row_of(directory: str) -> tuple[str, list[str], str, str, str]:
    """A directory's line of mountinfo: the mount's number, the fields before the separator, file system, source and the
    file system's own options.
    """
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
    kind, source, options = after.rstrip("\n").split(" ")[:3]
    return number, before.split(" "), kind, source, options


def _unescaped(text: str) -> str:
    r"""A path of mountinfo: blanks, tabs, newlines and backslashes are written as `\040` and its like."""
    return re.sub(r"\\([0-7]{3})", lambda found: chr(int(found[1], 8)), text)


def is_network(directory: str) -> bool:
    """Whether other machines may change files in a directory; False where the system does not say."""
    mount = mount_of(directory)
    return mount is not None and mount.is_network
