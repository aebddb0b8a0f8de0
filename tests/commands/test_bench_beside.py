"""Intake is measured beside parts and batches that are really at work."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

import orjson
import pytest

from listener.benchmark import beside, exporting, processes, servers
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


def test_only_what_came_before_the_end_of_the_batch_counts(tmp_path: Path) -> None:
    events = tmp_path / "events.ndjson"
    events.write_bytes(b'{"time":"2026-11-26T00:00:01Z","event":"batch-queued"}\n')
    assert beside.end_of_batch(events) == float("inf")
    events.write_bytes(b'{"time":"2026-11-26T00:00:00Z","event":"batch-done"}\n')
    assert beside.end_of_batch(events) == ENDED.timestamp()


@pytest.mark.real
@pytest.mark.usefixtures("dcmtk")
@pytest.mark.timeout(300)
def test_intake_is_measured_alone_and_beside_parts_and_a_batch(
    workdir: WorkDir, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(beside, "EACH", 100)
    monkeypatch.setattr(beside, "BATCH", 50)
    # On a busy machine they have ended before.
    monkeypatch.setattr(beside, "first_end", lambda _: float("inf"))
    monkeypatch.setattr(beside, "end_of_batch", lambda _: float("inf"))
    live = (workdir, Batches(workdir.home / "sent", workdir.corpus, 1), Options(1), 50.0)
    samples = [
        beside.intake(*live),
        beside.intake_beside_parts(*live, "normal"),
        beside.intake_beside_batch(*live),
    ]
    names = ["intake alone", "intake beside parts, --priority normal", "intake beside a batch"]
    assert [sample.program for sample in samples] == names
    assert all(sample.files == 6 and sample.lag and sample.lag.p50 > 0 for sample in samples)
    parts = [(workdir.home / f"run-{number}/state/parts/0-of-1").exists() for number in (1, 2, 3)]
    assert parts == [False, True, False]
    # No more is certain: `batch-queued` is told once all were listed, which may be after the live files.
    told = servers.lines(workdir.home / "run-3" / "events.ndjson", "published")
    assert any(line["src"].startswith("B.") for line in told)


@pytest.mark.real
@pytest.mark.usefixtures("dcmtk")
@pytest.mark.timeout(300)
def test_other_work_that_is_done_too_soon_gives_no_figure(workdir: WorkDir, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(beside, "BATCH", 10)
    monkeypatch.setattr(beside, "end_of_batch", lambda _: 0.0)
    batches = Batches(workdir.home / "sent", workdir.corpus, 1)
    with pytest.raises(Unfinished, match="the other work was done before"):
        beside.intake_beside_batch(workdir, batches, Options(1), 50.0)


@pytest.mark.real
@pytest.mark.usefixtures("dcmtk")
@pytest.mark.timeout(300)
def test_intake_is_measured_beside_an_export(workdir: WorkDir, monkeypatch: pytest.MonkeyPatch) -> None:
    if not exporting.can_export():
        pytest.skip("versitygw is not there (.ci/need versitygw), or the extra export")
    monkeypatch.setattr(beside, "EXPORTED", 30)
    live = (workdir, Batches(workdir.home / "sent", workdir.corpus, 1), Options(1), 50.0)
    # On a busy machine it has ended before.
    monkeypatch.setattr(exporting, "end_of", lambda _events, _series: float("inf"))
    sample = beside.intake_beside_export(*live)
    assert (sample.program, sample.files) == ("intake beside an export", 6)
    assert sample.lag
    assert sample.lag.p50 > 0


def test_only_what_came_before_the_end_of_the_export_counts(tmp_path: Path) -> None:
    events = tmp_path / "events.ndjson"
    events.write_bytes(b'{"time":"2026-11-25T00:00:00Z","event":"exported"}\n')
    assert exporting.end_of(events, 2) == float("inf")
    with events.open("ab") as file:
        file.write(b'{"time":"2026-11-26T00:00:00Z","event":"exported"}\n')
    assert exporting.end_of(events, 2) == ENDED.timestamp()
