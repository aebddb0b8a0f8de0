"""The query of a search."""

from __future__ import annotations

import pytest

from listener.serve.faults import BadRequest
from listener.serve.matching import query


def condition(key: str, value: str, level: str = "instances", **more: str) -> tuple[str, str, tuple[str, ...]]:
    (found,) = query([(key, value), *more.items()], level, 10).conditions
    return found.attribute.keyword, found.kind, found.values


@pytest.mark.parametrize(
    ("key", "value", "wanted"),
    [
        ("PatientID", "P1", ("PatientID", "one of", ("P1",))),
        ("patientid", "P*", ("PatientID", "like", ("P*",))),
        ("00100010", "DOE^J?", ("PatientName", "like", ("doe^j?",))),
        ("PatientName", "Müller", ("PatientName", "one of", ("muller",))),
        ("StudyInstanceUID", "1.2,1.3\\1.4", ("StudyInstanceUID", "one of", ("1.2", "1.3", "1.4"))),
        ("StudyDate", "20240101", ("StudyDate", "one of", ("20240101",))),
        ("StudyDate", "20240101-", ("StudyDate", "between", ("20240101", ""))),
        ("StudyDate", "-20240101", ("StudyDate", "between", ("", "20240101~"))),
        ("StudyTime", "0800-12", ("StudyTime", "between", ("0800", "12~"))),
        ("StudyTime", "10", ("StudyTime", "like", ("10*",))),
        ("InstanceNumber", "3", ("InstanceNumber", "one of", ("3",))),
    ],
)
def test_a_key_is_a_condition(key: str, value: str, wanted: tuple[str, str, tuple[str, ...]]) -> None:
    assert condition(key, value) == wanted


def test_fuzzy_names_are_matched_by_the_beginnings_of_their_words() -> None:
    assert condition("PatientName", "Doe John", fuzzymatching="true") == ("PatientName", "words", ("doe", "john"))
    assert condition("PatientName", "Doe*", fuzzymatching="true") == ("PatientName", "like", ("doe*",))


@pytest.mark.parametrize(
    ("key", "value", "level"),
    [
        ("Foo", "1", "studies"),
        ("Modality", "CT", "studies"),
        ("SOPInstanceUID", "1", "series"),
        ("NumberOfFrames", "1", "instances"),
        ("99999999", "1", "studies"),
        ("RequestAttributesSequence.ScheduledProcedureStepID", "1", "series"),
        ("StudyDate", "yesterday", "studies"),
        ("StudyDate", "-", "studies"),
        ("PatientID", "x" * 2000, "studies"),
        ("limit", "-1", "studies"),
        ("offset", "a", "studies"),
        ("includefield", "a b", "studies"),
        ("SOPClassUID", ",".join(["1"] * 1001), "instances"),
    ],
)
def test_what_cannot_be_matched_is_refused(key: str, value: str, level: str) -> None:
    with pytest.raises(BadRequest) as refused:
        query([(key, value)], level, 10)
    assert len(value) < 4 or value not in refused.value.detail


def test_pages_and_fields() -> None:
    asked = query(
        [("limit", "500"), ("offset", "7"), ("includefield", "StudyDescription,00100020"), ("includefield", "all")],
        "studies",
        100,
    )
    assert (asked.limit, asked.offset, asked.all_fields) == (100, 7, True)
    assert asked.fields == {"00081030", "00100020"}
    assert query([("PatientID", ""), ("accept", "x")], "studies", 9) == ((), frozenset(), False, 9, 0)
