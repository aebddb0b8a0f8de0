"""The benchmark of notify: each of its groups has figures, and nothing is left."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from listener.benchmark import notifying
from listener.benchmark.request import Request
from listener.benchmark.schedule import Rounds
from listener.benchmark.workdir import WorkDir

pytestmark = [pytest.mark.real, pytest.mark.slow, pytest.mark.faults, pytest.mark.timeout(600)]


@pytest.mark.usefixtures("dcmtk")
def test_notify_is_measured_beside_celery_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    if not notifying.can_notify() or shutil.which("dcmsend") is None:
        pytest.skip("the extra chris, redis-server, nats-server or dcmsend is not there (.ci/need redis nats dcmtk)")
    for name, value in {"_WATCHED": 1.0, "_OPEN": 20, "_ROUND": 40}.items():
        monkeypatch.setattr(notifying, name, value)
    request = Request(files=20, size=4096, header=0, parts=("notify",), repeat=1)
    rounds = Rounds(request, 1, WorkDir(tmp_path, request.shape))
    groups = {group.title: {figure.program: figure for figure in group.figures} for group in rounds.measure()}
    assert rounds.failures == []
    costs, told, takes, hang = groups.values()
    alone, *ours = costs.values()
    assert (alone.program, alone.ratio) == ("Celery.send_task alone", 1)
    assert [figure.files for figure in ours] == [20, 20]
    assert all(figure.cpu_us > 0 and figure.rss_mb > 10 for figure in ours)
    assert told["notify"].lag_p50_ms is not None
    assert [figure.busy_percent is not None for figure in takes.values()] == [True, True]
    assert [figure.files for figure in hang.values()] == [40, 40]
    assert all(figure.lag_p99_ms is not None for figure in hang.values())
