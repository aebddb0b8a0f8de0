"""The part of `listener once` for folders: take those that are finished, and leave."""

from __future__ import annotations

import time
from collections.abc import Sequence

from listener.config import Config
from listener.diagnostics import log
from listener.disk.directories import Directories
from listener.errors import LedgerFault
from listener.ledger import batches as ledger_batches
from listener.ledger.batch_recorder import BatchNews
from listener.ledger.connection import open_writer, path_of, transaction
from listener.ledger.thread import LedgerThread
from listener.oneshot.progress import Progress
from listener.oneshot.refusal import Refusal, is_short_of_space
from listener.service.batches import Batches

#: Longest wait for workers and the ledger before all is looked at again, in seconds.
_SOON = 0.02


def work(
    config: Config,
    directories: Directories,
    progress: Progress,
    ledger: LedgerThread,
    keep_open: Sequence[int],
    number: int | None,
) -> int:
    """Take the folders that are finished, at most `number` (None: all). Return how many files are left of those that
    were begun.
    """
    batches = Batches(config, directories, progress, ledger, keep_open)
    batches.limit, batches.waits_for_consumers = number, False
    try:
        batches.start()
        left = _until_done(config, batches)
        progress.held_up(batches.engine.held_up.shown(time.monotonic()))
        _tell(batches)
        return left
    finally:
        batches.close()


def _until_done(config: Config, batches: Batches) -> int:
    engine = batches.engine
    refusal = Refusal(engine, config.settle + 1)
    if is_short_of_space(config):
        return 0
    held_since = 0.0
    while batches.is_busy:
        now = time.monotonic()
        batches.turn(now)
        backlog = engine.backlog
        # What alone is left waits for something that this command cannot wait for.
        held_since = (held_since or now) if backlog.retrying and backlog.retrying == backlog.depth else 0.0
        if refusal.lasts or (held_since and now - held_since > config.settle + 1):
            break
        engine.turn(min(_SOON, max(0.0, batches.next_wake() - now)))
    return engine.backlog.depth


def _tell(batches: Batches) -> None:
    if batches.unfinished:
        log.info("%d folders are left: they are not finished (see --batch-quiet)", batches.unfinished)
    if batches.queued:
        log.info("%d folders are left in the queue (--number)", batches.queued)


def end_due(config: Config, progress: Progress) -> None:
    """End the batches that everybody has taken now that hooks were told, and write their events."""
    try:
        connection = open_writer(path_of(config.state))
        try:
            with transaction(connection):
                ledger_batches.end_due(connection, time.time_ns())
            for state in ledger_batches.unannounced(connection):
                progress.announce_batch(BatchNews(state, *ledger_batches.sums_of(connection, state)))
                with transaction(connection):
                    ledger_batches.mark_announced(connection, state.id, state.state)
        finally:
            connection.close()
    except LedgerFault as fault:
        log.error("%s", fault)
