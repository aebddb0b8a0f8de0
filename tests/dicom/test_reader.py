"""The reader: texts as pydicom prints them, identity, and the elements of the study's document."""

from __future__ import annotations

import json
import random
import re
import subprocess
import sys
import warnings
from io import BytesIO
from pathlib import Path

import pydicom
import pytest
from pydicom import datadict
from pydicom.sequence import Sequence

from listener.dicom.attributes import USUAL, Header, Limits, tag_of
from listener.dicom.reader import Wanted, check_uids, read_elements, read_header
from listener.dicom.texts import bytes_text, clean, is_known_charset, plain_text
from listener.reasons import BadUID, EmptyFile, FileFault, Incomplete, MissingUID, NotDicom, TooDeep, TooLarge
from listener.records import SeriesHeader
from tests.instances import ABSENT, descriptor, element, instance, part10, save, uid

IDENTITY = ("SOPInstanceUID", "SeriesInstanceUID", "StudyInstanceUID", "PatientID", "PatientName")
IMPLICIT = "1.2.840.10008.1.2"
BIG = "1.2.840.10008.1.2.2"


def header_of(data: bytes, *keywords: str) -> Header:
    with descriptor(data) as (fd, size):
        return read_header(fd, size, Wanted(keywords or IDENTITY), Limits())


def elements_of(data: bytes, limits: Limits | None = None) -> dict[str, str]:
    with descriptor(data) as (fd, size):
        elements = read_elements(fd, size, limits or Limits())
    assert all(entry == {"value": entry["value"], "label": keyword} for keyword, entry in elements.items())
    return {keyword: entry["value"] for keyword, entry in elements.items()}


def saved(path: Path, **arguments: object) -> bytes:
    return save(instance(**arguments), path / "one.dcm").read_bytes()  # type: ignore[arg-type]


def test_the_table_of_usual_keywords_is_that_of_pydicom() -> None:
    for keyword, (tag, vr) in USUAL.items():
        assert datadict.tag_for_keyword(keyword) == tag
        assert datadict.dictionary_VR(tag).encode() == vr


def test_what_the_ledger_keeps_of_a_series_is_usual() -> None:
    """The service's main process reads it too, and must not load pydicom (30 MB) for one keyword."""
    assert USUAL.keys() >= set(SeriesHeader._fields)


def test_other_keywords_are_looked_up() -> None:
    assert tag_of("PixelSpacing") == 0x00280030
    with pytest.raises(KeyError):
        tag_of("NoSuchKeyword")
    with pytest.raises(KeyError):
        Wanted.of(["PatientID", "NoSuchKeyword"])


def test_the_same_keywords_are_one_object() -> None:
    assert Wanted.of(["PatientID", "Modality"]) is Wanted.of(("Modality", "PatientID", "PatientID"))
    assert Wanted.of({"PatientID", "Modality"}).keywords == ("Modality", "PatientID")


def test_pydicom_is_not_imported_for_plain_files(tmp_path: Path) -> None:
    path = save(instance(), tmp_path / "one")
    code = (
        "import os, sys\n"
        "from listener.dicom.reader import *\n"
        "from listener.dicom.attributes import Limits\n"
        f"fd = os.open({str(path)!r}, os.O_RDONLY)\n"
        f"header = read_header(fd, {path.stat().st_size}, Wanted.of({IDENTITY!r}), Limits())\n"
        "check_uids(header)\n"
        "assert header.fast and header.get('PatientName') == 'Patient^0'\n"
        "assert 'pydicom' not in sys.modules\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True, cwd=Path(__file__).parents[2])


def test_absent_and_empty_are_told_apart(tmp_path: Path) -> None:
    data = saved(tmp_path, PatientID=ABSENT, PatientName="", SeriesDescription="   ", SeriesNumber=None)
    header = header_of(data, "PatientID", "PatientName", "SeriesDescription", "SeriesNumber", "Modality")
    assert header.values == {
        "Modality": "MR",
        "MediaStorageSOPInstanceUID": uid("instance", 0, 0, 0, 1),
    }
    assert header.empty == {"PatientName", "SeriesDescription", "SeriesNumber"}


@pytest.mark.parametrize(
    ("vr", "raw"),
    [
        ("LO", b" leading and trailing "),
        ("LO", b"two\\values"),
        ("LO", b"\\"),
        ("LO", b"a\0b"),
        ("LO", b"nul behind\0\0"),
        ("LO", b"tab\there "),
        ("LO", b"escape\x1b[31m"),
        ("LO", b"gr\xfc\xdfe "),
        ("LO", b"\xff\xfe\xfd\xfc"),
        ("LO", b" \0 \0"),
        ("SH", b"x" * 64),
        ("ST", b"back\\slash in text"),
        ("UT", b"long text\r\nsecond line "),
        ("CS", b"lower case"),
        ("CS", b"A\\B\\C "),
        ("CS", b"ORIGINAL\\PRIMARY\\M_SE\\FLOW ENCODED "),
        ("CS", b"A\\B\0"),
        ("CS", b"A \\ B"),
        ("CS", b"A\\\\B"),
        ("CS", b"A\\"),
        ("CS", b"\\A"),
        ("CS", b"A'\\B"),
        ("CS", b"a\\b"),
        ("PN", b"Doe^John"),
        ("PN", b"Doe^John^^ "),
        ("PN", b"Doe^John=ideographic=phonetic"),
        ("PN", b"Doe^John=="),
        ("PN", b"A^B\\C^D"),
        ("PN", b"=="),
        ("AE", b"  TITLE  "),
        ("AE", b"TITLE\0"),
        ("AE", b"A\\B "),
        ("DA", b"20240101"),
        ("DA", b"2024.01.01"),
        ("DA", b"not a date"),
        ("TM", b"101112.123 "),
        ("DT", b"20240101101112+0100 "),
        ("AS", b"054Y"),
        ("UI", b"1.2.3\0"),
        ("UI", b"1.2.3 "),
        ("UI", b" 1.2.3"),
        ("UI", b"1.2.3\\4.5.6\0"),
        ("UI", b"../../etc/passwd"),
        ("IS", b"12"),
        ("IS", b" 12 "),
        ("IS", b"+012"),
        ("IS", b"-5\0"),
        ("IS", b"1.0 "),
        ("IS", b"1.5 "),
        ("IS", b"1e3 "),
        ("IS", b"1_000 "),
        ("IS", b"abc "),
        ("IS", b"inf "),
        ("IS", b"nan "),
        ("IS", b"1\\2\\3 "),
        ("IS", b"9" * 30),
        ("IS", b"9" * 5000),
        ("DS", b"1.50"),
        ("DS", b" 1e-5 "),
        ("DS", b".5"),
        ("DS", b"1e999 "),
        ("DS", b"1\\2.5 "),
        ("DS", b"abc "),
        ("DS", b"1,5 "),
        ("US", b"\x05\x00"),
        ("US", b"\x05\x00\x06\x00"),
        ("US", b"\x05"),
        ("SS", b"\xff\xff"),
        ("UL", b"\x01\x00\x00\x01"),
        ("SL", b"\xff\xff\xff\xff"),
        ("FD", b"\0" * 8),
        ("FL", b"\0" * 7),
        ("AT", b"\x10\x00\x20\x00"),
        ("OB", b"\x00\x01\xff"),
        ("UN", b"P1"),
        ("UN", b"P\xe4"),
        ("UR", b"https://example.org/ "),
        ("SQ", b""),
        ("SQ", b"garbage"),
        ("ZZ", b"an unknown VR "),
        ("UV", b"\x01" + b"\0" * 7),
    ],
)
@pytest.mark.parametrize("charset", [b"", b"ISO_IR 100", b"ISO_IR 192", b"no such charset "])
def test_a_text_is_what_pydicom_prints(vr: str, raw: bytes, charset: bytes) -> None:
    data = part10(element(0x00080005, "CS", charset) + element(0x00080060, "CS", b"MR") + element(0x00100020, vr, raw))
    header = header_of(data, "PatientID")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        ds = pydicom.dcmread(BytesIO(data))
        try:
            is_empty = ds["PatientID"].is_empty
            expected = clean(str(ds["PatientID"].value))
        except Exception:  # noqa: BLE001 - then our own rule holds
            is_empty, expected = False, bytes_text(vr.encode(), raw)
    if is_empty or not expected.strip():
        assert header.empty == {"PatientID"}
        assert "PatientID" not in header.values
    else:
        assert header.get("PatientID") == expected
    assert elements_of(data)["PatientID"] == expected


@pytest.mark.parametrize(
    ("charset", "name"),
    [
        ("ISO_IR 192", "Müller^Jürgen 😀"),
        ("GB18030", "王^小东"),
        ("ISO_IR 100", "Buc^Jérôme"),
        ("ISO_IR 144", "Люкceмбypг"),  # noqa: RUF001 - as the standard has it
        ("ISO_IR 13", "ﾔﾏﾀﾞ^ﾀﾛｳ"),
        (["", "ISO 2022 IR 87"], "Yamada^Tarou=山田^太郎=やまだ^たろう"),
        (["", "ISO 2022 IR 149"], "Hong^Gildong=洪^吉洞=홍^길동"),
    ],
)
@pytest.mark.parametrize("syntax", [IMPLICIT, BIG, "1.2.840.10008.1.2.1"])
def test_character_sets(tmp_path: Path, charset: str | list[str], name: str, syntax: str) -> None:
    data = saved(tmp_path, SpecificCharacterSet=charset, PatientName=name, transfer_syntax=syntax)
    header = header_of(data)
    assert header.get("PatientName") == name
    assert not header.fast
    assert elements_of(data)["PatientName"] == name


@pytest.mark.parametrize("charset", ["utf-16", "unicode_escape", "idna", "rot13", "punycode", "\\", "x" * 3000, "\x1b"])
def test_a_character_set_that_is_none_never_hurts(charset: str) -> None:
    data = part10(
        element(0x00080005, "CS", charset.encode())
        + element(0x00080060, "CS", b"MR")
        + element(0x00100010, "PN", b"\\ud800\\xe4 \xd8\x00")
        + element(0x00100020, "LO", b"P1")
    )
    header = header_of(data)
    for text in [*header.values.values(), *elements_of(data).values()]:
        assert "\0" not in text
        text.encode()


def test_a_character_set_of_the_wrong_type() -> None:
    data = part10(element(0x00080005, "US", b"\1\0") + element(0x00100020, "LO", b"P\xe4"))
    assert header_of(data).get("PatientID") == "Pä"


def test_only_known_character_sets_are_plain() -> None:
    assert is_known_charset(b"")
    assert is_known_charset(b"ISO_IR 100")
    assert is_known_charset(b"\\ISO 2022 IR 87 ")
    assert not is_known_charset(b"utf-16")
    assert plain_text(b"LO", b"plain ") == "plain"
    assert plain_text(b"OB", b"plain") is None
    assert plain_text(b"CS", b"ORIGINAL\\PRIMARY ") == "['ORIGINAL', 'PRIMARY']"
    assert plain_text(b"CS", b"A \\B") is None


def test_pydicom_neither_warns_nor_logs(caplog: pytest.LogCaptureFixture, capfd: pytest.CaptureFixture[str]) -> None:
    data = part10(
        element(0x00080005, "CS", b"nonsense")
        + element(0x00100010, "PN", b"secret \xe4")
        + element(0x00100020, "AT", b"secret!")
        + element(0x00101010, "AS", b"x" * 100)
    )
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        header_of(data, "PatientName", "PatientID", "PatientAge")
        elements_of(data)
    assert not caplog.records
    assert capfd.readouterr() == ("", "")


def test_memory_that_does_not_suffice(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*arguments: object) -> None:
        raise MemoryError

    monkeypatch.setattr("pydicom.values.convert_value", fail)
    data = part10(element(0x00080060, "CS", b"MR") + element(0x00100020, "LO", b"P\xe4"))
    with pytest.raises(TooLarge):
        header_of(data)


def test_identity(tmp_path: Path) -> None:
    check_uids(header_of(saved(tmp_path)))
    for keyword in IDENTITY[:3]:
        for value in (ABSENT, "", "  "):
            with pytest.raises(MissingUID, match=keyword):
                check_uids(header_of(saved(tmp_path, **{keyword: value})))
        for value in ("../../x", "1.2.x", "1" * 65, "1.2\\1.3", "1 2", "１.２"):  # noqa: RUF001 - digits that are none
            bad = instance(SpecificCharacterSet="ISO_IR 192")
            data = part10(
                b"".join(
                    element(tag_of(one), "UI", value.encode() if one == keyword else str(bad[one].value).encode())
                    for one in IDENTITY[:3]
                )
            )
            with pytest.raises(BadUID, match=keyword) as caught:
                check_uids(header_of(data))
            assert value not in str(caught.value)
    other = header_of(part10(saved(tmp_path)[header_of(saved(tmp_path)).dataset_offset :]))
    check_uids(other)
    assert other.get("SOPInstanceUID") == uid("instance", 0, 0, 0, 1)
    assert other.warning == "the file meta information tells another SOP Instance UID"


def test_without_file_meta_information_there_is_no_mismatch(tmp_path: Path) -> None:
    whole = saved(tmp_path)
    check_uids(header_of(whole[header_of(whole).dataset_offset :]))


def test_messages_hold_no_values(tmp_path: Path) -> None:
    whole = saved(tmp_path, PatientID="SECRET", PatientName="SECRET", SOPInstanceUID="6.6.6", pixels=None)
    messages = set()
    for length in range(len(whole)):
        try:
            header_of(whole[:length])
        except FileFault as fault:
            messages.add(str(fault))
    assert len(messages) > 3
    assert not any("SECRET" in message or "6.6.6" in message for message in messages)


# ---- read_elements ----


def test_elements_as_px_repack_prints_them(tmp_path: Path) -> None:
    ds = instance(SeriesNumber=None, ImageType=["A", "B"], PatientName="Doe^J")
    ds.ReferencedImageSequence = Sequence([instance(number=2, pixels=None)])
    ds.add_new(0x00091010, "LO", "private")
    ds.add_new(0x00090010, "LO", "creator")
    ds.add_new(0x60000010, "US", 5)
    ds.add_new(0x00420011, "OB", b"\x00\xff%PDF")
    found = elements_of(save(ds, tmp_path / "one").read_bytes())
    assert list(found) == sorted(found)
    assert "PixelData" not in found
    assert "private" not in "".join(found.values())
    assert found["SeriesNumber"] == "None"
    assert found["ImageType"] == "['A', 'B']"
    assert found["PatientName"] == "Doe^J"
    assert found["OverlayRows"] == "no attribute"
    assert found["EncapsulatedDocument"] == "b'\\x00\\xff%PDF'"
    assert found["ReferencedImageSequence"].startswith("[(0008,0005) Specific Character Set")


def test_elements_behind_the_pixels_are_seen(tmp_path: Path) -> None:
    data = saved(tmp_path) + element(0xFFFCFFFC, "OB", b"\1\2")
    assert elements_of(data)["DataSetTrailingPadding"] == "b'\\x01\\x02'"


def test_long_values_are_measured(tmp_path: Path) -> None:
    data = part10(element(0x00080060, "CS", b"MR") + element(0x00102000, "UT", b"x" * (1024 * 1024 + 2)))
    assert elements_of(data)["MedicalAlerts"] == "Array of 1048578 bytes"
    fits = part10(element(0x00080060, "CS", b"MR") + element(0x00102000, "UT", b"x" * (1024 * 1024)))
    assert elements_of(fits)["MedicalAlerts"] == "x" * (1024 * 1024)


def test_the_last_of_two_counts_in_documents_too() -> None:
    data = part10(element(0x00100020, "LO", b"P1") + element(0x00100020, "LO", b"P2"))
    assert elements_of(data) == {"PatientID": "P2"}
    assert header_of(data).get("PatientID") == "P2"


def test_elements_of_bad_files_are_faults(tmp_path: Path) -> None:
    with pytest.raises(Incomplete):
        elements_of(saved(tmp_path)[:-1])
    deep = b""
    for _ in range(100):
        deep = element(0x00081140, "SQ", b"\xfe\xff\x00\xe0" + len(deep).to_bytes(4, "little") + deep)
    with pytest.raises(TooDeep):
        elements_of(part10(element(0x00080060, "CS", b"MR") + deep))


def test_undefined_lengths_in_every_encoding(tmp_path: Path) -> None:
    for syntax in (IMPLICIT, BIG, "1.2.840.10008.1.2.1", "1.2.840.10008.1.2.1.99"):
        ds = instance(transfer_syntax=syntax)
        ds.ReferencedImageSequence = Sequence([instance(number=2, pixels=None), instance(number=3, pixels=None)])
        ds["ReferencedImageSequence"].is_undefined_length = True
        ds.ReferencedImageSequence[0].is_undefined_length_sequence_item = True
        path = save(ds, tmp_path / "one")
        again = pydicom.dcmread(path)
        found = elements_of(path.read_bytes())
        assert found == {key: clean(str(again[key].value)) for key in again.dir() if key != "PixelData"}


@pytest.mark.oracle
def test_the_oracle_of_px_repack(sag_anon: Path, oracle: Path) -> None:
    [document] = (oracle / "px-3.12.6" / "log" / "studyData").glob("*-series/*-meta.json")
    [entry] = json.loads(document.read_text()).values()
    expected = {keyword: one["value"] for keyword, one in entry["DICOM"].items()}
    # the document's numbers are those of this instance, its file name is not its UID
    [path] = sag_anon.glob("0090-*.dcm")
    found = elements_of(path.read_bytes())
    assert list(found) == list(expected)
    # pydicom 2 prints tags as (0008, 1150), pydicom 3 as (0008,1150)
    assert {key: re.sub(r"\((\w{4}),(\w{4})\)", r"(\1, \2)", text) for key, text in found.items()} == expected


@pytest.mark.oracle
def test_the_real_series_is_read_quickly_and_rightly(sag_anon: Path) -> None:
    keywords = ("PatientName", "SeriesNumber", "InstanceNumber", "SOPInstanceUID", "SliceLocation", "Rows")
    wanted = Wanted(keywords)
    for path in sorted(sag_anon.glob("*.dcm")):
        with path.open("rb") as file:
            header = read_header(file.fileno(), path.stat().st_size, wanted, Limits())
        ds = pydicom.dcmread(path, specific_tags=list(keywords), stop_before_pixels=True)
        assert {keyword: header.get(keyword) for keyword in keywords} == {one: str(ds[one].value) for one in keywords}
        assert header.fast
        assert not header.warning


@pytest.mark.oracle
def test_cuts_of_a_real_file(sag_anon: Path) -> None:
    path = min(sag_anon.glob("*.dcm"))
    whole = path.read_bytes()
    wanted = Wanted(IDENTITY)
    chance = random.Random(6)
    pixels = len(whole) - 131_072
    lengths = {chance.randrange(len(whole)) for _ in range(300)} | set(range(pixels - 12, pixels + 20))
    for length in sorted(lengths | set(range(len(whole) - 20, len(whole)))):
        with descriptor(whole) as (fd, size):
            read_header(fd, size, wanted, Limits())
        with descriptor(whole[:length]) as (fd, size):
            if length == pixels - 12:
                assert read_header(fd, size, wanted, Limits()).warning == "an image without pixel data"
            else:
                with pytest.raises((Incomplete, NotDicom, EmptyFile)):
                    read_header(fd, size, wanted, Limits())
