"""What CUBE is told: the same as by oxidicom for the real series, and nothing that CUBE would refuse."""

from __future__ import annotations

import re
from datetime import date
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from listener.notify.metric_rows import ADJUSTED
from listener.notify.registration import KEYWORDS, MOST, Refused, Series, pacs_of, registration

FOLDER = "SERVICES/PACS/MYPACS/1-x/y/00005-z"
SERIES = Series("1.2.3", "1.2", "MYPACS", FOLDER, 5)
HEADER = {"PatientID": "P1", "StudyDate": "20130308"}


def accepted(told: dict[str, Any]) -> bool:
    """CUBE's serializer, after what was seen of it (release of 2026-06)."""

    def fits(name: str, most: int) -> bool:
        return told[name] is None or (0 < len(told[name]) <= most and "\0" not in told[name])

    sizes = {**MOST, "pacs_name": 20, "path": 1024}
    day = told["PatientBirthDate"]
    return (
        bool(told["PatientID"] and re.fullmatch(r"\d{4}-\d{2}-\d{2}", told["StudyDate"]))
        and date.fromisoformat(told["StudyDate"]) is not None
        and all(fits(name, most) for name, most in sizes.items())
        and told["PatientSex"] in (None, "M", "F", "O")
        and (day is None or date.fromisoformat(day) is not None)
        and (told["PatientAge"] is None or told["PatientAge"] >= 0)
        and told["path"].startswith(f"SERVICES/PACS/{told['pacs_name']}/")
    )


@given(st.dictionaries(st.sampled_from(sorted(KEYWORDS)), st.text(max_size=500)), st.text(max_size=30))
def test_what_is_sent_is_accepted_or_refused_by_name(header: dict[str, str], pacs: str) -> None:
    folder = f"SERVICES/PACS/{pacs}/patient/study/series"
    try:
        told = registration(SERIES._replace(pacs=pacs_of(folder), folder=folder), {**HEADER, **header})
    except Refused:
        return
    assert accepted(told.arguments)
    assert set(told.adjusted) <= set(ADJUSTED)


@given(st.dictionaries(st.sampled_from(sorted(KEYWORDS - HEADER.keys())), st.text(max_size=500)))
def test_odd_values_of_a_good_header_never_refuse_it(header: dict[str, str]) -> None:
    assert accepted(registration(SERIES, {**HEADER, **header}).arguments)


@pytest.mark.parametrize(
    ("keyword", "value", "told", "adjusted"),
    [
        ("PatientAge", "003D", 3, False),
        ("PatientAge", "002W", 14, False),
        ("PatientAge", "003M", 91, False),
        ("PatientAge", "003Y", 1096, False),
        ("PatientAge", "000Y", 0, False),
        ("PatientAge", "3 years", None, True),
        ("PatientAge", "", None, False),
        ("PatientSex", "M", "M", False),
        ("PatientSex", "W", None, True),
        ("PatientBirthDate", "20090701", "20090701", False),
        ("PatientBirthDate", "2009-07-01", "2009-07-01", False),
        ("PatientBirthDate", "0000", None, True),
        ("PatientBirthDate", "20090231", None, True),
        ("PatientName", " a\0b ", "ab", False),
        ("PatientName", "x" * 151, "x" * 150, True),
        ("Modality", "", None, False),
        ("StudyDescription", "d" * 401, "d" * 400, True),
    ],
)
def test_a_value_that_cube_would_refuse_is_cut_or_left_out(
    keyword: str, value: str, told: object, adjusted: bool
) -> None:
    made = registration(SERIES, {**HEADER, keyword: value})
    assert made.arguments[keyword] == told
    assert made.adjusted == ((keyword,) if adjusted else ())


@pytest.mark.parametrize(
    ("header", "folder", "reason"),
    [
        ({"PatientID": ""}, FOLDER, "cube-needs PatientID"),
        ({"PatientID": "\0 "}, FOLDER, "cube-needs PatientID"),
        ({"PatientID": "x" * 101}, FOLDER, "cube-needs PatientID"),
        ({"StudyDate": ""}, FOLDER, "cube-needs StudyDate"),
        ({"StudyDate": "20131308"}, FOLDER, "cube-needs StudyDate"),
        ({}, "1-x/y/z", "not-oxidicom-layout"),
        ({}, "SERVICES/PACS/A", "not-oxidicom-layout"),
        ({}, f"SERVICES/PACS/{'A' * 21}/x/y/z", "pacs-name"),
        ({}, f"SERVICES/PACS/A/{'x' * 1024}", "path"),
    ],
)
def test_what_cube_can_never_take_fails_by_name(header: dict[str, str], folder: str, reason: str) -> None:
    with pytest.raises(Refused) as caught:
        registration(SERIES._replace(pacs=pacs_of(folder), folder=folder), {**HEADER, **header})
    assert caught.value.reason == reason
    assert caught.value.is_final
