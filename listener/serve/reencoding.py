"""Write an instance again in Explicit VR Little Endian, in the worker process."""

from __future__ import annotations

import os
from array import array
from io import BytesIO

import pydicom
from pydicom.dataelem import DataElement
from pydicom.dataset import Dataset
from pydicom.uid import ExplicitVRBigEndian, ExplicitVRLittleEndian

from listener.dicom.decoding import quiet
from listener.disk.files import opened
from listener.serve.describing import write_beside
from listener.serve.tables import stamp_of

#: Bytes of a word, by the VR of values that pydicom leaves as they are.
_WORDS = {"OW": 2, "OF": 4, "OL": 4, "OD": 8, "OV": 8}

_ARRAYS = {2: "H", 4: "I", 8: "Q"}

_PIXEL_DATA = 0x7FE00010


def write_explicit(path: str, stamp: tuple[int, ...], target: str) -> bool:
    """Write an instance again in Explicit VR Little Endian; return whether that could be done, of the file that has
    this stamp. Raises OSError where it cannot be written.
    """
    try:
        with quiet(), opened(path) as descriptor, os.fdopen(os.dup(descriptor), "rb") as file:
            if stamp_of(os.fstat(descriptor)) != stamp:
                return False
            dataset: Dataset = pydicom.dcmread(file, force=True)
            if dataset.file_meta.TransferSyntaxUID == ExplicitVRBigEndian:
                dataset = _little_endian(dataset)
            dataset.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
            written = BytesIO()
            dataset.save_as(written, enforce_file_format=True)
    except Exception:  # noqa: BLE001 - whatever pydicom or the system raises, it cannot be written so
        return False
    write_beside(target, written.getvalue())
    return True


def _little_endian(dataset: Dataset) -> Dataset:
    """Return a data set of big-endian words as one of little-endian ones. Pixels are words of a sample, as they are in
    frames that are sent alone.
    """
    made = Dataset()
    for element in dataset:  # Converted one by one: what is still raw would be written as it is.
        if element.VR == "SQ":
            items = [_little_endian(item) for item in element.value]
            element = DataElement(element.tag, "SQ", pydicom.Sequence(items))  # noqa: PLW2901
        elif isinstance(element.value, bytes):
            word = _WORDS.get(element.VR, 1)
            if element.tag == _PIXEL_DATA:
                word = max(word, int(dataset.get("BitsAllocated") or 0) // 8)
            element = DataElement(element.tag, element.VR, _swapped(element.value, word))  # noqa: PLW2901
        made.add(element)
    if hasattr(dataset, "file_meta"):
        made.file_meta, made.preamble = dataset.file_meta, dataset.preamble
    return made


def _swapped(value: bytes, word: int) -> bytes:
    if word == 1:
        return value
    words = array(_ARRAYS[word], value)
    words.byteswap()
    return words.tobytes()
