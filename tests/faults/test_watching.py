"""How files are noticed when everything conspires: overflows, races, replaced directories, no inotify, jumping clocks,
bursts, poison, slow readers. Under the real service.

Proven: no event source is trusted, a rescan finds what events missed; nothing blocks the head of the queue; memory is
bounded; a stop or a stall at any moment loses nothing. LISTENER_TEST_SOAK makes the numbers larger.
"""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager
from datetime import datetime
from functools import cache
from pathlib import Path

import pytest

from tests.accounting import files_below, left_over, miscounted
from tests.dicomnet import kill_group
from tests.instances import UID_ROOT, instance, save
from tests.service_process import (
    Event,
    Places,
    Service,
    command,
    environment,
    events_of,
    make_places,
    once,
    rescan_on,
    rss,
    service,
    settled,
    value,
)
from tests.waiting import until
from tests.workbench import tmpfs

pytestmark = [pytest.mark.real, pytest.mark.slow, pytest.mark.faults]

SOAK = "LISTENER_TEST_SOAK" in os.environ

#: Small files and no forced sync: these tests are about how many there are.
QUICK = ("--fsync", "none")


@pytest.fixture
def places(tmp_path: Path) -> Iterator[Places]:
    made = make_places(tmp_path)
    yield made
    # Many thousand files: not for pytest's gallery of the last three runs.
    shutil.rmtree(made.data.parent, ignore_errors=True)


# -- many tiny files, cheaply ------------------------------------------------------------------------------------------

_DIGITS = 8
_PLACEHOLDER = UID_ROOT + "1" + "0" * _DIGITS


@cache
def _template(kind: int) -> bytes:
    folder = Path(os.environ.get("TMPDIR", "/tmp"))  # noqa: S108 - one file, removed at once
    path = folder / f"listener-template-{os.getpid()}-{kind}"
    try:
        ds = instance(patient=kind % 4, series=kind, pixels=None, SOPInstanceUID=_PLACEHOLDER)
        return save(ds, path).read_bytes()
    finally:
        path.unlink()


def tiny(number: int) -> bytes:
    """A small whole instance that differs from all others; one of 8 series of 4 patients."""
    return _template(number % 8).replace(_PLACEHOLDER.encode(), uid_of(number).encode())


def uid_of(number: int) -> str:
    return f"{UID_ROOT}1{number:0{_DIGITS}d}"


def write(path: str, data: bytes) -> None:
    """As storescp: the final name, one write, close."""
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o644)
    os.write(descriptor, data)
    os.close(descriptor)


def burst(places: Places, numbers: range) -> None:
    for number in numbers:
        write(f"{places.incoming}/{number:08d}", tiny(number))


def account_tiny(places: Places, count: int) -> None:
    """The accounts of `count` tiny instances, without reading each by pydicom: once and byte by byte, with a document
    each, nothing else, nothing left.
    """
    found = {path.name.partition("-")[2].removesuffix(".dcm"): path for path in files_below(places.data)}
    assert len(found) == sum(1 for _ in files_below(places.data)), "an instance is there twice"
    assert found.keys() == {uid_of(number) for number in range(count)}
    wrong = [number for number in range(count) if found[uid_of(number)].read_bytes() != tiny(number)]
    assert not wrong, f"{len(wrong)} are not as they were sent"
    documents = {path.name for path in files_below(places.log) if path.parent.name.endswith("-img")}
    assert documents == {f"{path.name}.json" for path in found.values()}
    assert not list(left_over(places))


# -- overflow and races ------------------------------------------------------------------------------------------------


@pytest.mark.timeout(900)
def test_an_overflow(places: Places) -> None:
    """The kernel's queue of events overflows while we stand still: counted, and all are processed within a rescan."""
    count = 100_000 if SOAK else 20_000
    with service(places, *QUICK) as running:
        os.kill(running.pid, signal.SIGSTOP)
        try:
            burst(places, range(count))
        finally:
            os.kill(running.pid, signal.SIGCONT)
        scrape = settled(running, count, 300 if SOAK else 50)
        if int(Path("/proc/sys/fs/inotify/max_queued_events").read_text(encoding="ascii")) < count:
            assert value(scrape, "fs_event_queue_overflows_total") >= 1
            assert running.events("overflow")
        assert value(scrape, "files_discovered_total", source="rescan") > 0
        assert not list(miscounted(scrape, running.events()))
        assert running.get("/healthz").status == running.get("/readyz").status == 200
    account_tiny(places, count)


def test_new_directories_race(places: Places) -> None:
    """mkdir, write and close at once, 2,000 times, as `storescp -su` does: found, and no directory is removed."""
    count = 2_000
    with service(places, *QUICK, "--rescan", "0.5") as running:
        for number in range(count):
            folder = f"{places.incoming}/study-{number}"
            os.mkdir(folder)
            write(f"{folder}/{number}", tiny(number))
        settled(running, count)
        assert len(list(places.incoming.iterdir())) == count
        # Directories that are there for longer are watched.
        discovered = value(running.scrape(), "files_discovered_total", source="event")
        rescan_on(running)
        write(f"{places.incoming}/study-7/more", tiny(count))
        scrape = settled(running, count + 1)
        assert value(scrape, "files_discovered_total", source="event") >= discovered
    account_tiny(places, count + 1)


# -- incoming is another directory now ---------------------------------------------------------------------------------


@contextmanager
def deleted(places: Places) -> Iterator[None]:
    shutil.rmtree(places.incoming)
    places.incoming.mkdir()
    yield


@contextmanager
def renamed(places: Places) -> Iterator[None]:
    away = places.incoming.rename(places.base / "outside")
    places.incoming.mkdir()
    try:
        yield
    finally:
        assert not list(files_below(away))
        shutil.rmtree(away)


@contextmanager
def mounted_over(places: Places) -> Iterator[None]:
    with tmpfs(places.incoming):
        yield
        # What is not processed when the mount goes is out of everybody's sight.
        until(lambda: not list(files_below(places.incoming, own=True)), 10, what="the mount is empty")


#: How, and whether the directory that was there before comes back.
REPLACED: dict[str, tuple[Callable[[Places], AbstractContextManager[None]], bool]] = {
    "deleted and made again": (deleted, False),
    "renamed and made again": (renamed, False),
    "mounted over": (mounted_over, True),
}


@pytest.mark.parametrize(("replaced", "returns"), REPLACED.values(), ids=REPLACED.keys())
def test_incoming_is_replaced(
    places: Places, replaced: Callable[[Places], AbstractContextManager[None]], *, returns: bool
) -> None:
    """Watched again within two rescans, found by events again, still owned; and once more when it returns."""
    with service(places, *QUICK, "--rescan", "0.5") as running:
        burst(places, range(5))
        settled(running, 5)
        with replaced(places):
            found_by_event(running, 5)
            done = once(places)
            assert (done.status, done.events) == (1, []), "the new directory has no owner"
        if returns:
            found_by_event(running, 6, times=2)
        total = int(value(running.scrape(), "files_processed_total"))
        until(lambda: running.get("/readyz").status == 200, 5, what="the directory of the start is back")
        until(lambda: value(running.scrape(), "watcher_alive") == 1, 5)
    account_tiny(places, total)


def found_by_event(running: Service, number: int, times: int = 1) -> None:
    """Once the loss was noticed so many times, write a file: found (by an event, or a rescan that was quicker)."""
    until(lambda: running.stderr.count("watching again") >= times, 5, what="the loss was noticed")
    until(lambda: value(running.scrape(), "watcher_alive") == 1, 5, what="watched again")
    burst(running.places, range(number, number + 1))
    settled(running, number + 1, 5)


# -- no inotify --------------------------------------------------------------------------------------------------------

#: In a user namespace of its own a process may have no inotify instance; nobody else notices.
NO_INOTIFY = (
    "unshare",
    "--user",
    "--map-root-user",
    "sh",
    "-c",
    'echo 0 > /proc/sys/user/max_inotify_instances && exec "$@"',
    "sh",
)


def test_inotify_instances_exhausted(places: Places) -> None:
    """Rescans alone find the files; said at the start with the remedy, told by a metric, ready all the same."""
    if subprocess.run([*NO_INOTIFY, "true"], capture_output=True, check=False).returncode:
        pytest.skip("no user namespaces here (unshare --user)")
    with service(places, *QUICK, "--rescan", "0.3", through=NO_INOTIFY) as running:
        scrape = running.scrape()
        assert value(scrape, "watcher_polling") == 1
        assert "fs.inotify.max_user_instances" in running.stderr
        assert running.get("/readyz").status == running.get("/healthz").status == 200
        burst(places, range(50))
        scrape = settled(running, 50)
        assert value(scrape, "files_discovered_total", source="event") == 0
        rescan_on(running)
        assert running.stderr.count("fs.inotify.max_user_instances") == 1, "said once, not with each rescan"
    account_tiny(places, 50)


# -- slow peers --------------------------------------------------------------------------------------------------------


def test_half_open_sockets(places: Places) -> None:
    """500 peers that never finish a request: files flow, and a scrape takes less than 100 ms."""
    with service(places, *QUICK) as running, ExitStack() as stack:
        host, _, port = running.address.rpartition(":")
        for _ in range(500):
            peer = stack.enter_context(socket.create_connection((host, int(port)), timeout=120))
            peer.send(b"GET /metrics HT")
        burst(places, range(300))
        times: list[float] = []
        # Once is enough: a busy machine is seldom quick, a server that looks at all of them never.
        while len(times) < 100 and min(times, default=9) > 0.1:
            begun = time.monotonic()
            running.page()
            times.append(time.monotonic() - begun)
        settled(running, 300)
        assert min(times) < 0.1, times
    account_tiny(places, 300)


def test_a_reader_of_events_that_stops_reading(places: Places) -> None:
    """Nobody reads standard output: intake goes on, and what was not read in time is told, never lost silently."""
    count = 2_000  # lines of about 400 bytes; a pipe holds 64 KiB
    with piped(places) as (process, reader):
        read_until(reader, b'"ready"')
        burst(places, range(count))
        until(lambda: sum(1 for _ in files_below(places.data)) == count, 30, what="published with nobody reading")
        process.send_signal(signal.SIGTERM)
        rest = read_until(reader, b'"stopped"')
        assert process.wait(120) == 0
    events = events_of(rest)
    assert sum(event["event"] == "published" for event in events) == count
    account_tiny(places, count)


@contextmanager
def piped(places: Places) -> Iterator[tuple[subprocess.Popen[bytes], int]]:
    """A service whose standard output is a pipe that the test reads, or does not."""
    arguments = ("run", *places.flags(), *QUICK, "--http", "off", "--min-free", "0", "--workers", "2")
    reader, writer = os.pipe()
    with (places.base / "stderr-piped.txt").open("wb") as stderr:
        process = subprocess.Popen(
            command(*arguments),
            env=environment(),
            stdin=subprocess.DEVNULL,
            stdout=writer,
            stderr=stderr,
            process_group=0,
        )
    os.close(writer)
    try:
        yield process, reader
    finally:
        kill_group(process.pid)
        process.wait()
        os.close(reader)


def read_until(reader: int, wanted: bytes) -> bytes:
    data = b""
    while wanted not in data and (piece := os.read(reader, 2**16)):
        data += piece
    assert wanted in data, data[-2000:]
    return data


# -- time --------------------------------------------------------------------------------------------------------------


@pytest.fixture
def libfaketime() -> str:
    for path in Path("/usr/lib").glob("*/faketime/libfaketime.so.1"):
        return str(path)
    pytest.skip("libfaketime is not installed (apt-get install faketime)")


def test_the_clock_jumps(places: Places, libfaketime: str) -> None:
    """An hour ahead, a day back, and home again: no negative lag, nothing stuck, alive and ready."""
    clock = places.base / "outside"
    clock.write_text("+0")
    through = (
        "env",
        f"LD_PRELOAD={libfaketime}",
        f"FAKETIME_TIMESTAMP_FILE={clock}",
        "FAKETIME_NO_CACHE=1",
        "FAKETIME_DONT_FAKE_MONOTONIC=1",
        "NO_FAKE_STAT=1",
    )
    jumps = ("+0", "+3600", "-86400", "+0")
    with service(places, *QUICK, "--rescan", "0.3", through=through) as running:
        for index, jump in enumerate(jumps):
            beside = places.base / "outside-new"
            beside.write_text(jump)
            beside.rename(clock)
            burst(places, range(20 * index, 20 * (index + 1)))
            scrape = settled(running, 20 * (index + 1), 10)
            assert running.get("/healthz").status == 200, jump
            ready = running.get("/readyz")
            assert ready.status == 200, (jump, ready.body)
            rescan_on(running, 1)
            assert value(scrape, "ingest_latency_seconds_sum") >= 0
        lags = [event["lag"] for event in running.events("published")]
        assert min(lags) >= 0
        times = [event["time"][:10] for event in running.events("published")]
        assert len(set(times)) > 1, "the clock did not jump"
        running.kill()  # Under libfaketime clock_nanosleep fails (EINVAL), hence every sleep of the way out.
    account_tiny(places, 20 * len(jumps))


# -- bursts ------------------------------------------------------------------------------------------------------------


@pytest.mark.timeout(900)
def test_sigterm_in_a_burst_again_and_again(places: Places) -> None:
    """Exit 0 each time while files keep coming; over all restarts nothing is lost or done twice."""
    rounds = 50 if SOAK else 10
    stop = threading.Event()
    written = 0

    def keep_coming() -> None:
        nonlocal written
        while not stop.is_set():
            burst(places, range(written, written + 20))
            written += 20
            stop.wait(0.02)

    sender = threading.Thread(target=keep_coming)
    sender.start()
    try:
        for _ in range(rounds):
            with service(places, *QUICK, "--drain", "0.1", ready=False) as running:
                running.wait_for("published")
                assert running.stop() == 0
                assert len(running.events("stopped")) == 1
    finally:
        stop.set()
        sender.join()
    done = once(places, *QUICK)
    assert done.status == 0, done
    account_tiny(places, written)


def test_a_hung_worker_in_a_burst(places: Places) -> None:
    """SIGSTOP of one worker: the other goes on meanwhile; the first is replaced at its deadline, its files done."""
    with service(places, *QUICK, "--deadline", "6") as running:
        # Both have begun: a worker has longer for its start.
        burst(places, range(200))
        settled(running, 200)
        victim = running.workers()[0]
        os.kill(victim, signal.SIGSTOP)
        burst(places, range(200, 400))
        scrape = settled(running, 400, 20)
        assert value(scrape, "worker_restarts_total", reason="deadline") >= 1
        until(lambda: len(running.workers()) == 2, 10, what="two workers")
        assert victim not in running.workers()
    account_tiny(places, 400)


# -- more than the queue holds -----------------------------------------------------------------------------------------


def moment(event: Event) -> float:
    return datetime.fromisoformat(event["time"]).timestamp()


@pytest.mark.timeout(900)
def test_a_backlog_beyond_the_queue(places: Places) -> None:
    """Three times what the bounded queue holds waits at the start: all is published, the gauge tells all of it."""
    count = 100_000 if SOAK else 30_000
    burst(places, range(count))
    with service(places, *QUICK) as running:
        scrape = running.scrape()
        known = value(scrape, "pending_files") + value(scrape, "files_processed_total")
        assert known >= 0.9 * count, "files beyond the queue are not told"
        early = rss(running.pid)
        scrape = settled(running, count, 600 if SOAK else 50)
        assert rss(running.pid) < max(1.2 * early, early + 2**24), "memory grew with the backlog"
        assert not list(miscounted(scrape, running.events()))
    account_tiny(places, count)


def first_published(running: Service) -> float:
    """How long after the start the first file was published, in seconds."""
    first = running.wait_for("published")[0]
    return moment(first) - moment(running.wait_for("started")[0])


@pytest.mark.timeout(900)
def test_the_first_of_very_many(places: Places) -> None:
    """100,000 files wait: the first is published not much later than where it waits alone; a stop is quick."""
    count = 1_000_000 if SOAK else 100_000
    burst(places, range(1))
    with service(places, *QUICK) as running:
        alone = first_published(running)
    burst(places, range(1, count))
    with service(places, *QUICK, "--drain", "0", "--ready-backlog", str(count), ready=False) as running:
        assert first_published(running) < alone + 10
        running.wait_for("ready", seconds=60)
        scrape = running.scrape()
        assert value(scrape, "pending_files") + value(scrape, "files_processed_total") >= 0.9 * count
        assert rss(running.pid) < 150 * 2**20
        begun = time.monotonic()
        assert running.stop() == 0
        assert time.monotonic() - begun < 60
        left = running.events("stopped")[0]["left"]
        assert left + len(running.events("published")) >= 0.9 * count


# -- poison ------------------------------------------------------------------------------------------------------------

#: What no reader likes, by name.
POISON: dict[str, Callable[[int], bytes]] = {
    "empty": lambda number: b"",
    "text": lambda number: b"not DICOM at all\n" * (1 + number % 99),
    "cut": lambda number: tiny(90_000_000 + number)[:-7],
    "zeros": lambda number: b"\0" * 5000,
    "only a preamble": lambda number: b"\0" * 128 + b"DICM",
    "a length that lies": lambda number: tiny(90_000_000 + number) + b"\xe0\x7f\x10\x00OW\0\0\xff\xff\xff\x7f",
}


def good_lags(places: Places, *, poisoned: bool) -> list[float]:
    """Lags of 300 good files; with as many poisonous ones between them."""
    bad = 0
    with service(places, *QUICK) as running:
        makers = list(POISON.values())
        for number in range(300):
            burst(places, range(number, number + 1))
            if poisoned:
                write(f"{places.incoming}/bad-{number}", makers[number % len(makers)](number))
                bad += 1
        scrape = settled(running, 300 + bad)
        assert value(scrape, "files_processed_total", outcome="set-aside") == bad
        assert value(scrape, "worker_restarts_total") == 0
        return sorted(event["lag"] for event in running.events("published"))


def test_poison_among_good_files(tmp_path: Path) -> None:
    """300 files that nobody can read between 300 good ones: those are published about as soon as without."""
    clean = make_places(tmp_path / "clean")
    mixed = make_places(tmp_path / "mixed")
    without = good_lags(clean, poisoned=False)
    among = good_lags(mixed, poisoned=True)
    account_tiny(clean, 300)
    account_tiny(mixed, 300)
    p99 = int(0.99 * 300)
    assert among[p99] < 5 * without[p99] + 1, (among[p99], without[p99])
