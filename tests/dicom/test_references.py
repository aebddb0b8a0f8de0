"""What an instance refers to: every kind of result, each encoding, and input that is broken or without end."""

from __future__ import annotations

import random
import time
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydicom import config
from pydicom.dataelem import DataElement
from pydicom.dataset import Dataset
from pydicom.sequence import Sequence

from listener.dicom import references
from listener.dicom.attributes import Limits
from listener.dicom.references import References, read_references
from tests.dicom.mutating import FILES, mutated
from tests.instances import descriptor, element, instance, part10, save, uid

SYNTAXES = ("1.2.840.10008.1.2", "1.2.840.10008.1.2.1", "1.2.840.10008.1.2.2", "1.2.840.10008.1.2.1.99")
STUDY, SERIES, IMAGE, OTHER = (uid(word) for word in ("study", "series", "image", "other"))

#: Studies' UIDs in objects that refer to them as to an instance (Detached Study Management, retired).
STUDY_MANAGEMENT = "1.2.840.10008.3.1.2.3.1"


def item(**elements: Any) -> Dataset:
    made = Dataset()
    for keyword, value in elements.items():
        setattr(made, keyword, value)
    return made


def sop(uid: str, sop_class: str = "1.2.840.10008.5.1.4.1.1.4", **more: Any) -> Dataset:
    return item(ReferencedSOPClassUID=sop_class, ReferencedSOPInstanceUID=uid, **more)


#: What a result says of its origin, in the words of each kind of object, and what is to be found in it.
KINDS: dict[str, tuple[dict[str, Any], References]] = {
    "evidence of a report or a key object": (
        {
            "CurrentRequestedProcedureEvidenceSequence": [
                item(
                    StudyInstanceUID=STUDY,
                    ReferencedSeriesSequence=[
                        item(SeriesInstanceUID=SERIES, ReferencedSOPSequence=[sop(IMAGE), sop(OTHER)])
                    ],
                )
            ]
        },
        References((STUDY,), (SERIES,), (IMAGE, OTHER)),
    ),
    "content of a report": (
        {"ContentSequence": [item(ContentSequence=[item(ContentSequence=[item(ReferencedSOPSequence=[sop(IMAGE)])])])]},
        References((), (), (IMAGE,)),
    ),
    "segmentation": (
        {
            "ReferencedSeriesSequence": [item(SeriesInstanceUID=SERIES, ReferencedInstanceSequence=[sop(IMAGE)])],
            "PerFrameFunctionalGroupsSequence": [
                item(DerivationImageSequence=[item(SourceImageSequence=[sop(name, ReferencedFrameNumber=1)])])
                for name in (IMAGE, OTHER)
            ],
        },
        References((), (SERIES,), (IMAGE, OTHER)),
    ),
    "presentation state": (
        {"ReferencedSeriesSequence": [item(ReferencedImageSequence=[sop(IMAGE)], SeriesInstanceUID=SERIES)]},
        References((), (SERIES,), (IMAGE,)),
    ),
    "structure set": (
        {
            "ReferencedFrameOfReferenceSequence": [
                item(
                    FrameOfReferenceUID=OTHER,
                    RTReferencedStudySequence=[
                        sop(
                            STUDY,
                            STUDY_MANAGEMENT,
                            RTReferencedSeriesSequence=[
                                item(SeriesInstanceUID=SERIES, ContourImageSequence=[sop(IMAGE)])
                            ],
                        )
                    ],
                )
            ]
        },
        References((), (SERIES,), (STUDY, IMAGE)),
    ),
    "secondary capture of a new study": ({"SourceImageSequence": [sop(IMAGE)]}, References((), (), (IMAGE,))),
    "other studies": (
        {
            "StudiesContainingOtherReferencedInstancesSequence": [
                item(StudyInstanceUID=STUDY, ReferencedSeriesSequence=[item(SeriesInstanceUID=SERIES)])
            ]
        },
        References((STUDY,), (SERIES,), ()),
    ),
    "nothing": ({"ConceptNameCodeSequence": [item(CodeValue="1")]}, References()),
    "empty": ({"SourceImageSequence": [], "ReferencedSeriesSequence": [Dataset()]}, References()),
}


def written(ds: Dataset, tmp_path: Path) -> bytes:
    return save(ds, tmp_path / "one").read_bytes()


def read(data: bytes, limits: Limits | None = None) -> References:
    with descriptor(data) as (fd, size):
        return read_references(fd, size, limits or Limits())


@pytest.mark.parametrize("syntax", SYNTAXES)
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("undefined", [True, False])
def test_each_kind_of_result_tells_its_origin(kind: str, syntax: str, undefined: bool, tmp_path: Path) -> None:
    elements, wanted = KINDS[kind]
    made = instance(transfer_syntax=syntax)
    for keyword, value in elements.items():
        setattr(made, keyword, Sequence(value))
    delimit(made, undefined)
    assert read(written(made, tmp_path)) == wanted


def delimit(ds: Dataset, undefined: bool) -> None:
    for one in ds:
        if one.VR == "SQ":
            one.is_undefined_length = undefined
            for inner in one.value:
                inner.is_undefined_length_sequence_item = undefined
                delimit(inner, undefined)


@pytest.mark.parametrize("implicit", [True, False])
@pytest.mark.parametrize("length", [None, 0xFFFFFFFF])
def test_a_sequence_of_unknown_vr_is_looked_into(implicit: bool, length: int | None) -> None:
    inner = element(0x00081155, "" if implicit else "UI", IMAGE.encode() + b"\0" * (len(IMAGE) % 2))
    end = element(0xFFFEE0DD, "", b"") if length else b""
    value = element(0xFFFEE000, "", inner) + end
    unknown = element(0x00081140, "UN", value, length=length and 0xFFFFFFFF)
    assert read(part10(element(0x00080016, "UI", b"1.2\0") + unknown)) == References((), (), (IMAGE,))


def test_what_stands_at_the_top_or_is_no_uid_is_no_reference(tmp_path: Path) -> None:
    made = instance()
    odd = item(ReferencedSOPClassUID="1.2")
    odd.add(DataElement(0x00081155, "UI", "Smith^John", validation_mode=config.IGNORE))
    made.SourceImageSequence = Sequence([odd, item(ReferencedSOPInstanceUID=""), sop(IMAGE), sop(IMAGE)])
    assert read(written(made, tmp_path)) == References((), (), (IMAGE,))


def test_no_more_is_read_than_the_bounds_allow(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    made = instance()
    made.SourceImageSequence = Sequence([sop(uid(number)) for number in range(50)])
    data = written(made, tmp_path)
    monkeypatch.setattr(references, "MOST_UIDS", 20)
    assert read(data).instances == tuple(uid(number) for number in range(20))
    monkeypatch.setattr(references, "MOST_ELEMENTS", 21)
    assert len(read(data).instances) == 7  # of three elements and items each


def test_deeper_than_allowed_is_not_looked_into() -> None:
    inner = element(0x00081155, "UI", b"1.2.3\0")
    for _ in range(40):
        inner = element(0x0040A730, "SQ", element(0xFFFEE000, "", inner))
    shallow = element(0x00081140, "SQ", element(0xFFFEE000, "", element(0x00081155, "UI", b"4.5\0")))
    data = part10(shallow + inner)
    assert read(data, Limits(max_depth=64)).instances == ("4.5", "1.2.3")
    assert read(data, Limits(max_depth=16)).instances == ("4.5",)


@pytest.mark.parametrize("kept", [0, 1, 131, 200, 400])
def test_a_file_that_ends_early_tells_what_stands_before(kept: int, tmp_path: Path) -> None:
    made = instance()
    made.SourceImageSequence = Sequence([sop(IMAGE)])
    data = written(made, tmp_path)[:kept]
    assert read(data) in (References(), References((), (), (IMAGE,)))


TREES: st.SearchStrategy[Any] = st.recursive(
    st.just([]),
    lambda inner: st.lists(st.tuples(st.sampled_from(["StudyInstanceUID", "SeriesInstanceUID"]), inner), max_size=3),
    max_leaves=12,
)


@given(tree=TREES, syntax=st.sampled_from(SYNTAXES))
@settings(max_examples=60, deadline=None)
def test_whatever_lies_in_sequences_is_found_as_pydicom_finds_it(
    tmp_path_factory: pytest.TempPathFactory, tree: Any, syntax: str
) -> None:
    numbers = iter(range(1, 1000))

    def sequence(items: Any) -> Sequence:
        return Sequence(
            item(**{keyword: f"1.2.{next(numbers)}", "ReferencedSeriesSequence": sequence(inner)})
            for keyword, inner in items
        )

    made = instance(transfer_syntax=syntax)
    made.SourceImageSequence = sequence(tree)
    found = read(written(made, tmp_path_factory.getbasetemp()))
    values = [one for one in made.iterall() if one.tag in (0x0020000D, 0x0020000E)]
    nested = {str(one.value) for one in values} - {made.StudyInstanceUID, made.SeriesInstanceUID}
    assert {*found.studies, *found.series} == nested


@pytest.mark.fuzz
def test_mutated_files_end_within_a_second(tmp_path: Path) -> None:
    chance = random.Random(14)
    seeds = []
    for syntax in SYNTAXES:
        for elements, _ in KINDS.values():
            made = instance(transfer_syntax=syntax)
            for keyword, value in elements.items():
                setattr(made, keyword, Sequence(value))
            seeds.append(written(made, tmp_path))
    seeds += [file.read_bytes() for file in FILES if file.stat().st_size < 30_000]
    for number in range(1000):
        data = mutated(chance, seeds)
        begun = time.process_time()
        found = read(data, Limits(max_header=1_000_000, max_depth=16))
        assert time.process_time() - begun < 4, f"mutation {number}"
        assert all(len(uids) <= references.MOST_UIDS for uids in found)
