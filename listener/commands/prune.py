"""Remove old set-aside files and published series; shows what it would do unless --yes.

A series is marked in the ledger, then taken out of the logs and the tree (repacking.removal says in which order, and
why that is safe beside a second send), and last its rows go. What arrives meanwhile stops it: that generation is left.
The next prune finishes an interrupted one. Documents of patients and studies stay: a StudyList never loses a study.
"""

from __future__ import annotations

import argparse
import os
import sqlite3
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack, closing, contextmanager
from itertools import islice
from typing import Any, NamedTuple

import orjson

from listener.commands._selection import (
    add_acting,
    add_selection,
    check_acting,
    check_user,
    is_acting,
    is_of,
    reasons_of,
)
from listener.config import Config
from listener.disk import files, json_file, locks
from listener.disk.directories import Directories
from listener.errors import ConfigError
from listener.ledger import maintenance
from listener.ledger.connection import open_reader, open_writer, path_of
from listener.ledger.rows import SeriesRow
from listener.planning import documents
from listener.planning.names import OWN, printable
from listener.reasons import SET_ASIDE_REASONS
from listener.repacking import setaside
from listener.repacking.context import WorkerContext
from listener.repacking.removal import (
    ABSENT,
    OUTSIDE,
    UNDESCRIBED,
    Instance,
    Remover,
    Series,
    Survey,
    remove_empty,
    studies_of,
)
from listener.status.formatting import plain, several, size

_DAY = 86_400 * 10**9

#: The most days that are accepted: a hundred years.
_LONG = 36_500

#: How many set-aside files are removed under one lock and in one transaction.
_TOGETHER = 200

#: How many instances a line about what is left names.
_NAMED = 3

#: How many instances show whether the ledger is that of these directories.
_SAMPLE = 200

CAME_AGAIN = "sent again meanwhile"

EPILOG = (
    "never removes what is unfinished, or of which a consumer is still to hear; the documents of patients and"
    " studies stay; exit status: 0; 1 the ledger cannot be used, or a file not be removed"
)


def add_options(parser: argparse.ArgumentParser) -> None:
    """Add its own options."""
    text = "set-aside files that lie there for more than so many days; with --reason, --sender or --study only some"
    parser.add_argument("--set-aside", type=float, metavar="DAYS", help=text)
    text = "complete series in which nothing happened for so many days, and that every consumer has taken"
    parser.add_argument("--series", type=float, metavar="DAYS", help=text)
    add_selection(parser)
    add_acting(parser, acts=False)
    parser.add_argument("--json", action="store_true", help="one JSON object a series or file, for programs")


def acts(given: argparse.Namespace) -> bool:
    """Return whether it does more than print."""
    return is_acting(given, acts=False)


def run(config: Config, given: argparse.Namespace) -> int:
    """Prune what the command line selects. Return 0."""
    check_acting(given, "prune")
    chosen = (reasons_of(given.reasons), given.sender, given.study)
    return prune(config, Request(given.set_aside, given.series, *chosen, yes=given.yes, json=given.json))


class Request(NamedTuple):
    """What to remove: what is older than so many days (None: nothing of that kind), of set-aside files those of
    `reasons` (none: of all), and of one `sender` or `study` ("": of any).
    """

    set_aside: float | None
    series: float | None
    reasons: tuple[str, ...] = ()
    sender: str = ""
    study: str = ""
    yes: bool = False
    json: bool = False


class Pruned(NamedTuple):
    """Something that is or would be removed: `what` is series or set-aside."""

    what: str
    name: str
    files: int
    bytes: int


def prune(config: Config, request: Request) -> int:
    """Remove, or only list. Return 0; raise ConfigError, a LedgerFault or LockHeld."""
    _check(config, request)
    if request.yes:
        check_user(config)
    path = path_of(config.state)
    with ExitStack() as stack:
        connection = stack.enter_context(closing(open_writer(path) if request.yes else open_reader(path)))
        context = stack.enter_context(_context(config, writes=request.yes and request.series is not None))
        pruning = _Pruning(config, request, connection, Remover(context))
        total = [0, 0]
        for one in pruning.all():
            total = [total[0] + one.files, total[1] + one.bytes]
            _tell(one, request)
    sys.stdout.flush()
    verb = "removed" if request.yes else "would be removed; --yes does it"
    sys.stderr.write(f"{several(total[0], 'file')}, {size(total[1])}, {verb}\n" if total[0] else "nothing is to go\n")
    return 0


@contextmanager
def _context(config: Config, *, writes: bool) -> Iterator[WorkerContext]:
    """Yield the context of the removal of series: one prune at a time, with staging directories for its duration."""
    stagings = [os.path.join(root, OWN, "staging", "prune") for root in (config.data, config.log)]
    own = os.path.join(config.log, OWN, "locks")
    directories = Directories(
        data=config.data,
        log=config.log,
        state=config.state,
        data_staging=stagings[0],
        log_staging=stagings[1],
        locks=own,
    )
    context = WorkerContext(config, directories, lock_timeout=locks.COMMAND_SECONDS)
    if not writes:
        yield context
        return
    with context.locks.locked(own, "prune"):
        for path in stagings:
            os.makedirs(path, mode=0o700, exist_ok=True)
        try:
            yield context
        finally:
            for path, root in zip(stagings, (config.data, config.log), strict=True):
                remove_empty(path, root)


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
    if (request.reasons or request.sender or request.study) and request.set_aside is None:
        chosen = "--reason, --sender and --study choose among set-aside files"
        problems.append(f"prune: {chosen}; give --set-aside DAYS as well")
    used = (("--data", config.data), ("--log", config.log)) if request.series is not None else ()
    problems += [
        f"{option}: '{path}' is not a directory; give the one that the service uses"
        for option, path in used
        if not os.path.isdir(path)
    ]
    if problems:
        raise ConfigError(problems)


def _tell(one: Pruned, request: Request) -> None:
    if request.json:
        line: dict[str, Any] = {**one._asdict(), "removed": request.yes}
        sys.stdout.buffer.write(orjson.dumps(line, option=orjson.OPT_APPEND_NEWLINE))
    else:
        print(f"{one.what:9} {plain(one.name)}  {several(one.files, 'file')}, {size(one.bytes)}")


class _Pruning:
    """One run."""

    def __init__(self, config: Config, request: Request, connection: sqlite3.Connection, remover: Remover) -> None:
        self._config = config
        self._request = request
        self._connection = connection
        self._remover = remover
        self._now_ns = time.time_ns()

    def all(self) -> Iterator[Pruned]:
        """Yield what is removed, or would be."""
        if self._request.set_aside is not None:
            yield from self._set_aside(self._now_ns - int(self._request.set_aside * _DAY))
        if self._request.series is not None:
            yield from self._series(self._now_ns - int(self._request.series * _DAY))

    # -- series

    def _series(self, before_ns: int) -> Iterator[Pruned]:
        if self._request.yes:
            self._recover()
        rows = maintenance.old_series(self._connection, before_ns)
        uids = [row.SeriesInstanceUID for row in rows]
        studies = studies_of(self._config.log, uids) if self._request.yes else {}
        for row in rows:
            instances = maintenance.instances(self._connection, row)
            series = Series(row.SeriesInstanceUID, row.StudyInstanceUID, row.changed_ns)
            survey = self._remover.survey(series, instances, time.time_ns())
            self._check_places(row, survey)
            gone = [*[one.instance for one in survey.go], *survey.absent]
            if self._request.yes:
                survey.studies.update({row.StudyInstanceUID} - {""}, studies.get(row.SeriesInstanceUID, ()))
                gone = self._remove(row, survey) if gone or not instances else []
            _tell_left(self._config, row, survey.left)
            if gone or not instances:
                yield Pruned("series", row.SeriesInstanceUID, len(gone), sum(one.size for one in gone))

    def _recover(self) -> None:
        """Finish what an interrupted prune left: in staging, and rows of instances that it had removed. A series that
        has received something since may not be old any more.
        """
        for path in self._remover.recover():
            _say(f"left: '{path}' is not what an interrupted prune had moved there; see what it is")
        for row in maintenance.interrupted(self._connection):
            instances = maintenance.instances(self._connection, row)
            series = Series(row.SeriesInstanceUID, row.StudyInstanceUID, row.changed_ns)
            survey = self._remover.survey(series, instances, self._now_ns)
            if not survey.go and not survey.left:  # All of it went: what they shared goes too, below.
                continue
            for one in survey.absent:
                self._remover.drop_document(row.SeriesInstanceUID, one)
            maintenance.finish(self._connection, row, survey.absent, self._config.data)

    def _check_places(self, row: SeriesRow, survey: Survey) -> None:
        """Check, where a series has nothing there, that these are the tree and the logs of the ledger. Raise
        ConfigError. In the right tree a series without its files is left, for `verify`.
        """
        there = [why for _, why in survey.left if why != OUTSIDE]
        if survey.absent and not (survey.go or there or row.pruned_ns):
            self._require("data", "instance")
            survey.left.extend((one, ABSENT) for one in survey.absent)
            survey.absent.clear()
        elif set(there) == {UNDESCRIBED} and not survey.go and (self._request.yes or not row.pruned_ns):
            self._require("log", "document")

    def _require(self, option: str, what: str) -> None:
        """Raise ConfigError unless a directory holds something that the ledger has there."""
        config = self._config
        for one, uid in maintenance.sample_instances(self._connection, _SAMPLE):
            names = {"data": os.path.join(one.folder, one.name), "log": documents.instance_path(uid, one.name)}
            told = json_file.load_if_readable(f"{config.log}/{names['log']}") or {}
            path = os.path.join(config.data, names["data"])
            if os.path.lexists(path) and (option == "data" or documents.location(told) == path):
                return
        where = f"--{option}: '{getattr(config, option)}'"
        problem = f"holds no {what} of a series that the ledger says is there; nothing of it was removed"
        raise ConfigError([f"{where} {problem}; 'listener verify' tells more"])

    def _remove(self, row: SeriesRow, survey: Survey) -> list[Instance]:
        """Remove a series. Return what is gone of it. If interrupted it keeps its mark, for the next prune."""
        uid = row.SeriesInstanceUID
        if not maintenance.begin(self._connection, row, self._now_ns):
            return []
        gone = [*survey.absent, *self._remover.remove(survey, lambda: maintenance.is_unchanged(self._connection, row))]
        for one in survey.absent:
            self._remover.drop_document(uid, one)
        self._remover.forget(uid, survey.studies)
        maintenance.finish(self._connection, row, gone, self._config.data)
        went = set(gone)
        kept = [one.instance for one in survey.go if one.instance not in went]
        survey.left.extend((one, CAME_AGAIN) for one in kept)
        return gone

    # -- set-aside

    def _set_aside(self, before_ns: int) -> Iterator[Pruned]:
        awaited = maintenance.awaited_set_aside(self._connection)
        for reason in self._request.reasons or SET_ASIDE_REASONS:
            directory = os.path.join(self._config.state, "set-aside", reason)
            entries = setaside.entries(directory)
            while some := list(islice(entries, _TOGETHER)):
                meant = (one for one in some if is_of(one.path, self._request.sender, self._request.study))
                old = [one for one in meant if f"{reason}/{printable(one.name)}" not in awaited]
                found = self._remove_aside(directory, old, before_ns) if self._request.yes else []
                if not self._request.yes:
                    found = [(one.name, size) for one in old if (size := _old_size(one.path, before_ns)) is not None]
                for name, size in found:
                    yield Pruned("set-aside", f"{reason}/{printable(name)}", 1, size)

    def _remove_aside(self, directory: str, entries: list[os.DirEntry[str]], before_ns: int) -> list[tuple[str, int]]:
        """Remove entries that are still old under their directory's lock. Return their names and sizes in bytes."""
        removed = []
        with files.locked(directory, ".lock"):
            for entry in entries:
                bytes_ = _old_size(entry.path, before_ns)
                if bytes_ is not None:
                    files.discard(entry.path)
                    files.discard(setaside.reason_file(entry.path))
                    removed.append((entry.name, bytes_))
        reason = os.path.basename(directory)
        gone = [f"{reason}/{printable(name)}" for name, _ in removed]
        maintenance.mark_set_aside_gone(self._connection, gone, self._now_ns)
        return removed


def _old_size(path: str, before_ns: int) -> int | None:
    """Return the size of a set-aside file in bytes, or None when it is younger or gone."""
    try:
        status = os.lstat(path)
    except FileNotFoundError:
        return None
    return status.st_size if _put_there(path, status) < before_ns else None


def _put_there(path: str, status: os.stat_result) -> int:
    """Return when a file was set aside (its reason was written), in nanoseconds since the epoch."""
    try:
        return os.lstat(setaside.reason_file(path)).st_mtime_ns
    except OSError:
        return status.st_ctime_ns


def _tell_left(config: Config, row: SeriesRow, left: list[tuple[Instance, str]]) -> None:
    """Name what of a series stays: instances by UID, or with --phi by path."""
    by_reason: dict[str, list[Instance]] = {}
    for one, why in left:
        by_reason.setdefault(why, []).append(one)
    for why, some in by_reason.items():
        names = [os.path.join(one.folder, one.name) if config.phi else one.SOPInstanceUID for one in some[:_NAMED]]
        more = f" and {len(some) - _NAMED} more" if len(some) > _NAMED else ""
        _say(f"left: series {plain(row.SeriesInstanceUID)}: {why}: {plain(', '.join(names))}{more}")


def _say(text: str) -> None:
    sys.stderr.write(f"{text}\n")
