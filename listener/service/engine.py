"""The engine of `run` and `once`: hands the backlog to workers and settles their results, in one thread.

Only this process writes state, output and metrics, and only it releases claims: when a worker dies, either its results
have come, or the claim is still there and is done again.
"""

from __future__ import annotations

import contextlib
import os
import selectors
import time
from collections.abc import Callable, Sequence
from functools import partial
from typing import NamedTuple

from listener.config import Config
from listener.diagnostics import log
from listener.disk.directories import Directories
from listener.disk.retry import LONGEST, pause
from listener.errors import FatalFault
from listener.planning.names import printable
from listener.reasons import LOCKED, concerns_all
from listener.records import Arrival, Deferral, Outcome, refusal
from listener.repacking import claim
from listener.repacking.context import CLAIM, COPY
from listener.service import waits
from listener.service.backlog import BATCH, Backlog, share
from listener.service.breaker import CircuitBreaker
from listener.service.held_up import HeldUp
from listener.service.intake import EngineObserver, Intake, ProcessedFiles
from listener.service.pool import Pool, Worker
from listener.service.protocol import Fatal, WorkerConfig
from listener.service.recovery import Recovery
from listener.service.volumes import Volumes
from listener.service.waits import Waits

#: Outcomes that prove that every volume accepts work.
_WENT_THROUGH = ("published", "duplicate")

#: Longest wait before the next try of a file that is still being written, in seconds.
_BUSY = 1.0


def ignore(_: Sequence[Outcome]) -> None:
    """Do nothing: the outcomes are in no journal."""


class Lane(NamedTuple):
    """What an engine is for: how its files are taken (a mode of repacking.context; "": as --keep-source says), how nice
    its workers are to other processes, and a `journal`, which gets outcomes before a claim is released, and again where
    a file is done again.
    """

    mode: str = ""
    niceness: int = 0
    journal: Callable[[Sequence[Outcome]], None] = ignore


#: That of incoming.
INCOMING = Lane()


class Engine:
    """Takes arrivals from `intake`, and reports outcomes to `observer`."""

    def __init__(
        self,
        config: Config,
        directories: Directories,
        observer: EngineObserver,
        keep_open: Sequence[int] = (),
        lane: Lane = INCOMING,
    ) -> None:
        mode = lane.mode or (COPY if config.keep_source else CLAIM)
        self._config = config
        self._directories = directories
        self._observer = observer
        self._journal = lane.journal
        self._recovery = Recovery(config, directories, mode)
        self._tries: dict[str, int] = {}
        #: Most files in one message to a worker, and behind one barrier.
        self.most = BATCH
        self.backlog = Backlog()
        kept = ProcessedFiles(directories.state) if config.keep_source else None
        self.intake = Intake(self._recovery, self.backlog, observer, kept)
        self.breaker = CircuitBreaker(pause)
        self.waits = Waits()
        self.held_up = HeldUp(config.give_up, pause)
        self.volumes = Volumes(directories)
        self._pauses: set[str] = set()
        worker_config = WorkerConfig(config, directories, mode, lane.niceness)
        self.pool = Pool(worker_config, config.workers, config.deadline, keep_open)
        self.selector = selectors.DefaultSelector()
        for worker in self.pool.workers:
            self._listen_to(worker)

    def _listen_to(self, worker: Worker) -> None:
        self.selector.register(worker.pipe, selectors.EVENT_READ, partial(self._collect, worker))

    # -- in ----------------------------------------------------------------------------------------------------------

    @property
    def paused(self) -> bool:
        """Whether no work is handed out, for one reason or several."""
        return bool(self._pauses)

    def pause(self, reason: str) -> None:
        """Hand out no work until `resume(reason)`; what workers hold they finish."""
        self._pauses.add(reason)

    def resume(self, reason: str) -> None:
        """Take `reason` back; work is handed out again when no other is left."""
        self._pauses.discard(reason)

    def dispatch(self, now: float) -> None:
        """Give queued files to idle workers."""
        self.backlog.wake(now)
        # While the system refuses, the breaker is asked with nothing queued too, or its next try would be due for ever.
        if self.paused or not (self.backlog.queued or self.breaker.reason):
            return
        idle = self.pool.idle()
        for index, worker in enumerate(idle):
            most = self.breaker.allows(
                self.backlog.working, now, share(self.backlog.queued, len(idle) - index, self.most)
            )
            batch = self.backlog.take(most) if most else []
            if not batch:
                return
            if batch[0].claim and batch[0].source == "startup" and not self._count_attempt(batch):
                continue
            worker.give(batch, now)

    def _count_attempt(self, batch: list[Arrival]) -> bool:
        """Count the attempt in the claim's name before work on a claim of an earlier run, in case it ends the service
        again. Return False if the file is not to be worked on.
        """
        arrival = batch[0]
        if self._recovery.ends_services(arrival):
            self._give_up(arrival)
            return False
        try:
            batch[0] = self.backlog.exchange(arrival, claim.with_attempts(arrival, arrival.attempts + 1))
        except FileNotFoundError:
            return True  # It was taken away: the worker will report that.
        except OSError as error:
            self._defer(arrival, _refusal(arrival, "claim", error))
            return False
        self.held_up.move(arrival.key, batch[0].key)
        return True

    def turn(self, timeout: float | None) -> None:
        """Hand out work, wait `timeout` seconds at most (None: without limit), and call the data of each key that is
        ready at the selector: for a worker that takes its results.
        """
        self.dispatch(time.monotonic())
        for key, _ in self.selector.select(timeout):
            key.data()
        now = time.monotonic()
        self.pool.kill_overdue(now)
        self.dispatch(now)

    @property
    def flows(self) -> bool:
        """Whether queued files are handed out: nothing pauses the engine, and the system refuses nothing."""
        return not self.paused and not self.breaker.reason

    def next_wake(self) -> float | None:
        """Return when the next retry, deadline or trial is due, on the monotonic clock; None if none is."""
        next_try = None if self.paused else self.breaker.next_try()  # Due for ever, while nothing may be tried.
        moments = (self.backlog.next_due(), self.pool.next_deadline(), next_try)
        return min((moment for moment in moments if moment is not None), default=None)

    # -- out -------------------------------------------------------------------------------------------------------

    def _collect(self, worker: Worker) -> None:
        held, since = worker.held, worker.since
        try:
            results = worker.collect()
        except EOFError:
            self._replace_worker(worker)
            return
        if isinstance(results, Fatal):
            raise FatalFault(results.error)
        if results is not None:
            self.pool.did_something()
            self._settle(held, results, since)

    def _settle(self, held: Sequence[Arrival], results: Sequence[Outcome | Deferral], since: float) -> None:
        """Finish or defer each file of a batch that was given to its worker at `since`."""
        finished = []
        gone = self.volumes.gone(since, time.monotonic())
        if self._journal is not ignore and not gone:
            pairs = zip(held, results, strict=True)
            self._journal([_of_claim(arrival, result) for arrival, result in pairs if isinstance(result, Outcome)])
        for arrival, result in zip(held, results, strict=True):
            if gone or (isinstance(result, Outcome) and result.kind == "vanished" and self.volumes.hides(arrival)):
                self._keep(arrival, result, gone)
                continue
            if isinstance(result, Deferral):
                self._defer(arrival, result)
                continue
            refused = self._release(arrival, result)
            if refused:
                self._defer(arrival, refused)
            else:
                finished.append((arrival, result))
        self._finish(finished)

    def _keep(self, arrival: Arrival, result: Outcome | Deferral, gone: list[str]) -> None:
        """Defer a file because a volume is gone: no claim is released, and nothing counts as vanished."""
        try:
            deferral = self.volumes.kept(arrival, result, gone or ["incoming"])
        except OSError as error:
            deferral = _refusal(arrival._replace(claim=result.claim or arrival.claim), "release", error)
        self._defer(arrival, deferral)

    def _release(self, arrival: Arrival, outcome: Outcome) -> Deferral | None:
        """Release the claim, which commits the outcome; return the deferral if that is refused. Then the file is done
        again, which changes nothing.
        """
        if not outcome.claim:
            return None
        try:
            claim.release(outcome.claim)
        except OSError as error:
            return _refusal(arrival._replace(claim=outcome.claim), "release", error)
        return None

    def _finish(self, finished: list[tuple[Arrival, Outcome]]) -> None:
        if not finished:
            return
        again = [arrival for arrival, _ in finished if self.backlog.finish(arrival.key)]
        # With nothing left, nothing is refused.
        through = not self.backlog.depth or any(outcome.kind in _WENT_THROUGH for _, outcome in finished)
        if through and self.breaker.closed():
            log.info("the system accepts work again")
        for arrival, _ in finished:
            self._tries.pop(arrival.path, None)
            self.intake.done(arrival.path)
            if self.held_up and self.held_up.forget(arrival.key):
                log.info("no file is held up any more")
        self._observer.finished([outcome for _, outcome in finished])
        for arrival in again:
            self.intake.offer(arrival.path, arrival.root_index, "event")

    def _defer(self, arrival: Arrival, deferral: Deferral) -> None:
        now = time.monotonic()
        self._observer.deferred(deferral)
        again = arrival._replace(path=deferral.path, claim=deferral.claim)
        if arrival.claim and arrival.attempts and deferral.step != "release":
            with contextlib.suppress(OSError):  # It was the system, not the file: this attempt does not count.
                again = claim.with_attempts(again, arrival.attempts - 1)
        if deferral.place:
            self._hold_up(arrival, again, deferral, now)
            return
        self.held_up.move(arrival.key, again.key)
        tries = self._tries[arrival.path] = self._tries.get(arrival.path, 0) + 1
        longest = min(_BUSY, self._config.rescan) if deferral.reason == "busy" else LONGEST
        if deferral.reason != "busy" and self.breaker.refused(deferral.reason, now):
            text = "the system refuses (%s, at step '%s': %s); files wait and are tried again"
            log.error(text, deferral.reason, deferral.step, deferral.error)
        # A file that is still being written delays no other; one whose documents another worker writes may.
        alone = deferral.reason == "busy" and deferral.step != "describe"
        self.backlog.defer(arrival.key, again, now + pause(tries, longest), alone=alone)

    def _hold_up(self, arrival: Arrival, again: Arrival, deferral: Deferral, now: float) -> None:
        """Defer one file that alone waits, for its place or for a lock."""
        locked = deferral.reason == LOCKED
        longest = waits.LONGEST if locked else LONGEST
        turn = self.held_up.refuse(arrival.key, again.key, deferral, now, longest)
        if locked:
            if self.waits.add(deferral.error, now):
                log.error("%s; files that need it wait, others go on", deferral.error)
        elif turn.news:
            text = (
                "%s%s cannot be placed (%s, at step '%s': %s: %s); it alone waits and is tried again, until"
                " --give-up %g s are over"
            )
            name = printable(os.path.basename(arrival.path))
            series = f" of series {deferral.series}" if deferral.series else ""
            where = (deferral.reason, deferral.step, deferral.place, deferral.error)
            log.error(text, name, series, *where, self._config.give_up)
        self.backlog.defer(arrival.key, again._replace(last=turn.last), turn.due, alone=True)

    def _replace_worker(self, worker: Worker) -> None:
        self.selector.unregister(worker.pipe)
        since = worker.since
        lost, successor = self.pool.replace(worker)
        gone = self.volumes.gone(since, time.monotonic())
        self._recovery.clean(worker.pid)
        self._listen_to(successor)
        self._observer.lost(lost)
        again = []
        for arrival, recovered in zip(lost.held, self._recovery.recover(lost), strict=True):
            self.backlog.finish(arrival.key)
            if isinstance(recovered, Arrival):
                self.held_up.move(arrival.key, recovered.key)
            if isinstance(recovered, Outcome) and (gone or self.volumes.hides(arrival)):
                self._keep(arrival, recovered, gone)
            elif isinstance(recovered, Outcome):
                self._journal([_of_claim(arrival, recovered)])
                self._finish([(arrival, recovered)])
            elif self._recovery.is_poison(recovered):
                self._give_up(recovered)
            else:
                again.append(recovered)
        self.backlog.put_back(again)

    def _give_up(self, arrival: Arrival) -> None:
        """Set aside a file that kills workers or services; defer it if the system refuses that."""
        try:
            outcome = self._recovery.give_up(arrival)
        except OSError as error:
            self._defer(arrival, _refusal(arrival, "claim", error))
            return
        self._journal([outcome])
        refused = self._release(arrival, outcome)
        if refused:
            self._defer(arrival, refused)
        else:
            self._finish([(arrival, outcome)])

    def close(self, *, at_once: bool = False) -> None:
        """End the workers after the batches they hold, or `at_once`. What they had claimed stays claimed."""
        self.pool.stop(0.0 if at_once else 5.0)
        self.selector.close()
        self.intake.close()


def _of_claim(arrival: Arrival, outcome: Outcome) -> Outcome:
    """Return the outcome with the claim that it was an outcome of, also where that is gone: its name tells the file."""
    return outcome if outcome.claim or not arrival.claim else outcome._replace(claim=arrival.claim)


def _refusal(arrival: Arrival, step: str, error: OSError) -> Deferral:
    """Return the deferral for what was refused to this process: about this claim only, unless the error says more."""
    return refusal(arrival, step, error, "" if concerns_all(error) else "the claim")
