"""Odd files, cut ones, and long values: what is published with which words, and whose an incomplete file is."""

from __future__ import annotations

import os
import shutil
import subprocess
import tracemalloc
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from io import BytesIO
from pathlib import Path

import pydicom
import pytest

from listener.dicom.attributes import Header, Limits
from listener.dicom.reader import Wanted, check_uids, read_elements, read_header, read_identity
from listener.reasons import FileFault, Incomplete, TooLarge
from tests.instances import descriptor, element, part10, uid
from tests.odd_files import BIG, DEFLATED, EXPLICIT, IMPLICIT, ODD, RLE, headless, report, split, whole

KEYWORDS = ("Modality", "PatientID", "SOPInstanceUID", "SeriesInstanceUID", "StudyInstanceUID")
UIDS = KEYWORDS[2:]

WHOLE = {name: odd for name, odd in ODD.items() if not odd.error}
CUT = {name: odd for name, odd in ODD.items() if odd.error}


def read(data: bytes, wanted: Wanted | None = None, limits: Limits | None = None) -> Header:
    with descriptor(data) as (fd, size):
        header = read_header(fd, size, wanted or Wanted(KEYWORDS), limits or Limits())
        read_elements(fd, size, limits or Limits())
    check_uids(header)
    return header


# -- what is published, and with which words ---------------------------------------------------------------------------


@pytest.mark.parametrize("name", WHOLE)
def test_what_is_whole_by_its_own_lengths_is_read_and_told(name: str) -> None:
    header = read(WHOLE[name].make(name))
    assert {keyword: header.get(keyword) for keyword in UIDS} == {keyword: uid(keyword, name) for keyword in UIDS}
    assert header.get("PatientID") == "HIDDEN-4711"
    assert header.warning == WHOLE[name].warning


@pytest.mark.parametrize("name", CUT)
def test_what_is_cut_is_incomplete_and_says_whose_it_is(name: str) -> None:
    with pytest.raises(Incomplete, match=CUT[name].error) as caught:
        read(CUT[name].make(name))
    known = caught.value.known
    assert {keyword: known[keyword] for keyword in UIDS} == {keyword: uid(keyword, name) for keyword in UIDS}
    assert known["SourceApplicationEntityTitle"] == "SENDER"
    assert known["Modality"] in ("MR", "SR")


@pytest.mark.parametrize("name", ODD)
def test_an_identity_is_the_header_s(name: str) -> None:
    """Whoever only asks what an instance is, is told the same, and refuses what is not whole."""
    data, uids = ODD[name].make(name), ("SOPClassUID", "SOPInstanceUID")
    with descriptor(data) as (fd, size):
        try:
            header = read_header(fd, size, Wanted(uids), Limits())
        except FileFault as fault:
            with pytest.raises(type(fault)):
                read_identity(fd, size, Wanted(uids), Limits())
            return
        found = read_identity(fd, size, Wanted(uids), Limits())
    assert found == (*map(header.get, uids), header.TransferSyntaxUID, header.dataset_offset)


def test_what_is_remembered_of_other_files_changes_none_of_it() -> None:
    """Good files of the same sender between them, so that the walk knows what it can."""
    wanted = Wanted(KEYWORDS)
    for _ in range(3):
        for name, odd in ODD.items():
            for number in range(4):
                assert read(whole(name, InstanceNumber=str(number + 10)), wanted).warning == ""
            try:
                assert read(odd.make(name), wanted).warning == odd.warning
            except Incomplete as fault:
                assert odd.error, name
                assert odd.error in str(fault)  # noqa: PT017


@pytest.mark.parametrize(
    "name", [name for name in WHOLE if name.startswith(("vr-", "pixels-short-e", "pixels-short-i", "meta-", "un-"))]
)
def test_an_odd_image_that_is_cut_is_incomplete(name: str) -> None:
    """Oddness excuses no cut: neither of its last bytes nor within its header."""
    data = WHOLE[name].make(name)
    for count in (1, 2, 9, 31, 39):
        with pytest.raises(FileFault) as caught:
            read(data[:-count])
        assert caught.value.reason in ("incomplete", "missing-uid")


@pytest.mark.parametrize("syntax", [IMPLICIT, EXPLICIT, BIG])
def test_every_cut_of_a_report_but_between_two_elements_is_incomplete(syntax: str) -> None:
    """Fewer bytes than a head has are the beginning of one, but for ends of lines."""
    data = report("cuts", transfer_syntax=syntax)
    taken = []
    for length in range(len(data) - 120, len(data)):
        with descriptor(data[:length]) as (fd, size):
            try:
                taken.append((length, read_header(fd, size, Wanted(KEYWORDS), Limits()).warning))
            except Incomplete:
                continue
    assert 1 <= len(taken) <= 14
    assert {warning for _, warning in taken} == {""}


# -- other readers -----------------------------------------------------------------------------------------------------

#: What pydicom reads otherwise or not at all: unknown VRs have 16 bits there; UN in big endian and JPIP are unknown.
NOT_PYDICOM = (
    *(name for name in WHOLE if name.startswith("vr-") and name != "vr-of-the-future-short"),
    *("report-and-erased", "un-in-big-endian", "un-in-big-endian-nested", "deflated-in-zlib", "deflated-in-gzip"),
    *("jpip-deflated-.95", "jpip-deflated-205"),
)

#: What dcmdump does not read (3.6.7), most of it because it takes what follows for elements.
NOT_DCMDUMP = (
    *(name for name in WHOLE if "report-and-" in name and not name.endswith(("deflated", "report-and-image"))),
    *("image-and-text", "vr-of-the-future-short", "vr-of-the-instance", "meta-and-data-implicit", "no-fragments"),
    *("second-delimiter", "second-delimiter-and-padding", "deflated-in-zlib", "deflated-in-gzip", "jpip-deflated-205"),
)


@pytest.mark.parametrize("name", [name for name in WHOLE if name not in NOT_PYDICOM])
def test_pydicom_reads_the_same(name: str) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        ds = pydicom.dcmread(BytesIO(WHOLE[name].make(name)), force=True)
        assert {keyword: str(ds[keyword].value) for keyword in UIDS} == {
            keyword: uid(keyword, name) for keyword in UIDS
        }


@pytest.mark.skipif(shutil.which("dcmdump") is None, reason="dcmdump is not installed (.ci/need dcmtk)")
@pytest.mark.parametrize("name", [name for name in WHOLE if name not in NOT_DCMDUMP])
def test_dcmdump_reads_the_same(name: str, tmp_path: Path) -> None:
    path = tmp_path / "one"
    path.write_bytes(WHOLE[name].make(name))
    words = ("dcmdump", "-q", "+P", "0008,0018", "+P", "0020,000d", "+P", "0020,000e", str(path))
    dump = subprocess.run(words, check=True, capture_output=True).stdout.decode("latin-1")
    assert all(uid(keyword, name) in dump for keyword in UIDS)


def test_hardly_a_file_is_read_by_nobody_else() -> None:
    assert set(NOT_PYDICOM) & set(NOT_DCMDUMP) == {
        *("report-and-erased", "vr-of-the-instance", "deflated-in-zlib", "deflated-in-gzip", "jpip-deflated-205"),
    }


# -- values that are stepped over --------------------------------------------------------------------------------------

LONG = 70 * 2**20


@contextmanager
def sparse(head: bytes, tail: bytes = b"", length: int = LONG) -> Iterator[tuple[int, int]]:
    """A file with a hole of `length` bytes between the two."""
    fd = os.memfd_create("sparse")
    try:
        os.write(fd, head)
        os.ftruncate(fd, len(head) + length)
        os.pwrite(fd, tail, len(head) + length)
        yield fd, len(head) + length + len(tail)
    finally:
        os.close(fd)


def long_value(tag: int, vr: str) -> bytes:
    return element(tag, vr, b"", length=LONG)


def in_item(tag: int, inner: bytes, vr: str = "SQ") -> bytes:
    """A sequence of one item that ends with `inner` and the hole."""
    length = len(inner) + LONG
    return element(tag, vr, b"\xfe\xff\x00\xe0" + length.to_bytes(4, "little") + inner, length=length + 8)


def opened(tag: int, inner: bytes, vr: str = "SQ") -> bytes:
    return element(tag, vr, b"\xfe\xff\x00\xe0\xff\xff\xff\xff" + inner, length=0xFFFFFFFF)


CLOSE = b"\xfe\xff\x0d\xe0\0\0\0\0" + b"\xfe\xff\xdd\xe0\0\0\0\0"

#: What stands behind a report before and after the hole.
STEPPED_OVER = {
    "raw data": (long_value(0x7FE11010, "OB"), b""),
    "an unknown private value": (long_value(0x7FE11010, "UN"), b""),
    "a waveform": (in_item(0x54000100, long_value(0x54001010, "OW")), b""),
    "a waveform in open sequences": (opened(0x54000100, long_value(0x54001010, "OW")), CLOSE),
    "a surface": (in_item(0x00660002, in_item(0x00660011, long_value(0x00660016, "OF"))), b""),
    "contours": (opened(0x30060039, opened(0x30060040, long_value(0x30060050, "UT"))), CLOSE * 2),
    "private before the pixels": (long_value(0x7FDF1010, "OB"), element(0x7FE00010, "OW", bytes(64))),
    "a document": (long_value(0x00420011, "OB"), b""),
    "a text": (long_value(0x40000010, "UT"), element(0x40010010, "LO", b"x ")),
    "a value in a VR of the future": (
        b"\x01\x40\x10\x00LO\x02\x00X \x01\x40\x10\x10OX\0\0" + LONG.to_bytes(4, "little"),
        b"",
    ),
}


@pytest.mark.parametrize("name", STEPPED_OVER)
@pytest.mark.parametrize("explicit", [True, False])
def test_a_long_value_that_nobody_reads_is_stepped_over(name: str, explicit: bool) -> None:
    """A limit on memory is none on files; and no memory is used."""
    head, tail = STEPPED_OVER[name]
    if explicit:
        head = report(name) + head
    elif name in ("raw data", "a document", "an unknown private value"):
        head = report(name, transfer_syntax=IMPLICIT) + head[:4] + LONG.to_bytes(4, "little")
    else:
        pytest.skip("the same walk")
    with sparse(head, tail) as (fd, size):
        tracemalloc.start()
        header = read_header(fd, size, Wanted(KEYWORDS), Limits())
        elements = read_elements(fd, size, Limits())
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
    assert header.get("StudyInstanceUID") == uid("StudyInstanceUID", name)
    assert elements["Modality"]["value"] == "SR"
    assert peak < 1_000_000
    with sparse(head, b"") as (fd, size), pytest.raises(Incomplete):
        read_header(fd, size - 1, Wanted(KEYWORDS), Limits())


def test_more_contours_than_the_limit_has_bytes() -> None:
    """Many short values in a long sequence are no memory either: only their number is limited."""
    contour = b"\xfe\xff\x00\xe0" + (1032).to_bytes(4, "little") + element(0x30060050, "DS", b"1" * 1024)
    data = report("contours") + element(0x30060039, "SQ", contour * 2000)
    assert read(data, limits=Limits(max_header=100_000)).get("Modality") == "SR"
    with pytest.raises(TooLarge, match="--max-header"):
        read(report("few") + element(0x30060039, "SQ", contour * 200), limits=Limits(max_header=100_000))


def test_file_meta_information_may_be_long() -> None:
    """A private value of it is stepped over too; ten thousand elements are not followed."""
    meta, data = split(whole("meta"))
    long = element(0x00020102, "OB", bytes(3 * 2**20))
    assert read(meta + long + data).get("SOPInstanceUID") == uid("SOPInstanceUID", "meta")
    with pytest.raises(TooLarge, match="elements of file meta information"):
        read(meta + element(0x00020102, "UI", b"") * 10_001 + data)


# -- whose it is -------------------------------------------------------------------------------------------------------


def fault_of(data: bytes) -> FileFault:
    with pytest.raises(FileFault) as caught:
        read(data)
    return caught.value


@pytest.mark.parametrize("syntax", [IMPLICIT, EXPLICIT, BIG, DEFLATED, RLE])
def test_a_cut_file_tells_what_was_read_before(syntax: str) -> None:
    """The instance by the file meta information at once; study and series when these were passed."""
    data = whole("owner", transfer_syntax=syntax, pixels=64)
    expected = {keyword: uid(keyword, "owner") for keyword in UIDS}
    known = fault_of(data[:-10]).known
    assert known == {**expected, "Modality": "MR", "PatientID": "HIDDEN-4711", "SourceApplicationEntityTitle": "SENDER"}
    meta = split(data)[0]
    for length in (len(meta), len(meta) + 30):
        known = fault_of(data[:length]).known
        assert known["SOPInstanceUID"] == expected["SOPInstanceUID"]
        assert known["SourceApplicationEntityTitle"] == "SENDER"
        assert "StudyInstanceUID" not in known


def test_other_faults_tell_it_too() -> None:
    deep = b""
    for _ in range(70):
        deep = element(0x00081140, "SQ", b"\xfe\xff\x00\xe0" + len(deep).to_bytes(4, "little") + deep)
    assert fault_of(report("deep") + deep).known["SeriesInstanceUID"] == uid("SeriesInstanceUID", "deep")
    lacking = fault_of(whole("lacking", StudyInstanceUID="")).known
    assert (lacking["SeriesInstanceUID"], "StudyInstanceUID" in lacking) == (uid("SeriesInstanceUID", "lacking"), False)


def test_what_is_no_uid_and_no_code_is_not_told() -> None:
    """What stands where a UID belongs may be a name."""
    data = part10(
        element(0x00080018, "UI", b"Hidden^Wilhelmina\0")
        + element(0x00080060, "CS", b"Hidden^Wilhelmina ")
        + element(0x0020000D, "UI", b"1.2.3\0")
        + element(0x0020000E, "UI", b"1.2\\3\0")
    ).replace(b"1.2.3\0\x02\x00\x10", b"X.2.3\0\x02\x00\x10")
    assert fault_of(data).known == {"StudyInstanceUID": "1.2.3"}
    assert fault_of(data[:-1]).known == {"StudyInstanceUID": "1.2.3"}


def test_the_reasons_are_true() -> None:
    assert str(fault_of(bytes(128) + b"DICM" + b"\xff" * 100)).endswith("no plausible data set behind the prefix DICM")
    assert str(fault_of(b"text, and no DICOM" * 20)).endswith("neither the prefix DICM nor a plausible data set")
    too_long = fault_of(part10(element(0x00080060, "CS", b"MR") + element(0x00100020, "UT", b"x" * 2_000_000)))
    assert str(too_long) == "The header is too large: a value that is needed has more than 1048576 bytes"
    assert "without pixel data" in str(fault_of(headless("image") + b"text that is no element"))


def test_the_table_says_something_of_each_file() -> None:
    assert all(odd.make(name) for name, odd in ODD.items())
    assert not [name for name, odd in ODD.items() if odd.error and odd.warning]
