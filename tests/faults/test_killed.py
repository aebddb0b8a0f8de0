"""Killed workers, killed services, signals in a burst, two owners: nothing is lost, and the accounts hold."""

from __future__ import annotations

import os
import shutil
import signal
import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from listener.storescp import RECOMMENDED
from tests.accounting import Canary, Sent, account, files_below, miscounted, read_set_aside, sent
from tests.conftest import PROJECT
from tests.dicomnet import kill_group, storescp, storescu
from tests.instances import write_instance
from tests.service_process import (
    Places,
    Service,
    finish,
    listener,
    once,
    service,
    settled,
    start,
    until_value,
    value,
)
from tests.waiting import alive, until

pytestmark = [pytest.mark.real, pytest.mark.slow, pytest.mark.faults]

#: Work takes long enough to be interrupted when every file is synced alone.
SLOW = ("--fsync", "each")

#: A file that two dying workers held is set aside: what these faults may do to an instance.
LOST = ("worker-lost",)


def backlog(places: Places, count: int) -> Sent:
    """`count` instances of four patients, copied into incoming."""
    folder = places.base / "sent"
    folder.mkdir(exist_ok=True)
    expected: Sent = {}
    for number in range(count):
        path = write_instance(folder / f"{number:05d}", patient=number % 4, series=number % 12, number=number)
        expected |= sent([path])
        shutil.copyfile(path, places.incoming / path.name)
    return expected


def in_mid_backlog(running: Service, wanted: int) -> None:
    """Until so many are published, or nothing is left: the service may be quicker than who looks."""
    roots = (running.places.incoming, running.places.state / "claim")
    until(
        lambda: (
            len(running.events("published")) >= wanted or not any(True for root in roots for _ in files_below(root))
        ),
        30,
        what=f"{wanted} are published; {running}",
    )


def is_healthy(running: Service, workers: int = 2) -> None:
    """L6: ready, alive, as many workers as it should have."""
    until(lambda: running.get("/readyz").status == 200, 10, what="ready again")
    assert running.get("/healthz").status == 200
    until(lambda: len(running.workers()) == workers, 10, what="as many workers as before")


# -- killed ------------------------------------------------------------------------------------------------------------


def test_workers_killed_in_mid_backlog(places: Places) -> None:
    """SIGKILL to one worker after the other while they work: replaced, their files done again, none lost."""
    expected = backlog(places, 900)
    canary = Canary(places)
    kills = 8
    with service(places, *SLOW) as running:
        for round_ in range(kills):
            before = len(running.events("published"))
            in_mid_backlog(running, before + 20)
            workers = until(running.workers, what="workers")
            os.kill(workers[round_ % len(workers)], signal.SIGKILL)
            running.wait_for("worker-lost", round_ + 1)
        scrape = settled(running, len(expected))
        assert value(scrape, "worker_restarts_total", reason="killed") == kills
        assert not list(miscounted(scrape, running.events()))
        is_healthy(running)
    account(places, expected, allowed=LOST)
    assert not list(canary.changed())


def test_an_idle_worker_killed(places: Places) -> None:
    """Nothing was held: a new worker takes its place and does the next file."""
    with service(places) as running:
        for pid in running.workers():
            os.kill(pid, signal.SIGKILL)
        lost = running.wait_for("worker-lost", 2)
        assert [(event["reason"], event["held"]) for event in lost] == [("killed", 0)] * 2
        expected = backlog(places, 5)
        settled(running, 5)
        is_healthy(running)
    account(places, expected)


def kill_parent(running: Service) -> None:
    running.kill()


def kill_everything(running: Service) -> None:
    workers = running.workers()
    kill_group(running.pid)
    running.process.wait()
    until(lambda: not any(alive(pid) for pid in workers), what="the killed workers are gone")


@pytest.mark.parametrize("kill", [kill_parent, kill_everything])
def test_the_service_killed_in_mid_backlog(places: Places, kill: Callable[[Service], None]) -> None:
    """SIGKILL again and again, at different moments; each start goes on where the last one ended."""
    expected = backlog(places, 900)
    canary = Canary(places)
    reported: set[str] = set()
    for wanted in (1, 30, 60, 90):
        with service(places, *SLOW, ready=False) as running:
            in_mid_backlog(running, wanted)
            kill(running)
            reported |= {event["SOPInstanceUID"] for event in running.events("published")}
            # Whatever was reported done is in the tree, at once.
            in_tree = {path.stem.partition("-")[2] for path in files_below(places.data)}
            assert reported <= in_tree
    with service(places) as running:
        until(lambda: value(running.scrape(), "pending_files") == 0 and not list(places.incoming.iterdir()), 30)
        settled(running, int(value(running.scrape(), "files_discovered_total")))
        is_healthy(running)
    account(places, expected)
    assert not list(canary.changed())


@pytest.mark.usefixtures("dcmtk")
def test_the_service_killed_while_storescp_receives(places: Places) -> None:
    """The sender notices nothing; what came while no service ran is found by the next."""
    folder = places.base / "sent"
    folder.mkdir()
    expected = sent([write_instance(folder / f"{number}", number=number) for number in range(400)])
    with storescp(places.incoming, *RECOMMENDED) as receiver:
        sender = threading.Thread(target=storescu, args=(receiver.port, folder))
        sender.start()
        try:
            for _ in range(4):
                with service(places, *SLOW) as running:
                    until(lambda: running.events("published") or not sender.is_alive(), what="one published")
                    running.kill()
        finally:
            sender.join()
        with service(places) as running:
            until(lambda: not list(places.incoming.iterdir()) and value(running.scrape(), "pending_files") == 0, 20)
            is_healthy(running)
    account(places, expected)


def test_a_killed_once_is_done_again(places: Places) -> None:
    """`once` requeues the claims that a killed service left, and those of a killed `once`."""
    expected = backlog(places, 400)
    process = start("once", *places.flags(), "--min-free", "0", "--workers", "2", *SLOW)
    until(lambda: next(files_below(places.data), None), what="the first published file")
    kill_group(process.pid)
    finish(process)
    done = once(places)
    assert done.status == 0, done
    account(places, expected)


# -- hung --------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("workers", [1, 2])
def test_hung_workers_are_killed_at_their_deadline(places: Places, workers: int) -> None:
    """SIGSTOP: after --deadline the worker is killed and replaced, and its file is done by another, for which that is
    time enough on any machine.
    """
    with service(places, "--deadline", "20", "--workers", str(workers)) as running:
        for pid in running.workers():
            os.kill(pid, signal.SIGSTOP)
        expected = backlog(places, 4)
        scrape = settled(running, 4)
        assert value(scrape, "worker_restarts_total", reason="deadline") >= 1
        assert running.wait_for("worker-lost")[0]["reason"] == "deadline"
        is_healthy(running, workers)
    account(places, expected)


_HANG = """
import sys, time
def hang(event, arguments):
    if event == "open" and "poison" in str(arguments[0]):
        time.sleep(3600)
if "listener.service.worker" in sys.orig_argv:
    sys.addaudithook(hang)
"""


def test_a_file_that_hangs_every_worker_is_set_aside(places: Places, tmp_path: Path) -> None:
    """Two workers hang with it, then it is `worker-lost`; the next file is published."""
    (tmp_path / "hang").mkdir()
    (tmp_path / "hang/sitecustomize.py").write_text(_HANG, encoding="utf-8")
    through = ["env", f"PYTHONPATH={tmp_path / 'hang'}{os.pathsep}{PROJECT}"]
    with service(places, "--deadline", "8", "--workers", "1", through=through) as running:
        expected = backlog(places, 2)
        settled(running, 2)
        shutil.copyfile(places.base / "sent" / "00000", places.incoming / "poison")
        running.wait_for("set-aside")
        assert running.events("set-aside")[0]["reason"] == "worker-lost"
        lost = [event["reason"] for event in running.events("worker-lost")]
        assert (set(lost), len(lost) >= 2) == ({"deadline"}, True)
        expected |= backlog(places, 4)
        scrape = settled(running, 7)
        assert value(scrape, "failures_total", reason="worker-lost") == 1
        until_value(running, 1, "set_aside_files", reason="worker-lost")
        is_healthy(running, workers=1)
    (lying,) = read_set_aside(places)
    assert (lying.reason, lying.path.name) == ("worker-lost", "poison")
    assert lying.record["attempts"] >= 2
    account(places, expected, aside={"worker-lost": 1})


# -- signals -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_in_a_burst_drains(places: Places, number: int) -> None:
    """Exit 0, and all that had arrived is published."""
    expected = backlog(places, 500)
    with service(places, "--drain", "200", ready=False) as running:
        running.wait_for("published")
        assert running.stop(number) == 0
        assert running.events("draining")
        assert [event["left"] for event in running.events("stopped")] == [0]
    account(places, expected)


@pytest.mark.usefixtures("dcmtk")
def test_sigterm_while_a_sender_sends(places: Places) -> None:
    """Exit 0, several times; what was not published waits in incoming, and its number is said."""
    folder = places.base / "sent"
    folder.mkdir()
    expected = sent([write_instance(folder / f"{number}", number=number) for number in range(500)])
    with storescp(places.incoming, *RECOMMENDED) as receiver:
        sender = threading.Thread(target=storescu, args=(receiver.port, folder))
        sender.start()
        try:
            while sender.is_alive():
                with service(places, "--drain", "0.2") as running:
                    until(lambda: running.events("published") or not sender.is_alive(), what="one published")
                    assert running.stop() == 0
                    assert running.events("stopped")
        finally:
            sender.join()
    assert once(places).status == 0
    account(places, expected)


def test_sigterm_without_time_to_drain(places: Places) -> None:
    """Exit 0 within moments; what is left is in incoming or claimed, and told."""
    expected = backlog(places, 600)
    with service(places, *SLOW, "--drain", "0", ready=False) as running:
        running.wait_for("published")
        begun = time.monotonic()
        assert running.stop() == 0
        assert time.monotonic() - begun < 60
        left = running.events("stopped")[0]["left"]
        published = len(running.events("published"))
    assert left + published == 600
    assert left == sum(1 for root in (places.incoming, places.state / "claim") for _ in files_below(root))
    assert once(places).status == 0
    account(places, expected)


def test_a_second_signal_stops_at_once(places: Places) -> None:
    """Exit 1 although a worker hangs; the next start does its file."""
    with service(places) as running:
        for pid in running.workers():
            os.kill(pid, signal.SIGSTOP)
        expected = backlog(places, 10)
        until(lambda: value(running.scrape(), "pending_files", state="working") > 0, what="files in hand")
        running.process.send_signal(signal.SIGTERM)
        running.wait_for("draining")
        begun = time.monotonic()
        assert running.stop() == 1
        assert time.monotonic() - begun < 60
    assert once(places).status == 0
    account(places, expected)


# -- owners ------------------------------------------------------------------------------------------------------------


def test_a_second_listener_refuses(places: Places) -> None:
    """Exit 1 with a message that names the directory and what to do; the first goes on, undisturbed."""
    with service(places) as running:
        with service(places, ready=False) as second:
            assert second.wait() == 1
            assert "Another listener owns this incoming directory" in second.stderr
            assert str(places.incoming) in second.stderr
            assert "Traceback" not in second.stderr
            assert not second.events("ready")
        expected = backlog(places, 20)
        settled(running, 20)
    account(places, expected)


def test_once_refuses_while_a_service_owns_incoming(places: Places) -> None:
    """Also with directories of its own for all else."""
    other = Places(places.base, places.incomings, places.base / "d", places.base / "l", places.base / "s")
    with service(places) as running:
        for each in (places, other):
            done = once(each)
            assert (done.status, done.events) == (1, [])
            assert "Another listener owns this incoming directory" in done.stderr
        expected = backlog(places, 20)
        settled(running, 20)
    account(places, expected)
    assert once(places).status == 0


def test_claims_of_an_incoming_that_is_configured_no_more_are_told(places: Places) -> None:
    """By `check` and at the start, with the command that finishes them."""
    expected = backlog(places, 1000)
    claims = places.state / "claim"
    with service(places, "--workers", "1", ready=False) as running:

        def stopped_with_a_claim() -> bool:
            os.killpg(running.process.pid, signal.SIGSTOP)
            if list(files_below(claims)):
                return True
            os.killpg(running.process.pid, signal.SIGCONT)
            return False

        # What workers hold when they and the service are killed stays claimed; who is stopped finishes nothing.
        until(stopped_with_a_claim, what="a claim")
        kill_group(running.process.pid)
        running.wait()
    left = len(list(files_below(claims)))
    assert left
    other = Places(places.base, (places.base / "another",), places.data, places.log, places.state)
    other.incoming.mkdir()
    told = f"{left} claimed files of '{places.incoming}' are unfinished"
    found = listener("check", *other.flags(), "--min-free", "0")
    assert found.status == 1
    assert told.encode() in found.stdout
    assert told in once(other).stderr
    assert once(places).status == 0
    account(places, expected)
    assert b"unfinished" not in listener("check", *other.flags(), "--min-free", "0").stdout


# -- the oracle itself -------------------------------------------------------------------------------------------------


def _cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-2])


def _without_reason(places: Places) -> None:
    folder = places.state / "set-aside" / "empty"
    folder.mkdir()
    (folder / "x").write_text("")


def _first(pattern: str) -> Callable[[Places], Path]:
    return lambda places: min(places.data.parent.glob(pattern))


IMAGE, SERIES_META = _first("data/*/*/*/*.dcm"), _first("log/seriesData/*-meta.json")
DAMAGES: dict[str, Callable[[Places], object]] = {
    "an instance is gone": lambda places: IMAGE(places).unlink(),
    "an instance is cut": lambda places: _cut(IMAGE(places)),
    "an instance twice": lambda places: shutil.copy(IMAGE(places), IMAGE(places).with_name("copy.dcm")),
    "a stranger in data": lambda places: (places.data / "x.txt").write_text("x"),
    "a stranger in log": lambda places: (places.log / "seriesData" / "x.json").write_text("{}"),
    "a torn document": lambda places: _cut(SERIES_META(places)),
    "a document is gone": lambda places: _first("log/seriesData/*-img/*")(places).unlink(),
    "a study is missing": lambda places: _first("log/patientData/*")(places).write_text('{"P0000": {"StudyList": []}}'),
    "a file waits": lambda places: (places.incoming / "x").write_text("x"),
    "a claim is left": lambda places: next((places.state / "claim").iterdir()).joinpath("x").write_text("x"),
    "a temporary is left": lambda places: (places.log / ".listener" / "x").write_text("x"),
    "set aside without a reason": _without_reason,
}


@pytest.mark.parametrize("damage", DAMAGES.values(), ids=DAMAGES.keys())
def test_the_oracle_notices(places: Places, damage: Callable[[Places], object]) -> None:
    """The accounts of a good run hold, and no longer once something is wrong."""
    expected = backlog(places, 4)
    assert once(places).status == 0
    account(places, expected)
    damage(places)
    with pytest.raises(AssertionError, match="violations"):
        account(places, expected)
