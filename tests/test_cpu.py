"""Short turns: what the kernel says of a process that asked for them."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

PROGRAM = """
import os, re, sys, threading
from listener.cpu import request_short_slices
os.nice(3)
heard = request_short_slices()
def turn(path):
    found = re.search(r"^se.slice\\s*:\\s*(\\d+)", open(path).read(), re.M)
    return int(found[1]) if found else 0
slices = []
thread = threading.Thread(target=lambda: slices.append(turn("/proc/thread-self/sched")))
thread.start()
thread.join()
print(heard, turn("/proc/self/sched"), *slices, os.getpriority(os.PRIO_PROCESS, 0))
"""


def test_turns_are_short_and_priority_is_as_it_was() -> None:
    done = subprocess.run([sys.executable, "-c", PROGRAM], capture_output=True, text=True, check=True, timeout=120)
    heard, own, of_thread, nice = done.stdout.split()
    assert nice == str(min(os.getpriority(os.PRIO_PROCESS, 0) + 3, 19))
    if heard != "True":
        pytest.skip("sched_setattr is not allowed here, or has another number")
    if tuple(map(int, os.uname().release.split("-")[0].split(".")[:2])) < (6, 12) or own == "0":
        pytest.skip("this kernel has no turns of a length of their own, or does not tell them")
    assert own == of_thread == "100000"


@pytest.mark.parametrize(("words", "least"), [("", 5), ("LAST", 19)])
def test_what_may_be_late_lets_others_first_and_stays_nicer_where_it_is(words: str, least: int) -> None:
    program = f"import os; from listener.cpu import *; os.nice({{}}); let_others_first({words}); print(os.nice(0))"
    own = os.getpriority(os.PRIO_PROCESS, 0)
    for given in (0, 3, 15):
        command = [sys.executable, "-c", program.format(given)]
        done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=120)
        assert int(done.stdout) == max(least, min(own + given, 19))
