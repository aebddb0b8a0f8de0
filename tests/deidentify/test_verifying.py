"""Verification finds what was planted into outputs, and reads files in every form."""

from __future__ import annotations

import os
from collections.abc import Collection
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pydicom.dataelem import DataElement
from pydicom.encaps import encapsulate

from listener.deidentify import verifying
from listener.deidentify.scanning import Leaf, Scanned, Seen, Unreadable, scan, scan_behind, segments_of
from listener.dicom.file_meta import read_file_meta
from listener.dicom.source import FileSource
from tests.deidentify import planting

COMMON = frozenset({"brain", "sagittal"})
NAME, ID, BIRTH = (
    Leaf(0x00100010, "PN", b"Plantagenet^Ann^Brain"),
    Leaf(0x00100020, "LO", b"4711815"),
    Leaf(0x00100030, "DA", b"19471103"),
)
SOURCE = [
    NAME,
    ID,
    BIRTH,
    Leaf(0x00080018, "UI", b"1.2.276.0.7230010.3.1"),
    Leaf(0x00080016, "UI", b"1.3.12.2.1107.5.9.1"),
    Leaf(0x00291001, "UI", b"1.3.12.2.1107.5.9.1"),
    Leaf(0x00080080, "LO", b"Lothlorien Clinic"),
    Leaf(0x00181000, "LO", b"45152"),
    Leaf(0x00200010, "SH", b"1"),
]


def _originals(leaves: list[Leaf], options: Collection[str], common: Collection[str]) -> verifying.Originals:
    gatherer = verifying.Gatherer(options, common)
    gatherer.add(leaves)
    return gatherer.originals()


WANTED = _originals(SOURCE, (), COMMON)


@pytest.mark.parametrize(
    "planted",
    [
        b"xx PLANTAGENET xx",
        b"a 4711815 b",
        b"19471103",
        b"19471103101010",
        b"UI 1.2.276.0.7230010.3.1\0",
        b"01.2.276.0.7230010.3.1",
        b"1.2.276.0.7230010.3.1.17.4",
        b"at lothlorien clinic",
    ],
)
def test_an_original_anywhere_is_found(planted: bytes) -> None:
    assert verifying.find(planted, [], [], WANTED) == "the file"
    assert verifying.find(b"", [planted], [], WANTED) == "the file"
    assert verifying.find(planted, [], [Leaf(0x00181030, "LO", planted)], WANTED) == "(0018,1030)"


@pytest.mark.parametrize("text", [b"exam of Ann", b"ANN", b"brain of ANN", b"Brain"])
def test_short_and_common_values_are_found_as_words_of_texts(text: bytes) -> None:
    assert verifying.find(text, [], [Leaf(0x00181030, "LO", text)], WANTED) == "(0018,1030)"
    assert verifying.find(text, [], [Leaf(0x00180015, "CS", text)], WANTED) == ""


@pytest.mark.parametrize("data", [b"scanner", b"0.4711815", b"2.25.194711031", b"1.3.12.2.1107.5.9.1", b"1", b""])
def test_what_is_none_is_not_found(data: bytes) -> None:
    assert verifying.find(data, [], [Leaf(0x00181030, "LO", data)], WANTED) == ""


def test_what_is_retained_is_no_original() -> None:
    options = ("retain-uids", "retain-institution-identity", "retain-device-identity")
    wanted = _originals(SOURCE, options, COMMON)
    assert verifying.find(b"1.2.276.0.7230010.3.1 Lothlorien Clinic 45152", [], [], wanted) == ""


@pytest.mark.parametrize(
    ("charset", "name"),
    [
        ("latin-1", "Müller^Jörg"),
        ("iso8859-5", "Люксембург^Роза"),
        ("shift_jis", "ﾔﾏﾀﾞ^ﾀﾛｳ"),
        ("utf-8", "Wang^XiaoDong=王^小东"),
        ("gb18030", "Wang^XiaoDong=王东方明^小"),
        ("iso2022_jp", "Yamada^Tarou=山田^太郎"),
        ("euc_kr", "Hong^Gildong=홍홍홍^길동"),
    ],
)
def test_names_in_any_character_set_are_found(charset: str, name: str) -> None:
    """In the bytes of the file, whatever they look like; each component group by itself."""
    groups = [group.encode(charset) for group in name.split("=")]
    wanted = _originals([Leaf(0x00100010, "PN", b"=".join(groups))], (), COMMON)
    for group in groups:
        assert verifying.find(b"of " + group + b", here", [], [Leaf(0x00181030, "LO", group)], wanted)


@pytest.mark.parametrize(
    ("text", "own", "other", "codec"),
    [
        ("Müller^Jörg", ("ISO_IR 100", "latin-1"), "ISO_IR 192", "utf-8"),
        ("Müller^Jörg", ("ISO_IR 192", "utf-8"), "ISO_IR 100", "latin-1"),
        ("山田^太郎", ("\\ISO 2022 IR 87", "iso2022_jp"), "ISO_IR 192", "utf-8"),
        ("Hong^Gildong=홍^길동", ("ISO_IR 192", "utf-8"), "\\ISO 2022 IR 149", "euc_kr"),
        ("Wang=王^小东", ("GB18030", "gb18030"), "ISO_IR 192", "utf-8"),
    ],
)
def test_names_are_found_as_another_character_set_of_the_unit_writes_them(
    text: str, own: tuple[str, str], other: str, codec: str
) -> None:
    leaves = [Leaf(0x00080005, "CS", one.encode()) for one in (own[0], other)]
    wanted = _originals([*leaves, Leaf(0x00100010, "PN", text.encode(own[1]))], (), COMMON)
    for component in text.replace("=", "^").split("^"):
        if len(component.encode(codec)) > 2 and not component.isascii():
            planted = b"of " + component.encode(codec) + b", here"
            assert verifying.find(planted, [], [Leaf(0x00181030, "LO", planted)], wanted) == "(0018,1030)"


def test_an_element_written_as_un_is_read_as_what_it_is(tmp_path: Path) -> None:
    made = planting.instance(0)
    made.add(DataElement(0x00100010, "UN", b"Plantagenet "))
    made.add(DataElement(0x0020000E, "UN", b"1.3.9999.77.31"))
    leaves = {leaf.tag: leaf.vr for leaf in _scan(tmp_path / "file", planting.file_of(made, planting.EXPLICIT)).leaves}
    assert (leaves[0x00100010], leaves[0x0020000E]) == ("PN", "UI")


@pytest.mark.parametrize("syntax", [*planting.SYNTAXES, "1.2.840.10008.1.2.4.50"])
def test_what_stands_behind_the_pixels_is_read(tmp_path: Path, syntax: str) -> None:
    made = planting.instance(0)
    made.add(DataElement(0x7FE11001, "LO", planting.PLANT))
    if syntax == "1.2.840.10008.1.2.4.50":
        made.add(DataElement(0x7FE00010, "OB", encapsulate([b"\xff\xd8abcd", b"\xff\xd8efgh"])))
        made[0x7FE00010].is_undefined_length = True
    path = tmp_path / "file"
    path.write_bytes(planting.file_of(made, syntax))
    with path.open("rb") as file:
        meta = read_file_meta(FileSource(file.fileno(), path.stat().st_size))
        before = scan(file.fileno(), meta.dataset_offset, syntax)
        behind = scan_behind(file.fileno(), meta.dataset_offset, syntax, before)
    assert [(leaf.tag, leaf.value) for leaf in behind.leaves] == [
        (0x7FE11001, planting.PLANT.encode()),
        (0xFFFCFFFC, planting.PLANT.encode()),
    ]
    assert planting.PLANT.encode() in behind.data


def test_pixels_without_an_end_cannot_be_read(tmp_path: Path) -> None:
    made = planting.instance(0)
    made.add(DataElement(0x7FE00010, "OB", encapsulate([b"abcd"])))
    made[0x7FE00010].is_undefined_length = True
    data = planting.file_of(made, "1.2.840.10008.1.2.4.50")
    with pytest.raises(Unreadable):
        _scan(tmp_path / "file", data[: data.rindex(b"\xfe\xff\xdd\xe0")])


def _scan(path: Path, data: bytes, seen: Seen | None = None) -> Scanned:
    path.write_bytes(data)
    descriptor = os.open(path, os.O_RDONLY)
    try:
        meta = read_file_meta(FileSource(descriptor, len(data)))
        return scan(descriptor, meta.dataset_offset, meta.TransferSyntaxUID, seen)
    finally:
        os.close(descriptor)


@pytest.mark.parametrize("undefined", [False, True])
@pytest.mark.parametrize("syntax", planting.SYNTAXES)
def test_values_of_every_depth_are_read(tmp_path: Path, syntax: str, undefined: bool) -> None:
    made = planting.instance(5, undefined=undefined)
    found = _scan(tmp_path / "file", planting.file_of(made, syntax))
    names = [leaf for leaf in found.leaves if leaf.tag == 0x00100010]
    expected = sum(1 for one in made.iterall() if one.tag == 0x00100010)
    # Within private sequences too, where the file says what is one.
    assert len(names) == expected if syntax != planting.IMPLICIT else len(names) >= 6
    assert bytes(range(32)) not in found.data


@settings(deadline=None, max_examples=25, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.sampled_from(planting.SYNTAXES), st.lists(st.lists(st.integers(0, 200), max_size=3), min_size=2, max_size=8))
def test_what_was_seen_in_other_files_is_all_that_is_left_out(
    tmp_path: Path, syntax: str, instances: list[list[int]]
) -> None:
    seen, known = Seen(), set[Leaf]()
    for number, absent in enumerate(instances):
        made = planting.instance(1)
        made.InstanceNumber, made.ImageComments = number % 3, f"Plantagenet {number}"
        tags = [tag for tag in made.keys() if tag != 0x7FE00010]  # noqa: SIM118
        for tag in {tags[place % len(tags)] for place in absent}:
            del made[tag]
        data = planting.file_of(made, syntax)
        alone, beside = _scan(tmp_path / "file", data), _scan(tmp_path / "file", data, seen)
        assert (beside.data, beside.end, beside.segments) == (alone.data, alone.end, alone.segments)
        known.update(beside.leaves)
        assert known >= set(alone.leaves)
        assert set(beside.leaves) <= set(alone.leaves)


def test_a_cut_file_cannot_be_read(tmp_path: Path) -> None:
    with pytest.raises(Unreadable):
        _scan(tmp_path / "file", planting.file_of(planting.instance(0), planting.EXPLICIT)[:900])


def test_comments_and_application_segments_are_read() -> None:
    jpeg = b"\xff\xd8\xff\xe1\0\x08Planta\xff\xfe\0\x06Anne\xff\xda\0\x04xxPlantagenet"
    assert list(segments_of(jpeg)) == [b"Planta", b"Anne"]
    assert list(segments_of(b"\xff\x4f\xff\x51\0\x04xx\xff\x64\0\x08\0\x01Anne\xff\x90\0\x04xx")) == [b"\0\x01Anne"]
    assert list(segments_of(b"no JPEG")) == []


def test_a_comment_behind_long_segments_is_read(tmp_path: Path) -> None:
    """Profiles of colours are made of segments of 64 KiB each."""
    made = planting.instance(0)
    jpeg = b"\xff\xd8" + 5 * (b"\xff\xe2\xff\xff" + bytes(0xFFFD)) + b"\xff\xfe\0\x06Anne\xff\xda\0\x04xx"
    made.add(DataElement(0x7FE00010, "OB", encapsulate([jpeg])))
    made[0x7FE00010].is_undefined_length = True
    found = _scan(tmp_path / "file", planting.file_of(made, "1.2.840.10008.1.2.4.50"))
    assert found.segments[-1] == b"Anne"
