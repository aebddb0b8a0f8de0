"""Header -> Plan: names of instances, what they lack, and that nothing gets out of the data directory."""

from __future__ import annotations

import os
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from listener.dicom.attributes import Header
from listener.planning.names import MAX_COMPONENT
from listener.planning.plan import (
    INSTANCE_KEYWORDS,
    LAYOUTS,
    SHARED_KEYWORDS,
    Layout,
    Plan,
    choose_preset,
    make_plan,
    missing_keywords,
)
from tests.planning.headers import FULL

RX = Layout(LAYOUTS["rx"])


def header(sender: str = "MYPACS", **values: str) -> Header:
    return Header(values, size=1000, dataset_offset=300, SourceApplicationEntityTitle=sender)


def test_a_plan_is_a_directory_and_a_name() -> None:
    plan = make_plan(header(**FULL), RX)
    assert plan.name == "0001-1.2.3.dcm"
    assert plan.relative == f"{plan.directory}/{plan.name}"
    assert plan == Plan(RX.place(FULL)[0], "0001-1.2.3.dcm")


def test_the_calling_ae_title_is_the_file_s_not_an_attribute_s() -> None:
    oxidicom = Layout(LAYOUTS["oxidicom"])
    values = {key: text for key, text in FULL.items() if key != "SourceApplicationEntityTitle"}
    assert make_plan(header("SCANNER1", **values), oxidicom).directory.startswith("SERVICES/PACS/SCANNER1/")
    assert make_plan(header("../..", **values), oxidicom).directory.startswith("SERVICES/PACS/.._../")
    nobody = make_plan(header("", **values), oxidicom).directory
    assert nobody.startswith("SERVICES/PACS/SourceApplicationEntityTitle/")


NAMES = {
    "ordinary": ({"InstanceNumber": "12"}, "0012-1.2.3.dcm"),
    "long number": ({"InstanceNumber": "123456"}, "123456-1.2.3.dcm"),
    "negative": ({"InstanceNumber": "-3"}, "00-3-1.2.3.dcm"),
    "no number at all": ({"InstanceNumber": "abc"}, "0abc-1.2.3.dcm"),
    "several numbers": ({"InstanceNumber": "[1, 2]"}, "_1_2_-1.2.3.dcm"),
    "a path": ({"InstanceNumber": "../../1"}, "_._.._1-1.2.3.dcm"),
}


@pytest.mark.parametrize(("values", "name"), NAMES.values(), ids=NAMES.keys())
def test_odd_instance_numbers(values: dict[str, str], name: str) -> None:
    assert make_plan(header(**FULL | values), RX).name == name


def test_a_long_name_is_cut_before_its_ending() -> None:
    plans = [make_plan(header(**FULL | {"InstanceNumber": "7" * 300 + end}), RX) for end in ("a", "b")]
    assert plans[0].name != plans[1].name
    assert {len(plan.name) for plan in plans} == {MAX_COMPONENT}
    assert all(plan.name.endswith(".dcm") for plan in plans)


def test_what_an_instance_lacks_is_told_in_the_order_asked_for() -> None:
    assert missing_keywords(header(PatientID="1"), ("StudyDate", "PatientID", "Modality")) == ["StudyDate", "Modality"]
    assert missing_keywords(header(**FULL), tuple(sorted(RX.keywords))) == []
    assert missing_keywords(header(), ("SourceApplicationEntityTitle",)) == []


def test_documents_ask_for_what_a_person_reads_there() -> None:
    assert {"SOPInstanceUID", "SeriesInstanceUID", "StudyInstanceUID", "PatientID"} < set(INSTANCE_KEYWORDS)
    assert not set(INSTANCE_KEYWORDS) & set(SHARED_KEYWORDS)


TEMPLATES = ("", "%PatientID/%PatientName", "%SOPInstanceUID", "..", "%_nospc|-_StudyDescription/.")
odd = st.sampled_from(["..", ".", "/", "/etc/x", "../../..", "a/../b", "\0", "\n", "~", ".listener", ""])
texts = odd | st.text(st.characters(codec=None), max_size=300) | st.integers(1, 500).map("x".__mul__)


@given(
    values=st.dictionaries(st.sampled_from(sorted(FULL)), texts),
    sender=texts,
    name=st.sampled_from(sorted(LAYOUTS)),
    own=st.tuples(*[st.sampled_from(TEMPLATES)] * 4),
)
def test_for_any_values_the_path_stays_below_the_root(
    values: dict[str, str], sender: str, name: str, own: tuple[str, ...]
) -> None:
    plan = make_plan(header(sender, **values), layout(name, own))
    path = os.path.normpath(f"/data/{plan.relative}")
    assert path == f"/data/{plan.relative}"
    assert path.startswith("/data/")
    for part in plan.relative.split("/"):
        assert part not in ("", ".", "..", ".listener")
        assert len(os.fsencode(part)) <= MAX_COMPONENT
        assert part.isascii()
        assert part.isprintable()
    assert plan.name.endswith(".dcm")
    assert not plan.name.startswith("."), "a hidden file is seen by nobody"
    assert len(f"{plan.name}.json") <= 255


_layouts: dict[Any, Layout] = {}


def layout(name: str, own: tuple[str, ...]) -> Layout:
    """Compiled once: hypothesis asks for few of them again and again."""
    if (name, own) not in _layouts:
        _layouts[name, own] = Layout(choose_preset(name, *own))
    return _layouts[name, own]
