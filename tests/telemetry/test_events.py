"""NDJSON events: fields, times, what is left out without --phi, and a reader that goes away."""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from listener.planning.names import instant
from listener.records import OUTCOMES, Missing, Outcome
from listener.telemetry.events import Events, event_of

PUBLISHED = Outcome(
    "published",
    "/dicom/incoming/MR.1",
    0,
    arrived_ns=1_000_000_000,
    finished_ns=3_500_000_000,
    begun_ns=3_000_000_000,
    seconds=0.25,
    size=1234,
    dst="/dicom/data/P1-Doe_Jane-/x/0001-1.dcm",
    SOPInstanceUID="1.1",
    SeriesInstanceUID="1.2",
    StudyInstanceUID="1.3",
    PatientID="P1",
    missing=(Missing("(0010,1010)", "PatientAge", "No such data element with tag (0010,1010)"),),
)

LINE = {
    "time": "1970-01-01T00:00:03.500000Z",
    "event": "published",
    "src": "MR.1",
    "SOPInstanceUID": "1.1",
    "SeriesInstanceUID": "1.2",
    "StudyInstanceUID": "1.3",
    "size": 1234,
    "lag": 2.5,
    "seconds": 0.25,
    "missing": [{"tag": "(0010,1010)", "name": "PatientAge", "error": "No such data element with tag (0010,1010)"}],
}

#: What rx-repack 1.0.3 prints with --log-ndjson.
RX_KEYS = {"src", "dst", "size", "PatientID", "SeriesInstanceUID", "missing"}


def written(*outcomes: Outcome, phi: bool = False) -> list[dict[str, Any]]:
    reader, writer = os.pipe()
    try:
        Events(phi, writer).outcomes(outcomes)
        os.close(writer)
        return [orjson.loads(line) for line in os.read(reader, 2**16).splitlines()]
    finally:
        os.close(reader)


def test_a_line_a_file() -> None:
    assert written(PUBLISHED, PUBLISHED) == [LINE, LINE]
    assert written() == []


def test_with_phi_a_line_is_a_superset_of_rx_repack_s() -> None:
    (line,) = written(PUBLISHED, phi=True)
    assert line == {**LINE, "src": PUBLISHED.path, "dst": PUBLISHED.dst, "PatientID": "P1"}
    assert line.keys() >= RX_KEYS


def test_without_phi_nothing_tells_who_it_is() -> None:
    text = str(event_of(PUBLISHED._replace(kind="set-aside", reason="conflict", error="x"), phi=False))
    assert not re.search("P1|Doe|/dicom", text)


@pytest.mark.parametrize(
    ("change", "more"),
    [
        ({"kind": "set-aside", "reason": "empty", "error": "no bytes"}, {"reason": "empty", "error": "no bytes"}),
        ({"kind": "vanished"}, {}),
        ({"kind": "duplicate"}, {}),
        ({"warning": "bytes behind the data set"}, {"warning": "bytes behind the data set"}),
        ({"superseded": "/state/set-aside/superseded/x"}, {"superseded": True}),
    ],
)
def test_what_is_said_only_when_there_is_something_to_say(change: dict[str, str], more: dict[str, Any]) -> None:
    outcome = PUBLISHED._replace(missing=(), **change)  # type: ignore[arg-type]
    assert outcome.kind in OUTCOMES
    quiet = {key: value for key, value in LINE.items() if key != "missing"}
    assert event_of(outcome, phi=False) == {**quiet, "event": outcome.kind, **more}


def test_bytes_of_a_name_that_are_not_utf_8() -> None:
    outcome = PUBLISHED._replace(path=os.fsdecode(b"/in/a\xff\xfe"), missing=())
    assert written(outcome)[0]["src"] == "a\\xff\\xfe"
    assert written(outcome, phi=True)[0]["src"] == "/in/a\\xff\\xfe"


def test_a_clock_that_jumped_back_makes_no_negative_lag() -> None:
    assert event_of(PUBLISHED._replace(finished_ns=5), phi=False)["lag"] == 0


@given(st.integers(0, 4_000_000_000 * 10**9))
def test_an_instant_is_rfc_3339_in_utc_with_microseconds(nanoseconds: int) -> None:
    from datetime import datetime

    text = instant(nanoseconds)
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{6}Z", text)
    told = datetime.fromisoformat(text)
    assert round(told.timestamp() * 10**6) == nanoseconds // 1000


def test_events_of_the_service(tmp_path: Path) -> None:
    with (tmp_path / "out").open("wb") as file:
        Events(phi=False, descriptor=file.fileno()).service("ready", 10**9, http="127.0.0.1:1")
    (line,) = (tmp_path / "out").read_bytes().splitlines()
    assert orjson.loads(line) == {"time": "1970-01-01T00:00:01.000000Z", "event": "ready", "http": "127.0.0.1:1"}


def test_a_reader_that_went_away_stops_the_events_and_not_the_intake() -> None:
    reader, writer = os.pipe()
    os.close(reader)
    try:
        events = Events(phi=False, descriptor=writer)
        for _ in range(3):
            events.outcomes([PUBLISHED])
            events.service("stopped", 0)
    finally:
        os.close(writer)


def test_a_full_disk_under_standard_output_costs_lines_and_not_the_intake() -> None:
    full = os.open("/dev/full", os.O_WRONLY)
    try:
        events = Events(phi=False, descriptor=full)
        for _ in range(3):
            events.outcomes([PUBLISHED])
            events.service("stopped", 0)
    finally:
        os.close(full)


def test_without_a_descriptor_nothing_is_written() -> None:
    Events(phi=False, descriptor=None).outcomes([PUBLISHED])
    Events(phi=False, descriptor=None).service("ready", 0)


def test_a_line_longer_than_a_pipe_is_written_whole(tmp_path: Path) -> None:
    missing = tuple(Missing("(0000,0000)", "x" * 1000, "y") for _ in range(200))
    with (tmp_path / "out").open("wb") as file:
        Events(phi=False, descriptor=file.fileno()).outcomes([PUBLISHED._replace(missing=missing)])
    assert len(orjson.loads((tmp_path / "out").read_bytes())["missing"]) == 200
