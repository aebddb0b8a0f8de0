"""The reader against pydicom: on pydicom's own test files, on cuts of them, and on data sets that hypothesis makes."""

from __future__ import annotations

import random
import warnings
from io import BytesIO
from pathlib import Path
from typing import Any

import pydicom
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydicom.dataelem import DataElement
from pydicom.dataset import Dataset
from pydicom.sequence import Sequence

from listener.dicom.attributes import USUAL, Limits, tag_of
from listener.dicom.decoding import Raw, Syntax, dataset, quiet
from listener.dicom.fast_walk import Elements
from listener.dicom.reader import Wanted, read_elements, read_header
from listener.dicom.source import FileSource
from listener.dicom.texts import clean, plain_text
from listener.dicom.walk import Element, Structure
from listener.reasons import FileFault, Incomplete, NotDicom
from tests.dicom.mutating import FILES
from tests.instances import descriptor, instance, save

#: What is not read, and why.
REFUSED: dict[str, tuple[type[FileFault], str]] = {
    "MR_truncated.dcm": (Incomplete, "its pixel data are cut"),
    "rtplan_truncated.dcm": (Incomplete, "it is cut within a sequence"),
    "no_meta.dcm": (NotDicom, "a text conversion has damaged its very first bytes"),
    "crayons.icc": (NotDicom, "a colour profile"),
    "README": (NotDicom, "text"),
    "rtplan.dump": (NotDicom, "text"),
    "rtstruct.dump": (NotDicom, "text"),
    "zipMR.gz": (NotDicom, "compressed as a whole"),
}

#: What is read with a word.
ANOTHER_UID = "the file meta information tells another SOP Instance UID"
WARNED = {
    **dict.fromkeys(("badVR.dcm", "rtdose.dcm", "rtdose_1frame.dcm", "rtdose_expb.dcm"), ANOTHER_UID),
    **dict.fromkeys(("rtdose_expb_1frame.dcm", "rtplan.dcm"), ANOTHER_UID),
    "chrJapMulti.dcm": f"an image without pixel data; {ANOTHER_UID}",
    "chrJapMultiExplicitIR6.dcm": f"an image without pixel data; {ANOTHER_UID}",
    "chrKoreanMulti.dcm": "an image without pixel data",
    "image_dfl.dcm": "bytes behind the data set",  # the eight bytes that end a gzip file
}

PIXELS = ("PixelData", "FloatPixelData", "DoubleFloatPixelData")
USUAL_WANTED = Wanted(tuple(sorted(USUAL)))


def name(path: Path) -> str:
    return path.name


def by_pydicom(data: bytes) -> Dataset:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return pydicom.dcmread(BytesIO(data), force=True)


def texts_of(ds: Dataset, keywords: tuple[str, ...]) -> dict[str, str]:
    """What read_header should find."""
    texts = {}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for keyword in keywords:
            if keyword in ds and not ds[keyword].is_empty:
                text = clean(str(ds[keyword].value))
                if text.strip():
                    texts[keyword] = text
    return texts


def document_of(ds: Dataset) -> dict[str, str]:
    """What read_elements should find: what px-repack would print."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return {
            keyword: clean(str(getattr(ds, keyword, "no attribute"))) for keyword in ds.dir() if keyword not in PIXELS
        }


def same_as_pydicom(data: bytes, wanted: Wanted) -> str:
    """Assert that both see the same; the warning."""
    with descriptor(data) as (fd, size):
        header = read_header(fd, size, wanted, Limits())
        elements = read_elements(fd, size, Limits())
    ds = by_pydicom(data)
    found = {keyword: text for keyword, text in header.values.items() if keyword != "MediaStorageSOPInstanceUID"}
    assert found == texts_of(ds, wanted.keywords)
    assert header.TransferSyntaxUID == str(ds.file_meta.get("TransferSyntaxUID", ""))
    assert header.get("MediaStorageSOPInstanceUID") == str(ds.file_meta.get("MediaStorageSOPInstanceUID", ""))
    assert header.SourceApplicationEntityTitle == str(ds.file_meta.get("SourceApplicationEntityTitle", ""))
    present = {keyword for keyword in wanted.keywords if keyword in ds}
    assert header.empty == present - found.keys()
    document = {keyword: entry["value"] for keyword, entry in elements.items()}
    assert list(document) == sorted(document)
    assert document == document_of(ds)
    return header.warning


@pytest.mark.parametrize("path", FILES, ids=name)
def test_the_files_that_pydicom_brings(path: Path) -> None:
    data = path.read_bytes()
    if path.name in REFUSED:
        with descriptor(data) as (fd, size), pytest.raises(REFUSED[path.name][0]):
            read_header(fd, size, USUAL_WANTED, Limits())
        return
    for wanted in (Wanted(tuple(sorted(USUAL))), USUAL_WANTED):
        assert same_as_pydicom(data, wanted) == WARNED.get(path.name, "")


def ends_of(data: bytes) -> tuple[set[int], int]:
    """Where top-level elements end, and the first of these ends that lies behind the pixel data (or the size)."""
    with descriptor(data) as (fd, size):
        header = read_header(fd, size, USUAL_WANTED, Limits())
        structure = Structure(
            FileSource(fd, size), header.dataset_offset, Limits(), little=is_little(header.TransferSyntaxUID)
        )
        elements = list(structure.elements())
    return {element.end for element in elements}, structure.pixel.end if structure.pixel else size


def is_little(syntax: str) -> bool:
    return syntax != "1.2.840.10008.1.2.2"


CUT = [path for path in FILES if path.name not in REFUSED and path.stat().st_size < 300_000]


@pytest.mark.parametrize("path", CUT, ids=name)
def test_a_cut_file_is_only_taken_where_nothing_shows_it(path: Path) -> None:
    """A cut is taken between two elements where no pixel data were begun, behind them, or in what NULs pass for."""
    data = path.read_bytes()
    chance = random.Random(path.name)
    lengths = {*range(0, 140, 7), *range(len(data) - 20, len(data)), *(chance.randrange(len(data)) for _ in range(60))}
    deflated = b"1.2.840.10008.1.2.1.99" in data[:1000]
    ends, whole = (set(), 0) if deflated or path.name.endswith("BigEndNoMeta.dcm") else ends_of(data)
    for length in sorted(lengths):
        cut = data[:length]
        try:
            with descriptor(cut) as (fd, size):
                read_header(fd, size, USUAL_WANTED, Limits())
        except FileFault as fault:
            assert fault.reason in {"incomplete", "not-dicom", "empty"}  # noqa: PT017 - and nothing else is raised
            continue
        if deflated:
            assert length >= len(data) - 8  # of the gzip trailer
        elif ends:
            assert len(cut.rstrip(b"\0")) <= max(end for end in ends if end <= length) or length >= whole


# ---- data sets that nobody wrote ----

SYNTAXES = (
    "1.2.840.10008.1.2",
    "1.2.840.10008.1.2.1",
    "1.2.840.10008.1.2.2",
    "1.2.840.10008.1.2.1.99",
    "1.2.840.10008.1.2.4.70",
)
CHARSETS = {
    "": "latin_1",
    "ISO_IR 100": "latin_1",
    "ISO_IR 192": "utf-8",
    "GB18030": "gb18030",
    "ISO_IR 144": "iso8859_5",
    "ISO_IR 13": "shift_jis",
    "strange": "latin_1",
}

TEXT = st.text(st.characters(max_codepoint=0x2FFF, exclude_categories=["Cs"]), max_size=20)
NUMBER = st.integers(-(2**31), 2**31 - 1).map(str) | st.floats(allow_nan=False).map(str) | st.just("abc")
RAW = {
    "LO": TEXT,
    "SH": TEXT,
    "PN": TEXT,
    "LT": TEXT,
    "UT": TEXT,
    "CS": st.sampled_from(["MR", "A\\B", "", "lower ", " x"]),
    "DA": st.sampled_from(["20240101", "", "20240101\\20240102", "?"]),
    "UI": st.sampled_from(["1.2.3", "1.2.3\0", "", "1.2\\3.4", "x"]),
    "IS": NUMBER,
    "DS": NUMBER | st.just("1\\2\\3"),
    "AE": TEXT,
    "US": st.binary(min_size=2, max_size=2) | st.binary(min_size=4, max_size=4),
    "SS": st.binary(min_size=2, max_size=2),
    "UL": st.binary(min_size=4, max_size=4),
    "FD": st.binary(min_size=8, max_size=8),
    "OB": st.binary(max_size=30),
}

#: Attributes of every kind of VR, at the top level.
POOL = [
    "ImageType", "StudyDate", "AccessionNumber", "Modality", "StudyDescription", "SeriesDescription", "PatientName",
    "PatientID", "PatientComments", "PatientWeight", "PatientAge", "SliceThickness", "AcquisitionMatrix", "SOPClassUID",
    "SeriesNumber", "InstanceNumber", "NumberOfFrames", "Rows", "SmallestImagePixelValue", "PixelRepresentation",
    "PerformedStationAETitle", "ScheduledStationAETitle", "EncapsulatedDocument", "TagAngleSecondAxis", "FrameTime",
    "OtherPatientIDs", "OperatorsName", "DateTimeOfLastCalibration", "LongCodeValue", "ReferencedFrameNumber",
    "TableOfParameterValues", "RecommendedDisplayFrameRateInFloat",
]  # fmt: skip
HUNTED = Wanted(tuple(sorted(POOL)))


@st.composite
def raw_elements(draw: st.DrawFn, charset: str) -> list[DataElement]:
    made = []
    for keyword in draw(st.lists(st.sampled_from(POOL), unique=True, max_size=12)):
        tag = tag_of(keyword)
        vr = pydicom.datadict.dictionary_VR(tag)
        value: Any = draw(RAW.get(vr, st.binary(max_size=16)))
        if isinstance(value, str):
            value = value.encode(CHARSETS[charset], "replace")
        made.append((tag, vr if vr in RAW else "UN", value + b" " * (len(value) % 2)))
    return made  # type: ignore[return-value]


def laid(elements: list[Any], *, vr: bool, little: bool) -> bytes:
    from tests.instances import element

    return b"".join(element(tag, code if vr else "", value, little=little) for tag, code, value in sorted(elements))


@st.composite
def files(draw: st.DrawFn) -> bytes:
    """A file whose elements were encoded by hand, in one of the transfer syntaxes, with or without oddities."""
    import zlib

    from tests.instances import element, part10

    syntax = draw(st.sampled_from(SYNTAXES))
    little, explicit = syntax != SYNTAXES[2], syntax != SYNTAXES[0]
    charset = draw(st.sampled_from(sorted(CHARSETS)))
    elements: list[Any] = [(0x00080005, "CS", charset.encode() + b" " * (len(charset) % 2))]
    elements += draw(raw_elements(charset))
    elements.append((0x00080018, "UI", b"1.2.3\0"))
    if draw(st.booleans()):
        elements += [(0x00090010, "LO", b"CREATOR "), (0x00091001, "LO", b"private "), (0x00091002, "UN", b"\1\2")]
    if draw(st.booleans()):
        inner = laid([(0x00080060, "CS", b"CT"), *draw(raw_elements(charset))], vr=explicit, little=little)
        elements.append((0x00081140, "SQ", sequence(inner, draw(st.booleans()), little=little)))
    if draw(st.booleans()):
        inner = laid([(0x00080060, "CS", b"CT")], vr=explicit, little=little)
        sq = sequence(inner, draw(st.booleans()), little=little) + delimiter(0xE0DD, little=little)
        behind = element(0x00400275, "SQ" if explicit else "", sq, length=0xFFFFFFFF, little=little)
    else:
        behind = b""
    body = laid([one for one in elements if one[0] < 0x00400275], vr=explicit, little=little)
    body += behind + laid([one for one in elements if one[0] > 0x00400275], vr=explicit, little=little)
    if draw(st.booleans()):
        body += laid(draw(raw_elements(charset)), vr=explicit, little=little)  # out of order, and some of them twice
    if syntax == SYNTAXES[3]:
        engine = zlib.compressobj(wbits=-15)
        body = engine.compress(body) + engine.flush()
    return part10(body, syntax)


def delimiter(element: int, *, little: bool, length: int = 0) -> bytes:
    order = "little" if little else "big"
    return (0xFFFE).to_bytes(2, order) + element.to_bytes(2, order) + length.to_bytes(4, order)  # type: ignore[arg-type]


def sequence(item: bytes, undefined: bool, *, little: bool) -> bytes:
    if undefined:
        end = delimiter(0xE00D, little=little)
        return (delimiter(0xE000, little=little, length=0xFFFFFFFF) + item + end) * 2
    return (delimiter(0xE000, little=little, length=len(item)) + item) * 2


@given(files())
def test_any_data_set_reads_as_with_pydicom(data: bytes) -> None:
    """With a memory of all data sets before, and with none."""
    from listener.dicom.texts import bytes_text

    try:
        ds = by_pydicom(data)
        texts_of(ds, HUNTED.keywords)
        document_of(ds)
    except Exception:  # noqa: BLE001 - pydicom cannot print some value: ours must
        with descriptor(data) as (fd, size):
            read_header(fd, size, HUNTED, Limits())
            for entry in read_elements(fd, size, Limits()).values():
                entry["value"].encode()
        assert bytes_text(b"LO", b"x") == "x"
        return
    same_as_pydicom(data, HUNTED)
    same_as_pydicom(data, Wanted(HUNTED.keywords))


@given(files())
def test_the_quick_walk_finds_what_the_thorough_walk_finds(data: bytes) -> None:
    with descriptor(data) as (fd, size):
        header = read_header(fd, size, HUNTED, Limits())
        if header.TransferSyntaxUID == SYNTAXES[3]:
            return
        little = is_little(header.TransferSyntaxUID)
        for wanted in (HUNTED, Wanted(HUNTED.keywords)):
            structure = Structure(FileSource(fd, size), header.dataset_offset, Limits(), little=little)
            found: Elements = {}
            wanted.walker(64).walk(structure, found)
            thorough = Structure(FileSource(fd, size), header.dataset_offset, Limits(), little=little)
            read = thorough.source.read
            expected = {
                element.tag: (element.vr, read(element.start, element.length))
                for element in list(thorough.elements())
                if element.tag in wanted.tags
            }
            assert {tag: (slot.element.vr, raw) for tag, (slot, raw) in found.items()} == expected
            assert (structure.pos, structure.count) == (thorough.pos, thorough.count)


@given(
    st.sampled_from(SYNTAXES),
    st.dictionaries(st.sampled_from(["PatientName", "PatientID", "StudyDescription"]), TEXT, max_size=3),
    st.booleans(),
)
def test_what_pydicom_writes(tmp_path_factory: pytest.TempPathFactory, syntax: str, more: Any, undefined: bool) -> None:
    ds = instance(transfer_syntax=syntax, SpecificCharacterSet="ISO_IR 192", **more)
    ds.ReferencedImageSequence = Sequence([instance(number=2, pixels=None)])
    ds["ReferencedImageSequence"].is_undefined_length = undefined
    path = save(ds, tmp_path_factory.getbasetemp() / "written.dcm")
    assert same_as_pydicom(path.read_bytes(), USUAL_WANTED) == ""


NUMBERS = st.from_regex(r"\A *[+-]?[0-9]{0,14}(\.[0-9]{0,12})?([eE][+-]?[0-9]{1,3})? *\Z")
CODES = st.from_regex(r"\A[A-Za-z0-9_ ']{0,12}\Z")
SEVERAL = {
    "ImagePositionPatient": (b"DS", NUMBERS),
    "ReferencedFrameNumber": (b"IS", NUMBERS),
    "ImageType": (b"CS", CODES),
}


@pytest.mark.parametrize("keyword", SEVERAL)
@given(data=st.data())
def test_several_values_are_printed_as_pydicom_prints_them(keyword: str, data: st.DataObject) -> None:
    vr, values = SEVERAL[keyword]
    raw = "\\".join(data.draw(st.lists(values, min_size=2))).encode()
    if (text := plain_text(vr, raw)) is None:
        return
    tag = tag_of(keyword)
    element = Element(tag, vr, 0, len(raw), len(raw))
    with quiet():
        made = dataset({tag: Raw(element, raw)}, Syntax(implicit=False, little=True))
        assert text == str(made[tag].value or "")


def test_several_values_that_are_usual_need_no_pydicom() -> None:
    assert plain_text(b"DS", b"-12.50\\3\\0.5e1 ") == "[-12.50, 3, 0.5e1]"
    assert plain_text(b"IS", b"+07\\-2") == "[+07, -2]"
    assert plain_text(b"CS", b"ORIGINAL\\PRIMARY\\M_SE ") == "['ORIGINAL', 'PRIMARY', 'M_SE']"
    for odd in (b"1\\", b"1\\\\2", b"1\\x", b"1\\.5", b" 1\\2"):
        assert plain_text(b"DS", odd) is None
    for odd in (b"A\\", b"A\\'", b"A\\b", b"A \\B"):
        assert plain_text(b"CS", odd) is None
