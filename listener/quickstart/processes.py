"""Find a program, start it, check that it answers, and stop it with all its children."""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Sequence

STOP_SECONDS = 30.0


def accepts(host: str, port: int) -> bool:
    """Return whether a server accepts connections at this address."""
    with socket.socket() as probe:
        return probe.connect_ex((host, port)) == 0


def dcmtk(program: str) -> bool:
    """Return whether this program of DCMTK is on PATH; pynetdicom puts programs of the same names beside Python."""
    path = shutil.which(program)
    return path is not None and os.path.dirname(path) != os.path.dirname(sys.executable)


def start(command: list[str], output: int | None = None) -> subprocess.Popen[bytes]:
    """Start a process in a group of its own. TCP_NODELAY: without it DCMTK waits 40 ms for each instance."""
    # Directories are the quickstart's own, and so is everything else: no hook of a file that lies about is called.
    environment = {**os.environ, "TCP_NODELAY": "1", "LISTENER_CONFIG": os.devnull}
    return subprocess.Popen(command, env=environment, stdin=subprocess.DEVNULL, stdout=output, process_group=0)


def lives(process: subprocess.Popen[bytes]) -> bool:
    """Return whether any process of the group is left."""
    process.poll()
    try:
        os.killpg(process.pid, 0)
    except ProcessLookupError:
        return False
    return True


def stop(process: subprocess.Popen[bytes], signals: Sequence[int] = ()) -> None:
    """Send SIGTERM, then SIGKILL after a deadline or a second Ctrl-C; storescp may finish what it receives."""
    process.terminate()
    deadline = time.monotonic() + STOP_SECONDS
    while lives(process) and time.monotonic() < deadline and len(signals) <= 1:
        time.sleep(0.02)
    if lives(process):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()
