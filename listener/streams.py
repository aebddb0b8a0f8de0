"""Standard output and standard error of a command whose reader may go away, or whose disk may be full.

A command that only prints ends then, with the status of a program that SIGPIPE ended. One that acts (removes, puts
back, repairs) goes on: the work that was asked for does not depend on who reads the output.
"""

from __future__ import annotations

import errno
import io
import os
import select
import sys
from collections.abc import Callable
from typing import TextIO

#: What a shell shows of a program that SIGPIPE (13) ended: 128 and its number.
CLOSED_PIPE = 141


class _Unread(io.RawIOBase):
    """A writable descriptor. After the first error, kept in `error`, everything is dropped."""

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor
        self.error: OSError | None = None

    def writable(self) -> bool:
        return True

    def fileno(self) -> int:
        return self._descriptor

    def isatty(self) -> bool:
        return os.isatty(self._descriptor)

    def write(self, data: bytes) -> int:  # type: ignore[override]
        if self.error is None:
            try:
                return os.write(self._descriptor, data)
            except BlockingIOError:
                raise
            except OSError as error:
                self.error = error
        return len(data)


def guarded(act: Callable[[], int]) -> int:
    """Run `act`, which goes on when nobody reads what it prints. Return its status, or 1 instead of 0 when standard
    output could not be written for another reason.
    """
    streams = sys.stdout, sys.stderr
    raw = [_replaced("stdout", 1), _replaced("stderr", 2)]
    try:
        status = act()
    finally:
        flush()
        sys.stdout, sys.stderr = streams
    lost = raw[0].error if raw[0] else None
    if lost is None or lost.errno == errno.EPIPE:
        return status
    sys.stderr.write(f"listener: standard output could not be written ({lost.strerror}); what was asked for was done\n")
    return status or 1


def _replaced(name: str, descriptor: int) -> _Unread | None:
    """Replace a standard stream by a guarded one and return that; None where it is replaced already (by a test)."""
    stream: TextIO | None = getattr(sys, name)
    if stream is None or stream is not getattr(sys, f"__{name}__"):
        return None
    stream.flush()
    raw = _Unread(descriptor)
    text = io.TextIOWrapper(
        io.BufferedWriter(raw),  # type: ignore[type-var]
        encoding=stream.encoding,
        errors=stream.errors,
        line_buffering=name == "stderr" or raw.isatty(),
    )
    setattr(sys, name, text)
    return raw


def flush() -> None:
    """Write what is buffered, so that a closed pipe shows now. Raise BrokenPipeError or OSError."""
    for stream in (sys.stdout, sys.stderr):
        if stream is not None:
            stream.flush()


def is_unread() -> bool:
    """Return whether standard output or standard error is a pipe without a reader."""
    poll = select.poll()
    for descriptor in (1, 2):
        poll.register(descriptor, 0)
    return any(event & select.POLLERR for _, event in poll.poll(0))


def silence() -> None:
    """Send what is still buffered to the null device: else the interpreter reports an error when it ends."""
    null = os.open(os.devnull, os.O_WRONLY)
    for descriptor in (1, 2):
        os.dup2(null, descriptor)
    os.close(null)


def open_closed() -> None:
    """Open the null device in place of each closed standard stream. Else the next file that is opened would get its
    number, and be written to as if it were the stream.
    """
    for number, name, mode in ((0, "stdin", "r"), (1, "stdout", "w"), (2, "stderr", "w")):
        try:
            os.fstat(number)
        except OSError:
            null = os.open(os.devnull, os.O_RDWR)
            os.dup2(null, number)  # Inherited by other programs, as the streams are.
            if null != number:
                os.close(null)
        if getattr(sys, name) is None:
            setattr(sys, name, open(os.devnull, mode, encoding="utf-8"))  # noqa: SIM115 - for the process's life
