"""What one more file costs in system calls, against a budget: a guard that a busy machine cannot disturb.

Counted by strace: the slope between a small and a large number of files, so that neither start nor end counts. Time is
never looked at. A call that a change adds to each file is found here by its name; one that a change saves should be
taken out of the budget, or somebody else may spend it.
"""

from __future__ import annotations

import math
import os
import shutil
import signal
import subprocess
import tempfile
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest

from listener.benchmark.corpus import Corpus
from listener.benchmark.request import Shape
from tests.service_process import Places, Service, command, environment, make_places

pytestmark = [pytest.mark.real, pytest.mark.slow]

#: Calls a file. What is not named here may not be called for each file.
BUDGET = {
    "access": 1,  # is the instance described already?
    "close": 2,
    "fcntl": 3,  # the lease: taken, and whether it is still held before reading and before letting go
    "link": 1,  # into its place
    "newfstatat": 2,  # when it is noticed, and when nobody can write to it any more
    "openat": 2,  # the source, and its document
    "pread64": 1,  # the header, with that of the pixel data
    "rename": 1,  # the document into its place
    "renameat2": 1,  # the claim
    "unlink": 1,  # the claim: the commit
    "write": 1.25,  # the document; a part of an event line
}

#: What --fsync batch adds.
SYNCING = {"fdatasync": 2, "sync_file_range": 2}

#: Decided by allocator, scheduler and imports: how often these are called says nothing of a file.
NOISE = {"brk", "clone3", "epoll_wait", "futex", "ioctl", "lseek", "madvise", "mmap", "mprotect", "mremap", "munmap"}

FEW, MANY = 64, 832

#: Above a budget by less than this, a count is noise of start and batches; a call more a file is 1 more.
SLACK = 0.75

TRIES = 3


@pytest.fixture
def memory(tmp_path: Path) -> Iterator[Path]:
    """A folder in memory, where there is one: here nothing waits for a disk that is busy with others."""
    shared = Path("/dev/shm")  # noqa: S108
    with tempfile.TemporaryDirectory(dir=shared if os.access(shared, os.W_OK) else tmp_path) as folder:
        yield Path(folder)


@pytest.fixture(scope="module", autouse=True)
def strace() -> None:
    """There is a strace, and it may trace."""
    if shutil.which("strace") is None:
        pytest.skip("strace is not installed (.ci/need strace)")
    if subprocess.run(
        ["strace", "-f", "-c", "-o", "/dev/null", "true"], check=False, stderr=subprocess.PIPE
    ).returncode:
        pytest.skip("strace may not trace here")


def once(places: Places, files: int, level: str, counts: Path) -> None:
    """`listener once` under strace, over so many files."""
    Corpus(Shape(size=4096)).write(places.incoming, files)
    words = ("once", *places.flags(), "--min-free=0", "--workers=1", f"--fsync={level}")
    traced = [*tracing(counts), *command(*words)]
    subprocess.run(traced, check=True, env=environment(), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    assert len(list(places.data.rglob("*.dcm"))) == files


def run(places: Places, files: int, level: str, counts: Path) -> None:
    """`listener run` under strace; the files come while it watches."""
    running = Service(places, (f"--fsync={level}", "--workers=1", "--rescan=60"), tracing(counts))
    try:
        running.wait_for("ready")
        Corpus(Shape(size=4096)).write(places.incoming, files)
        running.wait_for("published", files)
    finally:
        # strace leaves termination to the one it traces.
        os.killpg(running.pid, signal.SIGTERM)
        running.wait()
    assert len(list(places.data.rglob("*.dcm"))) == files


def tracing(counts: Path) -> list[str]:
    """The command that counts the calls of what follows, and of all that it starts."""
    return ["strace", "-f", "-c", "-o", str(counts)]


def counted(path: Path) -> Counter[str]:
    """The table of strace: `% time, seconds, usecs/call, calls, [errors,] syscall`."""
    rows = (line.split() for line in path.read_text().splitlines())
    return Counter({row[-1]: int(row[3]) for row in rows if len(row) >= 5 and row[3].isdigit() and row[-1] != "total"})


WAYS = {"once": once, "run": run}


@pytest.mark.parametrize("level", ["none", "batch"])
@pytest.mark.parametrize("way", WAYS)
def test_a_file_costs_no_more_system_calls_than_it_may(way: str, level: str, memory: Path) -> None:
    budget = BUDGET | (SYNCING if level == "batch" else {})
    least: dict[str, float] = {}
    over: dict[str, float] = {}
    for number in range(TRIES):
        totals = []
        for files in (FEW, MANY):
            home = memory / f"{number}-{files}"
            home.mkdir()
            WAYS[way](make_places(home), files, level, home / "counts")
            totals.append(counted(home / "counts"))
        small, large = totals
        for name in large.keys() - NOISE:
            a_file = (large[name] - small[name]) / (MANY - FEW)
            least[name] = min(a_file, least.get(name, math.inf))
        over = {name: round(a_file, 2) for name, a_file in least.items() if a_file > budget.get(name, 0) + SLACK}
        if not over:
            break
    assert not over, f"calls a file above the budget ({ {name: budget.get(name, 0) for name in over} })"
    # A guard that counts nothing would never fail.
    assert {name for name, a_file in least.items() if a_file > SLACK} >= {"openat", "link", "write"}
