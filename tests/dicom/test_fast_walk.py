"""The walk: what is where, what is whole, and what hostile bytes get."""

from __future__ import annotations

import os
import random
import time
import tracemalloc
import zlib
from pathlib import Path
from typing import Any

import pytest

from listener.dicom.attributes import Header, Limits
from listener.dicom.reader import Wanted, read_header
from listener.reasons import EmptyFile, FileFault, Incomplete, NotDicom, TooDeep, TooLarge
from tests.instances import descriptor, element, instance, part10, save

IMPLICIT = "1.2.840.10008.1.2"
EXPLICIT = "1.2.840.10008.1.2.1"
BIG = "1.2.840.10008.1.2.2"
DEFLATED = "1.2.840.10008.1.2.1.99"
JPEG = "1.2.840.10008.1.2.4.50"
SYNTAXES = (IMPLICIT, EXPLICIT, BIG, DEFLATED, JPEG)

KEYWORDS = ("PatientID", "PatientName", "SOPInstanceUID", "InstanceNumber", "SeriesDescription")

PATIENT_ID = element(0x00100020, "LO", b"P1")
MODALITY = element(0x00080060, "CS", b"MR")


def read(data: bytes, limits: Limits | None = None, wanted: Wanted | None = None) -> Header:
    with descriptor(data) as (fd, size):
        return read_header(fd, size, wanted or Wanted(KEYWORDS), limits or Limits())


def saved(path: Path, syntax: str, **overrides: Any) -> bytes:
    return save(instance(transfer_syntax=syntax, **overrides), path).read_bytes()


@pytest.mark.parametrize("syntax", SYNTAXES)
def test_every_encoding_is_read(tmp_path: Path, syntax: str) -> None:
    header = read(saved(tmp_path / "one", syntax, number=7))
    assert header.get("PatientID") == "P0000"
    assert header.get("InstanceNumber") == "7"
    assert header.TransferSyntaxUID == syntax
    assert header.SourceApplicationEntityTitle == "SENDER"
    assert (header.warning, header.fast) == ("", True)


@pytest.mark.parametrize("syntax", SYNTAXES)
@pytest.mark.parametrize("warm", [False, True])
def test_a_cut_image_is_never_taken_for_a_whole_one(tmp_path: Path, syntax: str, warm: bool) -> None:
    """Wherever the cut is, and also when the walk remembers the whole file."""
    whole = saved(tmp_path / "one", syntax, pixels=16)
    wanted = Wanted(KEYWORDS)
    if warm:
        read(whole, wanted=wanted)
        read(whole, wanted=wanted)
    for length in range(len(whole)):
        if b"\xe0\x7f\x10\x00" not in whole[:length] and syntax != DEFLATED:
            # no pixel data met yet: a cut between two elements cannot be told
            continue
        with pytest.raises((Incomplete, NotDicom, EmptyFile)):
            read(whole[:length], wanted=wanted if warm else None)


@pytest.mark.parametrize("syntax", [IMPLICIT, EXPLICIT, BIG])
@pytest.mark.parametrize("warm", [False, True])
def test_without_pixel_data_only_a_cut_between_elements_is_taken(tmp_path: Path, syntax: str, warm: bool) -> None:
    whole = saved(tmp_path / "one", syntax, pixels=None)
    wanted = Wanted(KEYWORDS)
    if warm:
        read(whole, wanted=wanted)
    taken = []
    for length in range(len(whole)):
        try:
            read(whole[:length], wanted=wanted if warm else None)
            taken.append(length)
        except (Incomplete, NotDicom, EmptyFile):
            pass
    # a big endian head begins with a NUL, which behind an element passes for padding
    assert len(taken) == (len(list(instance(pixels=None))) - 1) * (2 if syntax == BIG else 1)


def test_a_hole_in_place_of_elements(tmp_path: Path) -> None:
    """What a power cut leaves: the right length, and zeros from some page on."""
    whole = saved(tmp_path / "one", EXPLICIT, pixels=None)
    assert read(whole + b"\0" * 512).warning == ""
    with pytest.raises(Incomplete):
        read(whole + b"\0" * 513)
    with pytest.raises(Incomplete):
        read(whole[: read(whole).dataset_offset] + b"\0" * 100)


def test_a_cut_image_before_its_pixels_is_told(tmp_path: Path) -> None:
    whole = saved(tmp_path / "one", EXPLICIT)
    header = read(whole[: whole.index(b"\xe0\x7f\x10\x00")])
    assert header.warning == "an image without pixel data"


@pytest.mark.parametrize(
    ("tail", "warning"),
    [
        (b"\0", ""),
        (b"\0" * 5000, ""),
        (element(0xFFFCFFFC, "OB", b"\0" * 10), ""),
        (element(0xFFFCFFFC, "OB", b"\0" * 10) + b"\0" * 3, ""),
        (b"x", "bytes behind the data set"),
        (b"more than an element's head", "bytes behind the data set"),
        (b"\0" * 20 + b"x", "bytes behind the data set"),
    ],
)
@pytest.mark.parametrize("syntax", [EXPLICIT, BIG, JPEG])
def test_what_may_follow(tmp_path: Path, syntax: str, tail: bytes, warning: str) -> None:
    if tail.startswith(b"\xfc") and syntax == BIG:
        tail = element(0xFFFCFFFC, "OB", b"\0" * 10, little=False)
    assert read(saved(tmp_path / "one", syntax) + tail).warning == warning


def test_a_cut_padding_is_incomplete(tmp_path: Path) -> None:
    data = saved(tmp_path / "one", EXPLICIT) + element(0xFFFCFFFC, "OB", b"\0" * 10, length=11)
    with pytest.raises(Incomplete):
        read(data)


def test_bytes_behind_a_deflated_stream(tmp_path: Path) -> None:
    data = saved(tmp_path / "one", DEFLATED)
    assert read(data + b"\0").warning == ""
    assert read(data + b"xyz").warning == "bytes behind the data set"


@pytest.mark.parametrize(
    "data",
    [
        b"DICM",
        b"\0" * 128 + b"DICM",
        b"Dear Sir or Madam, " * 100,
        b"\x89PNG\r\n\x1a\n" + b"\0" * 500,
        b"\0" * 4096,
        b"\0" * 128 + b"DICM" + b"text behind the prefix, and quite some of it",
        random.Random(1).randbytes(5000),
        b"\0" * 128 + b"DICM" + random.Random(2).randbytes(5000),
    ],
)
def test_what_is_not_dicom(data: bytes) -> None:
    with pytest.raises(NotDicom):
        read(data)


def test_zero_bytes() -> None:
    with pytest.raises(EmptyFile):
        read(b"")


def test_only_file_meta_information() -> None:
    with pytest.raises(Incomplete):
        read(part10(b""))


@pytest.mark.parametrize("group_length", [None, 0, 1, 7, 100_000])
def test_a_wrong_group_length_does_not_matter(group_length: int | None) -> None:
    header = read(part10(MODALITY + PATIENT_ID, group_length=group_length))
    assert (header.get("PatientID"), header.TransferSyntaxUID) == ("P1", EXPLICIT)
    assert header.get("MediaStorageSOPInstanceUID") == "1.2.3"


@pytest.mark.parametrize("syntax", [IMPLICIT, EXPLICIT, BIG])
@pytest.mark.parametrize("meta", [False, True])
def test_without_preamble(tmp_path: Path, syntax: str, meta: bool) -> None:
    whole = saved(tmp_path / "one", syntax)
    offset = 132 if meta else read(whole).dataset_offset
    header = read(whole[offset:])
    assert header.get("PatientID") == "P0000"
    assert header.TransferSyntaxUID == (syntax if meta else "")


def test_the_prefix_without_file_meta_information() -> None:
    data = element(0x00080016, "UI", b"1.2\0") + MODALITY + PATIENT_ID
    assert read(b"\0" * 128 + b"DICM" + data).get("PatientID") == "P1"


@pytest.mark.parametrize(("declared", "vr"), [(EXPLICIT, ""), (IMPLICIT, "LO")])
def test_the_first_element_decides_between_explicit_and_implicit_vr(declared: str, vr: str) -> None:
    data = element(0x00080060, vr and "CS", b"MR") + element(0x00100020, vr, b"P1")
    assert read(part10(data, declared)).get("PatientID") == "P1"


def test_a_transfer_syntax_that_is_missing() -> None:
    meta = b"\0" * 128 + b"DICM" + element(0x00020003, "UI", b"1.2.3\0")
    assert read(meta + MODALITY + PATIENT_ID).get("PatientID") == "P1"
    big = element(0x00080060, "CS", b"MR", little=False) + element(0x00100020, "LO", b"P1", little=False)
    assert read(meta + big).get("PatientID") == "P1"


def test_the_same_tag_twice_the_last_counts() -> None:
    again = element(0x00100020, "LO", b"P2") + element(0x00180015, "CS", b"HEAD")
    data = part10(MODALITY + PATIENT_ID + again)
    wanted = Wanted(KEYWORDS)
    assert [read(data, wanted=wanted).get("PatientID") for _ in range(3)] == ["P2"] * 3


def test_pixel_data_shorter_than_the_image(tmp_path: Path) -> None:
    """Their length and the end of the file agree, so nothing was cut; yet it is odd."""
    short = "the pixel data are shorter than Rows, Columns and Bits Allocated say"
    for syntax in (IMPLICIT, EXPLICIT, BIG, DEFLATED):
        assert read(saved(tmp_path / "one", syntax, Rows=5)).warning == short
        assert read(saved(tmp_path / "one", syntax, Rows=3)).warning == ""


def test_encapsulated_pixels_without_their_delimiter(tmp_path: Path) -> None:
    whole = saved(tmp_path / "one", JPEG)
    assert whole.endswith(b"\xfe\xff\xdd\xe0\0\0\0\0")
    for cut in (1, 4, 8, 9, 30):
        with pytest.raises(Incomplete):
            read(whole[:-cut])


def nested(depth: int, *, defined: bool) -> bytes:
    body = b""
    for _ in range(depth):
        if defined:
            item = b"\xfe\xff\x00\xe0" + len(body).to_bytes(4, "little") + body
            body = element(0x00081140, "SQ", item)
        else:
            item = b"\xfe\xff\x00\xe0\xff\xff\xff\xff" + body + b"\xfe\xff\x0d\xe0\0\0\0\0"
            body = element(0x00081140, "SQ", item + b"\xfe\xff\xdd\xe0\0\0\0\0", length=0xFFFFFFFF)
    return body


@pytest.mark.parametrize("defined", [False, True])
def test_nesting_is_limited(defined: bool) -> None:
    for depth in (1, 2, 63, 64):
        assert read(part10(MODALITY + nested(depth, defined=defined) + PATIENT_ID)).get("PatientID") == "P1"
    for depth in (65, 66, 200, 5000):
        with pytest.raises(TooDeep):
            read(part10(MODALITY + nested(depth, defined=defined) + PATIENT_ID))
    shallow = part10(MODALITY + nested(3, defined=defined) + PATIENT_ID)
    assert read(shallow, Limits(max_depth=3)).get("PatientID") == "P1"
    with pytest.raises(TooDeep):
        read(part10(MODALITY + nested(300, defined=defined)), Limits(max_depth=3))


def test_nesting_in_implicit_vr_is_limited_to_the_level() -> None:
    for depth in (64, 65):
        body = b""
        for _ in range(depth):
            body = element(0x00081140, "", items(body, end=False))
        data = part10(element(0x00080060, "", b"MR") + body + element(0x00100020, "", b"P1"), IMPLICIT)
        if depth == 64:
            assert read(data).get("PatientID") == "P1"
        else:
            with pytest.raises(TooDeep):
                read(data)


def items(*bodies: bytes, end: bool = True) -> bytes:
    made = b"".join(b"\xfe\xff\x00\xe0" + len(body).to_bytes(4, "little") + body for body in bodies)
    return made + (b"\xfe\xff\xdd\xe0\0\0\0\0" if end else b"")


def test_values_of_undefined_length_within_items() -> None:
    fragments = element(0x00091011, "OB", items(b"abcd", b"ef"), length=0xFFFFFFFF)
    bare = element(0x00091012, "UN", b"no item\0" + b"\xfe\xff\xdd\xe0\0\0\0\0", length=0xFFFFFFFF)
    padding = element(0x00091013, "OB", b"x" * 2000)
    sequence = element(0x00081140, "SQ", items(fragments + bare + padding + MODALITY), length=0xFFFFFFFF)
    assert read(part10(MODALITY + sequence + PATIENT_ID)).get("PatientID") == "P1"


def test_an_item_or_an_element_in_it_longer_than_the_file() -> None:
    too_long = b"\xfe\xff\x00\xe0" + (1 << 20).to_bytes(4, "little") + PATIENT_ID
    with pytest.raises(Incomplete):
        read(part10(MODALITY + element(0x00081140, "SQ", too_long, length=0xFFFFFFFF)))
    open_item = b"\xfe\xff\x00\xe0\xff\xff\xff\xff" + element(0x00091010, "OB", b"", length=1 << 20)
    with pytest.raises(Incomplete):
        read(part10(MODALITY + element(0x00081140, "SQ", open_item, length=0xFFFFFFFF)))


def test_lost_within_a_known_end_goes_on_behind_it() -> None:
    """Too long to be passed unseen, and not to be followed: only its own end is believed."""
    filler = element(0x00091013, "OB", b"x" * 2000)
    for lost in (
        element(0x00091010, "OB", b"", length=1 << 20),
        element(0x00091010, "OB", b"\xfe\xff\x00\xe0" + b"\xff\xff\x00\x00", length=0xFFFFFFFF),
        element(0x00091010, "OB", b"no fragment", length=0xFFFFFFFF),
        element(0x00091010, "SQ", b"\xfe\xff\x00\xe0\xff\xff\x00\x00", length=0xFFFFFFFF),
        b"\xfe\xff",
    ):
        value = items(filler + lost, end=False)
        data = part10(MODALITY + element(0x00081140, "SQ", value) + PATIENT_ID + b"\0" * 200)
        assert read(data).get("PatientID") == "P1"
        data = part10(
            MODALITY + element(0x00081140, "SQ", items(filler + lost, MODALITY), length=0xFFFFFFFF) + PATIENT_ID
        )
        assert read(data).get("PatientID") == "P1"


@pytest.mark.parametrize("vr", ["SQ", "UN"])
def test_nesting_within_items_of_defined_length_is_seen(vr: str) -> None:
    deep = nested(70, defined=True)
    item = b"\xfe\xff\x00\xe0" + len(deep).to_bytes(4, "little") + deep + b"\xfe\xff\xdd\xe0\0\0\0\0"
    with pytest.raises(TooDeep):
        read(part10(MODALITY + element(0x00091010, vr, item, length=0xFFFFFFFF)))


def test_a_sequence_of_defined_length_that_cannot_be_followed_is_passed() -> None:
    garbage = b"\xfe\xff\x00\xe0" + random.Random(3).randbytes(5000)
    assert read(part10(MODALITY + element(0x00081140, "SQ", garbage) + PATIENT_ID)).get("PatientID") == "P1"


def test_a_sequence_of_undefined_length_that_cannot_be_followed() -> None:
    garbage = b"\xfe\xff\x00\xe0\x08\0\0\0" + b"\x08\0\x60\0CS\0\0" + b"neither item nor delimiter"
    with pytest.raises(NotDicom):
        read(part10(MODALITY + element(0x00081140, "SQ", garbage, length=0xFFFFFFFF) + PATIENT_ID))


def test_items_in_implicit_vr_within_explicit_vr() -> None:
    item = element(0x00080060, "", b"MR") + element(0x00081140, "", b"\xfe\xff\xdd\xe0\0\0\0\0", length=0xFFFFFFFF)
    item = b"\xfe\xff\x00\xe0\xff\xff\xff\xff" + item + b"\xfe\xff\x0d\xe0\0\0\0\0\xfe\xff\xdd\xe0\0\0\0\0"
    data = part10(MODALITY + element(0x00091010, "UN", item, length=0xFFFFFFFF) + PATIENT_ID)
    assert read(data).get("PatientID") == "P1"


@pytest.mark.parametrize("length", [7, 0xFFFF, 0x7FFFFFFF, 0xFFFFFFFE])
@pytest.mark.parametrize("tag", [0x00091010, 0x00100020, 0x7FE00010])
def test_a_length_that_lies_allocates_nothing(tag: int, length: int) -> None:
    data = part10(MODALITY + element(tag, "UT", b"abc", length=length))
    tracemalloc.start()
    with pytest.raises(FileFault):
        read(data)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 1_000_000


def sparse(path: Path, before: bytes, hole: int, behind: bytes) -> tuple[int, int]:
    with path.open("wb") as file:
        file.write(before)
        file.seek(hole, 1)
        file.write(behind)
    return os.open(path, os.O_RDONLY), len(before) + hole + len(behind)


def test_a_long_value_is_passed_by_its_length(tmp_path: Path) -> None:
    hole = 100_000_000
    fd, size = sparse(
        tmp_path / "one", part10(MODALITY + element(0x00081199, "UT", b"", length=hole)), hole, PATIENT_ID
    )
    begun = time.process_time()
    assert read_header(fd, size, Wanted(KEYWORDS), Limits()).get("PatientID") == "P1"
    assert time.process_time() - begun < 2
    os.close(fd)


def test_values_that_may_be_read_are_header() -> None:
    """Those up to 1 MiB: a document of the study holds them, and so does memory."""
    data = part10(MODALITY + element(0x00081199, "UT", b"x" * 100_000) + PATIENT_ID)
    with pytest.raises(TooLarge, match="--max-header"):
        read(data, Limits(max_header=100_000))
    assert read(data, Limits(max_header=100_200)).get("PatientID") == "P1"


def test_pixels_and_documents_are_no_header(tmp_path: Path) -> None:
    hole = 100_000_000
    for tag in (0x00420011, 0x7FE00010):
        before = part10(MODALITY + PATIENT_ID + element(tag, "OB", b"", length=hole))
        fd, size = sparse(tmp_path / "one", before, hole, b"")
        assert read_header(fd, size, Wanted(KEYWORDS), Limits()).get("PatientID") == "P1"
        os.close(fd)


@pytest.mark.parametrize("vr", ["LO", ""])
def test_very_many_elements(vr: str) -> None:
    many = b"".join(element(0x00110000 + 0x10 + n % 0xFFE0, vr, b"ab") for n in range(200_000))
    data = part10(element(0x00080060, vr and "CS", b"MR") + many + element(0x00120010, vr, b"x "))
    wanted = Wanted(KEYWORDS)
    for _ in range(2):
        begun = time.process_time()
        read(data, wanted=wanted)
        assert time.process_time() - begun < 8


def test_too_many_elements() -> None:
    data = part10(MODALITY + element(0x00110010, "LO", b"") * 2_100_000)
    with pytest.raises(TooLarge):
        read(data)


def test_a_wanted_value_without_bounds() -> None:
    with pytest.raises(TooLarge):
        read(part10(MODALITY + element(0x00100020, "UT", b"x" * 2_000_000)))


def deflate_bomb(megabytes: int) -> bytes:
    head = zlib.compressobj(9, zlib.DEFLATED, -15)
    first = head.compress(MODALITY + element(0x00100020, "UT", b"", length=0xFFFFFFF0)) + head.flush(zlib.Z_FULL_FLUSH)
    zeros = zlib.compressobj(9, zlib.DEFLATED, -15)
    piece = zeros.compress(b"\0" * 16 * 1024 * 1024) + zeros.flush(zlib.Z_FULL_FLUSH)
    return part10(first + piece * (megabytes // 16) + b"\3\0", DEFLATED)


def test_a_deflate_bomb() -> None:
    bomb = deflate_bomb(2048)
    assert len(bomb) < 4_000_000
    begun = time.process_time()
    tracemalloc.start()
    with pytest.raises(TooLarge):
        read(bomb)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 8_000_000
    assert time.process_time() - begun < 12


def test_large_deflated_pixels_are_read_in_bounded_memory(tmp_path: Path) -> None:
    pixels = random.Random(4).randbytes(1000) * 30_000
    data = saved(tmp_path / "one", DEFLATED, pixels=pixels, Rows=2500, Columns=6000)
    tracemalloc.start()
    assert read(data).get("PatientID") == "P0000"
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 4_000_000 + len(data)


def test_a_deflated_stream_that_is_none() -> None:
    with pytest.raises(NotDicom):
        read(part10(b"\xff" * 100, DEFLATED))


def test_a_value_of_undefined_length_that_is_not_made_of_fragments() -> None:
    odd = element(0x00091010, "OB", b"no items in here" * 5000 + b"\xfe\xff\xdd\xe0\0\0\0\0", length=0xFFFFFFFF)
    assert read(part10(MODALITY + odd + PATIENT_ID)).get("PatientID") == "P1"
    with pytest.raises(Incomplete):
        read(part10(MODALITY + odd[:-8]))


def test_overlapping_fragments_are_not_followed_for_ever() -> None:
    """Each element's fragments lead into the same long chain, whose bad end makes each one begin again."""
    chain = b"\xfe\xff\x00\xe0\0\0\0\0" * 100_000 + b"bad end!"
    body = b""
    for _ in range(300):
        inner = b"\xfe\xff\xdd\xe0\0\0\0\0" + element(0x00091010, "OB", b"", length=0xFFFFFFFF)
        body += b"\xfe\xff\x00\xe0" + len(inner).to_bytes(4, "little") + inner
    begun = time.process_time()
    with pytest.raises(FileFault):
        read(part10(MODALITY + element(0x00091010, "OB", b"", length=0xFFFFFFFF) + body + chain))
    assert time.process_time() - begun < 40


def test_deflated_data_are_not_inflated_for_ever() -> None:
    """Wanted values of undefined length, which are read once more when their end is known."""
    fragment = b"\xfe\xff\x00\xe0" + (900_000).to_bytes(4, "little") + b"\0" * 900_000
    one = element(0x00100020, "OB", fragment + b"\xfe\xff\xdd\xe0\0\0\0\0", length=0xFFFFFFFF)
    engine = zlib.compressobj(wbits=-15)
    data = part10(engine.compress(MODALITY + one * 60) + engine.flush(), DEFLATED)
    begun = time.process_time()
    with pytest.raises(TooLarge):
        read(data)
    assert time.process_time() - begun < 20


def test_what_is_remembered_never_changes_the_outcome(tmp_path: Path) -> None:
    """Series that differ in lengths and elements, read in any order, with one memory and with none."""
    chance = random.Random(5)
    files = [
        saved(
            tmp_path / "one",
            chance.choice((IMPLICIT, EXPLICIT, JPEG)),
            patient=chance.randrange(3),
            number=number,
            SeriesDescription="x" * chance.randrange(30),
            ImageComments="y" * chance.randrange(2000) if chance.random() < 0.5 else "",
            SliceLocation=str(chance.random() * 100)[: chance.randrange(3, 16)],
        )
        for number in range(150)
    ]
    files += [whole[: chance.randrange(len(whole))] for whole in files[:100]]
    chance.shuffle(files)
    wanted = Wanted(KEYWORDS)
    for data in files:
        assert outcome(data, wanted) == outcome(data, Wanted(KEYWORDS))


def outcome(data: bytes, wanted: Wanted) -> Header | str:
    try:
        return read(data, wanted=wanted)
    except FileFault as fault:
        return str(fault)


@pytest.mark.parametrize("syntax", [IMPLICIT, EXPLICIT])
def test_native_pixels_are_found_by_the_heads_before_them(tmp_path: Path, syntax: str) -> None:
    """They are no header, however long; and only heads that lead to them show that they are this file's."""
    whole = saved(tmp_path / "one", syntax, pixels=64)
    at = whole.rindex(b"\xe0\x7f\x10\x00")
    odd = b"\x55\x00\x10\x00" + (b"LO" if syntax == EXPLICIT else b"") + b"\xff" * (2 if syntax == EXPLICIT else 4)
    disorder = whole[:at] + odd + whole[at:]
    limits = Limits(max_header=len(whole) - 64 * 64)
    for keywords in (KEYWORDS, (*KEYWORDS, "AccessionNumber", "RetrieveURL")):
        assert read(whole, limits, Wanted(keywords)).get("PatientID") == "P0000"
        with pytest.raises(Incomplete):
            read(disorder, wanted=Wanted(keywords))


def test_an_image_that_claims_to_be_immense() -> None:
    """Rows, Columns and frames that no file could hold: the walk decides, as if they said nothing."""
    size = element(0x00280010, "US", b"\xff\xff") + element(0x00280011, "US", b"\xff\xff")
    frames = element(0x00280008, "IS", b"99999999")
    bits = element(0x00280100, "US", b"\x10\x00")
    behind = element(0x00290010, "LO", b"HERE")
    header = read(part10(PATIENT_ID + frames + size + bits + behind), wanted=Wanted(("PatientID",)))
    assert header.get("PatientID") == "P1"
