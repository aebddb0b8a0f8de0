"""Asking the scheduler for short turns that come soon."""

from __future__ import annotations

import ctypes
import os
import platform
import struct

#: The system call sched_setattr(2), for which C libraries before 2.41 have no function.
_NUMBERS = {"x86_64": 314, "aarch64": 274}

#: struct sched_attr as of its first version: size, policy, flags, nice, priority, runtime, deadline, period.
_ATTRIBUTES = struct.Struct("IIQiIQQQ")

#: Nanoseconds of a turn: about what a worker needs for a file. The kernel's own are milliseconds long.
_TURN = 100_000


def ask_for_short_turns() -> bool:
    """Ask for short turns for this process, its threads and those that it starts; whether the kernel heard it.

    Who wants little at a time gets it sooner (EEVDF, Linux 6.12 and later; earlier kernels ignore it), and no larger
    share of the processors: where senders and storescp keep them busy, a file waits less for each of the processes on
    its way. Needs no privilege.
    """
    number = _NUMBERS.get(platform.machine())
    policy = os.sched_getscheduler(0)
    if number is None or policy != os.SCHED_OTHER:
        return False
    nice = os.getpriority(os.PRIO_PROCESS, 0)
    attributes = _ATTRIBUTES.pack(_ATTRIBUTES.size, policy, 0, nice, 0, _TURN, 0, 0)
    return bool(ctypes.CDLL(None).syscall(number, 0, attributes, 0) == 0)
