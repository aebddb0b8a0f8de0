"""What an instance is, from the first elements of a file that was proven whole before: a fraction of what reading its
header costs.
"""

from __future__ import annotations

from functools import lru_cache
from struct import Struct

from listener.dicom.encoding import HEAD, SHORT_VRS
from listener.dicom.file_meta import meta_text, read_file_meta
from listener.dicom.reader import Identity
from listener.dicom.source import FileSource
from listener.dicom.syntaxes import ALL_DEFLATED, EXPLICIT_BIG, IMPLICIT_LITTLE
from listener.reasons import FileFault

#: The SOP Instance UID is looked for in so many bytes of the data set.
_QUICK = 2048

#: SOP Class UID, whose halves are exchanged in a little endian integer; and the tag behind which nothing more is read.
_SOP_CLASS, _BEHIND = 0x00160008, b"\x08\x00\x18\x00"

_explicit = Struct("<L2sH").unpack_from
_implicit = Struct("<LL").unpack_from


def read_beginning(fd: int, size: int) -> Identity | None:
    """Return what the instance behind `fd` is, as reader.read_identity does; None where it is not written as it mostly
    is: little endian, not deflated, SOP Class and SOP Instance UID behind a few plain elements. Raises OSError.
    """
    source = FileSource(fd, size)
    try:
        meta = read_file_meta(source)
    except FileFault:
        return None
    syntax, begin = meta.TransferSyntaxUID, meta.dataset_offset
    if not syntax or syntax == EXPLICIT_BIG or syntax in ALL_DEFLATED:
        return None
    data = source.read(begin, _QUICK)
    is_implicit = syntax == IMPLICIT_LITTLE
    at = data.find(_BEHIND if is_implicit else _BEHIND + b"UI")
    if at < 0 or at + HEAD > len(data):
        return None
    end = at + HEAD + (_implicit if is_implicit else _explicit)(data, at)[-1]
    SOPClassUID = _class_in(data[:at], is_implicit=is_implicit)
    if not SOPClassUID or end > len(data):
        return None
    return Identity(SOPClassUID, meta_text(data[at + HEAD : end]), syntax, begin)


@lru_cache(maxsize=256)
def _class_in(data: bytes, *, is_implicit: bool) -> str:
    """Return the SOP Class UID among elements of group 0008 that are `data` exactly; "" where they are not, or not in
    order.
    """
    pos, last, found = 0, 0, ""
    while pos + HEAD <= len(data):
        tag, *vr, length = (_implicit if is_implicit else _explicit)(data, pos)
        number = tag >> 16
        if tag & 0xFFFF != 8 or number <= last or not (is_implicit or vr[0] in SHORT_VRS):
            return ""
        pos, last = pos + HEAD + length, number
        if tag == _SOP_CLASS:
            found = meta_text(data[pos - length : pos])
    return found if pos == len(data) else ""
