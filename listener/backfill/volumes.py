"""Whether the directories of a part are those that the other parts work on, on whatever host.

A volume that is not mounted leaves an empty directory of another volume at its place. A part makes none of the
directories, and writes to none that has another inode than the first part found: the inode of a directory is the same
on all hosts that mount its file system.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Mapping

import orjson

from listener.backfill.account import PARTS
from listener.backfill.faults import NotMounted
from listener.config import Config
from listener.disk import files, json_file, moves
from listener.planning.names import printable

#: In `<state>/parts`: the inodes of the directories.
FILE = ".directories.json"


def require_mounted(config: Config) -> None:
    """Raise NotMounted if a directory is missing, or is not that of the other parts. The first part says which they
    are. `config.state` is the collection's.
    """
    found = _inodes(config)
    home = os.path.join(config.state, PARTS)
    os.makedirs(home, mode=0o700, exist_ok=True)
    path = os.path.join(home, FILE)
    known = json_file.load(path)
    if known is None:
        staging = files.StagingDir(home, ".directories")
        with contextlib.suppress(FileExistsError):  # Another part was quicker.
            files.write_document(staging, path, orjson.dumps(found), syncs=True, operation=moves.rename_new)
        known = json_file.load(path) or {}
    _compare(known, found)


def _inodes(config: Config) -> dict[str, int]:
    found = {}
    named = {"--data": config.data, "--log": config.log, "--state": config.state}
    for option, path in [*named.items(), *(("--incoming", root) for root in config.incoming)]:
        try:
            # Which incoming directories a part reads may differ.
            found[option if option in named else f"{option} {printable(path)}"] = os.stat(path).st_ino
        except FileNotFoundError:
            text = f"{option} '{path}' is not there, and a part makes none; mount its volume, or make it"
            raise NotMounted(text) from None
    return found


def _compare(known: Mapping[str, object], found: Mapping[str, int]) -> None:
    for option, inode in found.items():
        if known.get(option, inode) != inode:
            text = f"{option} is not the directory that the first part found: mount its volume; if it was replaced on"
            raise NotMounted(f"{text} purpose, remove '{PARTS}/{FILE}' below --state")
