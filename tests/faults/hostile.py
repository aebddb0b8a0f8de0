"""Every case of hostile and odd input, and what each must get: a table, and the bytes for it.

A case is one file (or what pretends to be one) of incoming. Instances that are to be published have identifiers of
their own, so that whatever lies in the tree can be traced to its case by its bytes.
"""

from __future__ import annotations

import hashlib
import json
import os
import random
import stat
import struct
import warnings
import zlib
from collections import Counter
from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import orjson
import pydicom
from pydicom.uid import (
    UID,
    DeflatedExplicitVRLittleEndian,
    ExplicitVRBigEndian,
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
    JPEG2000Lossless,
    RLELossless,
)

from listener.dicom.walk import BEHIND
from tests.accounting import files_below, left_over, read_set_aside
from tests.hostile_entries import make_socket
from tests.instances import ABSENT, element, instance, save, uid
from tests.odd_files import ANOTHER_UID, NO_PIXELS, ODD
from tests.service_process import Event, Places

#: A name and an identifier that every case has, but for those that are about them. Nothing that is said may hold them.
NAME, IDENTITY = "Hidden^Wilhelmina", "HIDDEN-4711"

#: Also texts of patients in the cases below, and so secrets.
SECRETS = (NAME, IDENTITY, "Wilhelmina", "HIDDEN", "Traversal", "Umlaut")

LEFT = "left alone"
PUBLISHED = "published"

Make = Callable[[Path], object]


@dataclass(frozen=True, slots=True)
class Case:
    """`gets`: PUBLISHED (with a `warning`), LEFT (not touched), or a reason for set-aside. `heavy`: takes more than a
    moment.
    """

    make: Make
    gets: str = PUBLISHED
    heavy: bool = False
    warning: str = ""


CASES: dict[str, Case] = {}


def case(name: str, make: Make, gets: str = PUBLISHED, *, heavy: bool = False, warning: str = "") -> None:
    assert name not in CASES, name
    CASES[name] = Case(make, gets, heavy, warning)


def data_of(path: Path, **overrides: Any) -> bytes:
    """The bytes of an instance that is good but for `overrides`; its identifiers follow from the name of `path`."""
    given: dict[str, Any] = {"PatientName": NAME, "PatientID": IDENTITY, **overrides}
    for keyword in ("StudyInstanceUID", "SeriesInstanceUID", "SOPInstanceUID"):
        given.setdefault(keyword, uid(keyword, os.fsencode(path.name)))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        scratch = path.with_name(".scratch")
        try:
            return save(instance(**given), scratch).read_bytes()
        finally:
            scratch.unlink(missing_ok=True)


def with_tags(**overrides: Any) -> Make:
    return lambda path: path.write_bytes(data_of(path, **overrides))


def with_bytes(change: Callable[[bytes], bytes], **overrides: Any) -> Make:
    """A good instance whose bytes are changed."""
    return lambda path: path.write_bytes(change(data_of(path, **overrides)))


def just(data: bytes) -> Make:
    return lambda path: path.write_bytes(data)


def dataset_offset(data: bytes) -> int:
    return 144 + int.from_bytes(data[140:144], "little")


def before_patient(extra: bytes) -> Callable[[bytes], bytes]:
    """`extra` elements right before PatientName, the first of group 0010."""

    def change(data: bytes) -> bytes:
        at = data.index(b"\x10\x00\x10\x00PN")
        return data[:at] + extra + data[at:]

    return change


def append(extra: bytes) -> Callable[[bytes], bytes]:
    return lambda data: data + extra


# -- identifiers and texts ---------------------------------------------------------------------------------------------

TRAVERSALS = {
    "climbs": "../../..",
    "absolute": "/etc/x",
    "dots": "..",
    "dot": ".",
    "backslashless": "a/../../b",
    "own": ".listener",
    "home": "~root",
    "shell": "$(touch x);`id`|&",
    "dash": "-rf",
    "percent": "%PatientID%s%n",
    "format": "{0.__class__}",
    "newline": "A\nB\r\nC",
    "escape": "A\x1b[31mB\x07",
    "NUL": "A\0B",
    "only-NULs": "\0\0\0\0",
    "spaces": "    ",
    "long": "L" * 300,
    "very-long": "V" * 65000,
    "json": '"}],"x":{"',
    "unicode": "\U0001f600\u200f\u202eevil\ufeff",
    "dots-long": "." * 250,
}
PATH_KEYWORDS = (
    "PatientID",
    "PatientName",
    "PatientBirthDate",
    "StudyDescription",
    "AccessionNumber",
    "StudyDate",
    "SeriesDescription",
)
for _keyword in PATH_KEYWORDS:
    for _name, _text in TRAVERSALS.items():
        if _name == "unicode" and _keyword.endswith("Date"):  # pydicom cannot write it
            continue
        case(f"{_keyword}-{_name}", with_tags(**{_keyword: _text, "SpecificCharacterSet": "ISO_IR 192"}))
for _name, _text in TRAVERSALS.items():
    if _text.isascii():
        case(f"sender-{_name}", with_tags(sender=_text[:16]))

#: Pairs of identifiers that must not share a document, and must keep the name that is safe.
for _text in ("A/B", "A_B", "A.1", "A.2", "a b", "A B ", "A\\B", "A:B", "A*B"):
    case(f"document-{_text.replace('/', '~')}", with_tags(PatientID=_text))

_BAD_UIDS = {
    "climbs": "../../..",
    "absolute": "/etc/x",
    "letters": "1.2.x",
    "long": "1." * 32 + "1",
    "two": ["1.2", "3.4"],
    "space": "1.2 .3",
    "newline": "1.2\n3",
    "very-long": "1" * 60000,
    "dash": "-1.2",
}
for _keyword in ("StudyInstanceUID", "SeriesInstanceUID", "SOPInstanceUID"):
    case(f"{_keyword}-absent", with_tags(**{_keyword: ABSENT}), "missing-uid")
    case(f"{_keyword}-empty", with_tags(**{_keyword: ""}), "missing-uid")
    case(f"{_keyword}-NULs", with_tags(**{_keyword: "\0\0"}), "missing-uid")
    for _name, _value in _BAD_UIDS.items():
        if (_keyword, _name) != ("SOPInstanceUID", "very-long"):  # the file meta information cannot hold it
            case(f"{_keyword}-{_name}", with_tags(**{_keyword: _value}), "bad-uid")
    # characters that a UID may have, and yet a way out: filed under other names
    for _name, _value in {"dots": "..", "dot": ".", "hidden": ".1.2"}.items():
        case(f"{_keyword}-{_name}", with_tags(**{_keyword: _value}))
    case(f"{_keyword}-64", with_tags(**{_keyword: "1." + "2" * 61 + str(len(_keyword) % 10)}))


def _mismatch(path: Path) -> None:
    data = data_of(path)
    told = str(uid("SOPInstanceUID", os.fsencode(path.name))).encode()
    at = data.index(told)
    path.write_bytes(data[:at] + told[:-1] + (b"1" if told[-1:] != b"1" else b"2") + data[at + len(told) :])


case("meta-says-another-instance", _mismatch, warning=ANOTHER_UID)

CHARACTER_SETS: dict[str, tuple[Any, Any]] = {
    "utf8": ("ISO_IR 192", "Umlaut^\u00c4\u00d6\U0001f600"),
    "gb18030": ("GB18030", "Umlaut^\u738b\u5c0f\u4e1c"),
    "gbk": ("GBK", "Umlaut^\u738b"),
    "japanese": (["", "ISO 2022 IR 87"], "Umlaut^\u5c71\u7530=\u3084\u307e\u3060"),
    "korean": (["", "ISO 2022 IR 149"], "Umlaut^\uae40\ud76c\uc911"),
    "greek": ("ISO_IR 126", "Umlaut^\u0394\u03b9\u03bf\u03bd"),
}
for _name, (_set, _text) in CHARACTER_SETS.items():
    case(f"charset-{_name}", with_tags(SpecificCharacterSet=_set, PatientName=_text))
for _name, _set in {
    "unknown": "ISO_IR 999",
    "garbage": "\x1b\x07",
    "number": "7",
    "many": ["ISO 2022 IR 6"] * 9,
}.items():
    case(f"charset-{_name}", with_tags(SpecificCharacterSet=_set, PatientName="Umlaut^X"))
for _name, _raw in {
    "wrong": b"Umlaut^\xff\xfe\xc0\x80",
    "surrogates": b"Umlaut^\xed\xa0\x80\xed\xb0\x80",
    "escapes": b"Umlaut^\x1b$B\x1b(J\x1b$)C\xff\x1b",
    "cut": b"Umlaut^\xe4\xbd",
    "overlong": b"Umlaut^\xc0\xaf..\xc0\xaf",
}.items():
    for _set in ("ISO_IR 192", "GB18030", "ISO 2022 IR 87"):
        _raw_name = element(0x00100010, "PN", _raw + b" " * (len(_raw) % 2))

        def _swap(data: bytes, new: bytes = _raw_name) -> bytes:
            at = data.index(b"\x10\x00\x10\x00PN")
            length = int.from_bytes(data[at + 6 : at + 8], "little")
            return data[:at] + new + data[at + 8 + length :]

        case(f"bytes-{_name}-{_set.replace(' ', '')}", with_bytes(_swap, SpecificCharacterSet=_set))

case("several-values", with_tags(SeriesDescription=["one", "two"], StudyDescription=["", ""], PatientID=["A1", "B2"]))
case("identity-absent", with_tags(PatientID=ABSENT, PatientName=ABSENT, PatientBirthDate=ABSENT))
case("identity-empty", with_tags(PatientID="", PatientName="", PatientBirthDate=""))
for _name, _raw in {
    "text": b"abc ",
    "two": b"1\\2 ",
    "negative": b"-7",
    "exponent": b"1e99",
    "float": b"1.5 ",
    "huge": b"9" * 300,
    "plus": b"+12 ",
    "spaces": b"    ",
    "hex": b"0x1F",
    "nan": b"nan ",
    "bytes": b"\xff\xfe\x00\x01",
    "digits-of-another-script": "\u0661\u0662".encode(),
}.items():

    def _number(data: bytes, raw: bytes = _raw) -> bytes:
        for tag in (b"\x20\x00\x11\x00IS", b"\x20\x00\x13\x00IS"):
            at = data.index(tag)
            length = int.from_bytes(data[at + 6 : at + 8], "little")
            data = data[: at + 6] + struct.pack("<H", len(raw)) + raw + data[at + 8 + length :]
        return data

    case(f"numbers-{_name}", with_bytes(_number))

_twice = element(0x00100020, "LO", b"FIRST ") + element(0x00100020, "LO", b"SECOND")
case("same-tag-twice", with_bytes(before_patient(_twice)))
case("same-tag-a-thousand-times", with_bytes(before_patient(element(0x0008103E, "LO", b"AGAIN ") * 1000)))
case("tags-descending", with_bytes(before_patient(element(0x00200011, "IS", b"3 ") + element(0x00080060, "CS", b"CT"))))

# -- what is no regular file -------------------------------------------------------------------------------------------

case("link-to-file", lambda path: path.symlink_to(path.parent.parent / "canary.dcm"), "not-regular")
case("link-to-directory", lambda path: path.symlink_to("/etc"), "not-regular")
case("link-to-nothing", lambda path: path.symlink_to("nothing"), "not-regular")
case("link-to-itself", lambda path: path.symlink_to(path.name), "not-regular")
case("fifo", os.mkfifo, "not-regular")
case("socket", make_socket, "not-regular")
case("directory", lambda path: (path / "empty").mkdir(parents=True), LEFT)


def device(path: Path) -> None:
    """A character device that reads as zeros for ever."""
    os.mknod(path, 0o20600, os.makedev(1, 5))


def may_make_devices(folder: Path) -> bool:
    """Only root may, and not in every container."""
    path = folder / ".may"
    try:
        device(path)
    except OSError:
        return False
    path.unlink()
    return True


# -- no DICOM, or not all of it ----------------------------------------------------------------------------------------

case("zero-bytes", just(b""), "empty")
case("text", just(b"This is a text, and no DICOM file. " * 20), "not-dicom")
case("random", just(random.Random(1).randbytes(5000)), "not-dicom")
case("zeros", just(bytes(5000)), "not-dicom")
case("one-byte", just(b"x"), "not-dicom")
case("mark-only", just(bytes(128) + b"DICM"), "not-dicom")
case("mark-and-garbage", just(bytes(128) + b"DICM" + b"\xff" * 4000), "not-dicom")
case("zip", just(b"PK\x03\x04" + random.Random(2).randbytes(3000)), "not-dicom")
case("html", just(b"<!DOCTYPE html><html><body>502 Bad Gateway</body></html>"), "not-dicom")
case("elf", just(b"\x7fELF\x02\x01\x01" + bytes(600)), "not-dicom")
case("meta-only", with_bytes(lambda data: data[: dataset_offset(data)]), "incomplete")
for _name, _keep in {"meta": 200, "header": 500, "pixels": -10, "by-one": -1}.items():

    def _cut(data: bytes, keep: int = _keep) -> bytes:
        return data[:keep]

    case(f"cut-in-{_name}", with_bytes(_cut), "incomplete")
case("hole-at-the-end", with_bytes(lambda data: data[:-100] + bytes(5000), pixels=None), "incomplete")


def _without_delimiter(data: bytes) -> bytes:
    return data[: data.rindex(b"\xfe\xff\xdd\xe0")]


for _syntax in (JPEG2000Lossless, RLELossless):
    case(f"no-delimiter-{_syntax}", with_bytes(_without_delimiter, transfer_syntax=_syntax), "incomplete")
    case(f"cut-fragment-{_syntax}", with_bytes(lambda data: data[:-20], transfer_syntax=_syntax), "incomplete")

# -- lengths that lie, depth, size -------------------------------------------------------------------------------------

_LIE = b"\x11\x00\x01\x10UT\0\0\xf0\xff\xff\xff" + b"text"
case("length-lies-4GB", with_bytes(append(_LIE), pixels=None), "incomplete")
case("length-lies-2GB", with_bytes(before_patient(element(0x00090010, "OB", b"", length=2**31 - 2))), "incomplete")
case("length-lies-short", with_bytes(before_patient(element(0x00090010, "LO", b"", length=65534))), "incomplete")
case(
    "item-lies",
    with_bytes(before_patient(element(0x00081140, "SQ", b"\xfe\xff\x00\xe0\xf0\xff\xff\x7f", length=0xFFFFFFFF))),
    "incomplete",
)
case("sequence-never-ends", with_bytes(append(b"\x40\x00\x30\xa7SQ\0\0\xff\xff\xff\xff"), pixels=None), "incomplete")
case("sequence-lies", with_bytes(append(element(0x0040A730, "SQ", b"", length=0x7FFFFFFE)), pixels=None), "incomplete")


def _deep(head: bytes, depth: int) -> bytes:
    close = b"\xfe\xff\x0d\xe0\0\0\0\0" + b"\xfe\xff\xdd\xe0\0\0\0\0"
    return depth * (head + b"\xfe\xff\x00\xe0\xff\xff\xff\xff") + depth * close


_SQ, _BARE = b"\x40\x00\x30\xa7SQ\0\0", b"\x40\x00\x30\xa7"
_UNDEFINED = b"\xff\xff\xff\xff"


def _deep_defined(depth: int) -> bytes:
    """Sequences of defined length, built from the inside."""
    body = b""
    for _ in range(depth):
        item = b"\xfe\xff\x00\xe0" + struct.pack("<L", len(body)) + body
        body = _SQ + struct.pack("<L", len(item)) + item
    return body


case("5000-sequences", with_bytes(append(_deep(_SQ + _UNDEFINED, 5000)), pixels=None), "too-deep")
case(
    "5000-sequences-never-closed",
    with_bytes(append(_deep(_SQ + _UNDEFINED, 5000)[: 5000 * 20]), pixels=None),
    "too-deep",
)
case("5000-sequences-of-known-length", with_bytes(append(_deep_defined(5000)), pixels=None), "too-deep")
case(
    "5000-sequences-implicit",
    with_bytes(append(_deep(_BARE + _UNDEFINED, 5000)), pixels=None, transfer_syntax=ImplicitVRLittleEndian),
    "too-deep",
)
case("60-sequences", with_bytes(append(_deep(_SQ + _UNDEFINED, 60)), pixels=None))


def many_elements(count: int) -> bytes:
    """Empty private elements, in ascending order, before the patient."""
    heads = []
    for group in range(9, 9 + 2 * (count // 60000 + 1), 2):
        heads += [
            struct.pack("<HH2sH", group, number, b"LO", 0) for number in range(0x1000, 0x1000 + min(count, 60000))
        ]
        count -= 60000
    return b"".join(heads)


case("200000-elements", with_bytes(before_patient(many_elements(200_000))))
case(
    "200000-elements-in-an-item",
    with_bytes(
        append(
            element(
                0x0040A730,
                "SQ",
                b"\xfe\xff\x00\xe0"
                + struct.pack("<L", 8 * 200_000)
                + struct.pack("<HH2sH", 9, 0x1000, b"LO", 0) * 200_000,
            )
        ),
        pixels=None,
    ),
)
case(
    "2100000-elements",
    with_bytes(before_patient(struct.pack("<HH2sH", 9, 0x1000, b"LO", 0) * 2_100_000)),
    "too-large",
    heavy=True,
)
case("string-of-10-MB", with_bytes(before_patient(element(0x00090010, "UT", b"x" * 10_000_000))))


def _long_string(path: Path) -> None:
    """100 MB before PatientID, most of them a hole."""
    data = data_of(path)
    at = data.index(b"\x10\x00\x10\x00PN")
    with path.open("wb") as file:
        file.write(data[:at] + b"\x09\x00\x10\x00UT\0\0" + struct.pack("<L", 100_000_000))
        file.seek(100_000_000, os.SEEK_CUR)
        file.write(data[at:])


case("string-of-100-MB", _long_string, heavy=True)
case("identifier-of-2-MB", with_bytes(before_patient(element(0x00100020, "UT", b"y" * 2_000_000))), "too-large")


def _bomb(tag: int, size: int, vr: str = "UT") -> Callable[[bytes], bytes]:
    """An element that deflates to a thousandth: `size` zeros. A megabyte is deflated once and said again and again."""

    def change(data: bytes) -> bytes:
        begin = dataset_offset(data)
        plain = zlib.decompress(data[begin:], -zlib.MAX_WBITS)
        deflate = zlib.compressobj(9, zlib.DEFLATED, -zlib.MAX_WBITS)
        head = deflate.compress(plain + element(tag, vr, b"", length=size)) + deflate.flush(zlib.Z_FULL_FLUSH)
        again = deflate.compress(bytes(2**20)) + deflate.flush(zlib.Z_FULL_FLUSH)
        return data[:begin] + head + again * (size // 2**20) + deflate.flush()

    return change


for _name, _tag, _vr in (
    ("in-a-text", 0x40000030, "UT"),
    ("in-pixels", 0x7FE00010, "OW"),
    ("in-private", 0x70090010, "UN"),
):
    case(
        f"deflate-bomb-{_name}",
        with_bytes(_bomb(_tag, 2**31 - 2**20, _vr), pixels=None, transfer_syntax=DeflatedExplicitVRLittleEndian),
        "too-large",
        heavy=True,
    )
case(
    "deflated-cut",
    with_bytes(lambda data: data[:-20], transfer_syntax=DeflatedExplicitVRLittleEndian),
    "incomplete",
)
case(
    "deflated-garbage",
    with_bytes(
        lambda data: data[: dataset_offset(data)] + b"\xff" * 400, transfer_syntax=DeflatedExplicitVRLittleEndian
    ),
    "not-dicom",
)

# -- encodings and kinds -----------------------------------------------------------------------------------------------

for _name, _uid in {
    "implicit": ImplicitVRLittleEndian,
    "explicit": ExplicitVRLittleEndian,
    "big-endian": ExplicitVRBigEndian,
    "deflated": DeflatedExplicitVRLittleEndian,
    "jpeg2000": JPEG2000Lossless,
    "rle": RLELossless,
    "unknown-syntax": UID("1.2.3.4.5"),
}.items():
    case(f"syntax-{_name}", with_tags(transfer_syntax=_uid))
for _name in ("implicit", "explicit"):

    def _bare(data: bytes) -> bytes:
        return data[dataset_offset(data) :]

    _uid = ImplicitVRLittleEndian if _name == "implicit" else ExplicitVRLittleEndian
    case(f"no-preamble-{_name}", with_bytes(_bare, transfer_syntax=_uid))
case("no-meta", with_bytes(lambda data: data[:132] + data[dataset_offset(data) :]))
case("padded", with_bytes(append(bytes(4000))))
case("bytes-behind-the-pixels", with_bytes(append(b"garbage that someone left here")), warning=BEHIND)
case(
    "private-tags",
    with_bytes(before_patient(element(0x00090010, "LO", b"MAKER ") + element(0x00091001, "UN", bytes(range(64))))),
)
_private = element(0x00090010, "LO", b"MAKER ") + element(
    0x00091002, "UN", b"\xfe\xff\xdd\xe0\0\0\0\0", length=2**32 - 1
)
case("private-sequence", with_bytes(before_patient(_private)))
for _name, _sop_class in {
    "sr": "1.2.840.10008.5.1.4.1.1.88.11",
    "pdf": "1.2.840.10008.5.1.4.1.1.104.1",
    "waveform": "1.2.840.10008.5.1.4.1.1.9.1.1",
    "segmentation": "1.2.840.10008.5.1.4.1.1.66.4",
}.items():
    case(f"kind-{_name}", with_tags(SOPClassUID=_sop_class, pixels=None if _name in ("sr", "pdf", "waveform") else 4))
case(
    "kind-pdf-with-a-document",
    with_tags(pixels=None, EncapsulatedDocument=b"%PDF-1.4 " * 500, MIMETypeOfEncapsulatedDocument="application/pdf"),
)
case("an-image-without-pixels", with_tags(pixels=None, Rows=512, Columns=512), warning=NO_PIXELS)
for _name, _odd in ODD.items():

    def _make_odd(path: Path, make: Callable[[str], bytes] = _odd.make) -> None:
        path.write_bytes(make(path.name))

    case(f"odd-{_name}", _make_odd, "incomplete" if _odd.error else PUBLISHED, warning=_odd.warning)

# -- names of files ----------------------------------------------------------------------------------------------------

for _name in (
    "new\nline",
    "-rf",
    "a" * 255,
    "  spaces  ",
    "'\"$(x)`;",
    "x.json",
    "x.DCM",
    "tab\t",
    "*?[",
    "\\",
    "%s%n",
    "café",
):
    case(_name, with_tags())
case(os.fsdecode(b"\xff\xfe\x80"), with_tags())
case(os.fsdecode(b"\xc3" * 255), with_tags())
case("bad\nname\x1b[31m", just(b"no DICOM"), "not-dicom")
case("z" * 255, just(b"no DICOM"), "not-dicom")
case("claim-1700000000000000000.1.9.x", just(b"no DICOM"), "not-dicom")
for _name in ("a.part", "a.tmp", ".hidden", ".listener-x", "...", "..a.dcm"):
    case(_name, with_tags(), LEFT)


# -- what pydicom brings -----------------------------------------------------------------------------------------------

BUNDLE = Path(pydicom.__file__).parent / "data"

#: What is not published of pydicom's own files, and why; all others are. `duplicate`: the same data set as another.
BUNDLED: dict[str, str] = {
    **dict.fromkeys(
        (
            "charset_files/FileInfo.txt",
            "hashes.json",
            "palettes/README.md",
            "test_files/README.txt",
            "test_files/crayons.icc",
            "test_files/dicomdirtests/README.txt",
            "test_files/dicomdirtests/TINY_ALPHA/README",
            "test_files/no_meta.dcm",  # a text conversion has damaged its very first bytes
            "test_files/rtplan.dump",
            "test_files/rtstruct.dump",
            "test_files/test1.json",
            "test_files/test_PN.json",
            "test_files/zipMR.gz",
            "urls.json",
        ),
        "not-dicom",
    ),
    **dict.fromkeys(("test_files/MR_truncated.dcm", "test_files/rtplan_truncated.dcm"), "incomplete"),
    **dict.fromkeys(
        (
            "charset_files/chrSQEncoding.dcm",
            "charset_files/chrSQEncoding1.dcm",
            *(
                f"palettes/{colour}.dcm"
                for colour in ("fall", "hotiron", "hotmetalblue", "pet", "pet20step", "spring", "summer", "winter")
            ),
            *(f"test_files/JPEGLSNearLossless_{bits}.dcm" for bits in ("08", "16")),
            *(f"test_files/SC_rgb_jls_lossy_{by}.dcm" for by in ("line", "sample")),
            *(
                f"test_files/{name}.dcm"
                for name in (
                    *("UN_sequence", "empty_charset_LEI", "meta_missing_tsyntax", "nested_priv_SQ"),
                    *("no_meta_group_length", "priv_SQ"),
                )
            ),
            # a DICOMDIR has neither study nor series, so it has no place in a tree of instances
            *(
                f"test_files/dicomdirtests/DICOMDIR{suffix}"
                for suffix in ("", "-bigEnd", "-empty.dcm", "-implicit", "-nooffset", "-nopatient", "-reordered")
            ),
            "test_files/dicomdirtests/TINY_ALPHA/DICOMDIR",
        ),
        "missing-uid",
    ),
    "test_files/SC_rgb_jpeg_app14_dcmd.dcm": "duplicate",
}


def bundled() -> dict[str, tuple[Path, str]]:
    """Every file that pydicom's package holds, by a name for incoming, and what it must get."""
    found = {}
    for path in sorted(BUNDLE.rglob("*")):
        if path.is_file() and path.suffix not in (".py", ".pyc"):
            relative = str(path.relative_to(BUNDLE))
            found[f"pydicom~{relative.replace('/', '~')}"] = (path, BUNDLED.get(relative, PUBLISHED))
    return found


def patients(paths: list[Path]) -> set[str]:
    """PatientID and PatientName of all that pydicom can read there, where they are long enough to be told apart."""
    found: set[str] = set()
    for path in paths:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            try:
                ds = pydicom.dcmread(path, stop_before_pixels=True, specific_tags=["PatientID", "PatientName"])
                found |= {str(ds.get("PatientID", "")), str(ds.get("PatientName", ""))}
            except Exception:  # noqa: BLE001, S112 - what it cannot read tells nobody's name
                continue
    return {text for text in found if len(text) >= 6}


# -- the oracle by bytes -----------------------------------------------------------------------------------------------


def digest_of(path: Path) -> str:
    """Of all bytes; "" for what is not a regular file (which is not opened)."""
    return hashlib.sha256(path.read_bytes()).hexdigest() if stat.S_ISREG(path.lstat().st_mode) else ""


def contradictions(
    places: Places, sources: Mapping[str, str], events: Collection[Event], keeps: Collection[str] = ()
) -> Iterator[str]:
    """What contradicts that every source has exactly one end (L1), that tree and logs agree (L2) and that nothing is
    left (L3), judged by bytes alone, so that it holds of files that no library reads.

    `sources`: names in incoming, as events show them, and digests; `keeps`: those that must be left alone.
    """
    told: dict[str, Event] = {}
    for event in events:
        if event["src"] in told:
            yield f"two events of {event['src']!r}: {told[event['src']]}, {event}"
        told[event["src"]] = event
    for name in (sources.keys() - set(keeps)) ^ told.keys():
        yield f"{name!r} has {'an event and should be left alone' if name in told else 'no event'}"
    known = {event["SOPInstanceUID"] for event in events if event["event"] == "published"}
    for event in events:
        if event["event"] == "duplicate" and event["SOPInstanceUID"] not in known:
            yield f"a duplicate of nothing: {event}"
    ends: dict[str, Counter[tuple[str, str]]] = {"published": Counter(), "set-aside": Counter(), "duplicate": Counter()}
    for name, event in told.items():
        ends[event["event"]][event.get("reason", ""), sources.get(name, "")] += 1
    aside = Counter((one.reason, one.digest) for one in read_set_aside(places))
    tree = Counter(("", digest_of(path)) for path in files_below(places.data))
    old = Counter({("", digest): count for (reason, digest), count in aside.items() if reason == "superseded"})
    # Published, and superseded by another worker before it was told: done again, it was a duplicate of that one.
    overtaken = old & ends["duplicate"]
    # Published under another name than an earlier instance of its UID: settled by the policy afterwards.
    conflicts = Counter({("", digest): count for (reason, digest), count in aside.items() if reason == "conflict"})
    settled = conflicts & (ends["published"] - tree - old)
    aside -= Counter({("conflict", digest): count for (_, digest), count in settled.items()})
    for what, found, wanted in (
        ("in tree or superseded", tree + old + settled, ends["published"]),
        ("set aside", Counter({key: n for key, n in aside.items() if key[0] != "superseded"}), ends["set-aside"]),
    ):
        yield from (f"{what} and not told: {key}" for key in found - wanted - overtaken)
        yield from (f"told and not {what}: {key}" for key in wanted - found)
    yield from _odd_paths(places)
    yield from _odd_documents(places)
    yield from left_over(places, keeps)


def _odd_paths(places: Places) -> Iterator[str]:
    for path in files_below(places.data):
        parts = path.relative_to(places.data).parts
        if not all(part.isascii() and part.isprintable() and len(part) <= 200 for part in parts):
            yield f"a path that is not plain, or too long: {parts}"
        if any(not part.strip(".") for part in parts) or parts[-1].startswith(".") or not parts[-1].endswith(".dcm"):
            yield f"a path that hides or climbs: {parts}"
    for path in files_below(places.log):
        parts = path.relative_to(places.log).parts
        if not all(part.isascii() and part.isprintable() for part in parts) or parts[-1].startswith("."):
            yield f"a document with an odd name: {parts}"


def _odd_documents(places: Places) -> Iterator[str]:
    documents: dict[str, Any] = {}
    for path in files_below(places.log):
        name = str(path.relative_to(places.log))
        try:
            documents[name] = orjson.loads(path.read_bytes())
            # neither escaped nor plain surrogates
            json.dumps(documents[name], ensure_ascii=False).encode("utf-8")
        except ValueError as error:
            yield f"{name} is no JSON in UTF-8: {error}"
    studies: dict[str, list[str]] = {}
    for name, document in documents.items():
        if name.startswith("patientData/"):
            studies |= {PatientID: entry["StudyList"] for PatientID, entry in document.items()}
    instances = {name: document for name, document in documents.items() if "-img/" in name}
    located = Counter[str]()
    for name, document in instances.items():
        series = name.partition("-img/")[0]
        yield from (
            f"{series}{end} is missing" for end in ("-meta.json", "-pack.json") if series + end not in documents
        )
        for entry in document.values():
            for image in entry["imageObj"].values():
                located[image["FSlocation"]] += 1
                if not os.path.isfile(image["FSlocation"]) or os.stat(image["FSlocation"]).st_size != image["size"]:
                    yield f"{name} tells of {image}, which is not there"
            if entry["StudyInstanceUID"] not in studies.get(entry["PatientID"], []):
                yield f"no StudyList has {entry['StudyInstanceUID']} of {name}"
    there = Counter(str(path) for path in files_below(places.data))
    yield from (f"not described once: {path}" for path in (there - located) + (located - there))
