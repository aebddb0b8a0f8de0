"""Checks of the system: inotify, open files, volumes that last, memory, core files."""

from __future__ import annotations

import ctypes
import os
import resource
from collections.abc import Callable, Iterator, Sequence

from listener.checks.finding import NOTE, OK, PROBLEM, Finding, configured_directories, existing_parent
from listener.config import Config
from listener.disk.mounts import mount_of

_LEAST_INSTANCES = 8
_LEAST_WATCHES = 64

#: Files in one batch, and descriptors that a worker has open for each: source, copy, document.
_BATCH, _EACH = 32, 3
_SPARE = 64


def _can_watch() -> bool:
    """Return whether one more inotify instance is available now; True on a system without the call."""
    function = getattr(ctypes.CDLL(None), "inotify_init1", None)
    if function is None:
        return True
    descriptor = function(os.O_CLOEXEC)
    if descriptor < 0:
        return False
    os.close(descriptor)
    return True


def inotify(config: Config, *, proc: str = "/proc", can_watch: Callable[[], bool] = _can_watch) -> Iterator[Finding]:
    """Check that events will come: limits of host and namespace, and whether one more inotify instance is available."""
    if config.poll:
        return
    try:
        instances = min(_limits(proc, "max_user_instances", "max_inotify_instances"))
        watches = min(_limits(proc, "max_user_watches", "max_inotify_watches"))
        queued = _number(f"{proc}/sys/fs/inotify/max_queued_events")
    except (OSError, ValueError):
        text = "this system has no inotify: rescans alone find the files"
        yield Finding(NOTE, "--poll", text, "give --poll to say so")
        return
    text = f"inotify: {instances} instances and {watches} watches a user, {queued} events queued"
    needed = sum(map(_subdirectories, config.incoming))
    if watches < needed:
        text += f"; incoming has {needed} directories"
    if not can_watch():
        text += "; all instances are in use"
    elif instances >= _LEAST_INSTANCES and watches >= max(_LEAST_WATCHES, needed):
        yield Finding(OK, "--poll", text)
        return
    remedy = "raise fs.inotify.max_user_instances and max_user_watches (in a container also user.max_inotify_*); "
    yield Finding(NOTE, "--poll", text, remedy + "rescans help until then")


def _limits(proc: str, host: str, namespace: str) -> list[int]:
    """Return a limit of the host, and that of the user namespace where it has one."""
    limits = [_number(f"{proc}/sys/fs/inotify/{host}")]
    if os.path.exists(f"{proc}/sys/user/{namespace}"):
        limits.append(_number(f"{proc}/sys/user/{namespace}"))
    return limits


def _number(path: str) -> int:
    with open(path, encoding="utf-8") as file:
        return int(file.read())


def _subdirectories(root: str) -> int:
    """Return the number of directories at and below `root`: each needs a watch."""
    return 1 + sum(len(names) for _, names, _ in os.walk(root))


def open_files(config: Config) -> Iterator[Finding]:
    """Check RLIMIT_NOFILE, a limit of each process: a worker opens a batch, the service a pipe to each worker."""
    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    needed = max(_BATCH * _EACH, 4 * config.workers) + _SPARE
    if soft != resource.RLIM_INFINITY and soft < needed:
        text = f"a process may have {soft} files open, and {needed} are needed (batches of {_BATCH}, {config.workers} "
        yield Finding(PROBLEM, "--workers", f"{text}workers)", "raise the limit (ulimit -n, LimitNOFILE=)")


#: Memory limits of control groups, version 2 and 1; in a container the root is the container's.
MEMORY_LIMITS = ("/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory/memory.limit_in_bytes")

#: Memory that the service and each worker may need, in bytes (measured: 35 MB each; more with long headers).
_MEMORY_EACH = 64 * 2**20

#: File systems that end with the container or the machine, and their name in a finding.
_TRANSIENT = {"overlay": "the container's own layer", "tmpfs": "memory", "ramfs": "memory"}


def persistence(config: Config) -> Iterator[Finding]:
    """Check that the contents of the directories survive a restart."""
    for option, path in configured_directories(config):
        mount = mount_of(existing_parent(path))
        if mount and mount.kind in _TRANSIENT:
            text = f"'{path}' lies in {_TRANSIENT[mount.kind]} ({mount.kind}): files that were acknowledged go with it"
            yield Finding(NOTE, option, text, "mount a volume there")


def memory(config: Config, *, limits: Sequence[str] = MEMORY_LIMITS) -> Iterator[Finding]:
    """Check that the workers fit into the control group's memory limit."""
    limit, needed = memory_limit(limits), _MEMORY_EACH * (1 + config.workers)
    if limit and limit < needed:
        text = f"{limit // 2**20} MiB of memory are allowed, and {config.workers} workers need about {needed // 2**20}"
        yield Finding(PROBLEM, "--workers", text, "raise the limit of memory, or give fewer workers")


def memory_limit(paths: Sequence[str] = MEMORY_LIMITS) -> int:
    """Return the control group's memory limit, in bytes, by the first readable file; 0 where there is none."""
    for path in paths:
        try:
            with open(path, encoding="utf-8") as file:
                limit = file.read().strip()
        except OSError:
            continue
        # Version 1 writes "none" as a number near the largest possible.
        return int(limit) if limit.isdigit() and int(limit) < 2**60 else 0
    return 0


def core_files(_: Config) -> Iterator[Finding]:
    """Check that no core files are written: one of a worker holds patient data, outside the configured directories."""
    soft, _hard = resource.getrlimit(resource.RLIMIT_CORE)
    if soft:
        text = "core files may be written: one of a worker would hold patient data"
        yield Finding(NOTE, "--phi", text, "set the limit to 0 (ulimit -c 0, LimitCORE=0), or see where they go")
