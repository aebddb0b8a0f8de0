"""The process of a stage, with a real one beside a real listener."""

from __future__ import annotations

import contextlib
import random
import shutil
import signal
import subprocess
import time
from pathlib import Path

import pytest

from listener.ledger import feed
from listener.ledger.connection import open_reader, open_writer, path_of
from listener.status import snapshot
from tests.instances import write_instance
from tests.service_process import Places, service
from tests.stages.example import NAME, read
from tests.stages.processes import StageProcess, stage
from tests.waiting import until

pytestmark = pytest.mark.real


def handled(places: Places) -> list[str]:
    return sorted({path for *_, path in read(places.state)})


def published(places: Places) -> list[str]:
    return sorted(str(path.relative_to(places.data)) for path in places.data.rglob("*.dcm"))


def send(places: Places, *numbers: int, series: int = 0) -> None:
    made = [write_instance(places.base / f"{series}-{number}", series=series, number=number + 1) for number in numbers]
    for path in made:  # All at once: the series must not be quiet between two of them.
        shutil.copyfile(path, places.incoming / path.name)


def metrics(running: StageProcess, delivered: int, pending: int) -> bool:
    page = running.get("/metrics")[1]
    return (
        f'deliveries_total{{consumer="example",outcome="delivered"}} {delivered}.0' in page
        and f'listener_consumer_pending_deliveries{{consumer="example"}} {pending}.0' in page
    )


def test_each_instance_is_told_and_the_series_is_settled_when_it_is_whole(places: Places, promtool: str) -> None:
    with service(places, "--series-quiet=1"):
        with stage(places.state) as running:
            send(places, *range(20))
            until(lambda: len(published(places)) == 20 and handled(places) == published(places), 20)
            (settled,) = running.wait_for("settled")
            assert settled["key"].endswith("/1")
            until(lambda: metrics(running, 1, 0), 10)
            status, page = running.get("/metrics")
            checked = subprocess.run(
                [promtool, "check", "metrics"], input=page, capture_output=True, text=True, check=False
            )
            assert (status, checked.returncode, checked.stdout + checked.stderr) == (200, 0, "")
            numbers = [int(seq) for _, seq, _ in read(places.state)]
            assert numbers == list(range(1, 21)), "each once, in order"
            with contextlib.closing(open_writer(path_of(str(places.state)))) as ledger:
                until(lambda: feed.rows_after(ledger, 0, 100) == [], 10, what="what was passed is removed")
        with stage(places.state) as again:
            send(places, 20, 21)
            until(lambda: handled(places) == published(places) and len(handled(places)) == 22, 20)
            again.wait_for("settled")
            live = snapshot.read(str(places.state / NAME))
            assert live
            assert live["broken"] == 0, "it goes on where the one before was"


def test_what_came_before_the_stage_is_told_with_the_end_of_the_series(places: Places) -> None:
    """It is still open when the stage starts: the feed has not told it, the ledger does."""
    with service(places, "--series-quiet=3") as listening:
        send(places, 0, 1, 2)
        listening.wait_for("published", 3)
        with stage(places.state) as running:
            send(places, 3)
            running.wait_for("settled")
            assert handled(places) == published(places)
            assert len(handled(places)) == 4


def test_a_second_one_waits_and_takes_over_when_the_first_is_killed(places: Places) -> None:
    with service(places), stage(places.state) as first, stage(places.state, ready=False) as second:
        second.wait_for("started")
        until(lambda: second.get("/readyz")[0] == 503, 10)
        assert not second.get("/readyz")[1]["checks"]["owner"]["ok"]
        assert second.get("/healthz")[0] == 200
        assert 'listener_consumer_is_owner{consumer="example"} 0.0' in second.get("/metrics")[1]
        send(places, 0)
        until(lambda: len(handled(places)) == 1, 20)
        assert not second.events("ready")
        first.process.kill()
        begun = time.monotonic()
        second.wait_for("ready")
        assert time.monotonic() - begun < 60
        send(places, 1)
        until(lambda: len(handled(places)) == 2, 20)
        assert second.get("/readyz")[0] == 200
        assert 'listener_consumer_is_owner{consumer="example"} 1.0' in second.get("/metrics")[1]


def test_one_that_waits_leaves_at_a_signal(places: Places) -> None:
    with service(places), stage(places.state), stage(places.state, ready=False) as second:
        second.wait_for("started")
        second.process.terminate()
        assert second.process.wait(120) == 0
        assert second.events("stopped")


def test_a_signal_drains_and_a_second_one_does_not_wait(places: Places) -> None:
    with service(places):
        (places.state / "busy").touch()
        with stage(places.state, "--drain", "30") as running:
            running.process.terminate()
            running.wait_for("draining")
            until(lambda: running.get("/readyz")[0] == 503, 10)
            send(places, 0)
            until(lambda: len(handled(places)) == 1, 20, what="it goes on while it drains")
            (places.state / "busy").unlink()
            assert running.process.wait(120) == 0
            live = snapshot.read(str(places.state / NAME))
            assert live
            assert (live["state"], live["handled"]) == ("stopped", 1)
        (places.state / "busy").touch()
        with stage(places.state, "--drain", "0.3") as running:
            running.process.terminate()
            assert running.process.wait(120) == 0, "--drain is over"
        with stage(places.state, "--drain", "30") as running:
            running.process.terminate()
            running.wait_for("draining")
            running.process.send_signal(signal.SIGTERM)
            assert running.process.wait(120) == 1


@pytest.mark.slow
def test_killed_at_any_moment_nothing_is_missed(places: Places) -> None:
    dice = random.Random(14)
    with service(places, "--series-quiet=2"), stage(places.state, ready=False) as standby:
        for round_ in range(8):
            one = StageProcess(places.state)
            send(places, *range(5), series=round_)
            time.sleep(dice.uniform(0.2, 0.8))
            one.process.kill()
            one.process.wait()
        until(lambda: len(published(places)) == 40 and handled(places) == published(places), 40)
        until(lambda: settled(places.state) == 8, 40, what=str(standby))


def settled(state: Path) -> int:
    with contextlib.closing(open_reader(path_of(str(state)))) as ledger:
        (count,) = ledger.execute("SELECT count(*) FROM deliveries WHERE state = 'delivered'").fetchone()
        return int(count)


@pytest.mark.slow
def test_a_ledger_that_is_made_anew_is_followed(places: Places) -> None:
    with service(places, "--series-quiet=2"), stage(places.state) as running:
        send(places, 0, 1)
        until(lambda: len(handled(places)) == 2, 20)
        for path in places.state.glob("ledger.sqlite*"):
            path.unlink()
        send(places, 2, 3)
        until(lambda: len(published(places)) == 4 and handled(places) == published(places), 30, what=str(running))
