"""Dates go back by whole days; times stay."""

from __future__ import annotations

from datetime import date, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from listener.deidentify.dates import is_time, shift


@pytest.mark.parametrize(
    ("vr", "raw", "days", "moved"),
    [
        ("DA", b"20130308", 8, b"20130228"),
        ("DA", b"20130308\\20130310", 8, b"20130228\\20130302"),
        ("DA", b"2013.03.08", 8, b"2013.02.28"),
        ("DA", b"20130308 ", 1, b"20130307 "),
        ("DA", b"", 8, b""),
        ("DA", b"\\20130308", 8, b"\\20130228"),
        ("DT", b"20130308110258.929000+0100", 8, b"20130228110258.929000+0100"),
        ("DT", b"201303081102", 8, b"201302281102"),
        ("DT", b"2013", 365, b"2012"),
        ("DT", b"2013+0100", 365, b"2012+0100"),
        ("DT", b"201303", 30, b"201302"),
        ("DA", b"20130230", 8, None),
        ("DA", b"yesterday", 8, None),
        ("DA", b"20130308-20130310", 8, None),
        ("DA", b"20130308 DOE", 8, None),
        ("DT", b"20130308DOE", 8, None),
        ("DA", b"00010101", 8, None),
        ("DA", b"20130308\\x", 8, None),
    ],
)
def test_dates(vr: str, raw: bytes, days: int, moved: bytes | None) -> None:
    assert shift(vr, raw, days) == moved


@given(st.dates(min_value=date(1900, 1, 1)), st.dates(min_value=date(1900, 1, 1)), st.integers(1, 3650))
def test_intervals_stay(one: date, other: date, days: int) -> None:
    first, second = (shift("DA", day.strftime("%Y%m%d").encode(), days) for day in (one, other))
    assert first is not None
    assert second is not None
    assert _day(first) - _day(second) == one - other
    assert _day(first) + timedelta(days) == one


@given(st.binary(max_size=30), st.sampled_from(["DA", "DT"]))
def test_what_comes_out_is_as_long_as_what_went_in(raw: bytes, vr: str) -> None:
    moved = shift(vr, raw, 9)
    assert moved is None or len(moved) == len(raw)


def _day(raw: bytes) -> date:
    text = raw.decode()
    return date(int(text[:4]), int(text[4:6]), int(text[6:]))


@pytest.mark.parametrize("raw", [b"", b"10", b"101010.123456", b"10:10:10", b"101010\\111111 ", b"+0100", b"-0330 "])
def test_times(raw: bytes) -> None:
    assert is_time(raw)


@pytest.mark.parametrize("raw", [b"DOE", b"101010 DOE", b"20130308", b"10101", b"\xff", b"+0100 DOE"])
def test_what_is_no_time(raw: bytes) -> None:
    assert not is_time(raw)
