"""Rewritten instances: nothing that was planted stays, and what is kept is kept byte for byte."""

from __future__ import annotations

import copy
import functools
from pathlib import Path
from typing import Literal

import pydicom
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pydicom.dataelem import DataElement
from pydicom.dataset import Dataset
from pydicom.encaps import encapsulate
from pydicom.sequence import Sequence

from listener.deidentify import profile
from listener.deidentify.faults import NotUnderstood
from tests.deidentify import planting
from tests.deidentify.rewriting_bench import KEYS, job, rewritten


def plain() -> Dataset:
    made = Dataset()
    made.SOPClassUID, made.SOPInstanceUID = "1.2.840.10008.5.1.4.1.1.4", "1.2.3"
    made.Modality, made.PatientID, made.Rows = "MR", "4711", 4
    return made


@pytest.mark.parametrize("syntax", planting.SYNTAXES)
@pytest.mark.parametrize("undefined", [False, True])
@pytest.mark.parametrize("depth", range(6))
def test_nothing_that_was_planted_stays(tmp_path: Path, syntax: str, undefined: bool, depth: int) -> None:
    data = planting.file_of(planting.instance(depth, undefined=undefined), syntax)
    _, out = rewritten(tmp_path, data)
    assert planting.found_in(planting.dataset_bytes(out, syntax)) == []
    assert planting.found_in(out) == []
    made = pydicom.dcmread(planting.buffer(out))
    assert made.PatientIdentityRemoved == "YES"
    assert made.PixelData == bytes(range(32))
    assert made.SOPInstanceUID == made.file_meta.MediaStorageSOPInstanceUID == KEYS.uid(f"{planting.ROOT}.1")
    for level in range(depth):
        (made,) = made[planting.PATH[level]].value
        assert made.Rows == level + 1


@pytest.mark.parametrize("syntax", [planting.EXPLICIT, planting.BIG])
def test_nothing_planted_stays_with_all_options_that_keep_no_identity(tmp_path: Path, syntax: str) -> None:
    options = ("retain-modified-dates", "clean-descriptors", "clean-structured-content", "clean-graphics")
    _, out = rewritten(tmp_path, planting.file_of(planting.instance(5), syntax), job(*options))
    assert planting.found_in(out) == []
    made = pydicom.dcmread(planting.buffer(out))
    assert made.StudyDate == "19471017"
    assert made.StudyTime == "101010.4711"
    assert made.LongitudinalTemporalInformationModified == "MODIFIED"


@pytest.mark.parametrize("syntax", planting.SYNTAXES)
def test_what_is_kept_is_kept_byte_for_byte(tmp_path: Path, syntax: str) -> None:
    kept = plain()
    kept.PatientID = ""
    item = Dataset()
    item.EffectiveEchoTime = 1.5
    for tag in (0x52009230, 0x00189114):
        kept.add(DataElement(tag, "SQ", Sequence([item, item])))
    kept.add(DataElement(0x00080070, "LO", "odd \\ padding"))
    kept.add(DataElement(0x00209157, "UL", [1, 2, 3]))
    kept.add(DataElement(0x7FE00010, "OW", bytes(100_000)))
    data = planting.file_of(kept, syntax)
    _, out = rewritten(tmp_path, data, job("retain-uids"))
    made = pydicom.dcmread(planting.buffer(out))
    for tag in (0x00100020, 0x00120062, 0x00120063, 0x00120064, 0x00280303):
        del made[tag]
    del kept.PatientID
    assert planting.encoded(made, syntax) == planting.encoded(kept, syntax)
    assert planting.encoded(kept, syntax)[-100_000:] in planting.dataset_bytes(out, syntax)


@pytest.mark.parametrize("outer", [planting.EXPLICIT, planting.BIG])
@pytest.mark.parametrize("undefined", [False, True])
def test_un_that_holds_a_sequence_is_entered(tmp_path: Path, outer: str, undefined: bool) -> None:
    """It is in implicit VR little endian, whatever is around it (PS3.5 section 6.2.2)."""
    item = Dataset()
    item.PatientName, item.Rows = f"{planting.PLANT}^A", 7
    holder = Dataset()
    holder.add(DataElement(0x00189477, "SQ", Sequence([item])))
    inner = planting.encoded(holder, planting.IMPLICIT)[8:]
    order: Literal["big", "little"] = "big" if outer == planting.BIG else "little"
    tag = b"".join(part.to_bytes(2, order) for part in (0x0018, 0x9477))
    end = bytes.fromhex("feffdde000000000")
    length = 0xFFFFFFFF if undefined else len(inner)
    element = tag + b"UN\0\0" + length.to_bytes(4, order) + inner + (end if undefined else b"")
    data = planting.file_of(plain(), outer)
    rows = b"".join(part.to_bytes(2, order) for part in (0x0028, 0x0010))
    at = data.index(rows + b"US")
    _, out = rewritten(tmp_path, data[:at] + element + data[at:])
    assert planting.found_in(out) == []
    assert (7).to_bytes(2, "little") in out[out.index(tag + b"UN") :]
    assert (b"UN\0\0\xff\xff\xff\xff" in out) is undefined


def test_un_that_hides_a_sequence_and_private_ones_go(tmp_path: Path) -> None:
    made = plain()
    hidden = bytes.fromhex("feff00e0ffffffff") + b"\x10\0\x10\0\x0c\0\0\0Plantagenet "
    made.add(DataElement(0x00291010, "UN", hidden))
    data = planting.file_of(made, planting.EXPLICIT)
    element = b"\x28\0\x51\0UN\0\0" + len(hidden).to_bytes(4, "little") + hidden
    at = data.index(b"\x29\0\x10\x10UN")
    assert planting.found_in(rewritten(tmp_path, data[:at] + element + data[at:])[1]) == []


def test_encapsulated_pixels_stay_and_what_follows_them_goes(tmp_path: Path) -> None:
    made = plain()
    frames = encapsulate([b"\xff\xd8" + bytes(50_000) + b"\xff\xd9", b"\xff\xd8\xff\xd9"])
    made.add(DataElement(0x7FE00010, "OB", frames, is_undefined_length=True))
    made.add(DataElement(0xFFFCFFFC, "OB", planting.PLANT.encode() + b" "))
    data = planting.file_of(made, "1.2.840.10008.1.2.4.50")
    _, out = rewritten(tmp_path, data + b"Plantagenet behind it all")
    assert planting.found_in(out) == []
    assert out.endswith(frames + bytes.fromhex("feffdde000000000"))


def test_large_values_are_not_read(tmp_path: Path) -> None:
    made = plain()
    made.add(DataElement(0x00281201, "OW", bytes(200_000)))
    made.add(DataElement(0x00291001, "OB", planting.PLANT.encode() * 20_000))
    made.add(DataElement(0x7FE00010, "OW", bytes(1_000_000)))
    parts = rewritten(tmp_path, planting.file_of(made, planting.EXPLICIT))[0].parts
    assert max(len(part) for part in parts if isinstance(part, bytes)) < 2_000


def test_what_was_said_of_earlier_de_identification_stays(tmp_path: Path) -> None:
    made = plain()
    code = Dataset()
    code.CodeValue, code.CodingSchemeDesignator, code.CodeMeaning = "113109", "DCM", "earlier"
    made.DeidentificationMethod = "by hand"
    made.DeidentificationMethodCodeSequence = [code]
    made.PatientIdentityRemoved = "NO"
    out = pydicom.dcmread(planting.buffer(rewritten(tmp_path, planting.file_of(made, planting.EXPLICIT))[1]))
    assert out.PatientIdentityRemoved == "YES"
    assert out.DeidentificationMethod[0] == "by hand"
    assert [one.CodeValue for one in out.DeidentificationMethodCodeSequence] == ["113109", "113100"]


def test_a_sequence_of_dummies_names_nobody_and_refers_to_new_uids(tmp_path: Path) -> None:
    made, item = plain(), Dataset()
    item.ReferencedSOPClassUID, item.ReferencedSOPInstanceUID = "1.2.840.10008.5.1.4.1.1.4", f"{planting.ROOT}.5"
    item.ContextUID = "1.2.840.10008.6.1.1"
    made.ReferencedPerformedProcedureStepSequence = [item]
    out = pydicom.dcmread(planting.buffer(rewritten(tmp_path, planting.file_of(made, planting.EXPLICIT))[1]))
    (told,) = out.ReferencedPerformedProcedureStepSequence
    assert told.ReferencedSOPInstanceUID == KEYS.uid(f"{planting.ROOT}.5")
    assert told.ReferencedSOPClassUID == item.ReferencedSOPClassUID


def test_cleaned_content_keeps_codes_of_published_schemes_and_allowed_words(tmp_path: Path) -> None:
    made = plain()
    public, own, text = Dataset(), Dataset(), Dataset()
    public.CodeValue, public.CodingSchemeDesignator, public.CodeMeaning = "T-A0100", "SRT", "brain"
    own.CodeValue, own.CodingSchemeDesignator, own.CodeMeaning = planting.PLANT, "99ACME", "brain"
    text.TextValue, text.ConceptNameCodeSequence = f"brain of {planting.PLANT}", [public]
    other = Dataset()
    other.TextValue, other.ConceptNameCodeSequence = "brain", [own]
    made.ContentSequence = [text, other]
    work = job("clean-structured-content", words=frozenset({"brain"}))
    out = rewritten(tmp_path, planting.file_of(made, planting.EXPLICIT), work)[1]
    assert planting.found_in(out) == []
    one, two = pydicom.dcmread(planting.buffer(out)).ContentSequence
    assert (one.TextValue, two.TextValue) == ("ANONYMIZED", "brain")
    assert one.ConceptNameCodeSequence[0].CodeValue == "T-A0100"
    assert two.ConceptNameCodeSequence[0].CodeValue == "ANONYMIZED"


@pytest.mark.parametrize(
    ("spoil", "why"),
    [
        (lambda data: data[:-20], "ends within|no element"),
        (lambda data: data + b"Plantagenet, and more of him", "value representation|no element"),
        (lambda data: data[:132], "not-dicom"),
        (lambda data: data.replace(b"\x08\0\x60\0CS\2\0MR", b"\x08\0\x60\0??\2\0MR"), "representation"),
        (lambda data: data.replace(b"\x28\0\x10\0US", b"\x08\0\x60\0US"), "repeated"),
        (lambda data: data.replace(b"\x28\0\x10\0US", b"\x08\0\x61\0US"), "repeated"),
        (lambda data: data.replace(b"\x08\0\x18\0UI", b"\x08\0\x17\0UI"), "SOP"),
    ],
)
def test_what_is_not_understood_does_not_pass(tmp_path: Path, spoil: object, why: str) -> None:
    data = planting.file_of(plain(), planting.EXPLICIT)
    with pytest.raises(NotUnderstood, match=why):
        rewritten(tmp_path, spoil(data))  # type: ignore[operator]


WHOLE = {syntax: planting.file_of(planting.instance(1), syntax) for syntax in planting.SYNTAXES[:3]}


@pytest.mark.fuzz
@settings(max_examples=100, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.sampled_from(sorted(WHOLE)), st.lists(st.tuples(st.floats(0, 0.999), st.integers(0, 255)), max_size=3))
def test_mutated_files_pass_whole_or_are_refused_by_name(
    tmp_path: Path, syntax: str, changes: list[tuple[float, int]]
) -> None:
    data = bytearray(WHOLE[syntax])
    for where, byte in changes:
        data[132 + int(where * (len(data) - 132))] = byte
    try:
        _, out = rewritten(tmp_path, bytes(data))
    except NotUnderstood:
        return
    assert out.startswith(bytes(128) + b"DICM")


@pytest.mark.parametrize("uid", ["../../etc/passwd", "1.2.3/4", "", "DOE"])
def test_a_uid_that_is_kept_must_be_one(tmp_path: Path, uid: str) -> None:
    """It is the name of a file."""
    data = planting.file_of(plain(), planting.EXPLICIT)
    element = b"\x08\0\x18\0UI\x06\x001.2.3\0"
    assert element in data
    raw = uid.encode() + b"\0" * (len(uid) & 1)
    spoiled = data.replace(element, b"\x08\0\x18\0UI" + len(raw).to_bytes(2, "little") + raw)
    with pytest.raises(NotUnderstood, match="UID"):
        rewritten(tmp_path, spoiled, job("retain-uids"))


def test_two_runs_give_the_same_bytes(tmp_path: Path) -> None:
    data = planting.file_of(planting.instance(3), planting.DEFLATED)
    assert rewritten(tmp_path, data)[1] == rewritten(tmp_path, data)[1]


def test_a_retry_with_a_larger_window_counts_nothing_twice(tmp_path: Path) -> None:
    made = plain()
    items = []
    for number in range(9_000):
        item = Dataset()
        item.PatientName, item.InStackPositionNumber = planting.PLANT, number
        items.append(item)
    element = DataElement(0x52009230, "SQ", Sequence(items), is_undefined_length=True)
    made.add(element)
    out, data = rewritten(tmp_path, planting.file_of(made, planting.EXPLICIT), job(explains=True))
    assert planting.found_in(data) == []
    assert out.done[0x00100010, profile.PSEUDONYM] == 9_000
    assert sum(step.path[-1] == 0x00209057 for step in out.steps) == 9_000


_CHANGES = st.lists(st.tuples(st.sampled_from(["drop", "change"]), st.integers(0, 400), st.binary(max_size=6)))


@settings(deadline=None, max_examples=25, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.sampled_from(planting.SYNTAXES), st.booleans(), st.lists(_CHANGES, min_size=2, max_size=7))
def test_what_was_remembered_of_other_instances_changes_nothing(
    tmp_path: Path, syntax: str, undefined: bool, instances: list[list[tuple[str, int, bytes]]]
) -> None:
    options = ("retain-modified-dates", "clean-descriptors")
    remembering = job(*options)._replace(memories={})
    for changes in instances:
        data = planting.file_of(_changed(copy.deepcopy(_sparse(undefined)), changes), syntax)
        alone, alone_bytes = rewritten(tmp_path, data, job(*options))
        beside, beside_bytes = rewritten(tmp_path, data, remembering)
        assert beside_bytes == alone_bytes
        assert beside.done == alone.done
        assert beside.draws_in_pixels == alone.draws_in_pixels


@functools.cache
def _sparse(undefined: bool) -> Dataset:
    """A planted instance with a part of its elements."""
    made = planting.instance(1, undefined=undefined)
    for place, tag in enumerate(list(made.keys())):
        if place % 12 and tag not in (0x00080016, 0x00080018, 0x7FE00010, 0x00280100):
            del made[tag]
    return made


def _changed(made: Dataset, changes: list[tuple[str, int, bytes]]) -> Dataset:
    """A data set of which some elements are absent or have other values."""
    for what, place, value in changes:
        tags = [tag for tag in made.keys() if tag not in (0x00080016, 0x00080018, 0x7FE00010)]  # noqa: SIM118
        element = made[tags[place % len(tags)]]
        if what == "drop":
            del made[element.tag]
        elif what == "change" and element.VR in ("LO", "SH", "UN", "OB"):
            element.value = value if element.VR in ("UN", "OB") else value.hex()
        elif what == "change" and element.VR == "SQ":
            element.value = [*element.value, Dataset()]
    return made


def test_a_safe_private_element_is_not_remembered_without_its_creator(tmp_path: Path) -> None:
    options = frozenset({"retain-safe-private"})
    rules = profile.Rules(options, frozenset({("SAFE", 0x0029, 0x01)}))
    remembering = job(*options)._replace(rules=rules, memories={})
    for creator in ("SAFE", "OTHER", "SAFE", "SAFE", "OTHER", "", "SAFE"):
        made = plain()
        if creator:
            made.add(DataElement(0x00290010, "LO", creator))
        made.add(DataElement(0x00291001, "LO", "value"))
        _, out = rewritten(tmp_path, planting.file_of(made, planting.EXPLICIT), remembering)
        assert (0x00291001 in pydicom.dcmread(planting.buffer(out))) == (creator == "SAFE")
