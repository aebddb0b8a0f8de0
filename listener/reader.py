"""One instance's header: what an open file holds of the attributes that are wanted, and whether the file is whole.

The one place that knows how DICOM bytes are read. Our own walk finds elements and proves completeness; texts are made
here where they are plain, and by pydicom where they are not: they equal `str()` of pydicom's value in either case, but
for NULs, which are dropped, and surrogates, which become U+FFFD.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING

from listener import pixels
from listener.encoding import PIXEL_TAGS
from listener.errors import BadUID, Incomplete, MissingUID, NotDicom, TooLarge, UIDMismatch
from listener.header import Header, Limits
from listener.keywords import tag_of, vr_of
from listener.prologue import DEFLATED, NATIVE, Prologue, read_prologue
from listener.source import INFLATE_RATIO, FileSource, InflatedSource
from listener.structure import Element, Structure
from listener.texts import TEXT_VRS, is_known_charset, plain_text

if TYPE_CHECKING:
    from listener.decoding import Raw

__all__ = ["Wanted", "check_uids", "read_elements", "read_header", "tag_of"]

_CHARSET = 0x00080005
_PIXEL_REPRESENTATION = 0x00280103
_PROVIDER_URL = 0x00287FE0

#: Elements that decide how others are read.
_CONTROL = pixels.TAGS | {_CHARSET, _PIXEL_REPRESENTATION}

#: Bytes of one value that are read; a longer one is too large as a wanted attribute, and in the documents only its
#: length is told.
MAX_VALUE = 1024 * 1024

_IDENTITY = ("SOPInstanceUID", "SeriesInstanceUID", "StudyInstanceUID")
_META_UID = "MediaStorageSOPInstanceUID"
_is_uid = re.compile(r"[0-9.]{1,64}").fullmatch


class Wanted:
    """The attributes that are wanted of each file: make one for a layout, and use it for all files.

    `keywords` is in alphabetical order, `tags` maps a tag to its keyword and the VR that implicit VR implies.
    """

    __slots__ = ("keywords", "tags")

    def __init__(self, keywords: tuple[str, ...]) -> None:
        self.keywords = keywords
        self.tags = {tag_of(keyword): (keyword, vr_of(keyword)) for keyword in keywords}

    @classmethod
    def of(cls, keywords: Iterable[str]) -> Wanted:
        """From DICOM keywords in any order; KeyError for a word that is none."""
        return cls(tuple(sorted(set(keywords))))


def read_header(fd: int, size: int, wanted: Wanted, limits: Limits) -> Header:
    """Read the wanted attributes of the file behind `fd`, which has `size` bytes, and prove it complete.

    Complete is: every element lies within the file; native pixel data are as long as Rows, Columns and so on say;
    fragments and sequences end with their delimiter; a deflated stream ends. What follows the data set may be NULs or
    DataSetTrailingPadding; anything else is told in `warning`, as is an image without pixel data. A file without pixel
    data that was cut exactly between two elements cannot be told from a whole one.

    The same tag twice: the last one counts (as in pydicom). `values` also holds MediaStorageSOPInstanceUID of the file
    meta information when it is there, for check_uids.

    Raises EmptyFile, NotDicom, Incomplete, TooDeep, TooLarge; OSError is the system's.
    """
    prologue, structure = _open(fd, size, limits)
    found: dict[int, Element] = {}
    raws: dict[int, bytes] = {}
    read = structure.source.read
    for element in structure.elements():
        tag = element.tag
        if tag in wanted.tags or tag in _CONTROL:
            found[tag] = element
            if element.length > MAX_VALUE:
                raise TooLarge("a wanted value")
            raws[tag] = read(element.start, element.length)
        elif tag in PIXEL_TAGS or tag == _PROVIDER_URL:
            found[tag] = element
    _check_pixels(found, raws, prologue)
    values, empty, fast = _texts(found, raws, wanted, structure)
    if prologue.MediaStorageSOPInstanceUID:
        values[_META_UID] = prologue.MediaStorageSOPInstanceUID
    return Header(
        values=values,
        size=size,
        dataset_offset=prologue.dataset_offset,
        TransferSyntaxUID=prologue.TransferSyntaxUID,
        SourceApplicationEntityTitle=prologue.SourceApplicationEntityTitle,
        empty=frozenset(empty),
        warning=structure.warning or _image_warning(found),
        fast=fast,
    )


def _open(fd: int, size: int, limits: Limits) -> tuple[Prologue, Structure]:
    """The prologue of a file, and the walk over its data set (inflated where it is deflated)."""
    source = FileSource(fd, size)
    prologue = read_prologue(source)
    begin = prologue.dataset_offset
    if prologue.TransferSyntaxUID != DEFLATED:
        return prologue, Structure(source, begin, limits, little=prologue.little)
    cap = limits.max_header + max(limits.max_header, INFLATE_RATIO * size)
    return prologue, Structure(InflatedSource(fd, size, begin, cap), 0, limits)


def _check_pixels(found: Mapping[int, Element], raws: Mapping[int, bytes], prologue: Prologue) -> None:
    pixel = next((found[tag] for tag in PIXEL_TAGS if tag in found), None)
    if pixel is None or pixel.undefined or prologue.TransferSyntaxUID not in NATIVE:
        return
    if pixel.length < pixels.least_length(raws, little=prologue.little):
        raise Incomplete("the pixel data are shorter than Rows, Columns and Bits Allocated say")


def _image_warning(found: Mapping[int, Element]) -> str:
    is_image = pixels.ROWS in found and pixels.COLUMNS in found
    return "an image without pixel data" if is_image and not found.keys() & (PIXEL_TAGS | {_PROVIDER_URL}) else ""


def _texts(
    found: Mapping[int, Element], raws: Mapping[int, bytes], wanted: Wanted, structure: Structure
) -> tuple[dict[str, str], list[str], bool]:
    """Texts by keyword, keywords without a value, and whether all of it could be done without pydicom."""
    values: dict[str, str] = {}
    empty: list[str] = []
    hard: list[int] = []
    little = structure.encoding.little
    known = is_known_charset(raws.get(_CHARSET, b""))
    for tag, (keyword, usual_vr) in wanted.tags.items():
        if tag not in raws:
            continue
        vr, raw = found[tag].vr, raws[tag]
        text = plain_text(vr if vr not in (b"", b"UN") else usual_vr, raw, little=little) if known or not raw else None
        if not raw or (text is not None and not text.strip()):
            empty.append(keyword)
        elif text is not None:
            values[keyword] = text
        else:
            hard.append(tag)
    if hard:
        _decode_hard(hard, found, raws, wanted, structure, values, empty)
    return values, empty, not hard


def _decode_hard(hard, found, raws, wanted, structure, values, empty):
    from listener import decoding

    syntax = decoding.Syntax(structure.implicit, structure.encoding.little)
    chosen = {tag: decoding.Raw(found[tag], raws[tag]) for tag in {*hard, *_CONTROL} if tag in raws}
    with decoding.quiet():
        made = decoding.dataset(chosen, syntax)
        for tag in hard:
            text, is_empty = decoding.text_of(made, chosen[tag])
            keyword = wanted.tags[tag][0]
            if is_empty:
                empty.append(keyword)
            else:
                values[keyword] = text


def check_uids(header: Header) -> None:
    """Whether the instance says who it is, and the file meta information says the same.

    Raises MissingUID, BadUID (other than 1 to 64 digits and dots, PS3.5 section 9.1) or UIDMismatch; their texts name
    the keyword only.
    """
    for keyword in _IDENTITY:
        text = header.values.get(keyword, "")
        if not _is_uid(text):
            raise (BadUID if text else MissingUID)(keyword)
    meta = header.values.get(_META_UID, "")
    if meta and meta != header.values["SOPInstanceUID"]:
        raise UIDMismatch("SOPInstanceUID and MediaStorageSOPInstanceUID")


def read_elements(fd: int, size: int, limits: Limits) -> dict[str, dict[str, str]]:
    """Every top-level element that has a keyword, but pixels: `{keyword: {"value": text, "label": keyword}}`.

    As px-repack writes it: in alphabetical order; the text is `str()` of pydicom's value, so that an empty number
    prints "None" and bytes print as `b'...'`; an element of a repeating group (60xx, 50xx) prints "no attribute". Other
    than there, a value longer than 1 MiB is not printed but measured ("Array of N bytes"), and one that cannot be
    converted becomes text by texts.bytes_text. Raises as read_header.
    """
    from listener import decoding

    _, structure = _open(fd, size, limits)
    raws: dict[int, Raw] = {}
    long: dict[int, str] = {}
    for element in structure.elements():
        tag = element.tag
        if tag in PIXEL_TAGS or not (tag in _CONTROL or decoding.keyword_of(tag)):
            continue
        long.pop(tag, None)
        if element.length > MAX_VALUE:
            long[tag] = f"Array of {element.length} bytes"
        value = structure.source.read(element.start, element.length) if element.length <= MAX_VALUE else b""
        raws[tag] = decoding.Raw(element, value)
    return decoding.texts(raws, decoding.Syntax(structure.implicit, structure.encoding.little), long)
