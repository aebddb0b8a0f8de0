"""Periods as people give them."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest

from listener.moments import LAST, dates_of, period_of

NOW = datetime(2026, 3, 5, 12, 30, tzinfo=UTC)


def ns(*moment: int) -> int:
    return int(datetime(*moment, tzinfo=UTC).timestamp()) * 10**9  # type: ignore[misc,arg-type]


@pytest.mark.parametrize(
    ("text", "first", "last"),
    [
        ("2026-01-31", ns(2026, 1, 31), ns(2026, 2, 1) - 1000),
        ("2026-02", ns(2026, 2, 1), ns(2026, 3, 1) - 1000),
        ("2025", ns(2025, 1, 1), ns(2026, 1, 1) - 1000),
        ("today", ns(2026, 3, 5), ns(2026, 3, 6) - 1000),
        ("last-month", ns(2026, 2, 1), ns(2026, 3, 1) - 1000),
        ("7d", ns(2026, 2, 26, 12, 30), LAST),
        ("2026-01-31T08:00:00Z", ns(2026, 1, 31, 8), LAST),
        ("2026-01..2026-02", ns(2026, 1, 1), ns(2026, 3, 1) - 1000),
        ("2026-02-28..", ns(2026, 2, 28), LAST),
        ("..2026-02-28", 0, ns(2026, 3, 1) - 1000),
        ("7d..1d", ns(2026, 2, 26, 12, 30), ns(2026, 3, 4, 12, 30)),
    ],
)
def test_a_period_has_both_ends(text: str, first: int, last: int) -> None:
    assert period_of(text, NOW) == (first, last)


@pytest.mark.parametrize(
    ("text", "first", "last"),
    [
        ("2026-01-31", "20260131", "20260131"),
        ("20260131", "20260131", "20260131"),
        ("2026-02", "20260201", "20260231"),
        ("202602", "20260201", "20260231"),
        ("1948", "19480101", "19481231"),
        ("1948..", "19480101", ""),
        ("..1948", "", "19481231"),
        ("today", "20260305", "20260305"),
        ("this-month", "20260301", "20260331"),
        ("7d", "20260226", ""),
        ("30d..7d", "20260203", "20260226"),
        ("2026-01-31..2026-02", "20260131", "20260231"),
    ],
)
def test_a_period_of_dates_is_as_dicom_has_them(text: str, first: str, last: str) -> None:
    assert dates_of(text, NOW) == (first, last)


@pytest.mark.parametrize(
    "text", ["", "..", "x", "2026-13", "2026-02-30", "20260230", "2026-1", "1..x", "2026-01...2026-02"]
)
def test_what_is_no_period_is_no_period(text: str) -> None:
    for reads in (period_of, dates_of):
        with pytest.raises(ValueError, match=r"."):
            reads(text, NOW)
