"""Read an instance's header: the wanted attributes of an open file, and whether the file is complete."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from functools import lru_cache
from typing import NamedTuple

from listener.dicom import attributes
from listener.dicom.attributes import META_UID, SENDER, Header, Limits, tag_of, vr_of
from listener.dicom.encoding import MAX_VALUE, PIXEL_TAGS
from listener.dicom.fast_walk import Elements, Walker, least_pixels
from listener.dicom.file_meta import FileMeta, meta_text, read_file_meta
from listener.dicom.loading import load_pydicom
from listener.dicom.nested import shallow_bytes
from listener.dicom.source import INFLATE_RATIO, FileSource, InflatedSource
from listener.dicom.syntaxes import ALL_DEFLATED, NATIVE
from listener.dicom.texts import is_known_charset
from listener.dicom.walk import BEHIND, Structure
from listener.reasons import BadUID, FileFault, Incomplete, MissingUID
from listener.uids import is_uid

PROVIDER_URL = 0x00287FE0
_SOP_CLASS, _SOP_INSTANCE = 0x00080016, 0x00080018
_CHARSET = 0x00080005
_PIXEL_REPRESENTATION = 0x00280103

#: Elements that determine how others are read, and the warnings about the file.
CONTROL = frozenset((*attributes.TAGS, _CHARSET, _PIXEL_REPRESENTATION, PROVIDER_URL))


class Wanted:
    """The attributes wanted of each file: make one for a layout, and use it for all files.

    `keywords` are in alphabetical order. It remembers runs of elements, to walk the next files faster.
    """

    __slots__ = ("_walkers", "keywords", "tags")

    def __init__(self, keywords: tuple[str, ...], tags: Iterable[int] = ()) -> None:
        """Want attributes by keyword, and further elements by tag, whose bytes alone are of use (see read_header)."""
        self.keywords = keywords
        self.tags = dict.fromkeys((*CONTROL, *tags), ("", b""))
        self.tags |= {tag_of(keyword): (keyword, vr_of(keyword)) for keyword in keywords}
        self._walkers: dict[int, Walker] = {}

    @classmethod
    def of(cls, keywords: Iterable[str]) -> Wanted:
        """Return the object for these DICOM keywords, in any order; always the same one. Raises KeyError for an unknown
        keyword.
        """
        return _wanted(frozenset(keywords))

    def walker(self, max_depth: int) -> Walker:
        """Return the walker for these attributes."""
        walker = self._walkers.get(max_depth)
        if walker is None:
            walker = self._walkers[max_depth] = Walker(self.tags, shallow_bytes(max_depth))
        return walker


@lru_cache(maxsize=64)
def _wanted(keywords: frozenset[str]) -> Wanted:
    return Wanted(tuple(sorted(keywords)))


def texts_of(found: Elements, structure: Structure) -> tuple[dict[str, str], list[str], bool]:
    """Return texts by keyword, keywords without a value, and whether pydicom was not needed."""
    values: dict[str, str] = {}
    empty: list[str] = []
    hard: list[str] = []
    little = structure.encoding.little
    known = _CHARSET not in found or is_known_charset(found[_CHARSET][1])
    for slot, raw in found.values():
        keyword = slot.keyword
        if not keyword:
            continue
        text = slot.texts.get(raw) if known and little else None
        if text is None:
            text = slot.text(raw, little=little) if known or not raw else None
        if text:
            values[keyword] = text
        elif text is None:
            hard.append(keyword)
        else:
            empty.append(keyword)
    if hard:
        _decode_with_pydicom(hard, found, structure, values, empty)
    return values, empty, not hard


def _decode_with_pydicom(
    hard: list[str], found: Elements, structure: Structure, values: dict[str, str], empty: list[str]
) -> None:
    load_pydicom()
    from listener.dicom import decoding

    chosen = {
        tag: decoding.Raw(slot.element, raw)
        for tag, (slot, raw) in found.items()
        if slot.keyword in hard or tag in CONTROL
    }
    with decoding.quiet():
        made = decoding.dataset(chosen, decoding.Syntax(structure.implicit, structure.encoding.little))
        for tag, raw in chosen.items():
            keyword = found[tag][0].keyword
            if keyword in hard:
                text, is_empty = decoding.text_of(made, raw)
                if is_empty:
                    empty.append(keyword)
                else:
                    values[keyword] = text


__all__ = [
    "Identity",
    "Wanted",
    "check_uids",
    "owner",
    "read_elements",
    "read_header",
    "read_identity",
    "structure_of",
    "tag_of",
]

#: File meta information of a file that was not read yet.
_NOTHING = FileMeta(0, little=True)

_IDENTITY = ("SOPInstanceUID", "SeriesInstanceUID", "StudyInstanceUID")
_is_code = re.compile(r"[A-Z0-9_ ]{1,16}").fullmatch
_is_title = re.compile(r"[ -~]{1,16}").fullmatch

#: Attributes that identify a file, and the form of a valid value: a bad file may hold anything.
_OWNER = {**dict.fromkeys(_IDENTITY, is_uid), "Modality": _is_code, SENDER: _is_title}


def read_header(fd: int, size: int, wanted: Wanted, limits: Limits, found: Elements | None = None) -> Header:
    """Read the wanted attributes of the file behind `fd`, which has `size` bytes, and prove it complete.

    Complete means: every element lies within the file; fragments and sequences end with their delimiter; a deflated
    stream ends. What is odd in a complete file is in `warning`, joined by "; ": see docs/layouts-and-logs.md. A file
    without pixel data that was cut exactly between two elements cannot be told from a complete one.

    Of a repeated tag the last one counts (as in pydicom). `values` also holds MediaStorageSOPInstanceUID of the file
    meta information when it is there.

    Raises EmptyFile, NotDicom, Incomplete, TooDeep, TooLarge, with what was read before in `known`; OSError from the
    system.
    """
    source = FileSource(fd, size)
    found = {} if found is None else found
    meta = _NOTHING
    try:
        meta = read_file_meta(source)
        structure = structure_of(fd, source, meta, limits)
        return _read(structure, meta, size, wanted, found)
    except FileFault as fault:
        uid, sender = meta.MediaStorageSOPInstanceUID, meta.SourceApplicationEntityTitle
        told = {META_UID: uid, SENDER: sender, **fault.known}
        fault.known = owner({**told, **_plain_texts(found, little=meta.little)})
        raise


class Identity(NamedTuple):
    """What an instance is: UIDs of its data set ("" where absent) and how that is written; see Header."""

    SOPClassUID: str
    SOPInstanceUID: str
    TransferSyntaxUID: str
    dataset_offset: int


def read_identity(fd: int, size: int, wanted: Wanted, limits: Limits) -> Identity:
    """Read what an instance is, and prove the file complete as read_header does, for a third of the work. `wanted`
    holds both UIDs. Raises as read_header.
    """
    source = FileSource(fd, size)
    meta = read_file_meta(source)
    structure = structure_of(fd, source, meta, limits)
    found: Elements = {}
    wanted.walker(limits.max_depth).walk(structure, found)
    if structure.pixel is None:
        _pixel_warning(found, structure, meta)
    SOPClassUID, SOPInstanceUID = (
        meta_text(found[tag][1]) if tag in found else "" for tag in (_SOP_CLASS, _SOP_INSTANCE)
    )
    return Identity(SOPClassUID, SOPInstanceUID, meta.TransferSyntaxUID, meta.dataset_offset)


def _read(structure: Structure, meta: FileMeta, size: int, wanted: Wanted, found: Elements) -> Header:
    wanted.walker(structure.limits.max_depth).walk(structure, found)
    warnings = [meta.warning, *structure.warnings, _pixel_warning(found, structure, meta)]
    if isinstance(structure.source, InflatedSource) and structure.source.wrapped:
        warnings.append(f"the deflated data set is wrapped by {structure.source.wrapped}")
    values, empty, fast = texts_of(found, structure)
    if meta.MediaStorageSOPInstanceUID:
        values[META_UID] = meta.MediaStorageSOPInstanceUID
        if values[META_UID] != values.get("SOPInstanceUID", values[META_UID]):
            warnings.append("the file meta information tells another SOP Instance UID")
    return Header(
        values,
        size,
        meta.dataset_offset,
        meta.TransferSyntaxUID,
        meta.SourceApplicationEntityTitle,
        frozenset(empty),
        "; ".join(filter(None, warnings)),
        fast,
    )


def structure_of(fd: int, source: FileSource, meta: FileMeta, limits: Limits) -> Structure:
    """Return the walk over a file's data set (inflated where it is deflated)."""
    begin = meta.dataset_offset
    if meta.TransferSyntaxUID not in ALL_DEFLATED:
        return Structure(source, begin, limits, little=meta.little)
    cap = limits.max_header + max(limits.max_header, INFLATE_RATIO * source.size)
    return Structure(InflatedSource(fd, source.size, begin, cap), 0, limits)


def _pixel_warning(found: Elements, structure: Structure, meta: FileMeta) -> str:
    """Return what is odd about the pixel data, "" for nothing. Raises Incomplete for an image whose pixel data must be
    in the unreadable rest.
    """
    pixel = structure.pixel
    if pixel is None:
        if PROVIDER_URL in found or not (attributes.ROWS in found and attributes.COLUMNS in found):
            return ""
        if BEHIND in structure.warnings:
            raise Incomplete("an image without pixel data, and what follows cannot be read")
        return "an image without pixel data"
    if not pixel.length:
        return "the pixel data are empty"
    if pixel.undefined or meta.TransferSyntaxUID not in NATIVE:
        return ""
    is_short = pixel.length < least_pixels(found, little=structure.encoding.little)
    return "the pixel data are shorter than Rows, Columns and Bits Allocated say" if is_short else ""


def _plain_texts(found: Elements, *, little: bool) -> dict[str, str]:
    """Return the plain texts of what was found, by keyword, without those that end in a hole (zeros)."""
    kept = ((slot, raw) for slot, raw in found.values() if slot.keyword and not raw.endswith(b"\0\0"))
    texts = {slot.keyword: slot.text(raw, little=little) for slot, raw in kept}
    return {keyword: text for keyword, text in texts.items() if text}


def owner(values: Mapping[str, str]) -> dict[str, str]:
    """Return the UIDs, Modality, calling AE title and PatientID among `values` of a file that is set aside. Except for
    PatientID, invalid values are left out: they may hold anything.
    """
    texts = {"SOPInstanceUID": values.get(META_UID, ""), **values}
    return {keyword: text for keyword, text in texts.items() if (look := _OWNER.get(keyword)) and look(text)} | {
        keyword: text for keyword, text in texts.items() if keyword == "PatientID"
    }


def check_uids(header: Header) -> None:
    """Check that the instance has valid UIDs.

    Raises MissingUID or BadUID (other than 1 to 64 digits and dots, PS3.5 section 9.1), with what else is known of the
    file; their texts name the keyword only.
    """
    for keyword in _IDENTITY:
        text = header.values.get(keyword, "")
        if not is_uid(text):
            fault = (BadUID if text else MissingUID)(keyword)
            fault.known = owner({**header.values, SENDER: header.SourceApplicationEntityTitle})
            raise fault


def read_elements(fd: int, size: int, limits: Limits) -> dict[str, dict[str, str]]:
    """Return every top-level element that has a keyword, but pixels: `{keyword: {"value": text, "label": keyword}}`.

    As px-repack writes it: in alphabetical order; the text is `str()` of pydicom's value, so that an empty number
    prints "None" and bytes print as `b'...'`; an element of a repeating group (60xx, 50xx) prints "no attribute".
    Unlike there, a value longer than 1 MiB prints its length ("Array of N bytes"), and one that cannot be converted
    becomes text by texts.bytes_text. Raises as read_header.
    """
    load_pydicom()
    from listener.dicom import decoding

    source = FileSource(fd, size)
    structure = structure_of(fd, source, read_file_meta(source), limits)
    raws: dict[int, decoding.Raw] = {}
    long: dict[int, str] = {}
    for element in structure.elements():
        tag = element.tag
        if tag in PIXEL_TAGS or not decoding.keyword_of(tag):
            continue
        value = b""
        if element.length <= MAX_VALUE:
            value = structure.source.read(element.start, element.length)
            long.pop(tag, None)
        else:
            long[tag] = f"Array of {element.length} bytes"
        raws[tag] = decoding.Raw(element, value)
    return decoding.texts(raws, decoding.Syntax(structure.implicit, structure.encoding.little), long)
