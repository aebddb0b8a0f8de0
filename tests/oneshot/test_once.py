"""`listener once`: everything in incoming now, in byte order, with a summary and a status that tells."""

from __future__ import annotations

import contextlib
import io
import os
import re
import subprocess
import sys
from pathlib import Path

import orjson
import pytest

from listener import cli
from listener.oneshot.progress import Progress
from listener.records import Deferral, Outcome
from listener.status.formatting import span
from listener.telemetry.events import Events
from tests.holders import writer
from tests.instances import uid, write_instance
from tests.workbench import Bench, contents, directory_options

pytestmark = pytest.mark.real

FOUR = ("incoming", "data", "log", "state")


def run(folder: Path, *more: str) -> int:
    return cli.main(["once", *directory_options(folder, *FOUR), "--min-free=0", "--fsync=none", "--workers=2", *more])


def events(capture: pytest.CaptureFixture[bytes]) -> list[dict[str, object]]:
    return [orjson.loads(line) for line in capture.readouterr().out.splitlines()]


def incoming(folder: Path, count: int = 3) -> Path:
    (folder / "incoming").mkdir()
    for number in range(1, count + 1):
        write_instance(folder / f"incoming/{number}", number=number)
    return folder / "incoming"


def test_all_is_published_and_the_status_is_zero(tmp_path: Path, capfdbinary: pytest.CaptureFixture[bytes]) -> None:
    source = incoming(tmp_path, 70)
    (source / "deep/er").mkdir(parents=True)
    write_instance(source / "deep/er/x", number=99)
    assert run(tmp_path) == 0
    said = capfdbinary.readouterr()
    lines = [orjson.loads(line) for line in said.out.splitlines()]
    assert [line["event"] for line in lines] == ["published"] * 71
    assert said.err.startswith(b"71 published; ")
    assert contents(source) == {}
    assert (source / "deep/er").is_dir(), "directories are storescp's"
    assert len(contents(tmp_path / "data")) == 71


def test_nothing_to_do(tmp_path: Path, capfdbinary: pytest.CaptureFixture[bytes]) -> None:
    assert run(tmp_path) == 0
    assert capfdbinary.readouterr().err.startswith(b"nothing to do; ")


def test_a_second_time_duplicates_are_told_and_the_status_is_zero(
    tmp_path: Path, capfdbinary: pytest.CaptureFixture[bytes]
) -> None:
    source = incoming(tmp_path)
    assert run(tmp_path) == 0
    before = contents(tmp_path / "data")
    write_instance(source / "again", number=1)
    write_instance(source / "newer", number=2, pixels=8)
    assert run(tmp_path) == 0
    told = events(capfdbinary)[3:]
    assert sorted(str(one["event"]) for one in told) == ["duplicate", "published"]
    assert [one.get("superseded") for one in told if one["event"] == "published"] == [True]
    assert contents(tmp_path / "data").keys() == before.keys()


def test_what_is_set_aside_makes_the_status_one(tmp_path: Path, capfdbinary: pytest.CaptureFixture[bytes]) -> None:
    source = incoming(tmp_path)
    (source / "text").write_text("hello")
    (source / "empty").touch()
    assert run(tmp_path) == 1
    assert contents(source) == {}
    said = capfdbinary.readouterr()
    assert b"3 published" in said.err
    assert b"2 set-aside" in said.err
    assert b"  not-dicom: 1\n" in said.err
    assert b"  empty: 1\n" in said.err
    assert run(tmp_path) == 0, "a second look finds nothing wrong"


@pytest.mark.parametrize(
    ("which", "kinds"), [("all", {"published", "set-aside"}), ("series", {"set-aside"}), ("off", set())]
)
def test_which_events_are_written(
    which: str, kinds: set[str], tmp_path: Path, capfdbinary: pytest.CaptureFixture[bytes]
) -> None:
    (incoming(tmp_path) / "text").write_text("hello")
    assert run(tmp_path, f"--events={which}") == 1
    told = {event["event"] for event in events(capfdbinary)}
    assert told & {"published", "set-aside"} == kinds
    assert told or which == "off"


def test_what_is_left_makes_the_status_one(tmp_path: Path, capfdbinary: pytest.CaptureFixture[bytes]) -> None:
    source = incoming(tmp_path)
    with writer(source / "2"):
        assert run(tmp_path, "--settle=0") == 1
    assert b"1 left in incoming" in capfdbinary.readouterr().err
    assert list(contents(source)) == ["2"]
    assert run(tmp_path) == 0


def test_claims_that_a_killed_service_left_are_done_first(
    tmp_path: Path, capfdbinary: pytest.CaptureFixture[bytes]
) -> None:
    bench = Bench(tmp_path)
    claimed = bench.work([]) == [] and bench.put("claimed", number=9)
    assert isinstance(claimed, Path)
    os.rename(claimed, f"{bench.directories.claims[0]}/{1:019d}.0-0.0.claimed")
    bench.put("waiting")
    assert run(tmp_path, "--workers=1") == 0
    assert [one["src"] for one in events(capfdbinary)] == ["claimed", "waiting"]
    assert bench.claims() == []


def test_temporaries_that_a_killed_service_left_are_removed(
    tmp_path: Path, capfdbinary: pytest.CaptureFixture[bytes]
) -> None:
    bench = Bench(tmp_path)
    left = Path(bench.directories.log_staging, "left")
    left.touch()
    assert run(tmp_path) == 0
    assert not left.exists()


def test_files_are_taken_in_byte_order(tmp_path: Path, capfdbinary: pytest.CaptureFixture[bytes]) -> None:
    (tmp_path / "incoming").mkdir()
    names = ["b", "a", "10", "9", "B", "ä", os.fsdecode(b"\xff")]
    for number, name in enumerate(names, 1):
        write_instance(tmp_path / "incoming" / name, number=number)
    assert run(tmp_path, "--workers=1") == 0
    assert [one["src"] for one in events(capfdbinary)] == ["10", "9", "B", "a", "b", "ä", "\\xff"]


def test_keep_source_leaves_incoming_as_it_is(tmp_path: Path, capfdbinary: pytest.CaptureFixture[bytes]) -> None:
    source = incoming(tmp_path)
    (source / "text").write_text("hello")
    before = contents(source)
    assert run(tmp_path, "--keep-source") == 1
    assert run(tmp_path, "--keep-source") == 0, "what was done is remembered, what was set aside too"
    assert contents(source) == before
    assert len(contents(tmp_path / "data")) == 3
    assert len(events(capfdbinary)) == 4


def test_in_a_process_of_its_own(tmp_path: Path) -> None:
    incoming(tmp_path)
    command = [sys.executable, "-m", "listener", "once", *directory_options(tmp_path, *FOUR), "--min-free=0"]
    done = subprocess.run(command, capture_output=True, check=False, timeout=120)
    assert done.returncode == 0
    told = {orjson.loads(line)["SOPInstanceUID"] for line in done.stdout.splitlines()}
    assert told == {uid("instance", 0, 0, 0, number) for number in (1, 2, 3)}


# -- progress ---------------------------------------------------------------------------------------------------------


class Screen(io.StringIO):
    def isatty(self) -> bool:
        return True


def outcome(kind: str = "published", **more: object) -> Outcome:
    return Outcome(kind, "/in/x", 0, 1, 2, size=1_000_000, **more)  # type: ignore[arg-type]


def test_a_line_on_a_terminal_and_none_elsewhere() -> None:
    for screen in (Screen(), io.StringIO()):
        progress = Progress(Events(phi=False, descriptor=None), screen, tick=0.0)
        for _ in range(4):
            progress.discovered("startup")
        progress.finished([outcome(), outcome("set-aside", reason="empty")])
        assert ("2 of 4 files, 2.0 MB" in screen.getvalue()) is screen.isatty()


def test_percent_and_time_left_once_all_files_are_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    """They are counted when a line is due, which a short run never has."""
    clock, counted = [0.0], []

    def left() -> int:
        counted.append(clock[0])
        return 150

    monkeypatch.setattr("listener.oneshot.progress.time.monotonic", lambda: clock[0])
    for screen, due in ((Screen(), 0.2), (io.StringIO(), 30.0)):
        clock[0] = 0.0
        progress = Progress(Events(phi=False, descriptor=None), screen)
        progress.counts_left = left
        for moment in (due / 2, due, due * 2):
            clock[0] = moment
            progress.finished([outcome()] * 25)
        drawn = screen.getvalue().replace("\r\033[K", "\n").split("\n")
        rate = 50 / due
        shown = [line for line in drawn if line]
        assert shown[0] == f"25 %, {span(150 / rate)} left: 50 of 200 files, 50.0 MB, {rate:.0f} files/s"
        assert shown[1].startswith("37 %, ")
        assert shown[1].endswith(f"75 of 200 files, 75.0 MB, {75 / due / 2:.0f} files/s")
    assert counted == [0.2, 30.0]


def test_files_that_come_meanwhile_are_never_more_than_all() -> None:
    progress = Progress(Events(phi=False, descriptor=None), screen := Screen(), tick=0.0)
    progress.counts_left = lambda: 0
    progress.finished([outcome()])
    for _ in range(4):
        progress.discovered("startup")
    progress.finished([outcome()] * 3)
    assert screen.getvalue().rpartition("\033[K")[2].startswith("100 %, 0 ms left: 4 of 4 files")


@pytest.mark.slow
def test_a_real_run_on_a_terminal_shows_how_long_it_will_take(tmp_path: Path) -> None:
    source = incoming(tmp_path, 1)
    for number in range(2, 1500):
        os.link(source / "1", source / f"copy{number}")
    ours, theirs = os.openpty()
    command = [sys.executable, "-m", "listener", "once", *directory_options(tmp_path, *FOUR), "--min-free=0"]
    process = subprocess.Popen(command, stdin=theirs, stdout=subprocess.DEVNULL, stderr=theirs)
    os.close(theirs)
    seen = b""
    with contextlib.suppress(OSError):  # the end of a terminal
        while piece := os.read(ours, 65536):
            seen += piece
    os.close(ours)
    assert process.wait(120) == 0
    lines = seen.decode().split("\r\033[K")
    assert [line for line in lines if re.match(r"\d+ %, \d.* left: \d+ of 1499 files, ", line)], seen


def test_the_summary_tells_counts_reasons_and_what_is_left() -> None:
    screen = io.StringIO()
    progress = Progress(Events(phi=False, descriptor=None), screen)
    progress.finished([outcome(), outcome(), outcome("set-aside", reason="empty"), outcome("vanished")])
    progress.refused(Deferral("/in/y", 0, 1, "no-space", "place", "No space left on device"))
    progress.summary(5)
    first, *reasons = screen.getvalue().splitlines()
    assert first.startswith("2 published, 1 set-aside, 1 vanished, 5 left in incoming; 4.0 MB in ")
    assert sorted(reasons) == ["  empty: 1", "  no-space (No space left on device): 1"]
