"""The benchmark measures what was really done, and nothing else."""

from __future__ import annotations

import csv
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any
from xml.etree import ElementTree as ET

import orjson
import pydicom
import pytest

from listener.benchmark import backfilling, capacity, energy, picture, processes, reading, repackers, table
from listener.benchmark.corpus import Corpus
from listener.benchmark.cost import cost
from listener.benchmark.figures import Figure, Lag, Sample, figures
from listener.benchmark.protocols import PROTOCOLS, Protocol, write
from listener.benchmark.request import PARTS, Request, Shape
from listener.benchmark.schedule import Rounds
from listener.benchmark.verify import Unfinished, verify
from listener.benchmark.workdir import WorkDir
from listener.errors import STEPS, ConfigError
from tests.conftest import PROJECT
from tests.instances import write_instance
from tests.service_process import Done, finish, listener, start
from tests.waiting import until


def bench(folder: Path, *words: str) -> Done:
    """`listener bench` in a folder of the test's own."""
    return listener("bench", "--repeat=1", f"--dir={folder}", *words)


@pytest.fixture(autouse=True)
def nobody_is_adopted(monkeypatch: pytest.MonkeyPatch) -> None:
    """What runs in the test's own process must not make it the parent of later tests' orphans."""
    monkeypatch.setattr(processes, "adopt", lambda: None)


@pytest.fixture
def home(tmp_path: Path) -> Iterator[Path]:
    """A folder in memory where there is one: runs wait until their files are on the disk."""
    memory = Path("/dev/shm")  # noqa: S108
    with tempfile.TemporaryDirectory(dir=memory if os.access(memory, os.W_OK) else tmp_path) as folder:
        yield Path(folder)


def programs(done: Done) -> dict[str, dict[str, Any]]:
    """Group -> program -> figure."""
    groups = orjson.loads(done.stdout)["groups"]
    return {group["title"]: {one["program"]: one for one in group["figures"]} for group in groups}


# -- the command -------------------------------------------------------------------------------------------------------


@pytest.mark.real
def test_once_is_measured_at_both_levels_and_nothing_is_left(tmp_path: Path, home: Path) -> None:
    plot, emissions = tmp_path / "out.svg", tmp_path / "emissions.csv"
    words = (
        "--files=60",
        "--size=4KiB",
        "--only=once",
        "--json",
        f"--plot={plot}",
        f"--emissions={emissions}",
    )
    done = bench(home, *words)
    assert done.status == 0, done.stderr
    rows = programs(done)["repacking"]
    assert list(rows) == ["once --fsync none", "once --fsync batch"]
    assert rows["once --fsync none"]["ratio"] == 1
    for row in rows.values():
        assert row["files"] == 60
        assert row["files_a_second"] > 0
        assert 10 < row["pss_mb"] < row["rss_mb"] < 1000
        assert row["processes"] >= 2
    assert not list(home.iterdir())
    assert "round 1 of 1: once --fsync none" in done.stderr
    assert "\x1b" not in done.stderr
    assert "once --fsync batch" in "".join(ET.parse(plot).getroot().itertext())  # noqa: S314 - our own
    with emissions.open(newline="") as file:
        assert [row["experiment_id"] for row in csv.DictReader(file)] == list(rows)


@pytest.mark.real
@pytest.mark.usefixtures("dcmtk")
def test_the_service_behind_storescp_and_programs_that_it_starts(
    tmp_path: Path, home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # It takes px-repack's words, so it can stand in for it: what is looked at is the benchmark.
    write_program(tmp_path / "bin" / "px-repack", f'exec {sys.executable} -m listener repack "$@"')
    monkeypatch.setenv("PATH", str(tmp_path / "bin"), prepend=":")
    done = bench(home, "--files=80", "--size=4KiB", "--senders=2", "--only=run,xcr", "--few=3", "--json")
    assert done.status == 0, done.stderr
    rows = programs(done)["receiving"]
    alone, none = rows["storescp alone"], rows["storescp | run --fsync none"]
    assert alone["share"] == 1
    assert alone["cpu_us"] == 0
    assert alone["receiver_cpu_us"] > 0
    assert none["cpu_us"] > 0
    assert list(none["steps_us"]) == list(STEPS)
    assert sum(none["steps_us"].values()) > 0
    assert 0 <= none["lag_p50_ms"] <= none["lag_p95_ms"] <= none["lag_p99_ms"] <= none["lag_max_ms"]
    started = rows["storescp -xcr px-repack"]
    assert started["files"] == 3
    assert started["processes"] >= 2
    assert started["receiver_cpu_us"] > 20_000, "the programs that storescp started are counted, orphans too"
    assert not list(home.iterdir())


@pytest.mark.real
@pytest.mark.slow
def test_route_beside_a_sender(home: Path) -> None:
    # The kernel counts processor time in ticks: fewer files may take less than one.
    done = bench(home, "--files=400", "--size=4KiB", "--only=route", "--repeat=1", "--json")
    assert done.status == 0, done.stderr
    rows = programs(done)["sending what lies there"]
    straight, route, nagle = rows.values()
    assert (straight["share"], straight["ratio"]) == (1, 1)
    assert route["cpu_us"] > 0
    assert route["receiver_cpu_us"] > 0
    assert nagle["files"] == 400
    assert not list(home.iterdir())


@pytest.mark.real
def test_a_program_that_did_not_do_its_work_has_no_figure(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_program(tmp_path / "bin" / "px-repack", "")
    monkeypatch.setenv("PATH", str(tmp_path / "bin"), prepend=":")
    done = bench(tmp_path, "--files=8", "--size=4KiB", "--only=repackers")
    assert done.status == 1
    assert "0 instances (0 bytes) and 0 documents came out" in done.stderr
    assert b"times" not in done.stdout, "there is no table"


@pytest.mark.real
def test_a_program_that_fails_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_program(tmp_path / "bin" / "px-repack", "exit 3")
    monkeypatch.setenv("PATH", str(tmp_path / "bin"), prepend=":")
    done = bench(tmp_path, "--files=8", "--size=4KiB", "--only=repackers", "--jobs=3")
    assert done.status == 1
    assert "px-repack left with status 3" in done.stderr


@pytest.mark.real
@pytest.mark.usefixtures("dcmtk")
def test_a_sender_that_fails_ends_the_benchmark(home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_program(tmp_path / "bin" / "dcmsend", "exit 62")
    monkeypatch.setenv("PATH", str(tmp_path / "bin"), prepend=":")
    done = bench(home, "--files=8", "--size=4KiB", "--only=run")
    assert done.status == 1
    assert "a sender was refused, or ended with an error" in done.stderr
    assert not list(home.iterdir())


@pytest.mark.real
@pytest.mark.usefixtures("dcmtk")
def test_a_benchmark_that_is_stopped_leaves_nothing(
    home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_program(tmp_path / "bin" / "dcmsend", f"touch {tmp_path / 'sending'}; exec sleep 50")
    monkeypatch.setenv("PATH", str(tmp_path / "bin"), prepend=":")
    process = start("bench", "--files=8", "--size=4KiB", "--only=run", f"--dir={home}")
    until((tmp_path / "sending").exists, 20)
    process.terminate()
    assert finish(process).status == 130
    assert not list(home.iterdir())


@pytest.mark.real
def test_a_place_that_is_not_there_is_a_wrong_setting(tmp_path: Path) -> None:
    assert bench(tmp_path / "nowhere").status == 2


def write_program(path: Path, body: str) -> None:
    path.parent.mkdir(exist_ok=True)
    path.write_text(f"#!/bin/sh\n{body}\n")
    path.chmod(0o755)


def test_every_wrong_word_is_named(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(ConfigError) as raised:
        Request.of({"files": "many", "parts": "once,twice", "pace": "-1", "source": ""})
    told = "\n".join(raised.value.problems)
    assert all(word in told for word in ("--files", "--only does not know twice", "--pace", "--from"))


def test_parts_stand_in_their_order() -> None:
    assert Request.of({}).parts == PARTS[:-1], "what lasts long is only for who asks for it"
    assert Request.of({"parts": "beside, run, once"}).parts == ("once", "run", "beside")


# -- fresh series ------------------------------------------------------------------------------------------------------


SMALL = [protocol._replace(series=3, images=4) for protocol in PROTOCOLS]


@pytest.mark.parametrize("protocol", SMALL, ids=[protocol.name for protocol in SMALL])
def test_fresh_series_are_whole_and_each_is_like_no_other(protocol: Protocol, tmp_path: Path) -> None:
    paths = write(protocol, tmp_path / "one")
    read = [pydicom.dcmread(path) for path in paths]
    assert len({one.SOPInstanceUID for one in read}) == protocol.files == 12
    assert [one.file_meta.MediaStorageSOPInstanceUID for one in read] == [one.SOPInstanceUID for one in read]
    assert len({one.SeriesInstanceUID for one in read[:3]}) == (3 if protocol.mixed else 1)
    headers = {one.SeriesInstanceUID: (one.PatientID, one.SeriesDescription, len(one)) for one in read}
    assert len(set(headers.values())) == 3
    sizes = {one.SeriesInstanceUID: set[int]() for one in read}
    for one, path in zip(read, paths, strict=True):
        sizes[one.SeriesInstanceUID].add(path.stat().st_size)
        sop_class, bits = one.SOPClassUID, one.BitsAllocated // 8
        assert sop_class == one.file_meta.MediaStorageSOPClassUID
        assert bits == 2
    if protocol.one_size:
        assert {len(each) for each in sizes.values()} == {1}
    again = write(protocol, tmp_path / "two")
    assert [path.read_bytes() for path in again] == [path.read_bytes() for path in paths]


def test_headers_are_read_once_each_and_mr_is_made_of_given_files(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    given = tmp_path / "given"
    given.mkdir()
    (given / "LICENSE").write_text("none")
    write_instance(given / "real", Manufacturer="Given")
    monkeypatch.setattr(reading, "PROTOCOLS", SMALL)
    steps = reading.readings(tmp_path / "fresh", str(given))
    assert [step().program for step in steps] == [protocol.name for protocol in SMALL]
    for step, protocol in zip(steps, SMALL, strict=True):
        sample = step()
        assert (sample.files, sample.program) == (12, protocol.name)
        assert sample.size == sum(path.stat().st_size for path in step.paths)
        assert sample.cpu > 0
    made = [pydicom.dcmread(path).Manufacturer for path in steps[0].paths]
    assert made == ["Given"] * 12


# -- the corpus --------------------------------------------------------------------------------------------------------


def read(folder: Path) -> list[pydicom.FileDataset]:
    return [pydicom.dcmread(path) for path in sorted(folder.iterdir())]


@pytest.mark.parametrize("size", [2048, 4096, 230 * 1024, 3 * 1024**2])
def test_synthetic_files_are_about_as_large_as_was_asked(tmp_path: Path, size: int) -> None:
    written = Corpus(Shape(size=size)).write(tmp_path, 2)
    assert written == sum(path.stat().st_size for path in tmp_path.iterdir())
    assert 0.98 * size < written / 2 < 1.02 * size


def test_files_are_spread_over_patients_and_series(tmp_path: Path) -> None:
    Corpus(Shape(size=2048, patients=3, series=2)).write(tmp_path, 24)
    made = read(tmp_path)
    assert len({one.SOPInstanceUID for one in made}) == 24
    assert len({one.SeriesInstanceUID for one in made}) == 6
    assert len({(one.PatientID, one.StudyInstanceUID) for one in made}) == 3
    for one in made:
        assert one.file_meta.MediaStorageSOPInstanceUID == one.SOPInstanceUID
        assert one.SOPInstanceUID.is_valid


def test_parts_of_a_corpus_make_the_whole(tmp_path: Path) -> None:
    corpus = Corpus(Shape(size=2048))
    corpus.write(tmp_path / "whole", 10)
    for number in range(3):
        corpus.write(tmp_path / "parts", 10, step=(number, 3))
    whole, parts = (
        {path.name: path.read_bytes() for path in (tmp_path / name).iterdir()} for name in ("whole", "parts")
    )
    assert whole == parts


def test_compressed_files_hold_the_same_pixels(tmp_path: Path) -> None:
    for name, compressed in (("plain", False), ("rle", True)):
        Corpus(Shape(size=8192, compressed=compressed)).write(tmp_path / name, 1)
    (plain,), (rle,) = read(tmp_path / "plain"), read(tmp_path / "rle")
    assert rle.file_meta.TransferSyntaxUID == pydicom.uid.RLELossless
    (frame,) = pydicom.encaps.generate_frames(rle.PixelData, number_of_frames=1)
    low, high = unpack(frame)
    assert bytes(byte for pair in zip(low, high, strict=True) for byte in pair) == plain.PixelData


def unpack(frame: bytes) -> tuple[bytes, bytes]:
    """Low and high bytes of a frame that holds literal runs alone."""
    offsets = [int.from_bytes(frame[at : at + 4], "little") for at in (4, 8)]
    segments = []
    for begin, end in ((offsets[0], offsets[1]), (offsets[1], len(frame))):
        at, data = begin, b""
        while at < end and frame[at] != 0x80:
            data += frame[at + 1 : at + 2 + frame[at]]
            at += 2 + frame[at]
        segments.append(data)
    return segments[1], segments[0]


def test_copies_differ_from_what_was_given_in_their_identifiers_alone(tmp_path: Path) -> None:
    given = tmp_path / "given"
    given.mkdir()
    for number in (1, 2):
        write_instance(given / f"{number}.dcm", number=number, PatientID="12345")
    Corpus(Shape(source=str(given), patients=2)).write(tmp_path / "copies", 8)
    made, old = read(tmp_path / "copies"), pydicom.dcmread(given / "1.dcm")
    assert len({one.SOPInstanceUID for one in made}) == 8
    assert {one.PatientID for one in made} == {"00000", "00001"}
    sizes = [{path.stat().st_size for path in (tmp_path / name).iterdir()} for name in ("copies", "given")]
    assert sizes[0] == sizes[1]
    for one in made:
        assert one.file_meta.MediaStorageSOPInstanceUID == one.SOPInstanceUID
        assert one.PatientName == old.PatientName
        assert one.StudyInstanceUID != old.StudyInstanceUID


def test_what_cannot_be_copied_is_told_before_anything_is_measured(tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("no DICOM")
    with pytest.raises(ConfigError, match="--from: there is no DICOM file"):
        Corpus(Shape(source=str(tmp_path)))
    write_instance(tmp_path / "one.dcm", PatientID="1")
    with pytest.raises(ConfigError, match="too short for 20"):
        Corpus(Shape(source=str(tmp_path), patients=20))


# -- what is measured --------------------------------------------------------------------------------------------------


def test_only_everything_is_enough(tmp_path: Path) -> None:
    data, log = tmp_path / "data", tmp_path / "log" / "seriesData" / "1.2-img"
    for folder in (data / "patient", log):
        folder.mkdir(parents=True)
    (data / "patient" / "a.dcm").write_bytes(b"1234")
    (log / "a.dcm.json").touch()
    verify(data, tmp_path / "log", 1, 4)
    for files, size in ((2, 4), (1, 5)):
        with pytest.raises(Unfinished):
            verify(data, tmp_path / "log", files, size)
    (log / "a.dcm.json").rename(log / "b.dcm.json")
    with pytest.raises(Unfinished, match="not of the same names"):
        verify(data, tmp_path / "log", 1, 4)


def test_the_family_s_memory_and_time_are_seen() -> None:
    grandchild = "x = bytearray(90_000_000); [None for _ in range(4_000_000)]; import time; time.sleep(300)"
    code = f"import subprocess, sys; subprocess.run([sys.executable, '-c', {grandchild!r}])"
    process = subprocess.Popen([sys.executable, "-c", code], process_group=0)
    try:
        deadline = time.monotonic() + 120
        with processes.Watcher(process.pid) as watcher:
            while watcher.peak.pss < 95e6 and time.monotonic() < deadline:
                time.sleep(0.02)
        assert processes.so_far(process.pid) >= 0.05
    finally:
        for pid in reversed(processes.below(process.pid)):
            subprocess.run(["kill", "-9", str(pid)], check=False)
        process.wait()
    assert watcher.peak.processes == 2
    assert 95e6 < watcher.peak.pss <= watcher.peak.rss


@pytest.mark.parametrize(("limit", "least", "most"), [(0, 249, 251), (64, 31, 33)])
def test_memory_is_touched_before_receiving_within_what_is_allowed(limit: int, least: int, most: int) -> None:
    """MiB: 2.5 for each of 100, but no more than half of what a control group allows."""
    program = (
        "import re; from pathlib import Path; from listener.benchmark import workdir; "
        "most = lambda: int(re.search(r'VmHWM:\\s+(\\d+)', Path('/proc/self/status').read_text())[1]); "
        f"workdir.memory_limit = lambda: {limit} << 20; before = most(); "
        "workdir.touch(100 << 20); print(most() - before)"
    )
    told = subprocess.run([sys.executable, "-c", program], cwd=PROJECT, capture_output=True, text=True, check=True)
    assert least <= int(told.stdout) / 1024 <= most


def sample(program: str, cpu: float, **more: float) -> Sample:
    return Sample(program, 100, 1000, cpu, 2.0, **more)  # type: ignore[arg-type]


def test_figures_are_medians_and_ratios_are_those_within_a_round() -> None:
    rounds = [
        [sample("a", 1e-4, rate=100), sample("b", 2e-4, rate=90)],
        [sample("a", 1e-3, rate=10), sample("b", 3e-3, rate=8)],
        [sample("a", 2e-4, rate=100), sample("b", 8e-4, rate=70)],
    ]
    first, second = figures(rounds)
    assert [first.cpu_us, first.ratio, first.share] == pytest.approx([200, 1, 1])
    assert [second.cpu_us, second.ratio, second.share] == pytest.approx([800, 3, 0.8])
    assert (second.files_a_second, second.mb_a_second) == (50, 0.0005)
    assert second.lag_p50_ms is None


def test_one_that_fails_has_no_figure_and_the_others_have_theirs(tmp_path: Path) -> None:
    tries = Counter[str]()

    def step(name: str, fails_in: int = 0) -> Sample:
        tries[name] += 1
        if tries[name] == fails_in:
            raise Unfinished(f"{name}: 1 of 2 files")
        return sample(name, 1e-4)

    rounds = Rounds(Request(size=2048), 2, WorkDir(tmp_path, Shape(size=2048)))
    steps = [partial(step, "a"), partial(step, "b", fails_in=2), partial(step, "c")]
    assert [one.program for one in rounds.group("some", steps).figures] == ["a", "c"]
    assert rounds.failures == ["some: b: 1 of 2 files"]
    assert tries == {"a": 3, "b": 2, "c": 3}
    assert rounds.group("others", [partial(step, "d", fails_in=1), partial(step, "a")]).figures == []


def test_quantiles_of_the_lag() -> None:
    assert Lag.of([number / 100 for number in reversed(range(100))]) == Lag(0.5, 0.95, 0.99, 0.99)
    assert Lag.of([3.0]) == Lag(3, 3, 3, 3)


# -- energy, tables, picture -------------------------------------------------------------------------------------------


def test_energy_is_read_from_the_packages_and_their_turning_round_is_known(tmp_path: Path) -> None:
    for zone, name in (("intel-rapl:0", "package-0"), ("intel-rapl:0:0", "core"), ("intel-rapl:1", "package-1")):
        folder = tmp_path / zone
        folder.mkdir()
        (folder / "name").write_text(f"{name}\n")
        (folder / "energy_uj").write_text("9000000\n")
        (folder / "max_energy_range_uj").write_text("10000000\n")
    meter = energy.Meter(tmp_path)
    assert meter.joules() == 0
    (tmp_path / "intel-rapl:0" / "energy_uj").write_text("9500000\n")
    (tmp_path / "intel-rapl:0:0" / "energy_uj").write_text("9900000\n")
    (tmp_path / "intel-rapl:1" / "energy_uj").write_text("1000000\n")
    assert meter.joules() == 0.5 + 2
    assert energy.Meter(tmp_path / "nowhere").joules() is None


def figure(program: str = "a", **more: object) -> Figure:
    (made,) = figures([[sample(program, 360e-6, **more)]])  # type: ignore[arg-type]
    return made


def test_an_estimate_is_told_apart_from_what_was_measured() -> None:
    estimate = cost(figure(), 1_000_000, 10, 500)
    assert estimate == pytest.approx((3600, 1, 0.5, False))
    measured = cost(figure(joules=200.0), 1_000_000, 10, 500)
    assert measured[::3] == (2_000_000, True)
    rows = [table.Row(figure(), estimate), table.Row(figure("b"), measured)]
    first, second = table.text([table.Group("repacking", rows)]).splitlines()[4:6]
    assert "1 *" in first
    assert "*" not in second


def test_rows_are_added_to_an_emissions_file(tmp_path: Path) -> None:
    path, now = tmp_path / "emissions.csv", datetime(2026, 1, 2, tzinfo=UTC)
    for _ in range(2):
        energy.append(str(path), now, [(figure("a, b"), cost(figure(), 100, 10, 500))])
    with path.open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == 2
    assert rows[0]["experiment_id"] == "a, b"
    assert float(rows[0]["energy_consumed"]) == pytest.approx(0.36 / 3.6e6)
    assert float(rows[0]["emissions"]) == pytest.approx(0.36 / 3.6e6 * 0.5)
    assert rows[0]["method"] == "estimate from processor seconds"


def test_tables_have_a_cell_for_each_head() -> None:
    receiving = figure("storescp | run", rate=500.0, receiver=1e-3, lag=Lag(0.001, 0.002, 0.003, 0.1))
    groups = [
        table.Group(title, [table.Row(one, cost(one, 1, 10, 500))])
        for title, one in (("repacking", figure()), ("receiving", receiving))
    ]
    lines = [line for line in table.text(groups).splitlines() if line.startswith("|")]
    for some in (lines[:3], lines[3:]):
        assert len({line.replace(r"\|", "").count("|") for line in some}) == 1
        assert len({len(line) for line in some}) == 1, "columns of equal width"
    assert "1 / 2 / 3 / 100" in lines[-1]
    assert table.value(groups, {})["groups"][1]["figures"][0]["together_cpu_us"] == pytest.approx(1360)


def test_bars_are_as_long_as_their_figures() -> None:
    rows = [table.Row(one, cost(one, 1, 10, 500)) for one in (figure("<none>"), figure("px-repack"))]
    drawn = ET.fromstring(picture.svg([table.Group("repacking", rows)], "Cost & more", "a machine; a note"))  # noqa: S314 - our own
    assert {"<none>", "px-repack", "Cost & more", "a machine", "a note"} <= {text.strip() for text in drawn.itertext()}
    bars = [one for one in drawn.iter("{http://www.w3.org/2000/svg}rect") if one.get("rx")]
    assert len(bars) == 2
    assert bars[0].get("width") == bars[1].get("width")


@pytest.mark.real
@pytest.mark.slow
def test_serving_is_measured_with_real_programs(tmp_path: Path) -> None:
    done = bench(tmp_path, "--serve", "--repeat", "1", "--json")
    assert done.status == 0, done.stderr
    figures = orjson.loads(done.stdout)
    value, unit = figures["frames a second, one connection"]
    assert (value > 0, unit) == (True, "/s")
    assert figures["FrameCache: a hit"][0] < 1000
    assert ("share of nginx's rate" in figures) == bool(shutil.which("nginx"))


# -- a backfill in parts -----------------------------------------------------------------------------------------------


@pytest.mark.real
@pytest.mark.timeout(300)
def test_parts_are_measured_as_one_once_is(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(repackers, "BACKFILL_PARTS", 2)
    request = Request(files=24, size=4096, header=0, parts=("parts",), repeat=1)
    (group,) = (rounds := Rounds(request, 2, WorkDir(home, request.shape))).measure()
    assert not rounds.failures
    names = [f"once --part of 2 --part-by {by} --fsync none" for by in ("directory", "name")]
    assert [(figure.program, figure.files) for figure in group.figures] == [(name, 24) for name in names]
    assert all(figure.cpu_us > 0 and figure.processes >= 2 for figure in group.figures)


@pytest.mark.real
@pytest.mark.timeout(300)
def test_a_backfill_is_predicted_and_measured(
    home: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    copied = backfilling.Archive("copied", 6, 4096, each=2, copies=True)
    monkeypatch.setattr(backfilling, "archives", lambda many: [copied._replace(files=many)])
    assert backfilling.run(str(home), 9, 1, 1, as_json=True) == 0
    (row,) = orjson.loads(capfd.readouterr().out)
    assert list(row) == [*capacity.HEADS, "ratios"]
    assert (row["corpus"], row["files"]) == ("copied", 9)
    assert row["bound by"] in ("processors", "loop", "metadata", "bytes")
    assert all(row[name] > 0 for name in ("start ms", "M ops/s", "B MB/s", "predicted s", "measured s"))
    assert 0 < row["processors"] <= 1
    assert not list(home.iterdir())


def test_a_part_that_fails_has_no_prediction(
    home: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(backfilling, "listener", lambda *_: ["false"])
    assert backfilling.run(str(home), 4, 1, 1, as_json=False) == 1
    assert "once --part left with status 1" in capfd.readouterr().err


CONSTANTS = capacity.Constants(start=0.5, file=0.001, loop=0.0001, operations=1e6, moved=1e9, processors=4)


@pytest.mark.parametrize(
    ("changed", "seconds", "bound"),
    [
        ({}, 25, "processors"),
        ({"loop": 0.002}, 100, "loop"),
        ({"operations": 1000}, 900, "metadata"),
        ({"moved": 1e6}, 1000, "bytes"),
    ],
)
def test_the_largest_of_four_bounds_a_backfill(changed: dict[str, float], seconds: float, bound: str) -> None:
    load = capacity.Load(files=100_000, moved=10_000, operations=9, parts=2)
    predicted = capacity.predict(load, CONSTANTS._replace(**changed))
    assert predicted.seconds == pytest.approx(seconds + 0.25)
    assert predicted.bound == bound


def test_a_row_has_the_medians_of_its_rounds() -> None:
    load = capacity.Load(100_000, 0, 9, 2)
    checks = [
        capacity.Check("many", load, one, capacity.predict(load, one), seconds)
        for one, seconds in ((CONSTANTS, 50.5), (CONSTANTS._replace(file=0.002), 50.25), (CONSTANTS, 25.25))
    ]
    row = capacity.row(checks)
    assert row["c us"] == 1000
    assert row["ratios"] == [0.5, 1.0, 1.0]
    assert row["predicted / measured"] == 1
