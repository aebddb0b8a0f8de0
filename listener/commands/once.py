"""`listener once`: the engine without a watcher. Repack what is in incoming now, in byte order, and leave."""

from __future__ import annotations

import contextlib
import sys
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, TextIO

from listener.config import Config
from listener.diagnostics import log
from listener.disk import locks
from listener.disk.directories import Directories, prepare, remove_leftovers
from listener.records import Deferral, Outcome
from listener.service.backlog import BATCH
from listener.service.engine import Engine
from listener.service.lock import IncomingLock
from listener.service.other_listeners import OtherListeners
from listener.service.pool import WorkerExit
from listener.service.probes import least_free
from listener.service.rescan import in_byte_order, walk
from listener.telemetry.events import Events

if TYPE_CHECKING:  # `repack` without a state directory needs no sqlite, and runs once a file.
    from listener.ledger.completion import Completion
    from listener.ledger.thread import LedgerThread
    from listener.service.revision_thread import RevisionThread

#: After so many files it is looked again whether there is space for more.
_LOOK = 10_000

#: How long corrected series get to be brought in line at the end, in seconds.
_REVISE = 600.0

#: How often the progress line is drawn, in seconds.
_TICK = 0.2


class Progress:
    """What `once` tells: events, a progress line on a terminal, a summary."""

    def __init__(self, events: Events, screen: TextIO, keeper: LedgerThread | None = None) -> None:
        self._events = events
        self._keeper = keeper
        self._screen = screen
        self._begun = self._drawn = time.monotonic()
        self.counts: Counter[str] = Counter()
        self.reasons: Counter[str] = Counter()
        self.bytes = 0
        self.seen = 0

    def discovered(self, source: str) -> None:
        """A file entered."""
        self.seen += 1

    def finished(self, outcomes: Sequence[Outcome]) -> None:
        """Files are done."""
        for outcome in outcomes:
            self.counts[outcome.kind] += 1
            self.bytes += outcome.size
            if outcome.reason:
                self.reasons[outcome.reason] += 1
        self._events.outcomes(outcomes)
        if self._keeper:
            self._keeper.finished(outcomes)
        now = time.monotonic()
        if self._screen.isatty() and now - self._drawn >= _TICK:
            self._drawn = now
            self._screen.write(f"\r\033[K{self._line(now)}")
            self._screen.flush()

    def deferred(self, deferral: Deferral) -> None:
        """A file must wait."""

    def lost(self, lost: WorkerExit) -> None:
        """A worker died."""
        self.counts["workers lost"] += 1

    def announce(self, ended: Sequence[Completion]) -> None:
        """Events of series that ended."""
        for one in ended:
            self._events.service("series-complete", time.time_ns(), **one._asdict())

    def _line(self, now: float) -> str:
        done = sum(self.counts[kind] for kind in ("published", "duplicate", "set-aside", "vanished"))
        rate = done / max(now - self._begun, 1e-9)
        return f"{done} of {self.seen} files, {self.bytes / 1e6:.1f} MB, {rate:.0f} files/s"

    def refused(self, deferral: Deferral) -> None:
        """A file that no other try will be given."""
        self.reasons[f"{deferral.reason} ({deferral.error})"] += 1

    def held_up(self, shown: Mapping[str, Any]) -> None:
        """Files that are left because their own place cannot be used, as HeldUp shows them."""
        for one in shown["shown"]:
            self.reasons[f"held up, {one['reason']} ({one['place']}: {one['error']})"] += one["files"]

    def summary(self, left: int, what: str = "left in incoming") -> None:
        """The last word, on standard error; what cannot be said there (a full disk) changes nothing of what was
        done.
        """
        seconds = time.monotonic() - self._begun
        told = [f"{count} {kind}" for kind, count in self.counts.items() if count]
        if left:
            told.append(f"{left} {what}")
        rate = self.counts["published"] / max(seconds, 1e-9)
        volume = f"{self.bytes / 1e6:.1f} MB in {seconds:.2f} s ({rate:.0f} files/s)"
        lines = [f"{', '.join(told) or 'nothing to do'}; {volume}"]
        lines += [f"  {reason}: {count}" for reason, count in self.reasons.most_common()]
        with contextlib.suppress(OSError):
            self._screen.write(("\r\033[K" if self._screen.isatty() else "") + "\n".join(lines) + "\n")
            self._screen.flush()


def run(config: Config) -> int:
    """Repack everything; 0 when all was published, duplicate or superseding, 1 when some was set aside or is left."""
    from listener.hooks.dispatch import HookManager
    from listener.ledger.thread import LedgerThread
    from listener.service.revision_thread import RevisionThread

    directories = prepare(config)
    owner = IncomingLock(config.incoming)
    events = Events(config.phi, None if sys.stdout.isatty() else sys.stdout.fileno(), waits=True)
    hooks = HookManager(config)
    keeper = LedgerThread(config, consumers=hooks.names, is_worked_on=OtherListeners(config.state).work_on)
    reviser = RevisionThread(config, directories, keep_open=owner.descriptors)
    keeper.revise = reviser.offer
    progress = Progress(events, sys.stderr, keeper)
    left = -1
    try:
        remove_leftovers(directories)
        keeper.start()
        engine = Engine(config, directories, progress, owner.descriptors)
        try:
            left = _work(engine, directories, config)
            progress.held_up(engine.held_up.shown(time.monotonic()))
        finally:
            engine.close()
    finally:
        # While something is left, more of any series may be among it.
        keeper.close(progress.announce, lambda: _revise(reviser, keeper, progress), judges=left == 0)
        owner.close()
    hooks.tell_due()
    progress.summary(left)
    return 1 if left or progress.counts["set-aside"] else 0


def _revise(reviser: RevisionThread, keeper: LedgerThread, progress: Progress) -> None:
    """What was corrected is brought in line, now that no worker works."""
    reviser.finish(_REVISE)
    for one in reviser.take():
        keeper.finished(one.outcomes)
        progress.counts["set-aside"] += sum(outcome.reason == "conflict" for outcome in one.outcomes)
        keeper.count_again([one.revision.SeriesInstanceUID])


class _Hope:
    """Whether it is worth waiting: not when the system has refused everything for as long as one file is waited for."""

    def __init__(self, engine: Engine, patience: float) -> None:
        self._engine = engine
        self._patience = patience
        self._since = 0.0

    @property
    def lost(self) -> bool:
        """Asked after each turn."""
        now = time.monotonic()
        if not self._engine.breaker.reason:
            self._since = 0.0
        self._since = self._since or now
        return not self._engine.backlog.working and now - self._since > self._patience


def _work(engine: Engine, directories: Directories, config: Config) -> int:
    """Claims first, then each root in byte order; how many files are left."""
    # Without leases a file must have been untouched for the settle time; one that the system refuses gets as long.
    patience = config.settle + 1
    hope = _Hope(engine, patience)
    engine.intake.requeue_claims()
    for root, path in enumerate(directories.incoming):
        for index, name in enumerate(in_byte_order(path)):
            if index % _LOOK == 0 and _is_short_of_space(config):
                return _left(engine, directories)
            while engine.backlog.full:
                engine.turn(_patience(engine))
                if hope.lost:
                    return _left(engine, directories)
            engine.intake.offer(name, root, "startup")
            if index % BATCH == BATCH - 1:
                engine.turn(0)
    return _finish(engine, hope, patience)


def _finish(engine: Engine, hope: _Hope, patience: float) -> int:
    """Until nothing is left, or what is left has waited in vain for so long; how many files are left."""
    backlog, least, end = engine.backlog, engine.backlog.depth, float("inf")
    while backlog.queued or backlog.working or (backlog.retrying and _is_worth_waiting(engine, end)):
        engine.turn(_patience(engine))
        if not (backlog.queued or backlog.working):  # Everything was tried once.
            end = min(end, time.monotonic() + patience)
        if backlog.depth < least:  # Those that wait for one another get on.
            least, end = backlog.depth, float("inf")
        if hope.lost:
            break
    return backlog.depth


def _is_worth_waiting(engine: Engine, end: float) -> bool:
    """Whether it is not yet `end`; who waits for a lock is given a little longer."""
    now = time.monotonic()
    return now < end or (now < end + locks.COMMAND_SECONDS and bool(engine.waits.texts(now)))


def _left(engine: Engine, directories: Directories) -> int:
    """What is left when it is given up: in hand or claimed, and beside that in incoming."""
    backlog = engine.backlog
    return backlog.depth + sum(1 for root in directories.incoming for path in walk(root) if not backlog.holds(path))


def _is_short_of_space(config: Config) -> bool:
    floor = config.min_free
    # Work is what frees an incoming that has a volume of its own.
    if least_free((config.data, config.log, config.state)) >= floor:
        return False
    log.error(
        "less than --min-free %.2f GiB is free; every source is kept: make room, or lower --min-free", floor / 2**30
    )
    return True


def _patience(engine: Engine) -> float | None:
    wake = engine.next_wake()
    return None if wake is None else max(0.0, wake - time.monotonic())
