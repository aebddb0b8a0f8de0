"""Intake is measured beside a backfill that is really at work."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

import orjson
import pytest

from listener.benchmark import beside, processes
from listener.benchmark.request import Options, Shape
from listener.benchmark.senders import Batches
from listener.benchmark.verify import Unfinished
from listener.benchmark.workdir import RunDirs, WorkDir

ENDED = datetime(2026, 11, 26, tzinfo=UTC)


@pytest.fixture
def workdir(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> WorkDir:
    """What runs in the test's own process must not make it the parent of later tests' orphans."""
    monkeypatch.setattr(processes, "adopt", lambda: None)
    return WorkDir(tmp_path, Shape(files=6, size=4096, header=0))


def account(place: RunDirs, part: str, ended: datetime) -> None:
    folder = place.state / "parts" / part
    folder.mkdir(parents=True)
    (folder / "account.json").write_bytes(orjson.dumps({"ended": ended.isoformat()}))


def test_only_what_came_while_all_parts_were_at_work_counts(tmp_path: Path) -> None:
    place = RunDirs(tmp_path)
    assert beside.first_end(place) == float("inf")
    account(place, "1-of-3", ENDED.replace(year=2027))
    account(place, "2-of-3", ENDED)
    assert beside.first_end(place) == ENDED.timestamp()


@pytest.mark.real
@pytest.mark.usefixtures("dcmtk")
@pytest.mark.timeout(300)
@pytest.mark.parametrize("priority", ["", "normal"])
def test_intake_is_measured_alone_and_beside_parts(
    workdir: WorkDir, priority: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(beside, "EACH", 100)
    monkeypatch.setattr(beside, "first_end", lambda _: float("inf"))  # On a busy machine they have ended before.
    batches = Batches(workdir.home / "sent", workdir.corpus, 1)
    sample = beside.intake(workdir, batches, Options(1), 50.0, priority)
    assert sample.program == (f"intake beside parts, --priority {priority}" if priority else "intake alone")
    assert (sample.files, sample.lag is not None and sample.lag.p50 > 0) == (6, True)
    assert (workdir.home / "run-1/state/parts/0-of-1").exists() == bool(priority)


@pytest.mark.real
@pytest.mark.usefixtures("dcmtk")
@pytest.mark.timeout(300)
def test_a_backfill_that_is_done_too_soon_gives_no_figure(workdir: WorkDir, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(beside, "EACH", 10)
    monkeypatch.setattr(beside, "first_end", lambda _: 0.0)
    batches = Batches(workdir.home / "sent", workdir.corpus, 1)
    with pytest.raises(Unfinished, match="the backfill was done before"):
        beside.intake(workdir, batches, Options(1), 50.0, "normal")
