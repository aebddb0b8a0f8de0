"""Single keys from a terminal, without Enter. However the program ends, short of SIGKILL, the terminal is as it was."""

from __future__ import annotations

import contextlib
import os
import select
import signal
import termios
import tty
from collections.abc import Callable, Iterator

#: Ctrl-D, and what a terminal that is gone gives.
END = "\x04"

#: What ends or stops a program from outside; Ctrl-C is Python's KeyboardInterrupt.
_LEAVING = (signal.SIGTERM, signal.SIGHUP, signal.SIGQUIT, signal.SIGTSTP)

#: Waits for a key for so many seconds; returns it, or "" when none came.
Key = Callable[[float], str]


@contextlib.contextmanager
def keys(descriptor: int) -> Iterator[Key | None]:
    """Yield what reads a key of the terminal behind a descriptor; None when it is none, or not ours to change (a job in
    the background).
    """
    if not _is_ours(descriptor):
        yield None
        return
    before = termios.tcgetattr(descriptor)

    def leave(number: int, _frame: object) -> None:
        """Do what the signal asks with the terminal as it was; go on here when it was only stopped."""
        termios.tcsetattr(descriptor, termios.TCSADRAIN, before)
        signal.signal(number, signal.SIG_DFL)
        os.kill(os.getpid(), number)
        signal.signal(number, leave)
        if _is_ours(descriptor):
            tty.setcbreak(descriptor, termios.TCSADRAIN)

    handlers = {number: signal.signal(number, leave) for number in _LEAVING}
    try:
        tty.setcbreak(descriptor, termios.TCSADRAIN)
        yield lambda seconds: _pressed(descriptor, seconds)
    finally:
        termios.tcsetattr(descriptor, termios.TCSADRAIN, before)
        for number, handler in handlers.items():
            signal.signal(number, handler)


def _is_ours(descriptor: int) -> bool:
    try:
        return os.isatty(descriptor) and os.tcgetpgrp(descriptor) == os.getpgrp()
    except OSError:  # It is not the terminal of this session.
        return False


def _pressed(descriptor: int, seconds: float) -> str:
    if select.select([descriptor], [], [], seconds)[0]:
        return os.read(descriptor, 1).decode("ascii", "replace") or END
    return ""
