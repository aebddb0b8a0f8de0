"""One instance's header: what an open file holds of the attributes that are wanted, and whether the file is whole.

The one place that knows how DICOM bytes are read. Our own walk finds elements and proves completeness; texts are made
here where they are plain, and by pydicom where they are not: they equal `str()` of pydicom's value in either case, but
for NULs, which are dropped, and surrogates, which become U+FFFD.
"""

from __future__ import annotations

import re

from listener.dicom import pixels
from listener.dicom.encoding import PIXEL_TAGS
from listener.dicom.header import META_UID, Header, Limits
from listener.dicom.keywords import tag_of
from listener.dicom.likeness import Walked
from listener.dicom.prologue import DEFLATED, NATIVE, Prologue, read_prologue
from listener.dicom.runs import Found
from listener.dicom.source import INFLATE_RATIO, FileSource, InflatedSource
from listener.dicom.structure import Structure
from listener.dicom.walk import MAX_VALUE, least_pixels
from listener.dicom.wanted import CONTROL, PROVIDER_URL, Wanted, texts_of
from listener.errors import BadUID, Incomplete, MissingUID, UIDMismatch

__all__ = ["Wanted", "check_uids", "read_elements", "read_header", "tag_of"]

_IDENTITY = ("SOPInstanceUID", "SeriesInstanceUID", "StudyInstanceUID")
_is_uid = re.compile(r"[0-9.]{1,64}").fullmatch


def read_header(fd: int, size: int, wanted: Wanted, limits: Limits) -> Header:
    """Read the wanted attributes of the file behind `fd`, which has `size` bytes, and prove it complete.

    Complete is: every element lies within the file; native pixel data are as long as Rows, Columns and so on say;
    fragments and sequences end with their delimiter; a deflated stream ends. What follows the data set may be NULs or
    DataSetTrailingPadding; anything else is told in `warning`, as is an image without pixel data. A file without pixel
    data that was cut exactly between two elements cannot be told from a whole one.

    When all wanted attributes were found and native pixel data lie exactly where they must, right before the end of the
    file, what stands between the two is not looked at (see walk.py): there, disorder is not noticed.

    The same tag twice: the last one counts (as in pydicom). `values` also holds MediaStorageSOPInstanceUID of the file
    meta information when it is there, for check_uids.

    Raises EmptyFile, NotDicom, Incomplete, TooDeep, TooLarge; OSError is the system's.
    """
    source = FileSource(fd, size)
    likenesses = wanted.likenesses(limits)
    known = likenesses.header(source)
    if known is not None:
        return known
    prologue, structure = _open(fd, source, limits)
    found = wanted.walker(limits.max_depth).walk(structure)
    _check_pixels(found, structure, prologue)
    values, empty, fast = texts_of(found, structure)
    if prologue.MediaStorageSOPInstanceUID:
        values[META_UID] = prologue.MediaStorageSOPInstanceUID
    header = Header(
        values,
        size,
        prologue.dataset_offset,
        prologue.TransferSyntaxUID,
        prologue.SourceApplicationEntityTitle,
        frozenset(empty),
        structure.warning or _image_warning(found, structure),
        fast,
    )
    likenesses.learn(Walked(source, structure, found, header, CONTROL))
    return header


def _open(fd: int, source: FileSource, limits: Limits) -> tuple[Prologue, Structure]:
    """The prologue of a file, and the walk over its data set (inflated where it is deflated)."""
    prologue = read_prologue(source)
    begin = prologue.dataset_offset
    if prologue.TransferSyntaxUID != DEFLATED:
        return prologue, Structure(source, begin, limits, little=prologue.little)
    cap = limits.max_header + max(limits.max_header, INFLATE_RATIO * source.size)
    return prologue, Structure(InflatedSource(fd, source.size, begin, cap), 0, limits)


def _check_pixels(found: Found, structure: Structure, prologue: Prologue) -> None:
    pixel = structure.pixel
    if structure.leapt or pixel is None or pixel.undefined or prologue.TransferSyntaxUID not in NATIVE:
        return
    if pixel.length < least_pixels(found, little=structure.encoding.little):
        raise Incomplete("the pixel data are shorter than Rows, Columns and Bits Allocated say")


def _image_warning(found: Found, structure: Structure) -> str:
    is_image = structure.pixel is None and pixels.ROWS in found and pixels.COLUMNS in found
    return "an image without pixel data" if is_image and PROVIDER_URL not in found else ""


def check_uids(header: Header) -> None:
    """Whether the instance says who it is, and the file meta information says the same.

    Raises MissingUID, BadUID (other than 1 to 64 digits and dots, PS3.5 section 9.1) or UIDMismatch; their texts name
    the keyword only.
    """
    values = header.values
    for keyword in _IDENTITY:
        text = values.get(keyword, "")
        if not _is_uid(text):
            raise (BadUID if text else MissingUID)(keyword)
    meta = values.get(META_UID, "")
    if meta and meta != values["SOPInstanceUID"]:
        raise UIDMismatch("SOPInstanceUID and MediaStorageSOPInstanceUID")


def read_elements(fd: int, size: int, limits: Limits) -> dict[str, dict[str, str]]:
    """Every top-level element that has a keyword, but pixels: `{keyword: {"value": text, "label": keyword}}`.

    As px-repack writes it: in alphabetical order; the text is `str()` of pydicom's value, so that an empty number
    prints "None" and bytes print as `b'...'`; an element of a repeating group (60xx, 50xx) prints "no attribute". Other
    than there, a value longer than 1 MiB is not printed but measured ("Array of N bytes"), and one that cannot be
    converted becomes text by texts.bytes_text. Raises as read_header.
    """
    from listener.dicom import decoding

    _, structure = _open(fd, FileSource(fd, size), limits)
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
