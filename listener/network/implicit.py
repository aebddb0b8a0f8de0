"""Re-encode an uncompressed data set in Implicit VR Little Endian (PS3.5 section A.1), for peers that take only that.

Values keep their bytes, but for the byte order: nothing is decoded to text and back, so that also what breaks its
character set arrives as it was.
"""

from __future__ import annotations

import os
from array import array
from collections.abc import Iterator
from struct import Struct
from typing import TYPE_CHECKING, Any

from listener.dicom.loading import load_pydicom
from listener.errors import Unsendable
from listener.reasons import internal

if TYPE_CHECKING:
    from pydicom import DataElement, Dataset

#: Bytes of a word by VR; values of others have no byte order (PS3.5 section 7.3).
_WORDS = dict.fromkeys(("AT", "OW", "SS", "US"), "H")
_WORDS |= dict.fromkeys(("FL", "OF", "OL", "SL", "UL"), "I")
_WORDS |= dict.fromkeys(("FD", "OD", "OV", "SV", "UV"), "Q")

_ZERO_PADDED = frozenset(("OB", "UI", "UN"))

_head = Struct("<HHL")


def implicit(descriptor: int) -> bytes:
    """Return the data set of an open file, re-encoded. The whole of it is in memory, twice.

    Raises Unsendable when pydicom cannot read it.
    """
    load_pydicom()
    from pydicom import dcmread

    from listener.dicom.decoding import quiet

    try:
        with open(os.dup(descriptor), "rb") as file, quiet():
            file.seek(0)
            return b"".join(_encoded(dcmread(file)))
    except OSError:
        raise
    except Exception as error:  # noqa: BLE001 -- whatever pydicom raises is this file's
        raise Unsendable(f"it cannot be re-encoded ({internal(error)})") from None


def _encoded(dataset: Dataset) -> Iterator[bytes]:
    from pydicom.dataelem import RawDataElement

    for tag in sorted(dataset.keys()):
        if tag.element == 0:
            continue  # Group lengths (retired) would be wrong.
        element: Any = dataset.get_item(tag)
        if isinstance(element, RawDataElement) and element.VR != "SQ" and element.value is not None:
            value = _little(element.value, element.VR or "UN", little=element.is_little_endian)
        elif dataset[tag].VR == "SQ":
            value = b"".join(_items(dataset[tag].value))
        else:  # pydicom has decoded what it needs for the others: character set, pixel representation.
            yield _written(dataset[tag])
            continue
        yield _head.pack(tag.group, tag.element, len(value)) + value


def _written(element: DataElement) -> bytes:
    from pydicom.filebase import DicomBytesIO
    from pydicom.filewriter import write_data_element

    buffer = DicomBytesIO()
    buffer.is_implicit_VR = buffer.is_little_endian = True
    write_data_element(buffer, element)
    return buffer.getvalue()


def _items(sequence: list[Dataset]) -> Iterator[bytes]:
    for item in sequence:
        content = b"".join(_encoded(item))
        yield _head.pack(0xFFFE, 0xE000, len(content)) + content


def _little(value: bytes, vr: str, *, little: bool) -> bytes:
    """Return a value in little endian and of even length."""
    if len(value) % 2:
        value += b"\0" if vr in _ZERO_PADDED else b" "
    word = _WORDS.get(vr)
    if little or word is None or len(value) % array(word).itemsize:
        return value
    words = array(word, value)
    words.byteswap()
    return words.tobytes()
