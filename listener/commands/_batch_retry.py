"""The part of `listener retry` for folders: a refused one gets its name back."""

from __future__ import annotations

import errno
import os
import sys
from collections.abc import Iterable
from typing import NamedTuple

import orjson

from listener.config import Config
from listener.disk import moves, sync
from listener.ledger.reader import Reader, reading
from listener.planning.names import printable
from listener.service.folders import is_refused_of


class _Folder(NamedTuple):
    """A batch's folder: its number, the directory where it lies, and its name in bytes."""

    batch: int
    root: str
    name: bytes


def retry(config: Config, given: Iterable[str], *, dry_run: bool, as_json: bool) -> int:
    """Give the folders of these batches (names of folders, or numbers of batches) their names back. Return 0, or 1
    when one is unknown, or keeps the name that it has.
    """
    failed = 0
    with reading(config.state) as reader:
        for text in given:
            told = _one(reader, text, dry_run)
            failed += told["result"] == "failed"
            if as_json:
                sys.stdout.buffer.write(orjson.dumps(told, option=orjson.OPT_APPEND_NEWLINE))
            else:
                print(f"{told['result']:14} {told['batch']}{': ' + told['error'] if 'error' in told else ''}")
    sys.stdout.flush()
    return 1 if failed else 0


def _one(reader: Reader, text: str, dry_run: bool) -> dict[str, str]:
    told = {"batch": printable(text)}
    try:
        folder = _found(reader, text)
        refused = _refused(folder)
        if not dry_run:
            source, target = (os.path.join(folder.root, os.fsdecode(name)) for name in (refused, folder.name))
            moves.rename_new(source, target)
            sync.directories([folder.root])
    except FileExistsError:
        return told | {"result": "failed", "error": "a folder of its name is there already; move one of the two away"}
    except OSError as error:
        return told | {"result": "failed", "error": error.strerror or type(error).__name__}
    return told | {"result": "would-go-back" if dry_run else "back"}


def _found(reader: Reader, text: str) -> _Folder:
    """Return the folder of a batch: by the folder's name, else by the batch's number. Raises OSError."""
    rows = reader.batch_folders(os.fsencode(text))
    if not rows and text.isascii() and text.isdigit() and len(text) < 19:
        rows = reader.batch_folders(number=int(text))
    found = [_Folder(*row) for row in rows if row[1]]
    if not found:
        raise OSError(errno.ENOENT, "the ledger knows no folder of this name, and no batch of this number")
    if len(found) > 1:
        numbers = ", ".join(str(folder.batch) for folder in found)
        raise OSError(errno.EEXIST, f"several batches have this name; give one of the numbers {numbers}")
    return found[0]


def _refused(folder: _Folder) -> bytes:
    """Return the name that a batch's folder has now: of several the one that was renamed last. Raises OSError."""
    root = os.fsencode(folder.root)
    names = [name for name in os.listdir(root) if is_refused_of(name, folder.name)]
    if not names:
        raise OSError(errno.ENOENT, "it has no folder whose name ends in .err; it may be taken again already")
    return max(names, key=lambda name: os.lstat(os.path.join(root, name)).st_ctime_ns)
