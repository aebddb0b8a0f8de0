"""The status document and how it is shown, without a service: pure parts, the word's file, the command."""

from __future__ import annotations

import fcntl
import math
import os
import pty
import re
import select
import signal
import struct
import subprocess
import termios
import threading
import time
from bisect import bisect_left
from pathlib import Path
from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from listener.status import snapshot
from listener.status.document import ENDED, LOST_AFTER, DirectoryTotals, LedgerView, document
from listener.status.formatting import plain, rate, share, size, span
from listener.status.history import SLOT, SLOTS, History, Sample, quantile
from listener.status.snapshot import sample, snapshot_of
from listener.status.terminal import render
from listener.telemetry.metric_rows import LATENCY, Histogram, Numbers
from tests.service_process import command, environment, listener, start
from tests.status.rows import HOSTILE, series
from tests.waiting import until

NOW = 1_800_000_000 * 10**9


def a_word(**numbers: float) -> dict[str, Any]:
    """The word of a service that runs since a second ago."""
    service = {"version": "1", "started": "2026-11-21T07:00:00.000000Z", "state": "ready", "checks": {}}
    held = Numbers()
    for name, value in numbers.items():
        held.gauges[name] = dict.fromkeys(held.gauges[name], value)
    return snapshot_of(held, History(LATENCY), service, NOW)


# -- history -----------------------------------------------------------------------------------------------------------


def lags(count: int = 0, bucket: int = 0) -> tuple[int, ...]:
    counts = [0] * (len(LATENCY) + 1)
    counts[bucket] = count
    return tuple(counts)


def test_rates_are_differences_over_the_last_minute() -> None:
    history = History(LATENCY)
    for second in range(200):
        files = 10 * second if second < 150 else 1490 + 40 * (second - 149)
        history.add(Sample(files, files * 1000, lags(files), 5), float(second))
    told = history.rates()
    assert told["window_seconds"] == 60.0
    # the last minute: 10 s at 10 and 50 s at 40
    assert told["files_per_second"] == pytest.approx((10 * 10 + 50 * 40) / 60, rel=1e-3)
    assert told["bytes_per_second"] == pytest.approx(1000 * told["files_per_second"], rel=1e-3)


def test_an_hour_of_points_is_kept_and_no_more() -> None:
    history = History(LATENCY)
    for second in range(0, 5000, 2):
        history.add(Sample(second, 0, lags(), second % 100), float(second))
    assert len(history.points) == SLOTS
    assert 4980 < history.points[-1].at < 5000
    assert history.points[-1].at - history.points[0].at == pytest.approx(3600, abs=2 * SLOT)
    assert all(point.files == pytest.approx(1.0) and point.lag is None for point in history.points)
    assert max(point.backlog for point in history.points) == 98  # the highest within a slot, not the last


def test_a_backlog_between_two_points_is_not_overlooked() -> None:
    history = History(LATENCY)
    for second in range(21):
        history.add(Sample(0, 0, lags(), 900 if second == 4 else 0), float(second))
    assert [point.backlog for point in history.points] == [900, 0]


def test_without_files_there_is_no_lag() -> None:
    history = History(LATENCY)
    assert history.rates() == {"window_seconds": 0.0, "files_per_second": 0.0, "bytes_per_second": 0.0}
    for second in range(3):
        history.add(Sample(0, 0, lags(), 0), float(second))
    assert history.lag() == {"median_seconds": None, "p95_seconds": None}


@given(st.lists(st.floats(0, 1000), min_size=1), st.floats(0.01, 1))
def test_a_quantile_lies_in_the_bucket_of_the_value_it_stands_for(values: list[float], part: float) -> None:
    histogram = Histogram(LATENCY)
    for one in values:
        histogram.observe(one)
    found = quantile(part, LATENCY, histogram.counts)
    meant = sorted(values)[max(1, math.ceil(part * len(values))) - 1]
    bucket = min(bisect_left(LATENCY, meant), len(LATENCY) - 1)
    assert found is not None
    low = LATENCY[bucket - 1] if bucket else 0.0
    assert (low if meant <= LATENCY[-1] else LATENCY[-1]) - 1e-6 <= found <= LATENCY[bucket] + 1e-6


def test_a_quantile_is_what_prometheus_makes_of_the_same_buckets() -> None:
    # histogram_quantile(0.5, ...) of 10 observations in (0.1, 0.25] and 30 in (0.25, 0.5]
    counts = [0] * (len(LATENCY) + 1)
    counts[7], counts[8] = 10, 30
    assert quantile(0.5, LATENCY, counts) == pytest.approx(0.25 + 0.25 * 10 / 30)
    assert quantile(0.95, LATENCY, lags(4, len(LATENCY))) == LATENCY[-1]


def test_what_was_lost_is_counted_for_an_hour() -> None:
    history = History(LATENCY)
    for second in range(0, 3600, 2):
        history.add(
            Sample(0, 0, lags(), 0, lost_workers=second >= 100, lost_events=2 * (second >= 3599)), float(second)
        )
    assert history.lost() == {"workers": 1, "events": 0}
    history.add(Sample(0, 0, lags(), 0, 1, 2), 3601.0)
    assert history.lost() == {"workers": 1, "events": 2}, "at once, not with the next point"
    for second in range(3602, 3720, 2):
        history.add(Sample(0, 0, lags(), 0, 1, 2), float(second))
    assert history.lost() == {"workers": 0, "events": 2}


def test_charts_go_on_after_a_restart_and_end_after_an_hour() -> None:
    history = History(LATENCY)
    for second in range(0, 1000, 2):
        history.add(Sample(second, 0, lags(second), 5), float(second))
    saved = orjson.loads(orjson.dumps(history.saved(1000.0)))
    later = History(LATENCY)
    later.restore(saved, 60.0, 0.0)  # on another clock, as after a boot
    assert len(later.points) == len(history.points)
    assert later.points[-1][1:] == history.points[-1][1:]
    assert later.points[-1].at == pytest.approx(history.points[-1].at - 1060, abs=0.1)
    late = History(LATENCY)
    late.restore(saved, 3000.0, 0.0)
    assert 0 < len(late.points) < len(history.points)
    late.restore(saved, -7200.0, 0.0)  # the clock was set back: what seems to come from the future is left out
    assert all(point.at <= 0 for point in late.points)


# -- the document ------------------------------------------------------------------------------------------------------


def test_a_running_service_has_the_say() -> None:
    looked = DirectoryTotals({"empty": (9, 9)}, {"data": {"size": 1, "available": 1, "files": 1, "files_free": 1}})
    found = document(a_word(pending_files=2, workers=3), looked, LedgerView(), NOW)
    assert found["service"]["state"] == "ready"
    assert found["backlog"]["files"] == 6  # two in each of three states
    assert found["workers"] == {"all": 3, "busy": 0}
    assert found["set_aside"]["files"] == 0
    assert list(found["volumes"]) == ["incoming", "data", "log", "state"]


@pytest.mark.parametrize(
    ("word_", "later", "state"),
    [
        (None, 0, "absent"),
        ({"state": "ready"}, LOST_AFTER + 1, "lost"),
        ({"state": "draining"}, -LOST_AFTER - 1, "lost"),  # the clock was set back
        ({"state": "stopped"}, 10**6, "stopped"),
    ],
)
def test_without_a_service_what_only_it_knows_is_left_open(
    word_: dict[str, Any] | None, later: float, state: str
) -> None:
    said = a_word() | word_ if word_ is not None else None
    looked = DirectoryTotals({"empty": (2, 30), "conflict": (0, 0)}, {})
    found = document(said, looked, LedgerView(counts={"open": 4}), NOW + int(later * 1e9))
    assert found["service"]["state"] == state
    assert found["rates"] is found["lag"] is found["backlog"] is found["workers"] is found["files"] is None
    assert found["service"]["checks"] == {}
    assert found["set_aside"] == {"files": 2, "bytes": 30, "reasons": {"empty": {"files": 2, "bytes": 30}}}
    assert found["series"] == {"open": 4, "complete": 0, "incomplete": 0}


def test_the_word_is_made_of_the_metrics() -> None:
    numbers = Numbers()
    numbers.add("files_processed_total", 7, "published")
    numbers.add("files_processed_total", 2, "set-aside")
    numbers.add("incoming_bytes_total", 900)
    numbers.set("set_aside_files", 2, "empty")
    numbers.set("oldest_pending_timestamp_seconds", NOW / 1e9 - 5)
    numbers.set("filesystem_avail_bytes", 123.0, "log")
    assert sample(numbers)[:2] == (9, 900)
    said = snapshot_of(numbers, History(LATENCY), {}, NOW)
    assert said["files"] == {"published": 7, "duplicate": 0, "set-aside": 2, "vanished": 0}
    assert said["set_aside"]["reasons"] == {"empty": {"files": 2, "bytes": 0}}
    assert said["backlog"]["oldest_seconds"] == pytest.approx(5, abs=0.001)
    assert said["volumes"]["log"]["available"] == 123


# -- how it is shown ---------------------------------------------------------------------------------------------------


def test_figures() -> None:
    assert [size(n) for n in (0, 999, 1000, 1234567, 999_600, 5e12)] == [
        "0 B",
        "999 B",
        "1 kB",
        "1.23 MB",
        "1 MB",
        "5 TB",
    ]
    assert [span(n) for n in (None, 0.004, 1.52, 90, 125, 7200, 200_000)] == [
        "\N{EN DASH}", "4 ms", "1.5 s", "90 s", "2 min", "2 h", "2 d"
    ]  # fmt: skip
    assert [rate(n) for n in (0, 0.25, 12.34, 1250)] == ["0", "0.25", "12.3", "1,250"]
    assert [share(*n) for n in ((0, 0), (999, 1000), (1000, 1000), (1, 3))] == ["\N{EN DASH}", "99 %", "100 %", "33 %"]


def test_the_screen_shows_whole_uids_and_bars() -> None:
    long = "1." + "2" * 62
    told = LedgerView(
        counts={"open": 3, "complete": 1},
        in_flight=[series(long), series("1.2.4", expected=0, instances=7)],
        ended=[series("1.2.5", state="complete", result="late", generation=2)],
    )
    shown = render(document(a_word(), None, told, NOW))
    assert re.search(rf"#####\.{{15}}  48 of 192 .* {long}\n", shown)
    assert "and 1 more" in shown
    assert "late" in shown
    assert "(generation 2)" in shown
    assert "listener 1: ready, since 2026-11-21 07:00:00; now 2027-01-15 08:00:00 UTC" in shown
    assert re.search(r"^in flight +instances  modality +size  sender +series$", shown, re.MULTILINE)
    assert re.search(r"^completed \(UTC\) +result +instances  modality +size  sender +series$", shown, re.MULTILINE)


@pytest.mark.parametrize("columns", [40, 60, 80, 100, 200])
@pytest.mark.parametrize("sender", ["CT", "S" * 16])
def test_a_screen_is_never_wider_than_it_is(columns: int, sender: str) -> None:
    long = "1." + "2" * 57 + ".3333"
    told = LedgerView(
        "the ledger cannot be read, and this says at some length why that is, and what may be done about it",
        counts={"open": 3, "complete": 1},
        in_flight=[series(long, sender=sender), series(long, instances=123_456, expected=1_234_567)],
        ended=[series(long, state="complete", result="incomplete", generation=2, sender=sender)],
    )
    lines = render(document(a_word(), None, told, NOW), columns).splitlines()
    assert max(map(len, lines)) <= columns
    assert lines[0].endswith("2027-01-15 08:00:00 UTC")
    if columns >= 80:
        tails = [line for line in lines if line.endswith(".3333")]
        assert len(tails) == 3, "what tells series apart is seen: the end of their UIDs"
        assert all(long in line for line in tails) is (columns == 200)


def test_what_a_sender_chose_moves_no_cursor() -> None:
    told = LedgerView(in_flight=[series(HOSTILE, Modality=HOSTILE, sender=HOSTILE)], counts={"open": 1})
    shown = render(document(a_word(), None, told, NOW))
    assert not [one for one in shown if not one.isprintable() and one != "\n"]
    assert plain("a\x1b\u202e") == "a\ufffd\ufffd"
    assert max(map(len, shown.splitlines())) < 160


# -- the word's file ---------------------------------------------------------------------------------------------------


def test_the_word_is_read_as_it_was_written(tmp_path: Path) -> None:
    writer = snapshot.SnapshotFile(str(tmp_path))
    for number in (1, 2):
        writer.write({"number": number, "more": "x" * 9000 * (2 - number)})
        assert (snapshot.read(str(tmp_path)) or {})["number"] == number
    os.unlink(snapshot.path_of(str(tmp_path)))
    assert snapshot.read(str(tmp_path)) is None
    writer.write({"number": 3})  # made anew
    assert snapshot.read(str(tmp_path)) == {"number": 3}
    writer.close()


def test_a_torn_word_is_none(tmp_path: Path) -> None:
    Path(snapshot.path_of(str(tmp_path))).write_bytes(snapshot.pack({"a": 1})[:12])
    assert snapshot.read(str(tmp_path)) is None


def test_readers_beside_a_writer_see_whole_words(tmp_path: Path) -> None:
    seen: set[int] = set()
    writer, done = snapshot.SnapshotFile(str(tmp_path)), threading.Event()
    writer.write({"number": 0, "filled": ""})

    def write() -> None:
        number = 0
        while not done.is_set():
            number += 1
            writer.write({"number": number, "filled": str(number % 10) * (number * 37 % 7000)})

    thread = threading.Thread(target=write)
    thread.start()
    try:
        end = time.monotonic() + 120
        while len(seen) <= 20 and time.monotonic() < end:
            found = snapshot.read(str(tmp_path))
            assert found is not None
            assert len(set(found["filled"])) <= 1
            seen.add(found["number"])
    finally:
        done.set()
        thread.join()
        writer.close()
    assert len(seen) > 20


def terminal(*args: str, columns: int, lines: int) -> tuple[subprocess.Popen[bytes], int]:
    """A command on a terminal of that size, and the other end of it."""
    ours, theirs = os.openpty()
    fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", lines, columns, 0, 0))
    process = subprocess.Popen(
        command(*args), env=environment(COLUMNS="", LINES=""), stdin=theirs, stdout=theirs, process_group=0
    )
    os.close(theirs)
    return process, ours


# -- the command -------------------------------------------------------------------------------------------------------


@pytest.mark.real
def test_where_nothing_ever_ran_status_says_so(tmp_path: Path) -> None:
    done = listener("status", "--state", str(tmp_path / "nowhere"))
    assert done.status == 1
    assert "no listener has run" in done.stderr
    assert not list(tmp_path.iterdir()), "it makes nothing"


@pytest.mark.real
def test_watch_on_a_terminal_draws_over_what_was_there(tmp_path: Path) -> None:
    """As much as fits, and no line is broken."""
    writer = snapshot.SnapshotFile(str(tmp_path))
    writer.write(a_word() | {"state": "stopped", "version": "v" * 100})
    writer.close()
    process, ours = terminal("status", "--state", str(tmp_path), "--watch", columns=70, lines=8)
    try:
        seen = frames(ours, 2)
    finally:
        process.send_signal(2)
        assert process.wait(120) == 0
        os.close(ours)
    frame = seen.split(_FRAME)[1].decode().splitlines()
    assert len(frame) == 8
    assert max(map(len, frame)) == 70
    assert frame[0].startswith("listener vvv")
    assert frame[-2:] == ["", "Ctrl-C ends"], "a job in the background reads no keys"


_FRAME = b"\033[H\033[J"


def frames(ours: int, number: int) -> bytes:
    """What a terminal shows, until so many frames are whole."""
    seen = b""
    while seen.count(b" ends") < number:
        assert select.select([ours], [], [], 120)[0], seen
        seen += os.read(ours, 65536)
    return seen


def in_front(folder: Path, *, columns: int, lines: int) -> tuple[int, int]:
    """A `status --watch` that has a terminal for itself, as below a shell; its process and the terminal."""
    writer = snapshot.SnapshotFile(str(folder))
    writer.write(a_word() | {"state": "stopped"})
    writer.close()
    pid, ours = pty.fork()
    if pid == 0:
        fcntl.ioctl(0, termios.TIOCSWINSZ, struct.pack("HHHH", lines, columns, 0, 0))
        words = command("status", "--state", str(folder), "--watch")
        os.execve(words[0], words, environment(COLUMNS="", LINES=""))  # noqa: S606 - ours
    return pid, ours


def status_of(pid: int) -> int:
    def ended() -> list[int]:
        found, status = os.waitpid(pid, os.WNOHANG)
        return [os.waitstatus_to_exitcode(status)] if found else []

    return until(ended, 10)[0]


@pytest.mark.real
@pytest.mark.parametrize("end", ["q", "Q", "\x04", "\x03", signal.SIGTERM, signal.SIGQUIT])
def test_a_key_or_a_signal_ends_it_and_the_terminal_is_as_before(tmp_path: Path, end: str | signal.Signals) -> None:
    pid, ours = in_front(tmp_path, columns=80, lines=24)
    try:
        before = termios.tcgetattr(ours)
        frame = frames(ours, 1).split(_FRAME)[1].decode().splitlines()
        assert max(map(len, frame)) == 80
        assert frame[-1] == "q ends"
        assert not termios.tcgetattr(ours)[3] & (termios.ICANON | termios.ECHO)
        if isinstance(end, str):
            os.write(ours, end.encode())
        else:
            os.kill(pid, end)
        assert status_of(pid) == (0 if isinstance(end, str) else -end)
        assert termios.tcgetattr(ours) == before
    finally:
        os.close(ours)


@pytest.mark.real
def test_stopped_it_gives_the_terminal_back_and_goes_on_afterwards(tmp_path: Path) -> None:
    pid, ours = in_front(tmp_path, columns=80, lines=24)
    try:
        before = termios.tcgetattr(ours)
        frames(ours, 1)
        raw = termios.tcgetattr(ours)
        assert raw != before
        os.kill(pid, signal.SIGTSTP)
        # No shell stands above it, so the kernel does not stop an orphan: it goes on at once.
        frames(ours, 2)
        until(lambda: termios.tcgetattr(ours) == raw, 10)
        os.write(ours, b"q")
        assert status_of(pid) == 0
        assert termios.tcgetattr(ours) == before
    finally:
        os.close(ours)


@pytest.mark.real
def test_watch_shows_it_again_and_again(tmp_path: Path) -> None:
    writer = snapshot.SnapshotFile(str(tmp_path))
    writer.write(a_word() | {"state": "stopped"})
    writer.close()

    process = start("status", "--state", str(tmp_path), "--watch", "--json")
    try:
        assert process.stdout is not None
        lines = [orjson.loads(process.stdout.readline()) for _ in range(2)]
    finally:
        process.send_signal(2)
        assert process.wait(120) == 0
        process.communicate()
    assert [line["service"]["state"] for line in lines] == ["stopped", "stopped"]
    assert lines[0]["time"] < lines[1]["time"]
    assert ENDED == 50
    until(lambda: process.poll() is not None)
