"""Whether the directory at a path is still the one that was there: a volume may be unmounted from under a service, and
what is written then lies in the directory below, where nobody sees it once the volume is back.
"""

from __future__ import annotations

import os

from listener.disk.mounts import mount_of


class DirectoryIdentity:
    """A directory as it is now, when this is made, to be compared later."""

    def __init__(self, path: str) -> None:
        self.path = path
        status = os.stat(path)
        self._device, self._inode = status.st_dev, status.st_ino
        self._system = self._file_system()

    def is_there(self) -> bool:
        """Whether the same directory is at the path, by device and inode. A volume that was mounted again may have
        another device number: then it is known by inode, kind and number of its file system.
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
        """The same, but it may be another directory of the same file system."""
        try:
            return os.stat(self.path).st_dev == self._device or self.is_there()
        except OSError:
            return False

    def _file_system(self) -> tuple[str, int]:
        mount = mount_of(self.path)
        return mount.kind if mount else "", os.statvfs(self.path).f_fsid
