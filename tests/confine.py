"""Run a command under the filter of system calls, and other rules, of a systemd unit, where no systemd runs.

    /usr/bin/python3 tests/confine.py UNIT COMMAND...

Real are SystemCallFilter= (by libseccomp, from what this systemd means by its groups), MemoryDenyWriteExecute= and
NoNewPrivileges=. It is run by the system's Python, which has libseccomp's module (python3-seccomp).
"""

from __future__ import annotations

import ctypes
import errno
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

_NO_NEW_PRIVILEGES, _DENY_WRITE_EXECUTE = 38, 65  # prctl(2)


def members(group: str) -> Iterator[str]:
    """The system calls of a group such as @system-service, or the one call that is named."""
    if not group.startswith("@"):
        yield group
        return
    command = ["systemd-analyze", "--no-pager", "syscall-filter", group]
    told = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    for line in told.splitlines()[1:]:
        if line.strip() and not line.strip().startswith("#"):
            yield from members(line.strip())


def allowed(unit: str) -> set[str]:
    """What the lines SystemCallFilter= leave, each after the other; @default is always allowed."""
    found = set(members("@default"))
    for line in unit.splitlines():
        if line.startswith("SystemCallFilter="):
            words = line.partition("=")[2]
            calls = {call for word in words.lstrip("~").split() for call in members(word)}
            found = found - calls if words.startswith("~") else found | calls
    return found


def confine(unit: str) -> None:
    """From here on this process may do no more."""
    import seccomp  # type: ignore[import-not-found]  # the system's Python has it

    rules = seccomp.SyscallFilter(seccomp.ERRNO(errno.EPERM))
    for call in allowed(unit):
        try:
            rules.add_rule(seccomp.ALLOW, call)
        except (RuntimeError, ValueError, OSError):
            continue  # Of another architecture, or newer than this libseccomp.
    libc = ctypes.CDLL(None, use_errno=True)
    if "NoNewPrivileges=yes" in unit:
        assert libc.prctl(_NO_NEW_PRIVILEGES, 1, 0, 0, 0) == 0
    if "MemoryDenyWriteExecute=yes" in unit:
        assert libc.prctl(_DENY_WRITE_EXECUTE, 1, 0, 0, 0) == 0, "Linux 6.3 has this"
    rules.load()


if __name__ == "__main__":
    confine(Path(sys.argv[1]).read_text())
    os.execvp(sys.argv[2], sys.argv[2:])  # noqa: S606 - in our own place
