"""An incomplete file has an owner: whom to ask to send it again is told in every place where one may look."""

from __future__ import annotations

import contextlib
import shlex
import sqlite3
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import orjson
import pytest

from listener.ledger.connection import path_of
from listener.ledger.reader import reading
from tests.accounting import read_set_aside
from tests.instances import uid
from tests.odd_files import whole
from tests.service_process import Places, listener, once

pytestmark = pytest.mark.real

SERIES, STUDY = uid("series of", "owners"), uid("study of", "owners")
ALONE = uid("series of", "one cut file")


def put(places: Places, name: str, *, cut: int = 0, series: str = SERIES) -> None:
    data = whole(name, SeriesInstanceUID=series, StudyInstanceUID=STUDY, pixels=64, sender="SCANNER1")
    (places.incoming / name).write_bytes(data[: len(data) - cut])


def rows(places: Places) -> Iterator[dict[str, Any]]:
    with contextlib.closing(sqlite3.connect(path_of(str(places.state)))) as connection:
        connection.row_factory = sqlite3.Row
        yield from map(dict, connection.execute("SELECT * FROM set_aside ORDER BY name"))


def errors(places: Places) -> int:
    with reading(str(places.state)) as reader:
        (series,) = reader.listed()
        return series.errors


@pytest.fixture
def told(places: Places, tmp_path: Path) -> list[dict[str, Any]]:
    """A cut file before the first whole one of its series, one after it, and one of which nothing else came; what a
    hook was told.
    """
    log = tmp_path / "told"
    hook = ("--on-series-complete-exec", f"tee -a {shlex.quote(str(log))}")
    put(places, "first", cut=10)
    put(places, "alone", cut=4000, series=ALONE)
    assert once(places, *hook).status == 1
    put(places, "whole")
    assert once(places, *hook).status == 0
    assert errors(places) == 1, "it came before its series"
    put(places, "last", cut=8000)
    assert once(places, *hook).status == 1
    return [orjson.loads(line) for line in log.read_bytes().splitlines()]


def test_whose_an_incomplete_file_is(places: Places, told: list[dict[str, Any]]) -> None:
    owners = {
        name: {
            "SOPInstanceUID": uid("SOPInstanceUID", name),
            "SeriesInstanceUID": ALONE if name == "alone" else SERIES,
            "StudyInstanceUID": STUDY,
            "Modality": "MR",
            "sender": "SCANNER1",
        }
        for name in ("alone", "first", "last")
    }
    assert {row["name"]: {key: row[key] for key in owners["first"]} for row in rows(places)} == owners
    records = {one.record["name"]: one.record for one in read_set_aside(places)}
    assert {name: {key: record[key] for key in owners["first"]} for name, record in records.items()} == owners
    aside = {one["name"]: one for one in told if one["event"] == "set-aside"}
    assert {name: {key: one[key] for key in owners["first"]} for name, one in aside.items()} == owners
    assert errors(places) == 2
    assert not [text for text in ("HIDDEN-4711", "Hidden") if text in str((*aside.values(), *records.values()))]


def test_a_report_tells_of_it(places: Places, told: list[dict[str, Any]]) -> None:
    del told
    lines = listener("report", "--state", str(places.state), "--json").stdout.splitlines()
    report = {row["SeriesInstanceUID"]: row for row in map(orjson.loads, lines)}
    assert (report[SERIES]["instances"], report[SERIES]["errors"], report[SERIES]["sender"]) == (1, 2, "SCANNER1")
    alone = report[ALONE]
    assert (alone["state"], alone["instances"], alone["errors"]) == ("incomplete", 0, 1)
    assert (alone["StudyInstanceUID"], alone["Modality"], alone["sender"]) == (STUDY, "MR", "SCANNER1")
    by_sender = listener("report", "--state", str(places.state), "--by", "sender", "--json").stdout.splitlines()
    assert [(one["sender"], one["published"], one["set_aside"]) for one in map(orjson.loads, by_sender)] == [
        ("SCANNER1", 1, 3)
    ]


def test_an_event_tells_of_it(places: Places) -> None:
    put(places, "first", cut=10)
    (event,) = once(places).events
    assert (event["SOPInstanceUID"], event["SeriesInstanceUID"]) == (uid("SOPInstanceUID", "first"), SERIES)
    assert event["StudyInstanceUID"] == STUDY
    assert (event["Modality"], event["sender"], event["reason"]) == ("MR", "SCANNER1", "incomplete")
