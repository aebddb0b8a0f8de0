"""Listing incoming directories: streaming, links not followed, our own and temporary names left alone."""

from __future__ import annotations

import errno
import os
from collections.abc import Callable, Iterator
from heapq import nsmallest

from listener.planning.names import OWN, is_temporary


def walk(root: str, trouble: Callable[[OSError], None] | None = None) -> Iterator[str]:
    """Every path below `root` that is no directory and has its final name, streaming. Links are not followed.

    `trouble` hears of a directory that cannot be read; a directory that disappears meanwhile is no trouble.
    """
    pending = [root]
    while pending:
        directory = pending.pop()
        try:
            with os.scandir(directory) as entries:
                for entry in entries:
                    if entry.is_dir(follow_symlinks=False):
                        if entry.name != OWN:
                            pending.append(entry.path)
                    elif not is_temporary(entry.name):
                        yield entry.path
        except FileNotFoundError:
            if directory == root and trouble:
                trouble(FileNotFoundError(errno.ENOENT, "the directory is not there", root))
        except OSError as error:
            if trouble:
                trouble(error)


def in_byte_order(root: str, after: bytes, most: int) -> list[str]:
    """The next `most` paths below `root` behind `after`, in byte order; memory does not grow with the directory."""
    names = (raw for raw in map(os.fsencode, walk(root)) if raw > after)
    return [os.fsdecode(raw) for raw in nsmallest(most, names)]
