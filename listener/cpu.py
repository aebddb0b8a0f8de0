"""The processors that this process may use: their number, short scheduler slices on them, and who comes first."""

from __future__ import annotations

import contextlib
import os
import struct
from collections.abc import Iterator

_ROOT = "/sys/fs/cgroup"


def available_processors() -> int:
    """Return the number of processors available to this process, at least 1."""
    affinity = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    quotas = [quota for quota in (*_version_2(), _version_1()) if quota]
    return max(1, min([affinity, *map(round, quotas)]))


def _version_2() -> Iterator[float]:
    """Yield the quotas of our cgroup and of all above it: each binds. In a container our own group is the root."""
    group = _own_group()
    while True:
        words = _read(f"{_ROOT}{group}/cpu.max").split()
        if len(words) == 2 and words[0] != "max":
            yield int(words[0]) / int(words[1])
        if group in ("", "/"):
            return
        group = os.path.dirname(group)


def _own_group() -> str:
    for line in _read("/proc/self/cgroup").splitlines():
        if line.startswith("0::"):
            return line.removeprefix("0::").rstrip("/")
    return ""


def _version_1() -> float:
    quota, period = _read(f"{_ROOT}/cpu/cpu.cfs_quota_us"), _read(f"{_ROOT}/cpu/cpu.cfs_period_us")
    return int(quota) / int(period) if quota and period and int(quota) > 0 else 0.0


def _read(path: str) -> str:
    try:
        with open(path, encoding="utf-8") as file:
            return file.read().strip()
    except (OSError, ValueError):
        return ""


#: The system call sched_setattr(2), for which C libraries before 2.41 have no function.
_NUMBERS = {"x86_64": 314, "aarch64": 274}

#: struct sched_attr as of its first version: size, policy, flags, nice, priority, runtime, deadline, period.
_ATTRIBUTES = struct.Struct("IIQiIQQQ")

#: Nanoseconds of a slice: about what a worker needs for a file. The kernel's default is some milliseconds.
_SLICE = 100_000


def request_short_slices() -> bool:
    """Request 100 us scheduler slices (sched_setattr) for this process, its threads and those that it starts. Return
    False where the kernel cannot. Needs no privilege.
    """
    # EEVDF (Linux 6.12; earlier kernels ignore it) runs a thread with short slices sooner, with no larger share of the
    # processors: while senders and storescp keep them busy, a file waits less for each process on its way.
    import ctypes  # 5 ms, and only the service asks

    number = _NUMBERS.get(os.uname().machine)
    policy = os.sched_getscheduler(0)
    if number is None or policy != os.SCHED_OTHER:
        return False
    nice = os.getpriority(os.PRIO_PROCESS, 0)
    attributes = _ATTRIBUTES.pack(_ATTRIBUTES.size, policy, 0, nice, 0, _SLICE, 0, 0)
    return bool(ctypes.CDLL(None).syscall(number, 0, attributes, 0) == 0)


#: Niceness of what may be late for a moment: where one other wants the processor whole, it gets a quarter of it. And
#: of what nobody waits for: it gets what is left.
LATER, LAST = 5, 19


def let_others_first(niceness: int = LATER) -> None:
    """Let processes that want a processor too have it first (nice(2)): this thread, and threads and processes that it
    starts from now on; what is nicer already stays so. The kernel derives the priority of I/O from it.
    """
    with contextlib.suppress(OSError):  # A sandbox may forbid it.
        os.nice(max(0, niceness - os.getpriority(os.PRIO_PROCESS, 0)))
