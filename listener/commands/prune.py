"""`listener prune`: remove old set-aside files, and old published series that every consumer has taken. Without --yes
it only tells what it would remove.

A series goes in an order in which no reader ever meets a document whose instance is gone: marked in the ledger, then
documents of instances, instances, the series' own documents, and last the rows. What is interrupted, the next prune
ends. The patient's and the study's documents stay: a StudyList never loses a study.
"""

from __future__ import annotations

import contextlib
import os
import sqlite3
import sys
import time
from collections.abc import Iterator
from typing import Any, NamedTuple

import orjson

from listener.config import Config
from listener.disk import files, sync
from listener.errors import SET_ASIDE_REASONS, ConfigError
from listener.ledger import retention
from listener.ledger.opening import open_reader, open_writer, path_of
from listener.ledger.retention import Old
from listener.planning import documents
from listener.planning.names import printable
from listener.repacking import setaside
from listener.status.readable import plain, size

_DAY = 86_400 * 10**9

#: More days than anybody keeps files.
_LONG = 36_500


class Request(NamedTuple):
    """What to remove: what is older than so many days (None: nothing of the kind)."""

    set_aside: float | None
    series: float | None
    yes: bool = False
    json: bool = False


class Pruned(NamedTuple):
    """Something that is removed: `what` is series or set-aside."""

    what: str
    name: str
    files: int
    bytes: int


def run(config: Config, request: Request) -> int:
    """Remove, or tell; 0. Raises ConfigError, a LedgerFault."""
    _check(config, request)
    now_ns = time.time_ns()
    path = path_of(config.state)
    connection = open_writer(path) if request.yes else open_reader(path)
    total = [0, 0]
    try:
        for one in _found(config, request, connection, now_ns):
            total = [total[0] + one.files, total[1] + one.bytes]
            _tell(one, request)
    finally:
        connection.close()
    sys.stdout.flush()
    verb = "removed" if request.yes else "would be removed; --yes removes them"
    sys.stderr.write(f"{total[0]} files, {size(total[1])}, {verb}\n")
    return 0


def _check(config: Config, request: Request) -> None:
    given = {"--set-aside": request.set_aside, "--series": request.series}
    days = {option: number for option, number in given.items() if number is not None}
    problems = [
        f"{option}: {number} is no age; give days from 0 on"
        for option, number in days.items()
        if not 0 <= number <= _LONG
    ]
    if not days:
        problems = ["prune: nothing is selected; give --set-aside DAYS, --series DAYS, or both"]
    if request.series is not None and not os.path.isdir(config.data):
        problems.append(f"--data: '{config.data}' is not a directory; give the one that the service uses")
    if problems:
        raise ConfigError(problems)


def _tell(one: Pruned, request: Request) -> None:
    if request.json:
        line: dict[str, Any] = {**one._asdict(), "removed": request.yes}
        sys.stdout.buffer.write(orjson.dumps(line, option=orjson.OPT_APPEND_NEWLINE))
    else:
        print(f"{one.what:9} {plain(one.name)}  {one.files} files, {size(one.bytes)}")


def _found(config: Config, request: Request, connection: sqlite3.Connection, now_ns: int) -> Iterator[Pruned]:
    if request.set_aside is not None:
        yield from _set_aside(config, request, connection, now_ns)
    if request.series is None:
        return
    for old in retention.old_series(connection, now_ns - int(request.series * _DAY)):
        if not (old.series.pruned_ns or _are_there(config, old)):
            problem = "holds no instance of a series that the ledger says is there; nothing of it was removed"
            raise ConfigError([f"--data: '{config.data}' {problem}; 'listener verify' tells more"])
        if request.yes:
            if not retention.begin(connection, old, now_ns):
                continue
            _remove(config, old)
            retention.finish(connection, old)
        yield Pruned("series", old.series.SeriesInstanceUID, len(old.files), old.series.bytes)


def _set_aside(config: Config, request: Request, connection: sqlite3.Connection, now_ns: int) -> Iterator[Pruned]:
    assert request.set_aside is not None
    before = now_ns - int(request.set_aside * _DAY)
    awaited = retention.awaited(connection)
    for reason in SET_ASIDE_REASONS:
        directory = os.path.join(config.state, "set-aside", reason)
        for entry in setaside.entries(directory):
            name = f"{reason}/{printable(entry.name)}"
            status = entry.stat(follow_symlinks=False)
            if _put_there(entry.path, status) >= before or name in awaited:
                continue
            if request.yes:
                with files.locked(directory, ".lock"):
                    files.discard(entry.path)
                    files.discard(setaside.reason_file(entry.path))
                retention.aside_gone(connection, name, now_ns)
            yield Pruned("set-aside", name, 1, status.st_size)


def _put_there(path: str, status: os.stat_result) -> int:
    """When a file was set aside: when its reason was written."""
    try:
        return os.lstat(setaside.reason_file(path)).st_mtime_ns
    except OSError:
        return status.st_ctime_ns


def _are_there(config: Config, old: Old) -> bool:
    """Whether this is the tree that the ledger tells of."""
    return any(os.path.lexists(os.path.join(config.data, *file)) for file in old.files) or not old.files


def _remove(config: Config, old: Old) -> None:
    uid, study = old.series.SeriesInstanceUID, old.series.StudyInstanceUID
    for _, name in old.files:
        files.discard(f"{config.log}/{documents.instance_path(uid, name)}")
    with contextlib.suppress(FileNotFoundError):  # Gone for good before the instances go.
        sync.directories([os.path.dirname(f"{config.log}/{documents.instance_path(uid, 'x')}")])
    folders = {folder if folder.startswith("/") else f"{config.data}/{folder}" for folder, _ in old.files}
    for folder, name in old.files:
        files.discard(os.path.join(config.data, folder, name))
    files.discard(f"{config.log}/{documents.study_series_path(study, uid)}")
    images = os.path.dirname(f"{config.log}/{documents.instance_path(uid, 'x')}")
    _remove_empty(images, f"{config.log}/seriesData")
    if not os.path.isdir(images):  # Else another study has instances of this series UID.
        for path in (documents.pack_path(uid), documents.series_path(uid)):
            files.discard(f"{config.log}/{path}")
    for folder in folders:
        _remove_empty(folder, config.data)


def _remove_empty(folder: str, root: str) -> None:
    """Remove a directory, and those above it up to `root`, while they are empty."""
    with contextlib.suppress(OSError):
        while folder.startswith(f"{root.rstrip('/')}/"):
            os.rmdir(folder)
            folder = os.path.dirname(folder)
