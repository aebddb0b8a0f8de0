"""What precedes the data set: preamble, prefix and file meta information (PS3.10 section 7.1)."""

from __future__ import annotations

from functools import lru_cache
from struct import Struct
from typing import NamedTuple

from listener.dicom.attributes import META_UID, SENDER
from listener.dicom.encoding import HEAD, LONG_VRS, SHORT_VRS, Encoding, Head
from listener.dicom.source import Source
from listener.dicom.syntaxes import EXPLICIT_BIG
from listener.reasons import EmptyFile, FileFault, Incomplete, NotDicom, TooLarge

#: Length of preamble and prefix.
PREAMBLE = 132
PREFIX = b"DICM"

MEDIA_STORAGE_SOP_INSTANCE_UID = 0x00020003
TRANSFER_SYNTAX_UID = 0x00020010
SOURCE_AE_TITLE = 0x00020016
_KEPT = frozenset({MEDIA_STORAGE_SOP_INSTANCE_UID, TRANSFER_SYNTAX_UID, SOURCE_AE_TITLE})

#: Most elements of file meta information; storescp writes eight.
_MAX_META = 10_000
_MAX_VALUE = 1024

_NEITHER = "neither the prefix DICM nor a plausible data set"

#: Limits of the first elements of a data set without prefix: longest value, highest group, and their number.
_PLAUSIBLE_LENGTH = 64 * 1024
_PLAUSIBLE_GROUP = 0x0010
_PLAUSIBLE_ELEMENTS = 3


#: File meta information within this many bytes is parsed at once.
_QUICK = 1024
_USUAL_START = PREFIX + b"\2\0\0\0UL\4\0"
_UID_HEAD = b"\2\0\3\0UI"

#: The same three tags as a little endian integer, which has their halves exchanged.
_UID, _SYNTAX, _TITLE = 0x00030002, 0x00100002, 0x00160002
_head = Struct("<L2sH").unpack_from
_u32 = Struct("<L").unpack_from


class FileMeta(NamedTuple):
    """File meta information: `dataset_offset` in bytes, the byte order of the data set, three values ("" where absent),
    and in `warning` what is odd.
    """

    dataset_offset: int
    little: bool
    TransferSyntaxUID: str = ""
    MediaStorageSOPInstanceUID: str = ""
    SourceApplicationEntityTitle: str = ""
    warning: str = ""


def read_file_meta(source: Source) -> FileMeta:
    """Read up to the first byte of the data set.

    With the prefix `DICM` behind 128 bytes, a file is DICOM when file meta information or a plausible data set follows.
    Without it, when the file begins with file meta information (an element of group 0002 with a known VR), or with a
    plausible data set: its first element is of group 0008, and its first three (fewer if the file ends there, but two)
    have ascending tags up to group 0010, values of at most 64 KiB that lie within the file and, in explicit VR, known
    VRs; in little endian, explicit or implicit, or in big endian explicit. Anything else is NotDicom.

    Group 0002 ends where another group begins, as in pydicom: its group length is ignored. It may be in implicit VR,
    against the standard. Raises EmptyFile, NotDicom, Incomplete when the file ends within group 0002 or right behind
    it, TooLarge when that has 10,000 elements; with what was read of it in `known`.
    """
    quick = _read_common(source.read(0, _QUICK))
    if quick is not None:
        return quick
    if not source.reaches(1):
        raise EmptyFile
    begin = PREAMBLE if source.read(PREAMBLE - 4, 4) == PREFIX else 0
    encoding = Encoding(source, little=True)
    implicit = _is_implicit_meta(source, encoding, begin)
    if not implicit and not (source.reaches(begin + HEAD) and _is_meta(encoding.head(begin, implicit=False))):
        return FileMeta(begin, little=_plausible_order(source, begin))
    values = dict.fromkeys(_KEPT, "")
    try:
        pos = _read_meta(source, begin, values, implicit=implicit)
    except FileFault as fault:
        fault.known = {META_UID: values[MEDIA_STORAGE_SOP_INSTANCE_UID], SENDER: values[SOURCE_AE_TITLE]}
        raise
    syntax = values[TRANSFER_SYNTAX_UID]
    little = syntax != EXPLICIT_BIG if syntax else _order_without_syntax(source, pos)
    uid, title = values[MEDIA_STORAGE_SOP_INSTANCE_UID], values[SOURCE_AE_TITLE]
    return FileMeta(pos, little, syntax, uid, title, "the file meta information is in implicit VR" if implicit else "")


def _read_meta(source: Source, pos: int, values: dict[int, str], *, implicit: bool) -> int:
    """Return the offset behind group 0002, which begins at `pos`; put wanted values into `values`."""
    encoding = Encoding(source, little=True)
    count = 0
    while source.reaches(pos + HEAD):
        head = encoding.head(pos, implicit=implicit)
        if head.tag >> 16 != 2:
            break
        pos = head.start + head.length
        count += 1
        if count > _MAX_META:
            raise TooLarge(f"more than {_MAX_META} elements of file meta information")
        if not source.reaches(pos):
            raise Incomplete("it ends within the file meta information")
        if head.tag in _KEPT:
            values[head.tag] = meta_text(source.read(head.start, min(head.length, _MAX_VALUE)))
    if not source.reaches(pos + 1):
        raise Incomplete("there is no data set")
    return pos


def _is_implicit_meta(source: Source, encoding: Encoding, pos: int) -> bool:
    """Return whether group 0002 begins at `pos` in implicit VR: a short value, followed by another element of the
    group.
    """
    if not source.reaches(pos + HEAD) or not encoding.looks_implicit(pos):
        return False
    head = encoding.head(pos, implicit=True)
    end = head.start + head.length
    if head.tag >> 16 != 2 or head.length > _MAX_VALUE or not source.reaches(end + HEAD):
        return False
    return encoding.looks_implicit(end) and encoding.head(end, implicit=True).tag >> 16 == 2


def _read_common(data: bytes) -> FileMeta | None:
    """Parse file meta information as storescp and most programs write it, with a right group length; None for any
    other.
    """
    if len(data) < _QUICK or data[PREAMBLE - 4 : PREAMBLE + HEAD] != _USUAL_START:
        return None
    pos = PREAMBLE + 12
    end = pos + _u32(data, PREAMBLE + HEAD)[0]
    at = data.find(_UID_HEAD, pos, end)
    if at < 0 or end > _QUICK - HEAD or data[end : end + 2] == b"\2\0":
        return None
    # Only the UID differs between the files of one sender: cache the parts before and behind it.
    behind = at + HEAD + data[at + 6] + (data[at + 7] << 8)
    before, after = _parse(data[pos:at]), _parse(data[behind:end])
    if before is None or after is None or behind > end:
        return None
    values = before | after
    syntax = values.get(_SYNTAX, "")
    if not syntax or _UID in values:
        return None
    uid, title = meta_text(data[at + HEAD : behind]), values.get(_TITLE, "")
    return FileMeta(end, syntax != EXPLICIT_BIG, syntax, uid, title)


@lru_cache(maxsize=256)
def _parse(data: bytes) -> dict[int, str] | None:
    """Parse elements of group 0002: return texts by tag (halves exchanged), None when something else is in `data`."""
    pos, values = 0, {}
    while pos < len(data):
        if pos + HEAD + 4 > len(data):
            return None
        tag, vr, length = _head(data, pos)
        pos += HEAD
        if vr not in SHORT_VRS:
            length, pos = _u32(data, pos)[0], pos + 4
        if tag & 0xFFFF != 2 or not (vr in SHORT_VRS or vr in LONG_VRS):
            return None
        values[tag] = meta_text(data[pos : pos + length])
        pos += length
    return values if pos == len(data) else None


def meta_text(raw: bytes) -> str:
    """Return the text of a UID or AE title: without padding and NULs, in pydicom's default encoding."""
    return raw.decode("latin-1").replace("\0", "").strip()


def _is_meta(head: Head) -> bool:
    return head.tag >> 16 == 2 and (head.vr in SHORT_VRS or head.vr in LONG_VRS)


def _order_without_syntax(source: Source, pos: int) -> bool:
    """Return whether a data set of unknown transfer syntax is little endian: by its first group, as in pydicom."""
    raw = source.read(pos, 6)
    # 0x0400 and above is group 0x0004 and above with its bytes exchanged
    return not (raw[4:6] in SHORT_VRS | LONG_VRS and int.from_bytes(raw[:2], "little") >= 0x0400)


def _plausible_order(source: Source, begin: int) -> bool:
    """Return whether a data set without file meta information is little endian. Raises NotDicom when it is not
    plausible.
    """
    for little in (True, False):
        if _is_plausible(source, begin, Encoding(source, little=little)):
            return little
    raise NotDicom("no plausible data set behind the prefix DICM" if begin else _NEITHER)


def _is_plausible(source: Source, pos: int, encoding: Encoding) -> bool:
    last = 0
    implicit = encoding.looks_implicit(pos)
    if implicit and not encoding.little:
        return False
    for count in range(_PLAUSIBLE_ELEMENTS):
        if not source.reaches(pos + HEAD):
            return count > 1 and not source.reaches(pos + 1)
        head = encoding.head(pos, implicit=implicit)
        known = implicit or head.vr in SHORT_VRS or head.vr in LONG_VRS
        in_order = last < head.tag < (_PLAUSIBLE_GROUP + 1) << 16 and (count or head.tag >> 16 == 8)
        if not (known and in_order and head.length <= _PLAUSIBLE_LENGTH):
            return False
        last = head.tag
        pos = head.start + head.length
        if not source.reaches(pos):
            return False
    return True
