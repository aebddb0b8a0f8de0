"""Worker processes of a stage: one does a task at a time; one that dies or is stuck is replaced, alone.

A thread that has a task takes a worker, and waits for it; so as many tasks are done at once as there are threads.
"""

from __future__ import annotations

import contextlib
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from multiprocessing.connection import Connection
from queue import SimpleQueue
from typing import Any

from listener.errors import ListenerError
from listener.stages.worker_process import ASKS, DONE, GOES_ON, SYSTEM, Setup

#: Seconds between two looks whether the task is wanted still, and after which a silent worker is taken for stuck.
_LOOK, _SILENT = 0.5, 600.0


class WorkerFailed(ListenerError):
    """A worker process died, was stuck or failed with a task; another one takes its place."""


class Worker:
    """One worker process, started with its first task. Used by one thread at a time."""

    def __init__(self, setup: Setup) -> None:
        self._setup = setup
        self._process: subprocess.Popen[bytes] | None = None
        self._pipe: Connection | None = None

    @property
    def pid(self) -> int:
        """Return its process id, 0 where it does not run."""
        return self._process.pid if self._process else 0

    def do(self, task: Any, answer: Callable[[Any], Any], go_on: Callable[[], None]) -> Any:
        """Return what came of a task. `answer` answers what the worker asks; `go_on` is called from time to time, and
        ends the worker if it raises. Raises WorkerFailed, OSError of the task, and what those two raise.
        """
        try:
            kind, value = self._exchange(task, answer, go_on)
        except (EOFError, OSError) as error:
            self.end()
            raise WorkerFailed(f"it ended: {type(error).__name__}") from None
        except BaseException:
            self.end()
            raise
        if kind == DONE:
            return value
        if kind == SYSTEM:
            raise OSError(*value)
        raise WorkerFailed(value)

    def _exchange(self, task: Any, answer: Callable[[Any], Any], go_on: Callable[[], None]) -> tuple[str, Any]:
        pipe = self._connected()
        pipe.send(task)
        heard = time.monotonic()
        while True:
            if not pipe.poll(_LOOK):
                if time.monotonic() > heard + _SILENT:
                    raise WorkerFailed("it was stuck")
                go_on()
                continue
            kind, value = pipe.recv()
            heard = time.monotonic()
            if kind == ASKS:
                pipe.send(answer(value))
            elif kind == GOES_ON:
                go_on()
            else:
                return kind, value

    def _connected(self) -> Connection:
        if self._pipe and self._process and self._process.poll() is None:
            return self._pipe
        self.end()
        ours, theirs = socket.socketpair()
        with theirs:
            command = [sys.executable, "-m", "listener.stages.worker_process", str(theirs.fileno())]
            self._process = subprocess.Popen(command, stdin=subprocess.DEVNULL, pass_fds=[theirs.fileno()])
        self._pipe = Connection(ours.detach())
        self._pipe.send(self._setup)
        return self._pipe

    def end(self) -> None:
        """End the process, at once."""
        process, self._process = self._process, None
        pipe, self._pipe = self._pipe, None
        if pipe:
            pipe.close()
        if process:
            process.kill()
            process.wait()


class Workers:
    """So many workers; one that is taken is nobody else's."""

    def __init__(self, count: int, setup: Setup) -> None:
        self._all = [Worker(setup) for _ in range(count)]
        self._idle: SimpleQueue[Worker] = SimpleQueue()
        for worker in self._all:
            self._idle.put(worker)

    @contextlib.contextmanager
    def taken(self) -> Iterator[Worker]:
        """Wait for an idle worker, and have it for the block."""
        worker = self._idle.get()
        try:
            yield worker
        finally:
            self._idle.put(worker)

    def end(self) -> None:
        """End all; nobody may have one any more."""
        for worker in self._all:
            worker.end()
