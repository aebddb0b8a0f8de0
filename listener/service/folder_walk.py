"""Walks a folder in slices, so that the loop serves others meanwhile: to look, to list, to remove, to rename.

Every function is a generator that yields None between two slices and returns what it found.
"""

from __future__ import annotations

import contextlib
import errno
import os
from collections.abc import Callable, Collection, Generator, Iterator
from typing import TypeVar

from listener.disk import files, leases, moves, sync
from listener.planning.names import OWN, is_temporary
from listener.service.folders import FileEntry, Look, Signature, refused_names

_T = TypeVar("_T")
Slices = Generator[None, None, _T]

#: Entries in one slice.
_SLICE = 100


def _ignore(_path: str, _error: OSError) -> None:
    """Do nothing."""


def entries(
    folder: str,
    directories: dict[str, int],
    newest: list[int],
    trouble: Callable[[str, OSError], None] = _ignore,
) -> Iterator[FileEntry]:
    """Yield the files of a folder and of all below it that have no temporary names. Links are not followed. Puts the
    mtime of each directory into `directories`, and the last change of anything into `newest[0]`. Calls `trouble` with
    the path below the folder of a directory that cannot be read; one that disappears has no files.
    """
    pending = [folder]
    while pending:
        directory = pending.pop()
        try:
            status = os.stat(directory, follow_symlinks=False)
            directories[directory] = status.st_mtime_ns
            newest[0] = max(newest[0], status.st_mtime_ns, status.st_ctime_ns)
            with os.scandir(directory) as found:
                for entry in found:
                    if entry.is_dir(follow_symlinks=False):
                        if entry.name != OWN:
                            pending.append(entry.path)
                        continue
                    with contextlib.suppress(FileNotFoundError):
                        status = entry.stat(follow_symlinks=False)
                        newest[0] = max(newest[0], status.st_mtime_ns, status.st_ctime_ns)
                        if not is_temporary(entry.name):
                            times = status.st_mtime_ns, status.st_ctime_ns
                            below = entry.path[len(folder) + 1 :]
                            yield FileEntry(entry.path, below, status.st_size, *times, status.st_ino, status.st_nlink)
        except (FileNotFoundError, NotADirectoryError):
            continue
        except OSError as error:
            trouble(directory[len(folder) + 1 :], error)


def look(folder: str) -> Slices[Look]:
    """Return what is in a folder, as far as it can be read."""
    directories: dict[str, int] = {}
    newest, count, signature = [0], 0, Signature()
    for count, entry in enumerate(entries(folder, directories, newest), 1):
        signature.add(entry.mark)
        if count % _SLICE == 0:
            yield
    return Look(count, newest[0], str(signature), directories)


def is_open(folder: str) -> Slices[bool]:
    """Return whether a file of a folder is open for writing, as far as the kernel tells (fcntl(2), F_SETLEASE)."""
    for count, entry in enumerate(entries(folder, {}, [0]), 1):
        with contextlib.suppress(OSError), files.opened(entry.path) as descriptor:
            if leases.probe(descriptor) == leases.BUSY:
                return True
        if count % _SLICE == 0:
            yield
    return False


def is_changed(directories: dict[str, int]) -> bool:
    """Return whether something was made, removed or renamed in one of these directories, by their mtimes."""
    try:
        return any(os.stat(path).st_mtime_ns != mtime_ns for path, mtime_ns in directories.items())
    except OSError:
        return True


def remove(folder: str, marks: Collection[int], trouble: Callable[[OSError], None]) -> Slices[None]:
    """Remove the files of a folder that have one of these marks, then its directories that are empty. Calls `trouble`
    for what the system refuses.

    A kill between two removals leaves the rest in place, and the next look at the folder finds it.
    """
    directories: dict[str, int] = {}
    gone = 0
    try:
        for count, entry in enumerate(entries(folder, directories, [0]), 1):
            if entry.mark in marks:
                os.unlink(entry.path)
                gone += 1
            if count % _SLICE == 0:
                yield
        # Each stands behind the one that holds it.
        for directory in reversed(directories):
            _remove_if_empty(directory)
    except FileNotFoundError:
        return
    except OSError as error:
        trouble(error)


def _remove_if_empty(directory: str) -> None:
    try:
        os.rmdir(directory)
    except OSError as error:
        if error.errno not in (errno.ENOTEMPTY, errno.EEXIST, errno.ENOENT):
            raise


def refuse(root: str, name: str, *, syncs: bool) -> str:
    """Rename a folder with an error to the first of its refused names that is free; return that. Raises OSError.

    A kill before it leaves the folder under its name, and the next start comes here again; after it, it is refused by
    its name.
    """
    for candidate in refused_names(os.fsencode(name)):
        target = os.fsdecode(candidate)
        with contextlib.suppress(FileExistsError):
            moves.rename_new(f"{root}/{name}", f"{root}/{target}")
            if syncs:
                sync.directories([root])
            return target
    raise AssertionError  # pragma: no cover - the names have no end
