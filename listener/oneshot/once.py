"""Repack what is in incoming now, and leave.

The engine without a watcher, in byte order of the names.
"""

from __future__ import annotations

import os
import sys
import time

from listener.config import Config
from listener.diagnostics import log
from listener.disk import locks
from listener.disk.directories import Directories, prepare, remove_leftovers
from listener.hooks.dispatch import HookManager
from listener.ledger.thread import LedgerThread
from listener.oneshot.progress import Progress
from listener.service.backlog import BATCH
from listener.service.engine import Engine
from listener.service.lock import IncomingLock
from listener.service.other_listeners import OtherListeners
from listener.service.rescan import in_byte_order, walk
from listener.service.revision_thread import RevisionThread
from listener.status.formatting import size
from listener.telemetry.events import Events

#: Free space is checked again after so many files.
_LOOK = 10_000

#: How long bringing corrected series in line may take at the end, in seconds.
_REVISE = 600.0


def run(config: Config) -> int:
    """Repack everything. Return 0, or 1 when some files were set aside or are left."""
    directories = prepare(config)
    owner = IncomingLock(config.incoming)
    events = Events(config.phi, None if sys.stdout.isatty() else sys.stdout.fileno(), waits=True, which=config.events)
    hooks = HookManager(config)
    ledger = LedgerThread(config, consumers=hooks.wants, is_worked_on=OtherListeners(config.state).work_on)
    revision_thread = RevisionThread(config, directories, keep_open=owner.descriptors)
    ledger.revise = revision_thread.offer
    progress = Progress(events, sys.stderr, ledger)
    left = -1
    try:
        remove_leftovers(directories)
        ledger.start()
        engine = Engine(config, directories, progress, owner.descriptors)
        try:
            progress.counts_left = lambda: _left(engine, directories)
            left = _work(engine, directories, config)
            progress.held_up(engine.held_up.shown(time.monotonic()))
        finally:
            engine.close()
    finally:
        # While something is left, more of any series may be among it.
        ledger.close(progress.announce, lambda: _revise(revision_thread, ledger, progress), judges=left == 0)
        owner.close()
    hooks.deliver_due()
    progress.summary(left)
    return 1 if left or progress.counts["set-aside"] else 0


def _revise(revision_thread: RevisionThread, ledger: LedgerThread, progress: Progress) -> None:
    """Bring corrected series in line, now that no worker runs."""
    revision_thread.finish(_REVISE)
    for one in revision_thread.take():
        ledger.finished(one.outcomes)
        progress.counts["set-aside"] += sum(outcome.reason == "conflict" for outcome in one.outcomes)
        ledger.recount([one.revision.SeriesInstanceUID])


class _Refusal:
    """Ends waiting when the system has refused everything for as long as one file may wait."""

    def __init__(self, engine: Engine, patience: float) -> None:
        self._engine = engine
        self._patience = patience
        self._since = 0.0

    @property
    def lasts(self) -> bool:
        """Return whether to give up; called after each turn of the engine."""
        now = time.monotonic()
        if not self._engine.breaker.reason:
            self._since = 0.0
        self._since = self._since or now
        return not self._engine.backlog.working and now - self._since > self._patience


def _work(engine: Engine, directories: Directories, config: Config) -> int:
    """Offer claims, then each root in byte order. Return how many files are left."""
    # Without leases a file must have been untouched for the settle time; one that the system refuses gets as long.
    patience = config.settle + 1
    refusal = _Refusal(engine, patience)
    engine.intake.requeue_claims()
    for root, path in enumerate(directories.incoming):
        for index, name in enumerate(in_byte_order(path)):
            if index % _LOOK == 0 and _is_short_of_space(config):
                return _left(engine, directories)
            while engine.backlog.full:
                engine.turn(_patience(engine))
                if refusal.lasts:
                    return _left(engine, directories)
            engine.intake.offer(name, root, "startup")
            if index % BATCH == BATCH - 1:
                engine.turn(0)
    return _finish(engine, refusal, patience)


def _finish(engine: Engine, refusal: _Refusal, patience: float) -> int:
    """Work until nothing is left, or what is left has waited for `patience` seconds. Return how many files are left."""
    backlog, least, end = engine.backlog, engine.backlog.depth, float("inf")
    while backlog.queued or backlog.working or (backlog.retrying and _is_worth_waiting(engine, end)):
        engine.turn(_patience(engine))
        if not (backlog.queued or backlog.working):  # Everything was tried once.
            end = min(end, time.monotonic() + patience)
        if backlog.depth < least:  # Those that wait for one another get on.
            least, end = backlog.depth, float("inf")
        if refusal.lasts:
            break
    return backlog.depth


def _is_worth_waiting(engine: Engine, end: float) -> bool:
    """Return whether it is not yet `end`; what waits for a lock gets `locks.PATIENCE` more."""
    now = time.monotonic()
    return now < end or (now < end + locks.COMMAND_SECONDS and bool(engine.waits.texts(now)))


def _left(engine: Engine, directories: Directories) -> int:
    """Return how many files are left: in the backlog, and beside those in incoming."""
    backlog = engine.backlog
    return backlog.depth + sum(1 for root in directories.incoming for path in walk(root) if not backlog.holds(path))


def _is_short_of_space(config: Config) -> bool:
    floor = config.min_free
    # Work is what frees an incoming that has a volume of its own.
    if all(_free(path) >= floor for path in (config.data, config.log, config.state)):
        return False
    log.error("less than --min-free (%s) is free; every source is kept: make room, or lower --min-free", size(floor))
    return True


def _free(path: str) -> int:
    """Return the free bytes of the volume of `path`; 0 where it is gone."""
    try:
        found = os.statvfs(path)
    except OSError:
        return 0
    return found.f_bavail * found.f_frsize


def _patience(engine: Engine) -> float | None:
    wake = engine.next_wake()
    return None if wake is None else max(0.0, wake - time.monotonic())
