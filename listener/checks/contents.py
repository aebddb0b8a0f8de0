"""What `listener check` asks about files: who owns them, who writes to them, and who may read what is published."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from itertools import islice

from listener.checks.finding import NOTE, OK, PROBLEM, Finding
from listener.config import Config
from listener.disk import locks
from listener.errors import OwnedElsewhere
from listener.service.casualties import orphans_of
from listener.service.owner import Owner
from listener.service.probes import lease_supported
from listener.status import live
from listener.status.document import STATES, runs

#: Entries of a directory that are looked at: enough to find a rule, whatever lies there.
_SAMPLE = 100

_STATUS = "/proc/self/status"


def leases(config: Config) -> Iterator[Finding]:
    """Whether the kernel can say that a file is still being written."""
    if lease_supported(config.incoming):
        yield Finding(OK, "--incoming", "the kernel tells whether a file is still open for writing (leases)")
    else:
        text = f"no leases here: a file must be untouched for --settle {config.settle:g} s"
        yield Finding(NOTE, "--incoming", text, "use a local file system for incoming to be faster and surer")
    for root in config.incoming:
        foreign = _foreign_owner(root)
        if foreign >= 0:
            text = f"files there belong to uid {foreign}, this process is uid {os.geteuid()}: leases will be refused"
            yield Finding(NOTE, "--incoming", text, "run listener and storescp under one uid")


def _foreign_owner(root: str) -> int:
    if os.geteuid() == 0:
        return -1
    with os.scandir(root) as entries:
        for entry in islice(entries, _SAMPLE):
            owner = entry.stat(follow_symlinks=False).st_uid
            if owner != os.geteuid():
                return owner
    return -1


def owners(config: Config) -> Iterator[Finding]:
    """Whether a listener works on an incoming directory: the service of this state directory, or another one."""
    state = _running(config.state)
    for root in config.incoming:
        try:
            Owner((root,), patience=0, makes=False).close()
        except OwnedElsewhere as error:
            who = ", ".join(word for word in (_holder(root), state) if word)
            about = f" ({who})" if who else ""
            if state:
                yield Finding(OK, "--incoming", f"a service owns '{root}'{about}")
            else:
                what, _, remedy = str(error).partition("; ")
                yield Finding(NOTE, "--incoming", f"{what}{about}", remedy)
        except OSError:
            return  # Locks do not work there, which is told already.


def _holder(root: str) -> str:
    """Which process owns a directory; "" where the kernel does not tell."""
    descriptor = os.open(root, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        return locks.holder(descriptor).partition(" (")[0]
    finally:
        os.close(descriptor)


def _running(state: str) -> str:
    """How the service of a state directory is, in words; "" when none runs."""
    try:
        word = live.read(state)
    except OSError:
        return ""
    return STATES[str(word["state"])] if word and runs(word, time.time_ns()) else ""


def unfinished(config: Config) -> Iterator[Finding]:
    """Claims of an incoming directory that was configured before."""
    for orphans in orphans_of(config.incoming, config.state):
        yield Finding(PROBLEM, "--incoming", orphans.text(), orphans.remedy())


def strangers(config: Config) -> Iterator[Finding]:
    """What somebody else made in data and log, where we must add to it (a tree that was taken over)."""
    for option, path in (("--data", config.data), ("--log", config.log)):
        found = next(_closed_directories(path), None)
        if found is not None:
            text = f"a directory in '{path}' belongs to uid {found}, and uid {os.geteuid()} cannot write there"
            yield Finding(PROBLEM, option, text, "run under the uid that made it, or change the owner of all of it")


def _closed_directories(path: str) -> Iterator[int]:
    """Owners of directories, on two levels, in which we cannot make anything."""
    for above in (path, *_directories(path)):
        for below in _directories(above):
            if not os.access(below, os.W_OK | os.X_OK):
                yield os.stat(below).st_uid


def _directories(path: str) -> list[str]:
    try:
        with os.scandir(path) as entries:
            return [entry.path for entry in islice(entries, _SAMPLE) if entry.is_dir(follow_symlinks=False)]
    except PermissionError:
        return []


def modes(config: Config) -> Iterator[Finding]:
    """Permissions with which we could not work ourselves."""
    if config.dir_mode & 0o700 != 0o700:
        text = f"--dir-mode {config.dir_mode:04o}: nothing could be made in a directory of the tree"
        yield Finding(PROBLEM, "--dir-mode", text, "give the owner all of it, such as 0755 or 0750")
    if config.file_mode is not None and not config.file_mode & 0o400:
        text = f"--file-mode {config.file_mode:04o}: a published file could not be compared with another"
        yield Finding(PROBLEM, "--file-mode", text, "let the owner read, such as 0644 or 0640")


def readers(config: Config) -> Iterator[Finding]:
    """Whether other users can read the tree and the logs."""
    closed = [f"'{path}' has mode {_mode(path):04o}" for path in (config.data, config.log) if _mode(path) & 0o5 != 0o5]
    if config.dir_mode & 0o5 != 0o5:
        closed.append(f"--dir-mode is {config.dir_mode:04o}")
    if config.file_mode is not None and not config.file_mode & 0o4:
        closed.append(f"--file-mode is {config.file_mode:04o}")
    umask = _umask()
    if umask & 0o4:
        closed.append(f"the umask is {umask:04o}, so that JSON logs are not for others")
    if closed:
        text = f"only uid {os.geteuid()}, or its group, can read what is published ({'; '.join(closed)})"
        yield Finding(
            NOTE, "--dir-mode", text, "run what reads the tree and the logs under this uid or group, or open it"
        )


def _mode(path: str) -> int:
    return os.stat(path).st_mode & 0o7777


def _umask() -> int:
    """This process's umask, without setting it: 0 where the system does not say."""
    try:
        with open(_STATUS, encoding="utf-8", errors="replace") as file:
            told = [line.split()[1] for line in file if line.startswith("Umask:")]
    except OSError:
        return 0
    return int(told[0], 8) if told else 0
