"""Charts: their gaps, their axis, and what they say under the pointer."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from listener.status.charts import HOUR, Chart, charts
from listener.status.document import LedgerView, document
from listener.status.history import SLOT, SLOTS, Point


def drawn(*points: Point, now: float = HOUR) -> list[Chart]:
    return charts(document(None, None, LedgerView(), 0), points, now)


def test_an_hour_is_drawn_with_its_gaps() -> None:
    rates, lag, backlog = drawn(*(Point(at, at / 100, 0.0, None, int(at)) for at in (10.0, 20.0, 30.0, 3000.0, 3010.0)))
    assert [len(chart.runs) for chart in (rates, lag, backlog)] == [2, 0, 2], "before and after the gap; no lag"
    assert backlog.label == "Backlog: now 0, at most 3,010 in the last hour"
    assert [slot.text for slot in backlog.slots] == [
        "60 to 58 min ago: at most 30",
        "12 to 10 min ago: at most 3,000",
        "10 to 8 min ago: at most 3,010",
    ]


def test_what_is_older_than_an_hour_or_comes_from_the_future_is_left_out() -> None:
    rates, *_ = drawn(Point(0.0, 9.0, 0, None, 0), Point(9000.0, 9.0, 0, None, 0), now=HOUR + 1)
    assert (rates.runs, rates.slots) == ((), ())


@pytest.mark.parametrize(
    ("most", "marks"),
    [(0, ("1", "0.5", "0")), (0.3, ("0.4", "0.2", "0")), (70, ("100", "50", "0")), (1201, ("2,000", "1,000", "0"))],
)
def test_the_axis_is_round(most: float, marks: tuple[str, ...]) -> None:
    rates, *_ = drawn(Point(HOUR, most, 0.0, None, 0))
    assert rates.marks == marks
    assert rates.grid == (4.0, 42.0, 80.0)


@given(st.lists(st.just(0.0) | st.floats(0.01, 1e9), min_size=1, max_size=SLOTS))
def test_no_value_leaves_the_chart_and_the_highest_is_drawn(values: list[float]) -> None:
    points = [Point(HOUR - SLOT * (len(values) - 1 - at), value, 0.0, None, 0) for at, value in enumerate(values)]
    rates, *_ = drawn(*points)
    (run,) = rates.runs
    places = [tuple(map(float, place.split(","))) for place in run.line.split()]
    assert all(0 <= x <= rates.width and 0 <= y <= rates.height for x, y in places)
    assert [x for x, _ in places] == sorted(x for x, _ in places)
    assert len(places) <= SLOTS / 2 + 3, "a page is small"
    assert max(values) == 0 or min(y for _, y in places) < 46, "the highest stands in the upper half"


def test_an_hour_of_points_is_small() -> None:
    points = [Point(SLOT * at, at % 97 + 0.5, 0.0, 0.01 * (at % 7), at % 1000) for at in range(SLOTS)]
    size = sum(len(run.line) + len(run.area) for chart in drawn(*points) for run in chart.runs)
    assert size < 20_000
