"""How many processors this process may use: affinity, and the quota of its control groups (v2 and v1)."""

from __future__ import annotations

import os
from collections.abc import Iterator

_ROOT = "/sys/fs/cgroup"


def available() -> int:
    """Processors available to this process, at least 1."""
    affinity = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    quotas = [quota for quota in (*_version_2(), _version_1()) if quota]
    return max(1, min([affinity, *map(round, quotas)]))


def _version_2() -> Iterator[float]:
    """The quotas of our group and of all above it: each binds. In a container our own group is the root."""
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
        with open(path, encoding="ascii") as file:
            return file.read().strip()
    except (OSError, ValueError):
        return ""
