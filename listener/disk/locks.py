"""Locks on files below our own directories, taken with a timeout: a holder that hangs (a stopped process, a dead host)
delays only the files that need its lock.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import time
from collections.abc import Callable, Iterator

from listener.errors import LockHeld

_LOCK = os.O_RDWR | os.O_CREAT | os.O_CLOEXEC

#: Timeouts in seconds: of commands, and of workers, whose other files wait meanwhile.
COMMAND_SECONDS = 5.0
WORKER_SECONDS = 1.0

#: Seconds after a timeout in which the same lock is tried once, without waiting.
_SKIP_SECONDS = 10.0

#: The first and the longest pause between two tries, in seconds.
_FIRST, _LONGEST = 0.001, 0.005

#: States of /proc/PID/stat that explain why a lock stays held.
_STATES = {"T": "stopped", "t": "traced", "D": "waits for a disk", "Z": "ended"}


class Locks:
    """Takes locks, each within `timeout` seconds. After a timeout the same lock is tried without waiting for a while,
    so that a hundred files that need it do not wait in turn.
    """

    def __init__(
        self, timeout: float = WORKER_SECONDS, clock: Callable[[], float] = time.monotonic, proc: str = "/proc"
    ) -> None:
        self._timeout = timeout
        self._clock = clock
        self._proc = proc
        self._held: dict[str, float] = {}

    @contextlib.contextmanager
    def locked(self, directory: str, name: str) -> Iterator[int]:
        """Hold the lock of `name` below `directory`; yield the descriptor of its file. Raises LockHeld."""
        path = f"{directory}/{name}"
        begun = self._clock()
        patience = 0.0 if begun - self._held.get(path, -_SKIP_SECONDS) < _SKIP_SECONDS else self._timeout
        descriptor = _open(directory, path)
        try:
            try:
                _take(descriptor, patience)
            except BlockingIOError:
                self._held[path] = self._clock()
                raise LockHeld(f"{os.path.basename(directory)}/{name}", holder(descriptor, self._proc)) from None
            self._held.pop(path, None)
            yield descriptor
        finally:
            os.close(descriptor)


def _open(directory: str, path: str) -> int:
    try:
        return os.open(path, _LOCK, 0o600)
    except FileNotFoundError:  # The directory was removed meanwhile.
        os.makedirs(directory, mode=0o700, exist_ok=True)
        return os.open(path, _LOCK, 0o600)


def _take(descriptor: int, timeout: float) -> None:
    """Take the lock. Raises BlockingIOError when it is still held after `timeout` seconds."""
    end, pause = time.monotonic() + timeout, _FIRST
    while True:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            if time.monotonic() >= end:
                raise
        else:
            return
        time.sleep(pause)
        pause = min(2 * pause, _LONGEST)


def holder(descriptor: int, proc: str = "/proc") -> str:
    """Return which process holds a lock on this open file, for people ("process 12 (listener, stopped)"); "" where the
    kernel does not tell: another host, another container (proc(5), /proc/locks).
    """
    status = os.fstat(descriptor)
    device = f"{os.major(status.st_dev):02x}:{os.minor(status.st_dev):02x}:{status.st_ino}"
    try:
        with open(f"{proc}/locks", encoding="utf-8", errors="replace") as file:
            rows = [line.split() for line in file]
    except OSError:
        return ""
    # `1: FLOCK  ADVISORY  WRITE 1234 08:01:5678 0 EOF`; with an arrow as its second word one that waits.
    pids = [row[4] for row in rows if len(row) > 5 and row[1] == "FLOCK" and row[5] == device]
    return _described(pids[0], proc) if pids and pids[0].isdigit() and pids[0] != "0" else ""


def _described(pid: str, proc: str) -> str:
    """Return process id, name and state; not the command line, which may name a patient's file."""
    try:
        with open(f"{proc}/{pid}/stat", encoding="utf-8", errors="replace") as file:
            name, _, rest = file.read().partition("(")[2].rpartition(")")
    except OSError:
        return f"process {pid}"
    known = [part for part in (name if name.isprintable() else "", _STATES.get(rest.split()[0], "")) if part]
    return f"process {pid} ({', '.join(known)})" if known else f"process {pid}"
