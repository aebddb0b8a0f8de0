"""Identity of a directory: a volume may be unmounted below a running service, and files written then lie in the
directory under its mount point, hidden once the volume is back.
"""

from __future__ import annotations

import os

from listener.disk.mounts import MountTable


class DirectoryIdentity:
    """A directory as it is when this object is made, to compare with later. `system` is the type of its file system, as
    far as that is known.
    """

    def __init__(self, path: str, system: str | None = None) -> None:
        self.path = path
        status = os.stat(path)
        self._device, self._inode = status.st_dev, status.st_ino
        self._system = self._file_system(system)

    def is_there(self) -> bool:
        """Return whether the same directory is at the path, by device and inode. A volume mounted again may have
        another device number: then compare inode, type and id of the file system.
        """
        try:
            status = os.stat(self.path)
            if (status.st_dev, status.st_ino) == (self._device, self._inode):
                return True
            if status.st_dev == self._device or status.st_ino != self._inode or self._system != self._file_system():
                return False
        except OSError:
            return False
        self._device = status.st_dev
        return True

    def is_on_its_volume(self) -> bool:
        """Return whether the path is on the same file system, even if another directory is there."""
        try:
            return os.stat(self.path).st_dev == self._device or self.is_there()
        except OSError:
            return False

    def _file_system(self, system: str | None = None) -> tuple[str, int]:
        kind = MountTable().system_of(self.path) if system is None else system
        return kind, os.statvfs(self.path).f_fsid
