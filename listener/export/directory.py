"""A directory as the target of an export: written beside, synced, and renamed without ever replacing."""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Iterator, Mapping, Sequence

from listener.disk import files, moves, sync
from listener.errors import FatalFault
from listener.export.faults import NotThere, TargetFault, TargetRefuses
from listener.export.target import CHUNK, Content, Found, Pace
from listener.planning.names import OWN

#: Seconds after which a temporary of nobody knows whom is removed: a killed exporter left it.
_OLD = 86_400.0

_STAGING = f"{OWN}/staging"


class DirectoryTarget:
    """See Target. Keys are paths below `root`, which must be there."""

    is_conditional = True
    prefix = ""

    def __init__(self, root: str) -> None:
        self.shown = self._root = root
        self._home = os.path.join(root, _STAGING)
        self._staging = files.StagingDir(self._home, "export")

    def probe(self) -> None:
        """Write, sync, and remove a file; and remove temporaries that killed exporters left a day ago."""
        if not os.path.isdir(self._root):
            raise TargetRefuses(f"there is no directory '{self._root}': make it, or mount its volume")
        try:
            os.makedirs(self._home, mode=0o700, exist_ok=True)
            path, descriptor = self._staging.write(b"x")
            os.close(descriptor)
            os.unlink(path)
            self._remove_leftovers()
        except OSError as error:
            raise TargetRefuses(f"'{self._root}' cannot be written: {error.strerror}") from None

    def _remove_leftovers(self) -> None:
        with os.scandir(self._home) as entries:
            for entry in entries:
                if entry.stat(follow_symlinks=False).st_mtime < time.time() - _OLD:
                    files.discard(entry.path)

    def look(self, key: str) -> Found | None:
        """Return what is there; its SHA-256 is never known."""
        with _faults():
            try:
                return Found(os.lstat(self._path(key)).st_size)
            except (FileNotFoundError, NotADirectoryError):
                return None

    def look_at(self, keys: Sequence[str]) -> Mapping[str, Found]:
        """Return what is there of many keys."""
        return {key: found for key in keys if (found := self.look(key))}

    def create(self, content: Content, pace: Pace) -> Found | None:
        """Write a temporary, sync it, and rename it. After a kill before the rename a temporary is left, which nobody
        counts and probe() removes; after it, the object is there, and the next attempt finds it.
        """
        target = self._path(content.key)
        with _faults():
            if os.path.lexists(target):
                return None
            path = self._staging.name()
            descriptor = self._staging.create(path)
            try:
                try:
                    _write(descriptor, content, pace)
                    sync.descriptors([descriptor])
                finally:
                    os.close(descriptor)
                files.with_parents(moves.rename_new, path, target, 0o755, syncs=True)
            except FileExistsError:
                files.discard(path)
                return None
            except BaseException:
                files.discard(path)
                raise
            sync.directories([os.path.dirname(target)])
        return Found(content.size)

    def read(self, key: str, size: int = 0) -> Iterator[bytes]:
        """Yield the bytes of an object."""
        with _faults():
            try:
                descriptor = files.open_regular(self._path(key))
            except (FileNotFoundError, NotADirectoryError):
                raise NotThere from None
            with open(descriptor, "rb", buffering=0) as file:
                while data := file.read(CHUNK):
                    yield data

    def listed(self, folder: str) -> Iterator[tuple[str, int]]:
        """Yield key and size of all objects in a folder."""
        with _faults():
            for base, names, found in os.walk(os.path.join(self._root, folder), onerror=_raise):
                if base == self._root and OWN in names:
                    names.remove(OWN)
                names.sort()
                for name in sorted(found):
                    path = os.path.join(base, name)
                    yield os.path.relpath(path, self._root), os.lstat(path).st_size

    def close(self) -> None:
        """Nothing is open."""

    def _path(self, key: str) -> str:
        return os.path.join(self._root, key)


def _raise(error: OSError) -> None:
    if not isinstance(error, FileNotFoundError):
        raise error


def _write(descriptor: int, content: Content, pace: Pace) -> None:
    for chunk in content.chunks():
        pace(len(chunk))
        view = memoryview(chunk)
        while view:
            view = view[os.write(descriptor, view) :]


@contextlib.contextmanager
def _faults() -> Iterator[None]:
    """Tell the system's errors as TargetFault; without a path, which may name a patient."""
    try:
        yield
    except FatalFault as fault:
        # The object was not renamed to its place, or its name may be lost: both are found by the next attempt.
        raise TargetFault(str(fault)) from None
    except OSError as error:
        raise TargetFault(f"the directory cannot be used: {error.strerror}") from None
