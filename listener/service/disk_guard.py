"""Decides from the state of the disks whether files may be handed to workers: --min-free, writable directories, and
volumes that are where they were at the start.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import NamedTuple

from listener.diagnostics import log
from listener.disk.directories import Directories
from listener.service.volumes import Volumes


class DiskState(NamedTuple):
    """What one look found. `may_work`: files may be handed to workers; `space_ok`: every volume has --min-free;
    `writable` by role (incoming, data, log, state); `missing`: roles whose volume is gone; `usage`: role and statvfs of
    each directory that is there.
    """

    may_work: bool = True
    space_ok: bool = True
    writable: Mapping[str, bool] = {}
    missing: tuple[str, ...] = ()
    usage: tuple[tuple[str, os.statvfs_result], ...] = ()


class DiskGuard:
    """`state` is what `look` found last. `min_free` in bytes may be changed."""

    def __init__(self, directories: Directories, volumes: Volumes, min_free: int) -> None:
        self._roles = {
            "incoming": tuple(directories.incoming),
            "data": (directories.data,),
            "log": (directories.log,),
            "state": (directories.state,),
        }
        # A folder of a batch need not be writable: it is told where it cannot be renamed or removed.
        self._only_read = frozenset(directories.batches)
        self._volumes = volumes
        self.min_free = min_free
        self._enough = True
        self.state = DiskState()

    def look(self, now: float) -> DiskState:
        """Return what the disks are like at `now` (monotonic), and log what changed."""
        usage = tuple(self._usage())
        free = [(found.f_bavail * found.f_frsize, role) for role, found in usage]
        # Incoming may be full on a volume of its own: work is what frees it.
        self._note_space(enough=all(space >= self.min_free for space, role in free if role != "incoming"))
        writable = {role: all(map(self._is_usable, paths)) for role, paths in self._roles.items()}
        missing = tuple(self._volumes.look(now))
        # Nothing can be done without these, so nothing is begun; a second later it may be.
        usable = all(fine for role, fine in writable.items() if role != "incoming")
        may_work = self._enough and usable and not set(missing) - {"incoming"}
        space_ok = min(free, default=(0, ""))[0] >= self.min_free
        self.state = DiskState(may_work, space_ok, writable, missing, usage)
        return self.state

    def _usage(self) -> list[tuple[str, os.statvfs_result]]:
        found = []
        for role, paths in self._roles.items():
            for path in paths:
                try:
                    found.append((role, os.statvfs(path)))
                except OSError:  # It is gone: `writable` says so.
                    continue
        return found

    def _note_space(self, *, enough: bool) -> None:
        if enough and not self._enough:
            log.info("free space is above --min-free again; work goes on")
        elif self._enough and not enough:
            log.error("free space is below --min-free; no work is taken, every source is kept")
        self._enough = enough

    def _is_usable(self, path: str) -> bool:
        return os.access(path, os.X_OK | (os.R_OK if path in self._only_read else os.W_OK))
