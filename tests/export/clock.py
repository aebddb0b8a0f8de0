"""A process whose wall clock is off, by a library that is loaded before all others."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

_SOURCE = """
#define _GNU_SOURCE
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>
int clock_gettime(clockid_t clock, struct timespec *now)
{
    int status = syscall(SYS_clock_gettime, clock, now);
    if (status == 0 && clock == CLOCK_REALTIME)
        now->tv_sec += OFF;
    return status;
}
"""


def environment(folder: Path, seconds: int) -> dict[str, str]:
    """What lets a process see another time."""
    compiler = shutil.which("cc")
    if not compiler:
        pytest.skip("cc is not installed")
    library = folder / f"clock{seconds}.so"
    words = [compiler, "-shared", "-fPIC", f"-DOFF=({seconds})", "-x", "c", "-", "-o", str(library)]
    subprocess.run(words, input=_SOURCE.encode(), check=True)
    return {"LD_PRELOAD": str(library)}
