"""Which mount a directory lies on, as the kernel tells it (proc(5), mountinfo)."""

from __future__ import annotations

import os
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


def mount_of(directory: str) -> Mount | None:
    """The mount that a directory lies on; None where the system does not say."""
    try:
        descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY)
        try:
            with open(f"{_PROC}/fdinfo/{descriptor}", encoding="ascii") as file:
                told = dict(line.split(":", 1) for line in file if ":" in line)
        finally:
            os.close(descriptor)
        number = told["mnt_id"].strip()
        with open(f"{_PROC}/mountinfo", encoding="utf-8", errors="surrogateescape") as file:
            kinds = {line.split(" ", 1)[0]: line.partition(" - ")[2].split(" ")[0] for line in file}
        return Mount(number, kinds[number])
    except (OSError, KeyError):
        return None
