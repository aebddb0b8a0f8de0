"""Repack what is in incoming now, and leave.

The engine without a watcher, in byte order of the names.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterable, Sequence

from listener.config import Config
from listener.disk import locks
from listener.disk.directories import Directories, prepare, remove_leftovers
from listener.hooks.dispatch import HookManager
from listener.ledger.thread import LedgerThread
from listener.oneshot import once_batches
from listener.oneshot.progress import Progress
from listener.oneshot.refusal import Refusal, is_short_of_space
from listener.service.backlog import BATCH
from listener.service.engine import Engine
from listener.service.lock import IncomingLock
from listener.service.other_listeners import OtherListeners
from listener.service.rescan import in_byte_order, walk
from listener.service.revision_thread import RevisionThread
from listener.telemetry.events import Events

#: Free space is checked again after so many files.
_LOOK = 10_000

#: How long bringing corrected series in line may take at the end, in seconds.
_REVISE = 600.0


def run(config: Config, number: int | None = None) -> int:
    """Repack everything; of batches at most `number` (None: all). Return 0, or 1 when some files were set aside or are
    left.
    """
    directories = prepare(config)
    owner = IncomingLock(config.roots)
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
        left = _work_on_incoming(config, directories, progress, owner.descriptors) if config.incoming else 0
        if config.batches:
            left += once_batches.work(config, directories, progress, ledger, owner.descriptors, number)
    finally:
        # While something is left, more of any series may be among it.
        ledger.close(progress.announce, lambda: _revise(revision_thread, ledger, progress), judges=left == 0)
        owner.close()
    hooks.deliver_due()
    if config.batches:
        once_batches.end_due(config, progress)
    progress.summary(left)
    return 1 if left or progress.counts["set-aside"] else 0


def _work_on_incoming(config: Config, directories: Directories, progress: Progress, keep_open: Sequence[int]) -> int:
    """Work through incoming; return how many files are left."""
    engine = Engine(config, directories, progress, keep_open)
    try:
        progress.counts_left = lambda: left_in(config.incoming, engine)
        names = ((root, name) for root, path in enumerate(config.incoming) for name in in_byte_order(path))
        left = engine.backlog.depth if work(engine, config, names) else left_in(config.incoming, engine)
        progress.held_up(engine.held_up.shown(time.monotonic()))
    finally:
        engine.close()
    return left


def _revise(revision_thread: RevisionThread, ledger: LedgerThread, progress: Progress) -> None:
    """Bring corrected series in line, now that no worker runs."""
    revision_thread.finish(_REVISE)
    for one in revision_thread.take():
        ledger.finished(one.outcomes)
        progress.counts["set-aside"] += sum(outcome.reason == "conflict" for outcome in one.outcomes)
        ledger.recount([one.revision.SeriesInstanceUID])


def _ignore(_root: int, _name: str) -> None:
    """Do nothing."""


def work(
    engine: Engine, config: Config, names: Iterable[tuple[int, str]], absent: Callable[[int, str], None] = _ignore
) -> bool:
    """Offer claims, then `names` (index of the incoming directory, path), and work until nothing is left that may be
    done now. Return whether all were offered. `absent` is called for each that is no file, is gone, or was done before.
    """
    # Without leases a file must have been untouched for the settle time; one that the system refuses gets as long.
    patience = config.settle + 1
    refusal = Refusal(engine, patience)
    engine.intake.requeue_claims()
    for index, (root, name) in enumerate(names):
        if index % _LOOK == 0 and is_short_of_space(config):
            return False
        while engine.backlog.full:
            engine.turn(_patience(engine))
            if refusal.lasts:
                return False
        if not engine.intake.offer(name, root, "startup"):
            absent(root, name)
        if index % BATCH == BATCH - 1:
            engine.turn(0)
    _finish(engine, refusal, patience)
    return True


def _finish(engine: Engine, refusal: Refusal, patience: float) -> None:
    """Work until nothing is left, or what is left has waited for `patience` seconds."""
    backlog, least, end = engine.backlog, engine.backlog.depth, float("inf")
    while backlog.queued or backlog.working or (backlog.retrying and _is_worth_waiting(engine, end)):
        engine.turn(_patience(engine))
        if not (backlog.queued or backlog.working):  # Everything was tried once.
            end = min(end, time.monotonic() + patience)
        if backlog.depth < least:  # Those that wait for one another get on.
            least, end = backlog.depth, float("inf")
        if refusal.lasts:
            break


def _is_worth_waiting(engine: Engine, end: float) -> bool:
    """Return whether it is not yet `end`; what waits for a lock gets `locks.PATIENCE` more."""
    now = time.monotonic()
    return now < end or (now < end + locks.COMMAND_SECONDS and bool(engine.waits.texts(now)))


def left_in(incoming: Sequence[str], engine: Engine) -> int:
    """Return how many files are left: in the backlog, and beside those in incoming."""
    backlog = engine.backlog
    return backlog.depth + sum(1 for root in incoming for path in walk(root) if not backlog.holds(path))


def _patience(engine: Engine) -> float | None:
    wake = engine.next_wake()
    return None if wake is None else max(0.0, wake - time.monotonic())
