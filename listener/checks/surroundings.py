"""What `listener check` asks of a container or unit around us: do our files outlive it, is its memory enough."""

from __future__ import annotations

import resource
from collections.abc import Iterator

from listener.checks.finding import NOTE, PROBLEM, Finding, existing_parent, named
from listener.config import Config
from listener.disk.mounts import mount_of

#: Where a control group tells its limit of memory; in a container the root is our own. Version 2, version 1.
_LIMITS = ("/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory/memory.limit_in_bytes")

#: What the service and each worker may need, in bytes (35 MB each after the real series, more with long headers).
_EACH = 64 * 2**20

#: File systems that go with the container or the machine's power, and what they are.
_PASSING = {"overlay": "the container's own layer", "tmpfs": "memory", "ramfs": "memory"}


def lasting(config: Config) -> Iterator[Finding]:
    """Whether what lies in the directories is there after the next start."""
    for option, path in named(config):
        mount = mount_of(existing_parent(path))
        if mount and mount.kind in _PASSING:
            text = f"'{path}' lies in {_PASSING[mount.kind]} ({mount.kind}): files that were acknowledged go with it"
            yield Finding(NOTE, option, text, "mount a volume there")


def memory(config: Config) -> Iterator[Finding]:
    """Whether the workers fit into the memory that the control group allows."""
    limit, needed = memory_limit(), _EACH * (1 + config.workers)
    if limit and limit < needed:
        text = f"{limit // 2**20} MiB of memory are allowed, and {config.workers} workers need about {needed // 2**20}"
        yield Finding(PROBLEM, "--workers", text, "raise the limit of memory, or give fewer workers")


def memory_limit() -> int:
    """How much memory the control group allows, in bytes; 0 where there is no limit."""
    for path in _LIMITS:
        try:
            with open(path, encoding="ascii") as file:
                told = file.read().strip()
        except OSError:
            continue
        # Version 1 tells "none" by a number near the largest that there is.
        return int(told) if told.isdigit() and int(told) < 2**60 else 0
    return 0


def core_files(_: Config) -> Iterator[Finding]:
    """A core file would hold what a worker read, outside of all directories that we know of."""
    soft, _hard = resource.getrlimit(resource.RLIMIT_CORE)
    if soft:
        text = "core files may be written: one of a worker would hold patient data"
        yield Finding(NOTE, "--phi", text, "set the limit to 0 (ulimit -c 0, LimitCORE=0), or see where they go")
