"""Odd files, and files that are cut: what they hold by their own lengths is either whole or it is not.

Each row is data for several tests: of the reader, of `once`, and against other readers where these can judge.
"""

from __future__ import annotations

import warnings
import zlib
from collections.abc import Callable
from io import BytesIO
from typing import Any, NamedTuple

import pydicom
from pydicom.dataset import Dataset

from listener.dicom.walk import BEHIND, LOST_FRAGMENTS, TWO_ENDS, UNKNOWN_VR
from tests.instances import element, instance, uid

IMPLICIT = "1.2.840.10008.1.2"
EXPLICIT = "1.2.840.10008.1.2.1"
BIG = "1.2.840.10008.1.2.2"
DEFLATED = "1.2.840.10008.1.2.1.99"
RLE = "1.2.840.10008.1.2.5"
JPIP_DEFLATED = ("1.2.840.10008.1.2.4.95", "1.2.840.10008.1.2.4.205")

SHORT_PIXELS = "the pixel data are shorter than Rows, Columns and Bits Allocated say"
EMPTY_PIXELS = "the pixel data are empty"
ANOTHER_UID = "the file meta information tells another SOP Instance UID"
IMPLICIT_META = "the file meta information is in implicit VR"
NO_PIXELS = "an image without pixel data"

ITEM, ITEM_END, END = b"\xfe\xff\x00\xe0", b"\xfe\xff\x0d\xe0\0\0\0\0", b"\xfe\xff\xdd\xe0\0\0\0\0"
UNDEFINED = 0xFFFFFFFF


class Odd(NamedTuple):
    """`make(name)`: the bytes, with identifiers that follow from the name. Published with the `warning`, or set aside
    as incomplete with this `error`.
    """

    make: Callable[[str], bytes]
    warning: str = ""
    error: str = ""


def dataset(name: str, **overrides: Any) -> Dataset:
    own = {keyword: uid(keyword, name) for keyword in ("SOPInstanceUID", "SeriesInstanceUID", "StudyInstanceUID")}
    return instance(**{**own, "PatientID": "HIDDEN-4711", "PatientName": "Hidden^Wilhelmina", **overrides})


def whole(name: str, **overrides: Any) -> bytes:
    """A good instance but for these attributes; `transfer_syntax`, `pixels` and `sender` as for instance()."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        ds = dataset(name, **overrides)
        ds.preamble = bytes(128)
        buffer = BytesIO()
        # enforce_file_format would refuse some
        ds.file_meta.FileMetaInformationVersion = b"\0\1"
        ds.file_meta.FileMetaInformationGroupLength = 0
        syntax = ds.file_meta.TransferSyntaxUID
        pydicom.dcmwrite(
            buffer,
            ds,
            implicit_vr=syntax == IMPLICIT,
            little_endian=syntax != BIG,
            enforce_file_format=False,
        )
    return buffer.getvalue()


def split(data: bytes) -> tuple[bytes, bytes]:
    """File meta information, and data set."""
    at = 144 + int.from_bytes(data[140:144], "little")
    return data[:at], data[at:]


def report(name: str, **overrides: Any) -> bytes:
    """An instance without pixel data, as a structured report is."""
    return whole(name, pixels=None, Modality="SR", **overrides)


def behind(tail: bytes, **overrides: Any) -> Callable[[str], bytes]:
    return lambda name: report(name, **overrides) + tail


def within(extra: bytes, **overrides: Any) -> Callable[[str], bytes]:
    """`extra` elements before PatientName, the first of group 0010."""
    little = overrides.get("transfer_syntax") != BIG

    def make(name: str) -> bytes:
        data = whole(name, **overrides)
        at = data.index(b"\x10\x00\x10\x00PN" if little else b"\x00\x10\x00\x10PN")
        return data[:at] + extra + data[at:]

    return make


def unknown_vr(vr: bytes, value: bytes = b"12345678", *, length: int = 4) -> Callable[[str], bytes]:
    """A private element with this VR, whose length has so many bytes."""
    head = b"\x09\x00\x01\x10" + vr
    head += b"\0\0" + len(value).to_bytes(4, "little") if length > 2 else len(value).to_bytes(2, "little")
    return within(element(0x00090010, "LO", b"MAKER ") + head + value)


def swapped_vr(tag: bytes, vr: bytes) -> Callable[[str], bytes]:
    """The VR of an element with a 16-bit length is replaced."""

    def make(name: str) -> bytes:
        data = whole(name)
        at = data.index(tag, 132) + len(tag)
        return data[:at] + vr + data[at + 2 :]

    return make


def implicit_meta(syntax: str) -> Callable[[str], bytes]:
    def make(name: str) -> bytes:
        ds = dataset(name, transfer_syntax=syntax)
        texts = {2: ds.SOPClassUID, 3: ds.SOPInstanceUID, 0x10: syntax, 0x16: "SENDER"}
        body = element(0x00020001, "", b"\0\1") + b"".join(
            element(0x00020000 + number, "", text.encode() + b"\0" * (len(text) % 2)) for number, text in texts.items()
        )
        length = element(0x00020000, "", len(body).to_bytes(4, "little"))
        return bytes(128) + b"DICM" + length + body + split(whole(name, transfer_syntax=syntax))[1]

    return make


def another_uid(name: str) -> bytes:
    meta, data = split(whole(name))
    old = str(uid("SOPInstanceUID", name)).encode()
    return meta.replace(old, old[:-1] + (b"1" if old[-1:] != b"1" else b"2")) + data


def deflated(wbits: int, syntax: str = DEFLATED, **overrides: Any) -> Callable[[str], bytes]:
    def make(name: str) -> bytes:
        meta, data = split(whole(name, transfer_syntax=EXPLICIT, **overrides))
        engine = zlib.compressobj(9, zlib.DEFLATED, wbits)
        told = element(0x00020010, "UI", syntax.encode() + b"\0" * (len(syntax) % 2))
        told_before = element(0x00020010, "UI", EXPLICIT.encode() + b"\0")
        changed = meta.replace(told_before, told)
        changed = changed[:140] + (len(changed) - 144).to_bytes(4, "little") + changed[144:]
        return changed + engine.compress(data) + engine.flush()

    return make


def headless(name: str, syntax: str = EXPLICIT) -> bytes:
    """An image up to the head of its pixel data."""
    data = whole(name, transfer_syntax=syntax)
    return data[: data.rindex(b"\xe0\x7f\x10\x00")]


#: With this length, what zlib's wrapper is told by fits.
_BLOCK = 0x19C


def stored(name: str) -> bytes:
    """Deflated in stored blocks (level 0), the first of which begins as zlib's wrapper does."""
    meta, data = split(whole(name, transfer_syntax=DEFLATED))
    plain = zlib.decompress(data, -15)
    blocks = b"".join(
        bytes([(at + _BLOCK >= len(plain)) | 0x78])
        + len(piece).to_bytes(2, "little")
        + (len(piece) ^ 0xFFFF).to_bytes(2, "little")
        + piece
        for at in range(0, len(plain), _BLOCK)
        for piece in [plain[at : at + _BLOCK]]
    )
    return meta + blocks


def short_pixels(syntax: str) -> Callable[[str], bytes]:
    return lambda name: whole(name, Rows=5, transfer_syntax=syntax)


def cut_and_another(count: int) -> Callable[[str], bytes]:
    """An image without its last `count` bytes, and a whole one behind."""
    return lambda name: whole(name, pixels=64)[:-count] + whole(f"{name} two", pixels=64)


def cut_report(syntax: str, count: int) -> Callable[[str], bytes]:
    return lambda name: report(name, transfer_syntax=syntax)[:-count]


def little_sequence() -> bytes:
    """A sequence of one item in implicit VR little endian, with its delimiter."""
    inner = element(0x00081150, "", b"1.2.840.10008.1.2\0")
    return ITEM + len(inner).to_bytes(4, "little") + inner + END


_UN_BIG = b"\x00\x08\x21\x12UN\0\0\xff\xff\xff\xff" + little_sequence()
_ITEM_BIG = b"\xff\xfe\xe0\x00" + len(_UN_BIG).to_bytes(4, "big") + _UN_BIG
_TEXT = b"text that somebody left here"

ODD: dict[str, Odd] = {
    # -- pixel data by their own length
    "pixels-empty": Odd(lambda name: whole(name, pixels=b""), EMPTY_PIXELS),
    "pixels-empty-encapsulated": Odd(
        lambda name: headless(name, RLE) + element(0x7FE00010, "OB", END, length=UNDEFINED), EMPTY_PIXELS
    ),
    **{
        f"pixels-short-{end}": Odd(short_pixels(syntax), SHORT_PIXELS)
        for end, syntax in (("implicit", IMPLICIT), ("explicit", EXPLICIT), ("big", BIG), ("deflated", DEFLATED))
    },
    # -- bytes behind a data set without pixel data
    **{
        f"report-and-{what}": Odd(behind(tail), BEHIND)
        for what, tail in {
            "text": _TEXT,
            "line-end": b"\n",
            "line-ends": b"\r\n",
            "two-line-ends": b"\r\n\r\n",
            "boundary": b"\r\n--boundary--\r\n",
            "blanks": b" " * 20,
            "erased": b"\xff" * 64,
            "zeros-and-text": bytes(20) + _TEXT,
            "html": b"<html><body>502 Bad Gateway</body></html>",
        }.items()
    },
    "report-and-text-implicit": Odd(behind(_TEXT, transfer_syntax=IMPLICIT), BEHIND),
    "report-and-text-big": Odd(behind(_TEXT, transfer_syntax=BIG), BEHIND),
    "report-and-line-ends-implicit": Odd(behind(b"\r\n", transfer_syntax=IMPLICIT), BEHIND),
    "report-and-text-deflated": Odd(behind(_TEXT, transfer_syntax=DEFLATED), BEHIND),
    "image-and-text": Odd(lambda name: whole(name) + _TEXT, BEHIND),
    # -- VRs that are in no table
    "vr-of-the-future": Odd(unknown_vr(b"OX"), UNKNOWN_VR),
    "vr-of-the-future-empty": Odd(unknown_vr(b"OX", b""), UNKNOWN_VR),
    "vr-of-the-future-long": Odd(unknown_vr(b"OX", b"x" * 70_000), UNKNOWN_VR),
    "vr-of-the-future-short": Odd(unknown_vr(b"ZZ", length=2), UNKNOWN_VR),
    **{
        f"vr-{what}": Odd(unknown_vr(vr, length=2), UNKNOWN_VR)
        for what, vr in {
            "question-marks": b"??",
            "blanks": b"  ",
            "dashes": b"--",
            "small": b"lo",
            "NULs": b"\0\0",
        }.items()
    },
    "vr-question-marks-empty": Odd(unknown_vr(b"??", b"", length=2), UNKNOWN_VR),
    "vr-of-the-first-element": Odd(swapped_vr(b"\x08\x00\x05\x00", b"??"), UNKNOWN_VR),
    "vr-of-the-patient": Odd(swapped_vr(b"\x10\x00\x20\x00", b"--"), UNKNOWN_VR),
    "vr-of-the-instance": Odd(swapped_vr(b"\x08\x00\x18\x00", b"??"), UNKNOWN_VR),
    # -- file meta information
    "meta-implicit": Odd(implicit_meta(EXPLICIT), IMPLICIT_META),
    "meta-and-data-implicit": Odd(implicit_meta(IMPLICIT), IMPLICIT_META),
    "meta-of-another": Odd(another_uid, ANOTHER_UID),
    # -- UN of undefined length in big endian: its content is implicit VR little endian (CP-246)
    "un-in-big-endian": Odd(within(_UN_BIG, transfer_syntax=BIG)),
    "un-in-big-endian-nested": Odd(
        within(b"\x00\x08\x11\x15SQ\0\0\xff\xff\xff\xff" + _ITEM_BIG + b"\xff\xfe\xe0\xdd\0\0\0\0", transfer_syntax=BIG)
    ),
    # -- deflated as a whole
    **{
        f"jpip-deflated-{syntax[-3:]}": Odd(
            deflated(-15, syntax, pixels=None, PixelDataProviderURL="http://127.0.0.1/x", Rows=4, Columns=4)
        )
        for syntax in JPIP_DEFLATED
    },
    "deflated-in-zlib": Odd(deflated(15), "the deflated data set is wrapped by zlib"),
    "deflated-in-gzip": Odd(deflated(31), "the deflated data set is wrapped by gzip"),
    "deflated-in-stored-blocks": Odd(stored),
    # -- delimiters and fragments
    "second-delimiter": Odd(lambda name: whole(name, transfer_syntax=RLE) + END, TWO_ENDS),
    "second-delimiter-and-padding": Odd(
        lambda name: whole(name, transfer_syntax=RLE) + END + element(0xFFFCFFFC, "OB", bytes(10)), TWO_ENDS
    ),
    "no-fragments": Odd(within(element(0x00091010, "OB", b"no item in here!" + END, length=UNDEFINED)), LOST_FRAGMENTS),
    # -- two files in one
    "two-images": Odd(lambda name: whole(name) + whole(f"{name} two"), BEHIND),
    "two-reports": Odd(lambda name: report(name) + report(f"{name} two"), BEHIND),
    "two-compressed-images": Odd(
        lambda name: whole(name, transfer_syntax=RLE) + whole(f"{name} two", transfer_syntax=RLE), BEHIND
    ),
    "report-and-image": Odd(lambda name: report(name) + whole(f"{name} two"), BEHIND),
    # -- cut, and another file behind
    **{
        f"cut-by-{count}-and-another": Odd(
            cut_and_another(count),
            error="another file begins within it",
        )
        for count in (1, 60, 131, 132, 200, 4000)
    },
    "cut-compressed-and-another": Odd(
        lambda name: whole(name, transfer_syntax=RLE)[:-20] + whole(f"{name} two", transfer_syntax=RLE),
        error="another file begins within it",
    ),
    "cut-delimiter-and-another": Odd(
        lambda name: whole(name, transfer_syntax=RLE).removesuffix(END) + whole(f"{name} two", transfer_syntax=RLE),
        error="another file begins within it",
    ),
    "cut-report-and-another": Odd(
        lambda name: report(name)[:-1] + report(f"{name} two"), error="another file begins within it"
    ),
    "cut-before-the-pixels-and-another": Odd(
        lambda name: headless(name) + whole(f"{name} two"), error="an image without pixel data"
    ),
    # -- cut
    **{
        f"cut-report-by-{count}-{end}": Odd(
            cut_report(syntax, count),
            error="an element is longer than the file" if count == 1 else "it ends within an element's head",
        )
        for end, syntax in (("implicit", IMPLICIT), ("explicit", EXPLICIT), ("big", BIG))
        for count in (1, 3, 5, 7)
    },
    "hole": Odd(lambda name: report(name)[:-10] + bytes(4096), error="zeros in place of elements"),
    "hole-and-the-rest": Odd(lambda name: report(name) + bytes(4096) + _TEXT, error="zeros in place of elements"),
}
