"""A hook that is a program: started for each delivery, with the JSON on its standard input."""

from __future__ import annotations

import contextlib
import os
import shlex
import signal
import subprocess

from listener.errors import HookFailed
from listener.hooks.message import Message

#: A program that runs for longer is killed, in seconds; and how long it gets to end itself.
DEADLINE, GRACE = 600.0, 2.0

#: How long a killed one is waited for, in seconds: a busy machine takes its time to end a process.
_KILLED = 10.0


class Program:
    """Runs `command`: words as a shell would split them, but no shell. Its standard output goes nowhere (ours is
    events), its standard error is ours.
    """

    name = "exec"
    #: How long a delivery is leased, in seconds: longer than any attempt.
    lease = DEADLINE + 60.0

    def __init__(self, command: str) -> None:
        self._words = shlex.split(command)
        self._process: subprocess.Popen[bytes] | None = None

    def tell(self, told: Message) -> None:
        """Run it to its end; HookFailed unless its exit status is 0."""
        environment = {**os.environ, "HOOK_EVENT": told.event, "HOOK_KEY": told.key}
        try:
            process = subprocess.Popen(
                self._words,
                env=environment,
                stdin=subprocess.PIPE,
                stdout=subprocess.DEVNULL,
                process_group=0,
            )
        except OSError as error:
            raise HookFailed(f"cannot be started ({error.strerror})") from error
        self._process = process
        try:
            process.communicate(told.body, DEADLINE)
        except subprocess.TimeoutExpired:
            self.abort()
            raise HookFailed(f"it ran for more than {DEADLINE:g} s") from None
        finally:
            self._process = None
            # What the program did not read is still to be written, which is why closing may fail.
            if process.stdin:
                with contextlib.suppress(OSError):
                    process.stdin.close()
        if process.returncode:
            raise HookFailed(_status(process.returncode))

    def abort(self) -> None:
        """End what runs, with all that it started; from any thread."""
        process = self._process
        if process is None:
            return
        for number, patience in ((signal.SIGTERM, GRACE), (signal.SIGKILL, _KILLED)):
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, number)
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(patience)
                return


def _status(code: int) -> str:
    return f"exit status {code}" if code > 0 else f"killed by signal {-code}"
