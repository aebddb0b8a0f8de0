"""SIGKILL at every system call that changes anything: whatever a killed program leaves, the next run completes."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.faults.injecting import SCENARIOS, WHO, Stand, zygote

pytestmark = [pytest.mark.real, pytest.mark.slow, pytest.mark.timeout(300)]


@pytest.mark.parametrize("who", WHO)
@pytest.mark.parametrize("name", SCENARIOS)
def test_killed_at_every_call(tmp_path: Path, name: str, who: str, record_property: pytest.RecordProperty) -> None:
    """`all`: the program dies as a whole, and the next `once` ends what it began. `worker`: a worker dies, and the same
    `once` ends it. Either way the tree, the logs and set-aside are as if nothing had happened.
    """
    wrong: list[str] = []
    kills = 0
    with zygote(tmp_path) as forks:
        stand = Stand(tmp_path, forks, SCENARIOS[name])
        points = stand.points(who)
        point = next(points, None)
        while point is not None:
            call, number = point
            stand.lay_out()
            ended = stand.once(who, f"signal=SIGKILL:when={number}", [call])
            killed = ended.hit
            if killed:
                kills += 1
                last = stand.once("all") if who == "all" else ended
                complaints = stand.wrong()
                if last.status != (1 if stand.sets_aside else 0) and who == "worker":
                    complaints.append(f"exit status {last.status}: {last.stderr}")
                if "Traceback" in last.stderr:
                    complaints.append(last.stderr)
                wrong += [f"{call} number {number} ({ended.where()}): {text}" for text in complaints]
            try:
                point = points.send(killed)
            except StopIteration:
                point = None
    record_property("kill points", kills)
    print(f"{name}, {who}: {kills} kill points")
    assert not wrong, "\n".join([f"{len(wrong)} violations at {kills} kill points:", *wrong[:400]])
    assert kills > 30
