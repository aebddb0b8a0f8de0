"""Wait for what a person would see, with a deadline; never sleep for luck."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

T = TypeVar("T")

#: What limits of tests are multiplied with. A test says what a machine needs that has nothing else to do; a loaded one
#: needs several times that, and only what never comes takes the whole limit.
PATIENCE = 6

#: CLOCK_REALTIME_COARSE of linux/time.h, which the library does not name: the clock that files get their times from.
FILE_CLOCK = 5


def until(predicate: Callable[[], T], seconds: float = 10, *, what: str = "") -> T:
    """Call `predicate` until what it returns is true, and return that; AssertionError after PATIENCE times `seconds`.

    An AssertionError of the predicate means "not yet"; the last one is shown when time is up.
    """
    seconds *= PATIENCE
    deadline = time.monotonic() + seconds
    pause = 0.001
    while True:
        shown: object
        try:
            result = predicate()
            if result:
                return result
            shown = result
        except AssertionError as error:
            shown = error
        if time.monotonic() >= deadline:
            name = what or getattr(predicate, "__qualname__", repr(predicate))
            raise AssertionError(f"not within {seconds:g} s: {name} (last: {shown!r})")
        time.sleep(pause)
        pause = min(2 * pause, 0.05)


def file_clock_tick() -> None:
    """Wait until what is changed from now on has a later st_ctime: files get the time of the last tick."""
    before = time.clock_gettime_ns(FILE_CLOCK)
    until(lambda: time.clock_gettime_ns(FILE_CLOCK) > before, what="the clock of files ticks")


def alive(pid: int) -> bool:
    """Whether a process runs; one that has ended and was not waited for (a zombie) does not."""
    try:
        stat = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8", errors="replace")
    except (FileNotFoundError, ProcessLookupError):
        return False
    return stat.rpartition(")")[2].split()[0] not in "ZX"
