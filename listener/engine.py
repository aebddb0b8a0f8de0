"""The heart of `run` and `once`: backlog and workers, and what becomes of their results. One thread, no waiting here.

The parent alone owns state, output and metrics. It also lets claims go: when a worker dies, either its answer has
come, or the claim is still there and is done again; no file's outcome gets lost between the two.
"""

from __future__ import annotations

import os
import selectors
import stat
import time
from collections.abc import Iterable, Sequence
from typing import Protocol

from listener import claim, setaside
from listener.backlog import NEW, Backlog
from listener.config import Config
from listener.desk import CLAIM, COPY, Desk
from listener.diagnostics import log
from listener.directories import Directories
from listener.errors import FatalFault, WorkerLost
from listener.kept import Kept
from listener.names import is_temporary
from listener.pool import Lost, Pool, Worker
from listener.records import Arrival, Deferral, Outcome
from listener.worker import Fatal, Setting

#: Files in one message to a worker and behind one barrier.
BATCH = 32

#: How long a worker may take to end, in seconds.
_PATIENCE = 5.0

#: A file that was begun so often and never ended is set aside: it kills or hangs workers.
_MOST_ATTEMPTS = 2

#: The same over restarts of the whole service, which innocent files meet too.
_MOST_RESTARTS = 5


class Listens(Protocol):
    """Who hears what happens: metrics, events, progress."""

    def discovered(self, source: str) -> None:
        """A file entered; `source` is one of records.SOURCES."""

    def finished(self, outcomes: Sequence[Outcome]) -> None:
        """Files are done."""

    def deferred(self, deferral: Deferral) -> None:
        """A file must wait."""

    def lost(self, lost: Lost) -> None:
        """A worker died and was replaced."""


class Engine:
    """Offers go in, outcomes come out to `listens`."""

    def __init__(
        self, config: Config, directories: Directories, listens: Listens, keep_open: Sequence[int] = ()
    ) -> None:
        manner = COPY if config.keep_source else CLAIM
        self._config = config
        self._directories = directories
        self._listens = listens
        self._desk: Desk | None = None
        self._setting = Setting(config, directories, manner)
        self._tries: dict[str, int] = {}
        self._kept = Kept(directories.state) if config.keep_source else None
        self.backlog = Backlog()
        self.refusal = ""
        self.paused = False
        self.pool = Pool(self._setting, config.workers, config.deadline, keep_open)
        self.selector = selectors.DefaultSelector()
        for worker in self.pool.workers:
            self.selector.register(worker.pipe, selectors.EVENT_READ, worker)

    # -- in --------------------------------------------------------------------------------------------------------

    def offer(self, path: str, root: int, source: str) -> str:
        """A path was noticed. Looked up at once, so that what is already gone, because it is done, is no arrival."""
        if is_temporary(os.path.basename(path)):
            return ""
        try:
            status = os.lstat(path)
        except OSError:
            return ""
        if stat.S_ISDIR(status.st_mode) or (self._kept and self._kept.holds(path, status)):
            return ""
        answer = self.backlog.offer(Arrival(path, root, status.st_ctime_ns, source, size=status.st_size))
        if answer == NEW:
            self._listens.discovered(source)
        return answer

    def requeue_claims(self) -> int:
        """Claims that an earlier run left, oldest first, are done again; how many. They come one by one."""
        found = [arrival for root in range(len(self._directories.claims)) for arrival in self._claims(root)]
        for arrival in sorted(found, key=lambda one: one.time_ns):
            if arrival.attempts >= _MOST_RESTARTS:
                self._give_up(arrival)
            else:
                self.backlog.put_back([claim.begin_again(arrival)])
                self._listens.discovered("startup")
        return len(found)

    def _claims(self, root: int) -> Iterable[Arrival]:
        if self._setting.manner != CLAIM:
            return
        with os.scandir(self._directories.claims[root]) as entries:
            for entry in entries:
                told = claim.parse_name(entry.name)
                if told is not None:
                    path = os.path.join(self._directories.incoming[root], told.name)
                    size = entry.stat(follow_symlinks=False).st_size
                    yield Arrival(path, root, told.time_ns, "startup", entry.path, told.attempts, size)

    # -- through ---------------------------------------------------------------------------------------------------

    def dispatch(self, now: float) -> None:
        """Give idle workers what waits: all of it while that is little, at most BATCH at a time."""
        self.backlog.wake(now)
        if self.paused:
            return
        idle = self.pool.idle()
        for index, worker in enumerate(idle):
            share = -(-self.backlog.queued // (len(idle) - index))
            batch = self.backlog.take(min(BATCH, share)) if share else []
            if not batch:
                return
            worker.give(batch, now)

    def turn(self, timeout: float | None) -> list[selectors.SelectorKey]:
        """Wait for workers (and what else is registered) and take their results; keys of the others are returned."""
        others = []
        for key, _ in self.selector.select(timeout):
            if isinstance(key.data, Worker):
                self._collect(key.data)
            else:
                others.append(key)
        now = time.monotonic()
        self.pool.kill_overdue(now)
        self.dispatch(now)
        return others

    def next_wake(self) -> float | None:
        """When something is due by itself, on the monotonic clock."""
        times = [moment for moment in (self.backlog.next_due(), self.pool.next_deadline()) if moment is not None]
        return min(times, default=None)

    def _collect(self, worker: Worker) -> None:
        held = worker.held
        try:
            results = worker.collect()
        except EOFError:
            self._bury(worker)
            return
        if isinstance(results, Fatal):
            raise FatalFault(results.error)
        self._settle(held, results)

    def _settle(self, held: Sequence[Arrival], results: Sequence[Outcome | Deferral]) -> None:
        now = time.time_ns()
        outcomes = []
        for arrival, result in zip(held, results, strict=True):
            if isinstance(result, Deferral):
                self._defer(arrival, result)
                continue
            if result.claim:
                claim.release(result.claim)
            outcomes.append(result._replace(finished_ns=now))
        self._finish(outcomes)

    def _finish(self, outcomes: list[Outcome]) -> None:
        again = []
        for outcome in outcomes:
            self._tries.pop(outcome.path, None)
            if self._kept:
                self._kept.add(outcome.path)
            if self.backlog.finish(outcome.path):
                again.append(outcome)
        if outcomes:
            self.refusal = ""
            self._listens.finished(outcomes)
        for outcome in again:
            self.offer(outcome.path, outcome.root, "event")

    def _defer(self, arrival: Arrival, deferral: Deferral) -> None:
        if deferral.reason == "busy":
            longest = min(1.0, self._config.rescan)
        else:
            longest = 30.0
            if not self.refusal:
                log.error(
                    "the system refuses (%s, at stage '%s': %s); files wait and are tried again",
                    deferral.reason,
                    deferral.stage,
                    deferral.error,
                )
            self.refusal = deferral.reason
        self._listens.deferred(deferral)
        tries = self._tries[arrival.path] = self._tries.get(arrival.path, 0) + 1
        from listener.retry import pause  # only a refusal pays for importing tenacity

        self.backlog.defer(arrival._replace(claim=deferral.claim), time.monotonic() + pause(tries, longest))

    # -- workers that die ------------------------------------------------------------------------------------------

    def _bury(self, worker: Worker) -> None:
        self.selector.unregister(worker.pipe)
        lost, successor = self.pool.replace(worker)
        self.selector.register(successor.pipe, selectors.EVENT_READ, successor)
        self._listens.lost(lost)
        self._recover(lost)

    def _recover(self, lost: Lost) -> None:
        """Everything a dead worker held is somewhere: still in incoming, in a claim, or set aside already."""
        claims = {_mark(one): one for root in range(len(self._directories.claims)) for one in self._claims(root)}
        for arrival in lost.held:
            found = claims.get(_mark(arrival))
            if found:
                attempts = arrival.attempts + 1
                again = claim.begin_again(arrival._replace(claim=found.claim))._replace(attempts=attempts)
            elif os.path.lexists(arrival.path):
                again = arrival._replace(attempts=arrival.attempts + 1)
            else:
                self._finish([_gone(arrival)])
                continue
            if again.attempts >= _MOST_ATTEMPTS:
                self._give_up(again)
            else:
                self.backlog.put_back([again])

    def _give_up(self, arrival: Arrival) -> None:
        if self._desk is None:
            self._desk = Desk(self._config, self._directories, self._setting.manner)
        error = str(WorkerLost())
        source = arrival.claim or arrival.path
        where = setaside.put_aside(source, os.path.basename(arrival.path), self._desk, "worker-lost", error, arrival)
        now = time.time_ns()
        self._finish(
            [
                Outcome(
                    "set-aside",
                    arrival.path,
                    arrival.root,
                    arrival.time_ns,
                    now,
                    size=arrival.size,
                    reason="worker-lost",
                    stage="read",
                    error=error,
                    dst=where,
                )
            ]
        )

    def close(self, *, at_once: bool = False) -> None:
        """End the workers, each after the batch it has; killed when `at_once`. What they had claimed stays claimed."""
        self.pool.stop(0.0 if at_once else _PATIENCE)
        self.selector.close()
        if self._kept:
            self._kept.close()


def _mark(arrival: Arrival) -> tuple[int, int, bytes]:
    """By what an arrival and its claim are known to be the same; a claim's name may be cut."""
    return arrival.root, arrival.time_ns, os.fsencode(os.path.basename(arrival.path))[:64]


def _gone(arrival: Arrival) -> Outcome:
    return Outcome("vanished", arrival.path, arrival.root, arrival.time_ns, time.time_ns(), size=arrival.size)
