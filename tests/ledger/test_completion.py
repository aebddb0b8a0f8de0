"""When a generation of a series ends: histories as data."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from listener.ledger.completion import Completion, CompletionRules, OpenSeries, SeriesState, expected_count

QUIET = {"": 60.0, "CT": 5.0}

#: A history (seconds, what happened), and the completions that it must give: (second, generation, instances, result).
HISTORIES: dict[str, tuple[list[tuple[float, str]], list[tuple[float, int, int, str]]]] = {
    "quiet": ([(0, "MR"), (30, "+"), (89, "?"), (90, "?"), (200, "?")], [(90, 1, 2, "quiet")]),
    "quiet by modality": ([(0, "CT"), (4, "?"), (5, "?")], [(5, 1, 1, "quiet")]),
    "expected": ([(0, "MR"), (1, "=2"), (1, "?"), (2, "+"), (2, "?")], [(2, 1, 2, "expected")]),
    "incomplete": ([(0, "MR"), (1, "=3"), (99, "?"), (100, "?")], [(100, 1, 1, "incomplete")]),
    "late": (
        [(0, "MR"), (1, "=2"), (101, "?"), (150, "+"), (150, "?")],
        [(101, 1, 1, "incomplete"), (150, 2, 2, "late")],
    ),
    "late and quiet": ([(0, "CT"), (5, "?"), (8, "+"), (12, "?"), (13, "?")], [(5, 1, 1, "quiet"), (13, 2, 2, "late")]),
    "the clock stands still": ([(0, "CT"), (0, "?"), (0, "+"), (0, "?")], []),
    "more than was promised comes after quiet": (
        [(0, "MR"), (0, "=1"), (0, "?"), (1, "+"), (1, "?"), (30, "+"), (89, "?"), (90, "?"), (95, "+"), (155, "?")],
        [(0, 1, 1, "expected"), (90, 2, 3, "late"), (155, 3, 4, "late")],
    ),
    "nobody expects anything any more": ([(0, "CT"), (1, "=9"), (6, "?"), (7, "=0"), (7, "?")], [(7, 1, 1, "quiet")]),
}


def play(history: list[tuple[float, str]]) -> list[tuple[float, Completion]]:
    """A history of one series, which begins again when something comes after its end."""
    book, told = OpenSeries(CompletionRules(QUIET, 100.0)), []
    one = SeriesState("1.2", "1")
    for now, what in history:
        if what == "?":
            for due in book.due(now):
                told.append((now, book.completion(due, book.verdict(due, now))))
                book.drop("1.2", "1")
        elif what.startswith("="):
            one.expected = int(what[1:])
            book.keep(one)
        else:
            one.Modality = one.Modality if what == "+" else what
            if book.get("1.2", "1") is None and what == "+":
                lacked = told[-1][1].result == "incomplete"
                one.generation, one.began_with = one.generation + 1, 0 if lacked else one.instances
            one.instances, one.last_activity = one.instances + 1, now
            book.keep(one)
    return told


@pytest.mark.parametrize("name", HISTORIES)
def test_a_history_ends_as_it_must(name: str) -> None:
    history, expected = HISTORIES[name]
    told = play(history)
    assert [(now, one.generation, one.instances, one.result) for now, one in told] == expected


@given(st.lists(st.tuples(st.floats(0, 200), st.sampled_from(["+", "?"])), max_size=60))
def test_each_generation_ends_once(steps: list[tuple[float, str]]) -> None:
    moments = sorted(moment for moment, _ in steps)
    told = play([(0.0, "CT"), *zip(moments, (what for _, what in steps), strict=True)])
    generations = [one.generation for _, one in told]
    assert generations == list(range(1, len(generations) + 1))


def test_the_book_is_renewed_from_what_others_wrote() -> None:
    book = OpenSeries(CompletionRules(QUIET, 100.0))
    for uid in ("same", "grown", "gone"):
        book.keep(SeriesState(uid, instances=1, last_activity=1.0, promise_stamp=(7, 7)))
    rows = [
        SeriesState("same", instances=1),
        SeriesState("grown", instances=2, last_activity=50.0),
        SeriesState("new", instances=1, last_activity=50.0),
    ]
    assert book.refresh(rows, 50.0) == ["gone"]
    assert {one.SeriesInstanceUID: one.last_activity for one in book} == {"same": 1.0, "grown": 50.0, "new": 50.0}
    assert [one.promise_stamp for one in book] == [(7, 7), (7, 7), (0, 0)]


@pytest.mark.parametrize(
    ("value", "number"), [("12", 12), (12, 12), (" 12 ", 12), ("-3", 0), ("many", 0), (None, 0), (10**30, 2**53 - 1)]
)
def test_a_promise_is_a_number_or_a_text(value: object, number: int) -> None:
    assert expected_count({"NumberOfSeriesRelatedInstances": value}) == number
    assert expected_count({}) == 0
