"""Spawned workers, one pipe each; the parent knows what each holds, so nothing is lost with one that dies.

(A shared queue loses the dead worker's item, a process pool fails everything in flight: measured,
docs/architecture.md.)
"""

from __future__ import annotations

import contextlib
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from multiprocessing.connection import Connection
from socket import socketpair
from typing import NamedTuple

from listener.errors import FatalFault
from listener.records import Arrival
from listener.repacking.repack import Result
from listener.service import protocol
from listener.service.protocol import Fatal, Ready, WorkerConfig

#: How long a worker may take to begin, in seconds.
_START = 30.0

#: Workers that may die in a row, before they have begun, and after, until the fault is taken for the system's.
_MOST_STILLBORN = 20
_MOST_DEATHS = 40


class WorkerExit(NamedTuple):
    """A worker died: what it held, how it ended (`exited`, `killed` or `deadline`), a text that says so, and whether it
    had begun at all (else no file is to blame).
    """

    held: list[Arrival]
    reason: str
    text: str
    began: bool = True


class Worker:
    """One process, its pipe, and what it holds since when."""

    def __init__(self, worker_config: WorkerConfig, keep_open: Sequence[int]) -> None:
        ours, theirs = socketpair()
        with theirs:
            # The owner's lock goes along: as long as a worker of a killed parent lives, nobody else may begin.
            self._process = subprocess.Popen(
                [sys.executable, "-m", "listener.service.worker", str(theirs.fileno())],
                pass_fds=(theirs.fileno(), *keep_open),
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
            )
        self.pipe = Connection(ours.detach())
        self.held: list[Arrival] = []
        self.since = 0.0
        self.overdue = False
        self.ready = False
        with contextlib.suppress(BrokenPipeError, ConnectionResetError):  # Dead already: the end of its pipe tells.
            protocol.send(self.pipe, worker_config)

    @property
    def pid(self) -> int:
        """The process id."""
        return self._process.pid

    def give(self, arrivals: list[Arrival], now: float) -> None:
        """Hand over a batch; `now` on the monotonic clock."""
        self.held, self.since = arrivals, now
        # A worker that has just died is found by the end of its pipe; what it was given is held and comes back.
        with contextlib.suppress(BrokenPipeError, ConnectionResetError):
            protocol.send(self.pipe, protocol.pack(arrivals))

    def collect(self) -> list[Result] | Fatal | None:
        """The results of the batch; None when it only said that it works. Raises EOFError when the worker is dead."""
        try:
            answer = protocol.receive(self.pipe)
        except (ConnectionResetError, OSError) as error:
            raise EOFError from error
        if isinstance(answer, Ready):
            self.ready, self.since = True, time.monotonic()
            return None
        self.held = []
        return answer if isinstance(answer, Fatal) else protocol.results(answer, time.time_ns())

    def kill(self) -> None:
        """End it at once."""
        self.overdue = True
        self._process.kill()

    def reap(self) -> WorkerExit:
        """What a dead worker leaves."""
        self.pipe.close()
        self._process.kill()
        status = self._process.wait()
        if self.overdue:
            reason, text = "deadline", "was killed: it held one file for longer than --deadline"
        elif status < 0:
            reason, text = "killed", f"was killed by {signal.Signals(-status).name}"
        else:
            reason, text = "exited", f"exited with status {status}"
        return WorkerExit(self.held, reason, text, self.ready)

    def stop(self, patience: float) -> None:
        """Close its pipe, at which it ends; kill it when it does not within `patience` seconds."""
        self.pipe.close()
        try:
            self._process.wait(patience)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()


def _precedence(worker: Worker) -> tuple[bool, float]:
    return not worker.ready, worker.since


class Pool:
    """All workers of one service."""

    def __init__(self, worker_config: WorkerConfig, count: int, deadline: float, keep_open: Sequence[int] = ()) -> None:
        self._worker_config = worker_config
        self._deadline = deadline
        self._keep_open = tuple(keep_open)
        self._deaths = 0
        self.workers = [self._spawn() for _ in range(count)]

    def _spawn(self) -> Worker:
        return Worker(self._worker_config, self._keep_open)

    def idle(self) -> list[Worker]:
        """Workers that hold nothing; those that have begun first, and of these who rested longest: on a busy machine
        the scheduler favours the rested.
        """
        return sorted([worker for worker in self.workers if not worker.held], key=_precedence)

    @property
    def busy(self) -> int:
        """How many hold something."""
        return sum(1 for worker in self.workers if worker.held)

    @property
    def is_warm(self) -> bool:
        """Whether each worker has begun, with all loaded that its first file needs."""
        return all(worker.ready for worker in self.workers)

    def replace(self, worker: Worker) -> tuple[WorkerExit, Worker]:
        """Bury a dead worker; what it leaves, and the new one in its place.

        Raises FatalFault when workers die one after the other and none gets anything done: no file's fault then.
        """
        lost = worker.reap()
        self._deaths += 1
        if self._deaths >= (_MOST_DEATHS if worker.ready else _MOST_STILLBORN):
            raise FatalFault(f"no worker lives; the last one {lost.text}, its words stand above; every file is kept")
        successor = self.workers[self.workers.index(worker)] = self._spawn()
        return lost, successor

    def did_something(self) -> None:
        """A worker has finished a batch: the deaths before it were of files."""
        self._deaths = 0

    def kill_overdue(self, now: float) -> None:
        """Kill every worker that holds its batch for longer than the deadline; its pipe then tells.

        The files of a batch that is killed come back one by one, each with a deadline of its own.
        """
        for worker in self.workers:
            if worker.held and not worker.overdue and now > self._due(worker):
                worker.kill()

    def next_deadline(self) -> float | None:
        """When the first worker becomes overdue, on the monotonic clock."""
        times = [self._due(worker) for worker in self.workers if worker.held and not worker.overdue]
        return min(times, default=None)

    def _due(self, worker: Worker) -> float:
        # On a busy machine a start takes its time; the file is not to blame for it.
        return worker.since + (self._deadline if worker.ready else max(self._deadline, _START))

    def stop(self, patience: float = 5.0) -> None:
        """End all workers; each finishes the file system call that it is in."""
        for worker in self.workers:
            worker.pipe.close()
        for worker in self.workers:
            worker.stop(patience)
        self.workers = []
