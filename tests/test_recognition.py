"""Files that are like earlier ones are recognised, and read exactly as if they were not."""

from __future__ import annotations

import random
from pathlib import Path
from typing import Any

import pytest

from listener.dicom import recognition
from listener.dicom.header import Header, Limits
from listener.dicom.reader import Wanted, read_header
from listener.dicom.source import FileSource
from listener.errors import FileFault
from tests.instances import descriptor, instance, save

IMPLICIT = "1.2.840.10008.1.2"
EXPLICIT = "1.2.840.10008.1.2.1"
JPEG = "1.2.840.10008.1.2.4.50"
KEYWORDS = ("InstanceNumber", "PatientID", "PatientName", "SOPInstanceUID", "SeriesDescription", "StudyDescription")
LIMITS = Limits()


def made(path: Path, syntax: str = EXPLICIT, **values: Any) -> bytes:
    own = f"1.2.826.0.1.3680043.10.1470.77.{100_000 + values.get('number', 0)}"
    values = {"SOPInstanceUID": own, **values}
    return save(instance(transfer_syntax=syntax, pixels=8, **values), path).read_bytes()


def outcome(data: bytes, wanted: Wanted) -> Header | str:
    with descriptor(data) as (fd, size):
        try:
            return read_header(fd, size, wanted, LIMITS)
        except FileFault as fault:
            return f"{fault.reason}: {fault}"


def recognised(data: bytes, wanted: Wanted) -> bool:
    with descriptor(data) as (fd, size):
        return wanted.likenesses(LIMITS).header(FileSource(fd, size)) is not None


def same(data: bytes, wanted: Wanted) -> bool:
    """Whether it was recognised; in any case what is read is what is read without a memory."""
    known = recognised(data, wanted)
    assert outcome(data, wanted) == outcome(data, Wanted(KEYWORDS))
    return known


@pytest.mark.parametrize("syntax", [IMPLICIT, EXPLICIT])
def test_the_fourth_of_a_series_is_recognised(tmp_path: Path, syntax: str) -> None:
    """The first tells the size, the second the shape, the next ones what may differ: both digits of the number."""
    wanted = Wanted(KEYWORDS)
    files = [made(tmp_path / "one", syntax, number=number) for number in range(10, 16)]
    assert [same(data, wanted) for data in files] == [False] * 3 + [True] * 3
    assert same(made(tmp_path / "one", syntax, number=42), wanted)


def test_another_series_of_the_same_shape_is_recognised_soon(tmp_path: Path) -> None:
    wanted = Wanted(KEYWORDS)
    for patient in range(3):
        files = [made(tmp_path / "one", patient=patient, number=number) for number in range(10, 15)]
        assert [same(data, wanted) for data in files][-1]


def test_one_size_may_have_several_shapes(tmp_path: Path) -> None:
    """A value is two bytes longer, another one two bytes shorter."""
    wanted = Wanted(KEYWORDS)
    shapes = [
        [made(tmp_path / "one", number=number, SeriesDescription=one, StudyDescription=two) for number in range(10, 20)]
        for one, two in (("long", "it"), ("it", "long"))
    ]
    assert len({len(data) for files in shapes for data in files}) == 1
    known = [same(data, wanted) for pair in zip(*shapes, strict=True) for data in pair]
    assert all(known[-10:])


def test_what_is_compressed_is_walked(tmp_path: Path) -> None:
    wanted = Wanted(KEYWORDS)
    assert not any(same(made(tmp_path / "one", JPEG, number=number), wanted) for number in range(10, 20))


def test_a_value_that_is_not_plain_is_left_to_pydicom(tmp_path: Path) -> None:
    wanted = Wanted(KEYWORDS)
    files = [
        made(tmp_path / "one", number=number, PatientName=f"Name{number}", SpecificCharacterSet="ISO_IR 100")
        for number in range(10, 15)
    ]
    assert [same(data, wanted) for data in files][-1]
    data = files[-1]
    odd = data.replace(b"Name14", b"M\xfcll\xe9 ")
    assert not same(odd, wanted)
    header = outcome(odd, wanted)
    assert isinstance(header, Header)
    assert (header.get("PatientName"), header.fast) == ("M\xfcll\xe9", False)


def test_pixels_that_are_not_where_they_must_be_are_noticed(tmp_path: Path) -> None:
    wanted = Wanted(KEYWORDS)
    files = [made(tmp_path / "one", number=number) for number in range(10, 15)]
    assert [same(data, wanted) for data in files][-1]
    data = files[-1]
    at = data.rindex(b"\xe0\x7f\x10\x00")
    assert not same(data[:at] + b"\xe0\x7f\x12" + data[at + 3 :], wanted)


def test_mutated_files_are_read_as_without_a_memory(tmp_path: Path) -> None:
    """Bytes exchanged anywhere before the pixels, in files that the memory knows best."""
    chance = random.Random(7)
    seeds = [
        made(
            tmp_path / "one",
            chance.choice((IMPLICIT, EXPLICIT)),
            patient=chance.randrange(3),
            number=chance.randrange(100, 1000),
            StudyDescription=chance.choice(("one", "another")),
            SpecificCharacterSet=chance.choice(("ISO_IR 100", "ISO_IR 192")),
        )
        for _ in range(40)
    ]
    pieces = (
        b"\xff\xff",
        b"\0\0",
        b"SQ",
        b"UN",
        b"\x08\0",
        b"\x28\0\x10\0",
        b"\xe0\x7f",
        b" ",
        b"\\",
        b"\xe9",
        b"\x1b$B",
    )
    wanted = Wanted(KEYWORDS)
    hits = 0
    for _ in range(4000):
        data = bytearray(chance.choice(seeds))
        for _ in range(chance.choice((0, 1, 1, 2))):
            piece = chance.choice((*pieces, chance.randbytes(1)))
            at = chance.randrange(120, len(data) - 8 * 8 * 2)
            data[at : at + len(piece)] = piece
        hits += same(bytes(data), wanted)
    assert hits > 1000


def test_what_is_remembered_is_bounded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Sizes, shapes of one size, and tries where nothing is gained."""
    monkeypatch.setattr(recognition, "_MOST_SIZES", 4)
    wanted = Wanted(KEYWORDS)
    for number in range(60):
        same(made(tmp_path / "one", SeriesDescription="x" * 2 * (number // 3), number=10), wanted)
    sizes = wanted.likenesses(LIMITS)._sizes
    assert 0 < len(sizes) <= 4
    base = made(tmp_path / "one", number=10, StudyDescription="x" * 40)
    at = base.index(b"\x08\0\x50\0SH")
    for number in range(60):  # another tag each time: another shape of the same size
        same(base[:at] + b"\x09\0" + bytes([number, 0x10]) + base[at + 4 :], wanted)
    known = sizes[len(base)]
    assert known.tries == recognition._TRIES
    assert len(known.likenesses) == recognition._MOST_SHAPES
