"""The six families of JSON documents, as px-repack nests them, as data; and how a StudyList grows."""

from __future__ import annotations

from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from listener.dicom.attributes import Header
from listener.planning import documents
from listener.planning.plan import Plan

VALUES = {
    "PatientID": "P1",
    "PatientName": "Doe^Jane",
    "PatientAge": "020Y",
    "PatientSex": "F",
    "PatientBirthDate": "20000101",
    "StudyInstanceUID": "1.2",
    "StudyDescription": "Brain w/o",
    "StudyDate": "20200301",
    "PerformedStationAETitle": "MR1",
    "SeriesInstanceUID": "1.2.3",
    "SeriesDescription": "SAG MPRAGE",
    "SeriesNumber": "5",
    "SeriesDate": "20200302",
    "Modality": "MR",
    "SOPInstanceUID": "1.2.3.4",
}
FULL = Header(VALUES, 1000, 300)
BARE = Header({key: VALUES[key] for key in ("StudyInstanceUID", "SeriesInstanceUID", "SOPInstanceUID")}, 1000, 300)
PLAN = Plan("p/s/e", "0001-1.2.3.4.dcm")
ELEMENTS = {"PatientID": {"value": "P1", "label": "PatientID"}}

SERIES_FIELDS = {
    "PatientID": "P1",
    "StudyInstanceUID": "1.2",
    "SeriesInstanceUID": "1.2.3",
    "SeriesDescription": "SAG MPRAGE",
    "SeriesNumber": "5",
    "SeriesDate": "20200302",
    "Modality": "MR",
}

#: Each family as px-repack 3.12 writes it (key order included), of a full header.
SHAPES: dict[str, tuple[Any, Any]] = {
    "patient": (
        documents.patient(FULL),
        {
            "P1": {
                "PatientID": "P1",
                "PatientName": "Doe^Jane",
                "PatientAge": "020Y",
                "PatientSex": "F",
                "PatientBirthDate": "20000101",
                "StudyList": ["1.2"],
            }
        },
    ),
    "study": (
        documents.study(FULL),
        {
            "1.2": {
                "PatientID": "P1",
                "StudyDescription": "Brain w/o",
                "StudyDate": "20200301",
                "StudyInstanceUID": "1.2",
                "PerformedStationAETitle": "MR1",
            }
        },
    ),
    "study series": (
        documents.study_series(FULL, "/data/p/s/e", ELEMENTS),
        {"1.2": {"SeriesInstanceUID": "1.2.3", "SeriesBaseDir": "/data/p/s/e", "DICOM": ELEMENTS}},
    ),
    "series": (documents.series(FULL), {"1.2.3": SERIES_FIELDS}),
    "instance": (
        documents.instance(FULL, PLAN, "/data/p/s/e", 1000),
        {
            "1.2.3": {
                **SERIES_FIELDS,
                "outputFile": "0001-1.2.3.4.dcm",
                "imageObj": {"0001-1.2.3.4.dcm": {"size": 1000, "FSlocation": "/data/p/s/e/0001-1.2.3.4.dcm"}},
            }
        },
    ),
    "pack": (documents.pack(), {"seriesPack": True}),
}

PATHS = {
    documents.patient_path("P1"): "patientData/P1.json",
    documents.study_path("1.2"): "studyData/1.2-meta.json",
    documents.study_series_path("1.2", "1.2.3"): "studyData/1.2-series/1.2.3-meta.json",
    documents.series_path("1.2.3"): "seriesData/1.2.3-meta.json",
    documents.pack_path("1.2.3"): "seriesData/1.2.3-pack.json",
    documents.retrieve_path("1.2.3"): "seriesData/1.2.3-retrieve.json",
    documents.instance_path("1.2.3", "0001-1.2.3.4.dcm"): "seriesData/1.2.3-img/0001-1.2.3.4.dcm.json",
}


@pytest.mark.parametrize(("made", "expected"), SHAPES.values(), ids=SHAPES.keys())
def test_the_shape_of_a_document(made: Any, expected: Any) -> None:
    assert made == expected
    assert list(made) == list(expected)
    for mine, theirs in zip(made.values(), expected.values(), strict=True):
        if isinstance(mine, dict):
            assert list(mine) == list(theirs)


@pytest.mark.parametrize(("path", "expected"), PATHS.items())
def test_where_a_document_lies(path: str, expected: str) -> None:
    assert path == expected


def test_what_is_absent_reads_not_defined() -> None:
    assert set(documents.study(BARE)["1.2"].values()) == {"Not defined", "1.2", "PatientID"}
    assert set(documents.series(BARE)["1.2.3"].values()) == {"Not defined", "1.2", "1.2.3", "PatientID"}
    assert documents.patient(BARE)["PatientID"]["PatientName"] == "Not defined"


def test_a_patient_without_an_id_has_a_document_with_a_name() -> None:
    assert documents.patient_id(BARE) == "PatientID"
    assert documents.patient_path(documents.patient_id(BARE)) == "patientData/PatientID.json"


@pytest.mark.parametrize("patient_id", ["../../x", "a/b", ".hidden", "..", "x" * 300, "a\nb", "ü"])
def test_a_patient_s_document_lies_in_its_folder_whatever_the_id(patient_id: str) -> None:
    folder, _, name = documents.patient_path(patient_id).rpartition("/")
    assert folder == "patientData"
    assert name.endswith(".json")
    assert not name.startswith(".")
    assert len(name) <= 255


def test_bytes_are_valid_json_and_end_in_a_newline() -> None:
    for made, expected in SHAPES.values():
        data = documents.encode(made)
        assert data.endswith(b"}\n")
        assert orjson.loads(data) == expected


def test_the_same_instance_gives_the_same_bytes() -> None:
    again = Header(dict(VALUES), 1000, 300)
    assert documents.encode(documents.series(again)) == documents.encode(documents.series(FULL))


GROWS: dict[str, tuple[Any, Any]] = {
    "a new study": ({"P1": {"StudyList": ["9"]}}, {"P1": {"StudyList": ["9", "1.2"]}}),
    "known already": ({"P1": {"StudyList": ["1.2", "9"]}}, None),
    "no list": ({"P1": {"PatientName": "x"}}, {"P1": {"PatientName": "x", "StudyList": ["1.2"]}}),
    "a list that is none": ({"P1": {"StudyList": "9"}}, {"P1": {"StudyList": ["1.2"]}}),
    "another's keys": ({"P1": {"StudyList": [], "mine": 1}, "z": 2}, {"P1": {"StudyList": ["1.2"], "mine": 1}, "z": 2}),
    "another patient": ({"P2": {"StudyList": ["9"]}}, {"P2": {"StudyList": ["9"]}, **documents.patient(FULL)}),
    "no entry": ({"P1": "text"}, documents.patient(FULL)),
}


@pytest.mark.parametrize(("there", "then"), GROWS.values(), ids=GROWS.keys())
def test_a_study_list_grows_and_nothing_else_changes(there: Any, then: Any) -> None:
    before = orjson.dumps(there)
    assert documents.with_study(there, FULL) == then
    assert orjson.dumps(there) == before


@given(st.lists(st.sampled_from(["1.1", "1.2", "1.3", "1.4"]), min_size=1))
def test_every_study_is_in_the_list_once_in_the_order_of_arrival(arrivals: list[str]) -> None:
    document = documents.patient(Header(VALUES | {"StudyInstanceUID": arrivals[0]}, 1, 1))
    for study in arrivals:
        document = documents.with_study(document, Header(VALUES | {"StudyInstanceUID": study}, 1, 1)) or document
    assert document["P1"]["StudyList"] == list(dict.fromkeys(arrivals))


LOCATIONS: list[tuple[Any, str]] = [
    (documents.instance(FULL, PLAN, "/data/p/s/e", 1000), "/data/p/s/e/0001-1.2.3.4.dcm"),
    ({"1.2.3": {"imageObj": {"a.dcm": {"FSlocation": "./a.dcm", "mode": 33188}}}}, "./a.dcm"),
    ({"1.2.3": {"imageObj": {"a.dcm": {"size": 3}}}}, ""),
    ({"1.2.3": {"imageObj": {"a.dcm": {"FSlocation": 3}}}}, ""),
    ({"1.2.3": {"imageObj": {"a.dcm": "x"}}}, ""),
    ({"1.2.3": {"imageObj": []}}, ""),
    ({"1.2.3": {}}, ""),
    ({"1.2.3": "text"}, ""),
    ({}, ""),
]


@pytest.mark.parametrize(("document", "location"), LOCATIONS)
def test_where_an_instance_s_document_says_it_lies(document: Any, location: str) -> None:
    assert documents.location(document) == location


@pytest.mark.parametrize(
    ("document", "entry"),
    [
        ({"1.2": {"PatientID": "A"}}, {"PatientID": "A"}),
        ({"1.1": {"PatientID": "B"}, "1.2": {"PatientID": "A"}}, {"PatientID": "A"}),
        ({"1.1": {}, "1.2": {}}, {}),
        ({"PatientID": "A", "DICOM": {"PatientID": "B"}}, {"PatientID": "A"}),
        ({"1.1": {"PatientID": "B"}}, {}),
        ({"1.2": "text"}, {"1.2": "text"}),
        ({}, {}),
    ],
)
def test_the_entry_that_a_document_is_about(document: Any, entry: Any) -> None:
    assert documents.entry_of(document, "1.2") == entry


@pytest.mark.parametrize("patient", ["P1", "A/B", " x ", ".hidden", "Zoë", "a" * 300, ""])
def test_whose_document_a_name_is(patient: str) -> None:
    others = {"P2": {"StudyList": ["1"]}, patient: {}, "P3": {}}
    for path in (documents.patient_path(patient), f"patientData/{patient}.json"):
        assert documents.patients_in(others, path.removeprefix("patientData/")) == [patient]
    assert documents.patients_in(others, "P4.json") == []
