"""SIGKILL at every system call that changes anything: whatever a killed program leaves, the next run completes."""

from __future__ import annotations

import pytest

from tests.faults.crash import changes
from tests.faults.injecting import SCENARIOS, WHO, Stand, stand

pytestmark = [pytest.mark.real, pytest.mark.slow, pytest.mark.faults, pytest.mark.timeout(900)]

#: What SQLite alone calls, once for each page of the ledger: how many there are depends on which records came together.
PAGES = "pwrite64"

#: Files that SQLite opens: how often depends on the threads that look at the ledger.
LEDGER = "/ledger.sqlite"


#: Runs until a call counts as not there any more: threads may call one more or less from run to run.
_TRIES = 3


def opens(trace: str) -> int:
    """How often a run opened anything but the ledger."""
    return sum(line.startswith("openat(") and LEDGER not in line for line in trace.splitlines())


def kill(stood: Stand, who: str, call: str, number: int) -> tuple[bool, list[str]]:
    """Kill at this call; whether that was reached, and what was wrong in the end."""
    tries = 0
    while True:
        stood.lay_out()
        ended, tries = stood.once(who, f"signal=SIGKILL:when={number}", [call]), tries + 1
        if ended.hit or tries == _TRIES:
            break
    if not ended.hit:
        # Only SQLite may call less often than it did in the run that was counted.
        same = call == PAGES or (call == "openat" and opens(ended.trace) == opens(stood.counted))
        return False, [] if same else [f"{call} number {number} was not reached again"]
    last = stood.once("all") if who == "all" else ended
    complaints = stood.wrong()
    # The run that met the fault in a worker does everything itself; after a kill of all, some was done and told before.
    if last.status not in ((stood.status,) if who == "worker" else (0, 1)):
        complaints.append(f"exit status {last.status}: {last.stderr}")
    if "Traceback" in last.stderr:
        complaints.append(last.stderr)
    return True, [f"{call} number {number} ({ended.where()}): {text}" for text in complaints]


@pytest.mark.parametrize("who", WHO)
@pytest.mark.parametrize("name", SCENARIOS)
def test_killed_at_every_call(name: str, who: str) -> None:
    """`all`: the program dies as a whole, and the next `once` ends what it began. `worker`: a worker dies, and the same
    `once` ends it. Either way the tree, the logs and set-aside are as if nothing had happened.
    """
    wrong: list[str] = []
    hits = 0
    with stand(SCENARIOS[name]) as stood:
        for call, number in stood.points(who, changes):
            hit, complaints = kill(stood, who, call, number)
            hits += hit
            wrong += complaints
    print(f"{name}, {who}: {hits} kill points")
    assert not wrong, "\n".join([f"{len(wrong)} violations at {hits} kill points:", *wrong[:40]])
    assert hits > 20
