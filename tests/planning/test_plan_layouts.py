"""The four layouts and custom templates: what is read, what stands for what is missing."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from listener.planning.names import MAX_COMPONENT
from listener.planning.plan import LAYOUTS, Layout, Preset, choose_preset
from listener.planning.template import TemplateError
from tests.planning.headers import FULL, SERIES

PATIENT = "1449c1d-anonymized-20090701"
STUDY = "MR-Brain_w_o_Contrast-98edede8b2-20130308"
NUMBERED = "00005-SAG_MPRAGE_220_FOV"

DIRECTORIES = {
    "rx": f"{PATIENT}/{STUDY}/{NUMBERED}-a27cf06",
    "px": f"{PATIENT}/{STUDY}/SAG_MPRAGE_220_FOV-a27cf06",
    "px311": f"{PATIENT}/{STUDY}/{NUMBERED}",
    "oxidicom": f"SERVICES/PACS/MYPACS/{PATIENT}/{STUDY}/{NUMBERED}-a27cf06",
}


def without(*keywords: str) -> dict[str, str]:
    return {keyword: text for keyword, text in FULL.items() if keyword not in keywords}


@pytest.mark.parametrize("name", LAYOUTS)
def test_a_full_header(name: str) -> None:
    assert Layout(LAYOUTS[name]).place(FULL) == (DIRECTORIES[name], "0001-1.2.3")


PERSON = ("PatientName", "PatientBirthDate")

MISSING: list[tuple[str, tuple[str, ...], str]] = [
    ("rx", PERSON, f"1449c1d-PatientName-PatientBirthDate/{STUDY}/{NUMBERED}-a27cf06"),
    ("px", PERSON, f"1449c1d-_PatientName-_PatientBirthDate/{STUDY}/SAG_MPRAGE_220_FOV-a27cf06"),
    ("px311", PERSON, f"1449c1d-_PatientName-_PatientBirthDate/{STUDY}/{NUMBERED}"),
    ("oxidicom", PERSON, f"SERVICES/PACS/MYPACS/1449c1d--/{STUDY}/{NUMBERED}-a27cf06"),
    ("rx", ("SeriesDescription",), f"{PATIENT}/{STUDY}/00005-SeriesDescription-a27cf06"),
    ("px", ("SeriesDescription",), f"{PATIENT}/{STUDY}/_SeriesDescription-a27cf06"),
    ("px311", ("SeriesNumber",), f"{PATIENT}/{STUDY}/_SeriesNumber-SAG_MPRAGE_220_FOV"),
    ("rx", ("SeriesNumber",), f"{PATIENT}/{STUDY}/SeriesNumber-SAG_MPRAGE_220_FOV-a27cf06"),
    ("rx", ("PatientID",), f"PatientID-anonymized-20090701/{STUDY}/{NUMBERED}-a27cf06"),
]


@pytest.mark.parametrize(("name", "gone", "directory"), MISSING)
@pytest.mark.parametrize("blank", [None, ""])
def test_what_stands_for_a_tag_that_is_absent_or_empty(
    name: str, gone: tuple[str, ...], directory: str, blank: str | None
) -> None:
    values = without(*gone) | ({} if blank is None else dict.fromkeys(gone, blank))
    assert Layout(LAYOUTS[name]).place(values)[0] == directory


@pytest.mark.parametrize(("name", "stem"), [("rx", "InstanceNumber-1.2.3"), ("px", "_InstanceNumber-1.2.3")])
def test_an_instance_without_a_number(name: str, stem: str) -> None:
    assert Layout(LAYOUTS[name]).place(without("InstanceNumber"))[1] == stem


@pytest.mark.parametrize(("name", "patient"), [("rx", "P3"), ("oxidicom", "P3"), ("px", "_P3_"), ("px311", "_P3_")])
def test_spaces_are_taken_from_both_ends_where_the_predecessor_did(name: str, patient: str) -> None:
    directory, _ = Layout(LAYOUTS[name]).place({**FULL, "PatientID": " P3 "})
    assert f"{patient}-anonymized" in directory.split("/")[-3]


@pytest.mark.parametrize("name", LAYOUTS)
def test_a_value_of_spaces_is_no_value_where_spaces_are_trimmed(name: str) -> None:
    spaced = Layout(LAYOUTS[name]).place({**FULL, "StudyDescription": "  "})[0]
    assert ("StudyDescription-98" in spaced) is LAYOUTS[name].trim


def test_two_series_of_one_description_have_directories_of_their_own() -> None:
    for name in ("rx", "px", "oxidicom"):
        layout = Layout(LAYOUTS[name])
        assert layout.place(FULL)[0] != layout.place({**FULL, "SeriesInstanceUID": SERIES + ".1"})[0]


def test_a_slash_in_a_template_makes_a_directory_and_in_a_value_it_does_not() -> None:
    layout = Layout(choose_preset("rx", root="%PatientID/%PatientName", series="s", study="fixed/%StudyDate"))
    directory, _ = layout.place({**FULL, "PatientID": "a/b/../c"})
    assert directory == "a_b_.._c/anonymized/fixed/20130308/s"


@pytest.mark.parametrize(
    ("image", "stem"),
    [
        ("%SOPInstanceUID", "1.2.3"),
        ("%SOPInstanceUID.dcm", "1.2.3"),
        ("x-%_md5|4_PatientID-%InstanceNumber", "x-9a92-1"),
    ],
)
def test_the_image_template_may_end_in_dcm_or_not(image: str, stem: str) -> None:
    from hashlib import md5

    digest = md5(FULL["PatientID"].encode(), usedforsecurity=False).hexdigest()[:4]
    assert Layout(choose_preset("rx", image=image)).place(FULL)[1] == stem.replace("9a92", digest)


def test_an_age_is_computed_where_it_is_missing() -> None:
    layout = Layout(choose_preset("rx", root="%PatientAge-%AgeInDays"))
    assert {"StudyDate", "PatientBirthDate", "PatientAge"} <= layout.keywords
    assert layout.place(FULL)[0].split("/")[0] == "004Y-001346d"


def test_only_what_is_given_is_replaced() -> None:
    for name, preset in LAYOUTS.items():
        assert choose_preset(name) == preset
        assert choose_preset(name, series="%Modality") == Preset(
            preset.root, preset.study, "%Modality", preset.image, preset.missing, preset.blank, preset.trim
        )


def test_an_unknown_keyword_is_an_error_before_any_file() -> None:
    with pytest.raises(TemplateError):
        Layout(choose_preset("rx", root="%NoSuchKeyword"))


@pytest.mark.parametrize("name", LAYOUTS)
def test_the_keywords_are_what_a_path_depends_on(name: str) -> None:
    layout = Layout(LAYOUTS[name])
    for keyword in layout.keywords:
        assert layout.place({**FULL, keyword: "other"}) != layout.place(FULL), keyword
    assert layout.place({key: text for key, text in FULL.items() if key in layout.keywords}) == layout.place(FULL)


@given(values=st.fixed_dictionaries({}, optional=dict.fromkeys(FULL, st.text(st.characters(codec=None), max_size=260))))
@pytest.mark.parametrize("name", LAYOUTS)
def test_whatever_values_hold_a_directory_is_below_the_root(name: str, values: dict[str, Any]) -> None:
    parts = Layout(LAYOUTS[name]).place(values)[0].split("/")
    assert len(parts) == (6 if name == "oxidicom" else 3)
    for part in parts:
        assert part.strip(".")
        assert len(part.encode()) <= MAX_COMPONENT
