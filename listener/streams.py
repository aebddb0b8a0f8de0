"""Standard output and standard error of a command whose reader may go away, or whose disk may be full.

A command that only prints ends then, with the status of a program that SIGPIPE ended. One that acts (removes, puts
back, repairs) goes on: what was asked for does not depend on who reads of it.
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
    """A descriptor to write to. What cannot be written is dropped, from the first such piece on; `error` says why."""

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
    """The status of `act`, which goes on while nobody reads what it prints. 1 where standard output lost something for
    another reason than that.
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
    """Put a guarded stream in the place of a standard one; None where that is another one already (a test's)."""
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
    """Write what is buffered, so that a pipe that is closed shows now. Raises BrokenPipeError, OSError."""
    for stream in (sys.stdout, sys.stderr):
        if stream is not None:
            stream.flush()


def is_unread() -> bool:
    """Whether standard output or standard error is a pipe that nobody will read any more."""
    asked = select.poll()
    for descriptor in (1, 2):
        asked.register(descriptor, 0)
    return any(what & select.POLLERR for _, what in asked.poll(0))


def silence() -> None:
    """Let what is still buffered go nowhere, or the interpreter's end would complain of it."""
    nowhere = os.open(os.devnull, os.O_WRONLY)
    for descriptor in (1, 2):
        os.dup2(nowhere, descriptor)
    os.close(nowhere)


def open_closed() -> None:
    """Open the null device in place of a standard input, output or error that is closed: else the next file that is
    opened has its number, and is written into as if it were the stream.
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
