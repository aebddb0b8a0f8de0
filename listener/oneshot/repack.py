"""Repack the named files, or every file in the named folders.

It needs no incoming, state or lock: many may run at once, beside a service too.
"""

from __future__ import annotations

import contextlib
import os
import sys
from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Any, NamedTuple

from listener.config import Config
from listener.disk import locks
from listener.disk.directories import Directories, prepare_direct
from listener.errors import ConfigError
from listener.oneshot.progress import Progress
from listener.records import Arrival, Deferral
from listener.repacking.context import COPY, MOVE, WorkerContext
from listener.repacking.repack import Repacker, Result
from listener.service.rescan import walk
from listener.telemetry.events import Events

if TYPE_CHECKING:
    from listener.ledger.thread import LedgerThread

_BATCH = 32


class Request(NamedTuple):
    """What to repack: `paths` (files and folders), the names in folders that hold one of `substrings`, moving or
    copying.
    """

    paths: tuple[str, ...]
    substrings: tuple[str, ...] = ()
    cleanup: bool = False
    quiet: bool = False
    with_state: bool = False

    @classmethod
    def of(cls, arguments: Mapping[str, Any], with_state: bool) -> Request:
        """Read it from the command line, in any of the three spellings. Raise ConfigError when nothing is named."""
        paths = list(arguments["paths"])
        if arguments["xcrdirfile"]:
            paths.append(arguments["xcrdirfile"])
        elif arguments["xcrfile"]:
            paths.append(os.path.join(arguments["xcrdir"] or ".", arguments["xcrfile"]))
        elif arguments["xcrdir"]:
            paths.append(arguments["xcrdir"])
        if not paths:
            raise ConfigError(["repack: nothing to repack; name files or folders, or --xcrdir D --xcrfile F"])
        substrings = tuple(part for part in (arguments["substring"] or "").split(",") if part)
        return cls(tuple(paths), substrings, arguments["cleanup"], _is_quiet(arguments), with_state)


def _is_quiet(arguments: Mapping[str, Any]) -> bool:
    """Return whether to print no events. --log-ndjson always prints them."""
    # A predecessor's spelling prints none without it, nor does ours to a terminal.
    theirs = arguments["xcrdir"] or arguments["xcrfile"] or arguments["xcrdirfile"]
    return not arguments["log_ndjson"] and bool(theirs or sys.stdout.isatty())


def run(config: Config, request: Request) -> int:
    """Repack. Return 0, or 1 when a file failed (it stays where it is)."""
    config = replace(config, keep_source=False, on_conflict=_policy(config, request))
    directories = prepare_direct(config.data, config.log, config.state if request.with_state else "")
    events = Events(config.phi, None if request.quiet else sys.stdout.fileno(), waits=True)
    ledger = _ledger(config) if request.with_state else None
    progress = Progress(events, sys.stderr, ledger)
    if ledger:
        ledger.start()
    try:
        left = _repack(config, directories, request, progress)
    finally:
        if ledger:
            ledger.close(progress.announce)
        _tidy(directories)
    if sys.stderr.isatty() or left or progress.counts["set-aside"]:
        progress.summary(left, "failed; they stay where they are")
    return 1 if left or progress.counts["set-aside"] or progress.counts["vanished"] else 0


def _ledger(config: Config) -> LedgerThread:
    """Return the ledger of the state directory; what the command line names came from no incoming."""
    from listener.ledger.thread import LedgerThread

    return LedgerThread(replace(config, incoming=("",)))


def _policy(config: Config, request: Request) -> str:
    # Without a state directory there is no set-aside where the older of two data sets could be kept.
    return config.on_conflict if request.with_state else "keep-both"


def _repack(config: Config, directories: Directories, request: Request, progress: Progress) -> int:
    repacker = Repacker(WorkerContext(config, directories, MOVE if request.cleanup else COPY, locks.COMMAND_SECONDS))
    left = 0
    for batch in _batches(_arrivals(request)):
        results = _patiently(repacker, batch)
        for one in results:
            if isinstance(one, Deferral):
                left += 1
                progress.refused(one)
        progress.finished([one for one in results if not isinstance(one, Deferral)])
    return left


def _patiently(repacker: Repacker, batch: list[Arrival]) -> list[Result]:
    """Repack a batch; try once more what another process had open or locked."""
    results = repacker.repack(batch)
    busy = [index for index, one in enumerate(results) if isinstance(one, Deferral) and one.reason == "busy"]
    for index, result in zip(busy, repacker.repack([batch[index] for index in busy]), strict=True):
        results[index] = result
    return results


def _arrivals(request: Request) -> Iterator[Arrival]:
    for given in request.paths:
        path = os.path.abspath(given)
        for name in walk(path) if os.path.isdir(path) else (path,):
            if os.path.isdir(path) and request.substrings and not _matches(name, request.substrings):
                continue
            moment = 0
            with contextlib.suppress(OSError):
                moment = os.lstat(name).st_ctime_ns
            yield Arrival(name, 0, moment, "startup")


def _matches(path: str, substrings: tuple[str, ...]) -> bool:
    return any(substring in os.path.basename(path) for substring in substrings)


def _batches(arrivals: Iterator[Arrival]) -> Iterator[list[Arrival]]:
    batch: list[Arrival] = []
    for arrival in arrivals:
        batch.append(arrival)
        if len(batch) == _BATCH:
            yield batch
            batch = []
    if batch:
        yield batch


def _tidy(directories: Directories) -> None:
    """Remove the staging directories of this run."""
    for path in directories.stagings:
        with contextlib.suppress(OSError):
            os.rmdir(path)
