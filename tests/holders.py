"""What holds a file open or on a lease: another process, a descriptor, a lease that is broken."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from listener.disk import files

_WRITER = "import sys; f = open(sys.argv[1], 'ab'); print(flush=True); sys.stdin.readline()"


@contextmanager
def writer(path: Path) -> Iterator[None]:
    """Another process that has `path` open for writing."""
    process = subprocess.Popen(
        [sys.executable, "-c", _WRITER, str(path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    with process:
        assert process.stdout is not None
        process.stdout.readline()
        try:
            yield
        finally:
            process.communicate("\n")


@contextmanager
def opened(path: Path | str) -> Iterator[int]:
    descriptor = files.open_regular(str(path))
    try:
        yield descriptor
    finally:
        os.close(descriptor)


@contextmanager
def breaking() -> Iterator[None]:
    """Somebody wants to write to what this process holds: SIGIO says so, which kills who does not ignore it."""
    before = signal.signal(signal.SIGIO, signal.SIG_IGN)
    try:
        yield
    finally:
        signal.signal(signal.SIGIO, before)
