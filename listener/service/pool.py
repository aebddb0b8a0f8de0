"""Worker processes, one pipe each: the parent records what each holds, so a worker that dies loses nothing.

A shared queue loses the dead worker's item, a process pool fails everything in flight (measured, docs/architecture.md).
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

#: How long a worker may take to start, in seconds.
_START = 30.0

#: Workers that may die in a row, before and after they were ready, until the fault counts as the system's.
_MOST_STILLBORN = 20
_MOST_DEATHS = 40


class WorkerExit(NamedTuple):
    """A dead worker: what it held, how it ended (`exited`, `killed` or `deadline`), the same in words, and whether it
    was ever ready (else no file is to blame).
    """

    held: list[Arrival]
    reason: str
    text: str
    was_ready: bool = True


class Worker:
    """One process, its pipe, and the batch that it holds since when."""

    def __init__(self, worker_config: WorkerConfig, keep_open: Sequence[int]) -> None:
        ours, theirs = socketpair()
        with theirs:
            # It inherits the lock on incoming: while a worker of a killed parent lives, no other listener may start.
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
        with contextlib.suppress(BrokenPipeError, ConnectionResetError):  # Dead already: its pipe is at its end.
            protocol.send(self.pipe, worker_config)

    @property
    def pid(self) -> int:
        """The process id."""
        return self._process.pid

    def give(self, arrivals: list[Arrival], now: float) -> None:
        """Send a batch to the worker; `now` on the monotonic clock."""
        self.held, self.since = arrivals, now
        # If it has just died, its pipe is at its end, and what it was given is held and comes back.
        with contextlib.suppress(BrokenPipeError, ConnectionResetError):
            protocol.send(self.pipe, protocol.pack_arrivals(arrivals))

    def collect(self) -> list[Result] | Fatal | None:
        """Return the results of the batch; None if the message was Ready. Raises EOFError if the worker is dead."""
        try:
            answer = protocol.receive(self.pipe)
        except (ConnectionResetError, OSError) as error:
            raise EOFError from error
        if isinstance(answer, Ready):
            self.ready, self.since = True, time.monotonic()
            return None
        self.held = []
        return answer if isinstance(answer, Fatal) else protocol.unpack_results(answer, time.time_ns())

    def kill(self) -> None:
        """Kill the process because it is overdue."""
        self.overdue = True
        self._process.kill()

    def reap(self) -> WorkerExit:
        """Wait for the dead process and return what it left."""
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
        """Close the pipe, which ends the process; kill it after `patience` seconds."""
        self.pipe.close()
        try:
            self._process.wait(patience)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()


def _precedence(worker: Worker) -> tuple[bool, float]:
    return not worker.ready, worker.since


class Pool:
    """The workers of one service."""

    def __init__(self, worker_config: WorkerConfig, count: int, deadline: float, keep_open: Sequence[int] = ()) -> None:
        self._worker_config = worker_config
        self._deadline = deadline
        self._keep_open = tuple(keep_open)
        self._deaths = 0
        self.workers = [self._spawn() for _ in range(count)]

    def _spawn(self) -> Worker:
        return Worker(self._worker_config, self._keep_open)

    def idle(self) -> list[Worker]:
        """Return the workers that hold nothing: those that are ready first, and of these the longest idle, which the
        scheduler of a busy machine favours.
        """
        return sorted([worker for worker in self.workers if not worker.held], key=_precedence)

    @property
    def busy(self) -> int:
        """How many workers hold a batch."""
        return sum(1 for worker in self.workers if worker.held)

    @property
    def is_warm(self) -> bool:
        """Whether every worker is ready, with all imported that its first file needs."""
        return all(worker.ready for worker in self.workers)

    def replace(self, worker: Worker) -> tuple[WorkerExit, Worker]:
        """Reap a dead worker and spawn another; return what it left, and the new one.

        Raises FatalFault if workers die one after the other and none gets anything done: that is no file's fault.
        """
        lost = worker.reap()
        self._deaths += 1
        if self._deaths >= (_MOST_DEATHS if worker.ready else _MOST_STILLBORN):
            raise FatalFault(f"no worker lives; the last one {lost.text}, its words stand above; every file is kept")
        successor = self.workers[self.workers.index(worker)] = self._spawn()
        return lost, successor

    def did_something(self) -> None:
        """Record that a worker finished a batch: the deaths before were due to files."""
        self._deaths = 0

    def kill_overdue(self, now: float) -> None:
        """Kill every worker that holds its batch for longer than the deadline. Its files come back one by one, each
        with a deadline of its own.
        """
        for worker in self.workers:
            if worker.held and not worker.overdue and now > self._due(worker):
                worker.kill()

    def next_deadline(self) -> float | None:
        """Return when the next worker becomes overdue, on the monotonic clock; None if none holds a batch."""
        times = [self._due(worker) for worker in self.workers if worker.held and not worker.overdue]
        return min(times, default=None)

    def _due(self, worker: Worker) -> float:
        # A start may take long on a busy machine, which is not the file's fault.
        return worker.since + (self._deadline if worker.ready else max(self._deadline, _START))

    def stop(self, patience: float = 5.0) -> None:
        """End all workers; each gets `patience` seconds to finish its system call."""
        for worker in self.workers:
            worker.pipe.close()
        for worker in self.workers:
            worker.stop(patience)
        self.workers = []
