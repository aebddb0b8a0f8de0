"""Listing incoming directories: streaming, links not followed, our own and temporary names left alone."""

from __future__ import annotations

import errno
import os
from collections.abc import Callable, Iterator
from heapq import merge
from itertools import islice
from zlib import compress, decompress

from listener.planning.names import OWN, is_temporary

#: Paths that are sorted at once, and those that are compressed together.
_RUN = 50_000
_BLOCK = 1_000


def ignore(_: object) -> None:
    """For who need not know."""


def walk(
    root: str,
    trouble: Callable[[OSError], None] = ignore,
    empty: Callable[[str], None] = ignore,
    entered: Callable[[str], None] = ignore,
) -> Iterator[str]:
    """Every path below `root` that is no directory and has its final name, streaming. Links are not followed.

    `trouble` is called for a directory that cannot be read (one that disappears meanwhile is no trouble), `empty` for
    each below `root` in which nothing lies, `entered` for each directory.
    """
    pending = [root]
    while pending:
        directory = pending.pop()
        is_empty = True
        entered(directory)
        try:
            with os.scandir(directory) as entries:
                for entry in entries:
                    is_empty = False
                    if entry.is_dir(follow_symlinks=False):
                        if entry.name != OWN:
                            pending.append(entry.path)
                    elif not is_temporary(entry.name):
                        yield entry.path
            if is_empty and directory != root:
                empty(directory)
        except FileNotFoundError:
            if directory == root:
                trouble(FileNotFoundError(errno.ENOENT, "the directory is not there", root))
        except OSError as error:
            trouble(error)


def in_byte_order(root: str) -> Iterator[str]:
    """Every path below `root` in byte order, as one listing finds them; some 15 bytes of memory for each, since what is
    beyond _RUN waits in sorted runs, compressed.
    """
    names = map(os.fsencode, walk(root))
    runs: list[list[bytes]] = []
    while len(run := sorted(islice(names, _RUN))) == _RUN:
        runs.append([compress(b"\0".join(run[at : at + _BLOCK]), 1) for at in range(0, _RUN, _BLOCK)])
    yield from map(os.fsdecode, merge(run, *map(_unpacked, runs)) if runs else run)


def _unpacked(blocks: list[bytes]) -> Iterator[bytes]:
    for block in blocks:
        yield from decompress(block).split(b"\0")
