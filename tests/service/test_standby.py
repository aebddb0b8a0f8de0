"""`listener run --standby`: a second listener waits for the end of the first, and takes over what it left."""

from __future__ import annotations

import os
import shutil
import signal
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from listener.service import standby
from listener.service.lock import IncomingLock
from listener.telemetry.health import HEARTBEAT_LIMIT, standby_liveness, standby_readiness
from tests.accounting import account, sent
from tests.dicomnet import dcmsend, kill_group, storescp
from tests.instances import write_instance
from tests.service_process import Places, Service, make_places, service, value
from tests.waiting import until
from tests.workbench import make_config

SENDERS, EACH = 4, 15


@contextmanager
def standing_by(places: Places, *args: str) -> Iterator[Service]:
    """A service that waits; ended when the block is left."""
    running = Service(places, ("--standby", "--rescan", "0.2", *args))
    try:
        running.wait_for("standby")
        yield running
    finally:
        if running.process.poll() is None:
            running.stop()
        kill_group(running.pid)
        running.process.wait()


@pytest.mark.real
def test_it_is_alive_and_not_ready_while_another_one_owns_incoming(tmp_path: Path) -> None:
    places = make_places(tmp_path)
    with service(places, "--standby") as active, standing_by(places) as waiting:
        assert not active.events("standby", "took-over"), "nothing to wait for is an ordinary start"
        (event,) = waiting.events("standby")
        assert event["host"] == os.uname().nodename
        assert waiting.get("/healthz").json()["status"] == "alive"
        answer = waiting.get("/readyz")
        assert (answer.status, answer.json()["status"]) == (503, "standby")
        assert "another listener owns incoming" in answer.json()["checks"]["owner"]["text"]
        page = waiting.scrape()
        assert value(page, "standby") == 1
        assert value(page, "heartbeat_timestamp_seconds") > time.time() - 20
        assert not [name for name, _ in page if name in ("listener_ready", "listener_last_rescan_timestamp_seconds")]
        assert value(active.scrape(), "standby") == 0
        write_instance(places.incoming / "one")
        active.wait_for("published")
        assert waiting.stop() == 0, "a signal ends it at once"
        assert [one["event"] for one in waiting.events()] == ["standby", "stopped"]


@pytest.mark.real
@pytest.mark.slow
@pytest.mark.skipif(not shutil.which("storescp") or not shutil.which("dcmsend"), reason="DCMTK is not installed")
def test_killed_under_four_senders_the_other_publishes_within_ten_seconds_and_loses_nothing(tmp_path: Path) -> None:
    places = make_places(tmp_path)
    folders = [tmp_path / f"sender-{number}" for number in range(SENDERS)]
    for number, folder in enumerate(folders):
        folder.mkdir()
        for instance in range(EACH):
            write_instance(folder / f"{instance}.dcm", patient=number, series=number, number=instance + 1, pixels=64)
    wanted = sent([path for folder in folders for path in sorted(folder.iterdir())])
    *early, late = folders
    with storescp(places.incoming) as receiver, service(places) as active, standing_by(places) as waiting:
        threads = [threading.Thread(target=dcmsend, args=(receiver.port, folder)) for folder in early]
        for thread in threads:
            thread.start()
        active.wait_for("published", 5)
        os.killpg(active.pid, signal.SIGKILL)
        killed = time.monotonic()
        active.process.wait()
        # The first may have taken all of the others; these come when it is surely dead.
        dcmsend(receiver.port, late)
        for thread in threads:
            thread.join()
        waiting.wait_for("took-over", seconds=10)
        until(lambda: waiting.events("published", "duplicate"), 10, what="the first that the other publishes")
        assert time.monotonic() - killed < 60, "senders and the machine included"
        (event,) = waiting.events("took-over")
        assert (event["host"], event["state"]) == (os.uname().nodename, "ready")
        assert event["claims"] >= 0 < event["waited"]
        waiting.wait_for("ready")
        assert waiting.get("/readyz").status == 200
        assert waiting.events("started")[0]["http"] == waiting.address, "it goes on answering where it did"
        done = (*active.events("published"), *waiting.events("published", "duplicate"))
        until(lambda: not any(places.incoming.iterdir()), 20)
        until(lambda: len(list(places.data.rglob("*.dcm"))) == len(wanted), 20, what=f"{len(done)} events")
        account(places, wanted)


def test_a_stuck_loop_is_told_and_what_keeps_it_from_the_lock(tmp_path: Path) -> None:
    assert standby_liveness(0.0, 1.0)[0]
    assert not standby_liveness(0.0, HEARTBEAT_LIMIT + 1)[0]
    body = standby_readiness(0.0, 1.0, "Stale file handle")
    assert body["status"] == "standby"
    assert "Stale file handle" in body["checks"]["owner"]["text"]


def test_an_incoming_that_was_replaced_is_left_to_its_owner_for_two_rescans(tmp_path: Path) -> None:
    """Its owner locks the new directory with its next rescan; who was quicker would end a healthy service."""
    (tmp_path / "incoming").mkdir()
    config = make_config(tmp_path, rescan=0.5)
    ours = IncomingLock(config.incoming)
    waiting = standby._Standby(config)
    try:
        assert waiting._try_lock(10.0) is None
        (tmp_path / "incoming").rename(tmp_path / "away")
        assert waiting._try_lock(11.0) is None, "gone"
        (tmp_path / "incoming").mkdir()
        assert waiting._try_lock(12.0) is None
        assert waiting._try_lock(13.9) is None
        taken = waiting._try_lock(14.1)
        assert taken
        taken.close()
    finally:
        waiting.close()
        ours.close()
