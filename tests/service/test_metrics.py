"""What an operator sees of a real run: metrics as deltas, health, readiness, and clear errors at the start."""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import time
from pathlib import Path

import pytest

from tests import dicomnet
from tests.accounting import account, miscounted, sent
from tests.instances import write_instance
from tests.service_process import (
    Places,
    Scrape,
    Service,
    listener,
    now,
    service,
    settled,
    until_value,
    value,
)
from tests.waiting import until

pytestmark = pytest.mark.real


def bring(places: Places, first: int, count: int) -> tuple[dict[str, str], int]:
    """Copy new instances into incoming; what they are, and their bytes together."""
    folder = places.base / "sent"
    folder.mkdir(exist_ok=True)
    sources = [write_instance(folder / f"{number}", number=number) for number in range(first, first + count)]
    expected = sent(sources)
    for path in sources:
        shutil.copyfile(path, places.incoming / path.name)
    return expected, sum(path.stat().st_size for path in sources)


def until_status(running: Service, path: str, status: int) -> None:
    until(lambda: running.get(path).status == status, 10, what=f"{path} says {status}")


def delta(before: Scrape, after: Scrape, name: str, **labels: str) -> float:
    return value(after, name, **labels) - value(before, name, **labels)


def test_a_run_in_numbers(places: Places) -> None:
    """Twelve good files, a duplicate and a bad one: every counter rises by just that."""
    first, _ = bring(places, 1, 5)
    with service(places) as running:
        before = settled(running, 5)
        begun = now()
        second, size = bring(places, 100, 12)
        settled(running, 17)
        again = (places.base / "sent" / "100").read_bytes()
        (places.incoming / "again").write_bytes(again)
        (places.incoming / "bad").write_bytes(b"no DICOM")
        after = settled(running, 19)
        until_value(running, 1, "set_aside_files", reason="not-dicom")
        until_value(running, 8, "set_aside_bytes", reason="not-dicom")
        assert not list(miscounted(after, running.events()))
    expected = {
        ("files_processed_total", "outcome", "published"): 12,
        ("files_processed_total", "outcome", "duplicate"): 1,
        ("files_processed_total", "outcome", "set-aside"): 1,
        ("files_processed_total", "outcome", "vanished"): 0,
        ("failures_total", "reason", "not-dicom"): 1,
        ("failures_total", "stage", "read"): 1,
        ("stage_duration_seconds_count", "stage", "release"): 13,
        ("files_discovered_total", "source", "startup"): 0,
        ("worker_restarts_total", "reason", "killed"): 0,
    }
    found = {(name, label, text): delta(before, after, name, **{label: text}) for name, label, text in expected}
    assert found == expected
    whole = {
        "files_discovered_total": 14,
        "failures_total": 1,
        "retries_total": 0,
        "ingest_latency_seconds_count": 12,
        "queue_duration_seconds_count": 14,
        "file_size_bytes_count": 14,
        "file_size_bytes_sum": size + len(again) + 8,
        "incoming_bytes_total": size + len(again) + 8,
        "published_bytes_total": size,
    }
    assert {name: delta(before, after, name) for name in whole} == whole
    assert begun <= value(after, "last_success_timestamp_seconds") <= now()
    assert begun <= value(after, "last_event_timestamp_seconds") <= now()
    assert 0 <= delta(before, after, "ingest_latency_seconds_sum") < 12 * 30
    account(places, first | second, aside={"not-dicom": 1})


def test_gauges_of_an_idle_service(places: Places) -> None:
    """Workers, heartbeat, rescans, volumes, build and configuration are there, and go on."""
    with service(places, "--rescan", "0.2", "--layout", "px", "--workers", "1") as running:
        first = running.scrape()
        assert value(first, "workers") == 1
        assert value(first, "build_info") == 1
        assert value(first, "config_info", layout="px", fsync="batch", on_conflict="replace") == 1
        assert value(first, "pending_files") == value(first, "pending_bytes") == 0
        assert value(first, "oldest_pending_timestamp_seconds") == 0
        until(lambda: value(running.scrape(), "watcher_alive") == 1, 5)
        for volume in ("incoming", "data", "log", "state"):
            assert value(first, "filesystem_avail_bytes", volume=volume) > 0
        heartbeat = value(first, "heartbeat_timestamp_seconds")
        scanned = value(first, "rescan_duration_seconds_count")
        until(lambda: value(running.scrape(), "heartbeat_timestamp_seconds") > heartbeat, 5)
        until(lambda: value(running.scrape(), "rescan_duration_seconds_count") > scanned + 3, 5)


def test_pending_gauges_rise_and_return_to_zero(places: Places) -> None:
    """While the worker hangs its files are pending, with their bytes and the age of the oldest; then none are."""
    with service(places, "--workers", "1", "--deadline", "60") as running:
        (worker,) = running.workers()
        os.kill(worker, signal.SIGSTOP)
        begun = now()
        expected, size = bring(places, 1, 6)

        def waiting() -> Scrape | None:
            scrape = running.scrape()
            return scrape if value(scrape, "pending_files") == 6 and value(scrape, "workers_busy") == 1 else None

        scrape = until(waiting, 10, what="six pending files")
        assert scrape is not None
        assert value(scrape, "pending_bytes") == size
        assert value(scrape, "pending_files", state="working") >= 1
        # st_ctime of kernels before 6.13 is one tick early
        assert begun - 0.1 <= value(scrape, "oldest_pending_timestamp_seconds") <= now()
        assert value(scrape, "files_processed_total") == 0
        os.kill(worker, signal.SIGCONT)
        scrape = settled(running, 6)
        assert value(scrape, "pending_bytes") == value(scrape, "oldest_pending_timestamp_seconds") == 0
    account(places, expected)


def test_promtool_accepts_the_page(places: Places, promtool: str) -> None:
    bring(places, 1, 3)
    with service(places) as running:
        settled(running, 3)
        page = running.page()
    done = subprocess.run([promtool, "check", "metrics"], input=page.encode(), capture_output=True, check=False)
    assert (done.returncode, done.stdout, done.stderr) == (0, b"", b"")


def test_health_and_readiness(places: Places) -> None:
    """Both 200 in JSON while all is well; not ready while there is too little space, but alive; unknown paths 404."""
    with service(places) as running:
        for path in ("/healthz", "/readyz"):
            until_status(running, path, 200)
            assert isinstance(running.get(path).json(), dict)
        assert running.get("/nothing").status == 404
        assert value(running.scrape(), "ready") == 1
    with service(places, "--min-free", str(2**60), "--drain", "1", ready=False) as running:
        expected, _ = bring(places, 1, 3)
        until(lambda: "not-ready: space" in running.stderr, 20, what="the log says why it is not ready")
        until_status(running, "/readyz", 503)
        assert not running.events("ready")
        assert running.get("/healthz").status == 200
        until(lambda: value(running.scrape(), "pending_files") == 3, 10, what="the files wait")
        assert value(running.scrape(), "ready") == 0
        assert len(list(places.incoming.iterdir())) == 3
    with service(places) as running:
        settled(running, 3)
    account(places, expected)


def test_stopping_without_space_does_not_wait(places: Places) -> None:
    """Nothing may be taken, so there is nothing to drain: the service stops at once and says what is left."""
    expected, _ = bring(places, 1, 3)
    with service(places, "--min-free", str(2**60), ready=False) as running:
        until(lambda: "not-ready: space" in running.stderr, 20)
        begun = time.monotonic()
        assert running.stop() == 0
        assert time.monotonic() - begun < 60
        assert running.events("stopped")[0]["left"] == 3
    with service(places) as running:
        settled(running, 3)
    account(places, expected)


def test_not_ready_above_the_backlog_limit(places: Places) -> None:
    with service(places, "--workers", "1", "--ready-backlog", "3") as running:
        until_status(running, "/readyz", 200)
        for worker in running.workers():
            os.kill(worker, signal.SIGSTOP)
        bring(places, 1, 10)
        until_status(running, "/readyz", 503)
        for worker in running.workers():
            os.kill(worker, signal.SIGCONT)
        until_status(running, "/readyz", 200)


def test_http_off(places: Places) -> None:
    """No endpoint, and the work is done all the same."""
    expected, _ = bring(places, 1, 3)
    with service(places, "--http", "off") as running:
        assert running.wait_for("ready")[0]["http"] == "off"
        running.wait_for("published", 3)
        assert not [line for line in _listening(running) if line]
    account(places, expected)


def _listening(running: Service) -> list[str]:
    """The TCP sockets that the service itself listens on (inode numbers)."""
    own = set()
    for descriptor in Path(f"/proc/{running.pid}/fd").iterdir():
        try:
            own.add(os.readlink(descriptor))
        except OSError:
            continue
    found = []
    for table in ("tcp", "tcp6"):
        for line in Path(f"/proc/{running.pid}/net/{table}").read_text().splitlines()[1:]:
            fields = line.split()
            if fields[3] == "0A" and f"socket:[{fields[9]}]" in own:
                found.append(fields[9])
    return found


def test_the_ready_event_names_the_address(places: Places) -> None:
    """Port 0 picks one, and the event and standard error tell which; it is the only one that listens."""
    with service(places) as running:
        host, _, port = running.address.rpartition(":")
        assert host == "127.0.0.1"
        assert int(port) > 0
        assert running.address in running.stderr
        assert len(_listening(running)) == 1


def test_a_port_in_use(places: Places) -> None:
    """Exit 1 with a message that names the address, and nothing is left behind."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        address = f"127.0.0.1:{taken.getsockname()[1]}"
        begun = time.monotonic()
        with service(places, "--http", address, ready=False) as running:
            assert running.wait() == 1
            assert address in running.stderr
            assert "--http" in running.stderr
            assert "Traceback" not in running.stderr
            assert not running.events("ready")
        assert time.monotonic() - begun < 60


def test_configuration_errors_leave_with_2(places: Places) -> None:
    """All of them at once, each with its option; nothing is touched."""
    before = sorted(places.base.rglob("*"))
    done = listener("run", *places.flags(), "--workers", "many", "--http", "nowhere", "--layout", "rxx")
    assert done.status == 2
    for option in ("--workers", "--http", "--layout"):
        assert option in done.stderr
    assert "Traceback" not in done.stderr
    assert sorted(places.base.rglob("*")) == before


def test_slow_readers_do_not_stop_the_page(places: Places) -> None:
    """300 connections that say nothing: a scrape is answered, and the work goes on."""
    with service(places) as running:
        host, _, port = running.address.rpartition(":")
        connections = [socket.create_connection((host, int(port)), timeout=120) for _ in range(300)]
        try:
            expected, _ = bring(places, 1, 5)
            settled(running, 5)
            begun = time.monotonic()
            assert running.get("/healthz").status == 200
            assert time.monotonic() - begun < 60
        finally:
            for connection in connections:
                connection.close()
    account(places, expected)


@pytest.mark.usefixtures("dcmtk")
def test_the_last_arrival_of_a_sender_that_is_named_is_told_also_by_the_next_start(places: Places) -> None:
    """Others become no label, however many call; one that never came is there at 0."""
    flags = ("--watch-sender=CT1", "--watch-sender=MR1", "--watch-sender=NEVER")
    (places.base / "sent").mkdir()
    paths = [write_instance(places.base / "sent" / str(number), series=number) for number in range(3)]
    with service(places, *flags) as running, dicomnet.storescp(places.incoming) as receiver:
        assert shown_senders(running) == {"CT1": 0.0, "MR1": 0.0, "NEVER": 0.0}
        for number, sender in enumerate(("CT1", "MR1", "OTHER")):
            dicomnet.storescu(receiver.port, paths[number], "-aet", sender)
        settled(running, 3)
        first = shown_senders(running)
        assert set(first) == {"CT1", "MR1", "NEVER"}, "OTHER is no label"
        assert now() - 60 < first["CT1"] <= first["MR1"] <= now()
    with service(places, *flags, "--watch-sender=OTHER") as running:
        until(lambda: shown_senders(running)["CT1"] > 0, 20, what="the ledger was asked")
        later = shown_senders(running)
        assert {name: round(later[name]) for name in first} == {name: round(first[name]) for name in first}
        assert later["OTHER"] >= first["MR1"]


def shown_senders(running: Service) -> dict[str, float]:
    name = "listener_last_arrival_timestamp_seconds"
    return {dict(labels)["sender"]: number for (metric, labels), number in running.scrape().items() if metric == name}
