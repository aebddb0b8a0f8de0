"""A worker process of a stage: does the tasks that come through its pipe, one at a time, and ends with its parent.

`python -m listener.stages.worker_process DESCRIPTOR`. The first message names a function, `module:name`, and its
argument; what that returns does the tasks. Workers do not log, count or decide.
"""

from __future__ import annotations

import contextlib
import ctypes
import signal
import sys
import traceback
import warnings
from collections.abc import Callable
from importlib import import_module
from multiprocessing.connection import Connection
from typing import Any, NamedTuple

#: PR_SET_PDEATHSIG of <sys/prctl.h>.
_DEATH_SIGNAL = 1

#: Kinds of messages: what a worker asks, that it goes on, what came of a task, and how it failed.
ASKS, GOES_ON, DONE, SYSTEM, FAILED = "asks", "goes-on", "done", "system", "failed"


class Setup(NamedTuple):
    """First message to a worker: the function that makes what does the tasks, as `module:name`, and its argument."""

    function: str
    argument: Any


class Parent:
    """The parent, as a task sees it."""

    def __init__(self, pipe: Connection) -> None:
        self._pipe = pipe

    def ask(self, question: Any) -> Any:
        """Return the parent's answer to a question."""
        self._pipe.send((ASKS, question))
        return self._pipe.recv()

    def go_on(self) -> None:
        """Tell that the work goes on: who says nothing for long is taken for stuck."""
        self._pipe.send((GOES_ON, None))


#: What does tasks: returns what came of one. Raises OSError, which the parent sees as such.
Tasks = Callable[[Any, Parent], Any]


def main(descriptor: int) -> None:
    """Do tasks until the pipe is closed."""
    # A parent that was killed must not leave somebody behind who goes on writing.
    ctypes.CDLL(None).prctl(_DEATH_SIGNAL, signal.SIGKILL, 0, 0, 0)
    # The parent decides when to stop, but Ctrl-C reaches the whole process group. A broken lease raises SIGIO.
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGIO):
        signal.signal(number, signal.SIG_IGN)
    warnings.simplefilter("ignore")
    with Connection(descriptor) as pipe, contextlib.suppress(EOFError, BrokenPipeError, ConnectionResetError):
        setup: Setup = pipe.recv()
        module, _, name = setup.function.partition(":")
        tasks: Tasks = getattr(import_module(module), name)(setup.argument)
        parent = Parent(pipe)
        while True:
            pipe.send(_result(tasks, pipe.recv(), parent))


def _result(tasks: Tasks, task: Any, parent: Parent) -> tuple[str, Any]:
    try:
        return DONE, tasks(task, parent)
    except (BrokenPipeError, ConnectionResetError):
        raise
    except OSError as error:
        return SYSTEM, (error.errno or 0, error.strerror or type(error).__name__)
    except Exception as error:  # noqa: BLE001 - a task's failure is its own; its text may name a patient
        last = traceback.extract_tb(error.__traceback__)[-1]
        return FAILED, f"{type(error).__name__} in {last.name}, line {last.lineno}"


if __name__ == "__main__":
    main(int(sys.argv[1]))
