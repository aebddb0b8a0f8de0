"""Tasks for worker processes in tests: each is (what, value)."""

from __future__ import annotations

import os
import signal
import time
from typing import Any

from listener.stages.worker_process import Parent


class Tasks:
    """Does what it is told."""

    def __init__(self, argument: int) -> None:
        self._argument = argument

    def __call__(self, task: tuple[str, Any], parent: Parent) -> Any:
        what, value = task
        if what == "add":
            return self._argument + value
        if what == "ask":
            parent.go_on()
            return parent.ask(value)
        if what == "die":
            os.kill(os.getpid(), signal.SIGKILL)
        if what == "miss":
            with open(value, "rb") as file:
                return file.read()
        if what == "sleep":
            time.sleep(value)
        raise ValueError(value)
