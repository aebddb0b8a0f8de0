"""What `replace` had done before it was interrupted: asked when a claim is done again.

The old instance is kept in set-aside first, then the new one takes its place, then the document tells of the new one,
and only then the old one leaves the tree. Inodes tell how far that came.
"""

from __future__ import annotations

import os
from collections.abc import Iterator

from listener.disk import loading
from listener.repacking import setaside
from listener.repacking.desk import Desk

#: Why a file is kept under the reason `superseded`.
WHY = "a newer data set of the same instance took its name"


def was_superseded(inode: tuple[int, int], desk: Desk) -> bool:
    """Whether this very file was published, and a newer data set took its name, before its claim was let go."""
    return any(entry.inode() == inode[1] and _inode(entry.path) == inode for entry in _kept(desk))


def still_in_tree(name: str, desk: Desk) -> Iterator[str]:
    """Where superseded instances called `name` have not left the tree yet."""
    for entry in _kept(desk):
        was = str((loading.load(setaside.reason_file(entry.path)) or {}).get("was", ""))
        if os.path.basename(was) == name and os.path.lexists(was) and _inode(was) == _inode(entry.path):
            yield was


def _kept(desk: Desk) -> Iterator[os.DirEntry[str]]:
    return setaside.entries(f"{desk.directories.set_aside}/superseded")


def _inode(path: str) -> tuple[int, int]:
    status = os.lstat(path)
    return (status.st_dev, status.st_ino)
