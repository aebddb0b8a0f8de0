"""Frames as pydicom reads them."""

from __future__ import annotations

from array import array

import pydicom
from pydicom.encaps import generate_frames
from pydicom.errors import InvalidDicomError

from listener.dicom.syntaxes import NATIVE
from tests.frames.making import BIG


def expected(path: str) -> list[bytes] | None:
    """The frames by pydicom; None where it has none."""
    try:
        dataset = pydicom.dcmread(path, force=True)
    except InvalidDicomError:
        return None
    element = next((dataset[tag] for tag in ("PixelData", "FloatPixelData") if tag in dataset), None)
    if element is None or "Rows" not in dataset:
        return None
    try:
        count = int(dataset.get("NumberOfFrames") or 1)
    except ValueError:  # badVR.dcm
        count = 1
    syntax = str(dataset.file_meta.get("TransferSyntaxUID", ""))
    if syntax not in NATIVE:
        return list(generate_frames(element.value, number_of_frames=count))
    data, bits = element.value, dataset.BitsAllocated
    if syntax == BIG and (bits > 8 or element.VR == "OW"):
        words = array({1: "H", 8: "H", 16: "H", 32: "I"}[bits], data)
        words.byteswap()
        data = words.tobytes()
    samples = 2 if dataset.PhotometricInterpretation == "YBR_FULL_422" else dataset.SamplesPerPixel
    size = dataset.Rows * dataset.Columns * samples * bits // 8
    return [data[number * size : (number + 1) * size] for number in range(count)]
