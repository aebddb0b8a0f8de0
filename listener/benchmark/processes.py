"""Processor time and peak memory of processes and their descendants.

This process becomes the parent of orphans (PR_SET_CHILD_SUBREAPER): a program that storescp started and did not wait
for is counted too.
"""

from __future__ import annotations

import ctypes
import os
import resource
import signal
import subprocess
import time
from collections.abc import Collection
from contextlib import suppress
from pathlib import Path
from threading import Event, Thread
from typing import NamedTuple, Self

_PR_SET_CHILD_SUBREAPER = 36
_PAGE = os.sysconf("SC_PAGE_SIZE")
_TICK = os.sysconf("SC_CLK_TCK")

#: Seconds that a process may take to end.
_END_SECONDS = 60.0

#: Seconds between two samples of memory, and samples between two of proportional memory, which is costly.
_PAUSE = 0.05
_RARELY = 5


class Peak(NamedTuple):
    """Largest samples: bytes resident (shared pages once a process), bytes proportional, number of processes."""

    rss: int = 0
    pss: int = 0
    processes: int = 0

    def most(self, other: Peak) -> Peak:
        """Return the larger one of each."""
        return Peak(*map(max, self, other))


def adopt() -> None:
    """Make orphans below this process its children from now on."""
    ctypes.CDLL(None).prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)


def reap(group: int = 1) -> None:
    """Wait for every orphan that has ended: of one process group, or (1) of any."""
    with suppress(ChildProcessError):
        while os.waitpid(-group, os.WNOHANG)[0]:
            pass


def end(process: subprocess.Popen[bytes]) -> None:
    """Send SIGTERM to a process with its own group, and wait until the whole group has ended; SIGKILL after a timeout.

    Its orphans are ours: they stay in the group until they are waited for.
    """
    process.terminate()
    deadline = time.monotonic() + _END_SECONDS
    while _lives(process) and time.monotonic() < deadline:
        time.sleep(0.01)
    if _lives(process):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    reap(process.pid)


def _lives(process: subprocess.Popen[bytes]) -> bool:
    process.poll()
    reap(process.pid)
    try:
        os.killpg(process.pid, 0)
    except ProcessLookupError:
        return False
    return True


def spent() -> float:
    """Return the processor seconds of all children that were waited for, and of theirs."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def below(root: int, without: Collection[int] = ()) -> list[int]:
    """Return `root` and its descendants, without those in `without` and below them."""
    found, pending = [], [root]
    while pending:
        pid = pending.pop()
        if pid in without:
            continue
        found.append(pid)
        for children in Path(f"/proc/{pid}/task").glob("*/children"):
            with suppress(OSError):
                pending += map(int, children.read_text().split())
    return found


def busy(root: int, without: Collection[int] = ()) -> list[int]:
    """Return the descendants that run: a zombie has no memory."""
    return [pid for pid in below(root) if pid not in without and _rss(pid)]


def so_far(root: int) -> float:
    """Return the processor seconds of a running process, of its living descendants, and of the children they waited
    for.
    """
    total = 0.0
    for pid in below(root):
        with suppress(OSError):
            total += sum(_times(pid))
    return total


def own(pid: int) -> float:
    """Return the processor seconds of a process itself, as long as nobody has waited for it. Raises OSError."""
    return sum(_times(pid)[:2])


def _times(pid: int) -> list[float]:
    """Return user and system seconds of a process, and those of the children that it waited for. Raises OSError."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return [int(field) / _TICK for field in fields[11:15]]


def idle() -> float:
    """Return the seconds for which the processors of this machine had nothing to do, all together."""
    fields = Path("/proc/stat").read_text(encoding="ascii").split("\n", 1)[0].split()
    return sum(map(int, fields[4:6])) / _TICK


class Watcher:
    """Samples the memory of a process tree from a thread while the block runs; `peak` is the result.

    The tree is `root` and all below it; where that is this very process, all below it but for `without`.
    """

    def __init__(self, root: int | None = None, without: Collection[int] = ()) -> None:
        self.root = root or os.getpid()
        self.without = without
        self.peak = Peak()
        self._end = Event()
        self._thread = Thread(target=self._watch, name="listener-bench-memory")

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._end.set()
        self._thread.join()

    def _watch(self) -> None:
        looks = 0
        while not self._end.wait(_PAUSE):
            pids = [pid for pid in below(self.root, self.without) if pid != os.getpid()]
            # A zombie has no memory, and is not counted.
            exact = looks % _RARELY == 0
            self.peak = self.peak.most(
                Peak(sum(map(_rss, pids)), sum(map(_pss, pids)) if exact else 0, sum(_rss(pid) > 0 for pid in pids))
            )
            looks += 1


def _rss(pid: int) -> int:
    try:
        return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * _PAGE
    except (OSError, IndexError):
        return 0


def _pss(pid: int) -> int:
    try:
        lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()
    except OSError:
        return 0
    return sum(int(line.split()[1]) * 1024 for line in lines if line.startswith("Pss:"))
