"""When a series is complete: histories as data, and one run of the real service."""

from __future__ import annotations

from pathlib import Path

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from listener.telemetry.series import Completion, SeriesBook
from tests.instances import uid, write_instance
from tests.service_process import make_places, service, settled, value

QUIET = {"": 60.0, "CT": 5.0}

#: A history (seconds, what happened), and the completions that it must give: (second, generation, instances, result).
HISTORIES: dict[str, tuple[list[tuple[float, str]], list[tuple[float, int, int, str]]]] = {
    "quiet": ([(0, "MR"), (30, "+"), (89, "?"), (90, "?"), (200, "?")], [(90, 1, 2, "quiet")]),
    "quiet by modality": ([(0, "CT"), (4, "?"), (5, "?")], [(5, 1, 1, "quiet")]),
    "expected": ([(0, "MR"), (1, "=2/1"), (1, "?"), (2, "+"), (2, "?")], [(2, 1, 2, "expected")]),
    "incomplete": ([(0, "MR"), (1, "=3/1"), (99, "?"), (100, "?")], [(100, 1, 1, "incomplete")]),
    "late": (
        [(0, "MR"), (1, "=2/1"), (101, "?"), (150, "+"), (150, "?")],
        [(101, 1, 1, "incomplete"), (150, 2, 2, "late")],
    ),
    "late and quiet": ([(0, "CT"), (5, "?"), (8, "+"), (12, "?"), (13, "?")], [(5, 1, 1, "quiet"), (13, 2, 2, "late")]),
    "the clock stands still": ([(0, "CT"), (0, "?"), (0, "+"), (0, "?")], []),
}


def play(book: SeriesBook, history: list[tuple[float, str]]) -> list[tuple[float, Completion]]:
    told = []
    for now, what in history:
        if what == "+":
            book.arrived("1.2", now)
        elif what == "?":
            told += [(now, one) for one in book.due(now)]
        elif what.startswith("="):
            book.expect("1.2", *map(int, what[1:].split("/")))
        else:
            book.meet("1.2", "1", what, 1, now)
    return told


@pytest.mark.parametrize("name", HISTORIES)
def test_a_history_ends_as_it_must(name: str) -> None:
    history, expected = HISTORIES[name]
    told = play(SeriesBook(QUIET, 100.0), history)
    assert [(now, one.generation, one.instances, one.result) for now, one in told] == expected


@given(st.lists(st.tuples(st.floats(0, 200), st.sampled_from(["+", "?"])), max_size=60))
def test_each_generation_ends_once(steps: list[tuple[float, str]]) -> None:
    moments = sorted(moment for moment, _ in steps)
    history = [(0.0, "CT"), *zip(moments, (what for _, what in steps), strict=True)]
    told = play(SeriesBook(QUIET, 100.0), history)
    generations = [one.generation for _, one in told]
    assert generations == list(range(1, len(generations) + 1))


@pytest.mark.real
def test_the_service_tells_of_a_series_that_is_complete(tmp_path: Path) -> None:
    places = make_places(tmp_path)
    series = str(uid("series", 0, 0, 0))
    promise = places.log / "seriesData" / f"{series}-retrieve.json"
    promise.parent.mkdir(parents=True)
    promise.write_bytes(orjson.dumps({"NumberOfSeriesRelatedInstances": "2"}))
    with service(places, "--series-quiet", "1") as running:
        for number in (1, 2):
            write_instance(places.incoming / f"a{number}", number=number)
        write_instance(places.incoming / "b1", series=1, number=1)
        settled(running, 3)
        told = {one["SeriesInstanceUID"]: one for one in running.wait_for("series-complete", 2)}
        assert (told[series]["result"], told[series]["instances"], told[series]["expected"]) == ("expected", 2, 2)
        other = told[str(uid("series", 0, 0, 1))]
        assert (other["result"], other["instances"], other["generation"]) == ("quiet", 1, 1)
        scrape = running.scrape()
        assert value(scrape, "series_completed_total", result="expected") == 1
        assert value(scrape, "series_completed_total", result="quiet") == 1
