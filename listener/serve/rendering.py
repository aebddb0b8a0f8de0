"""Pictures of frames, and frames decoded: by pydicom, numpy, Pillow and codecs (extra `render`), in a worker process.

As PS3.3 sections C.7.6.3.1.2 (photometric interpretation), C.11.1 (modality LUT) and C.11.2 (VOI LUT) say.
"""

from __future__ import annotations

import io
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
from PIL import Image
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.encaps import encapsulate
from pydicom.pixels.processing import apply_color_lut, apply_modality_lut
from pydicom.pixels.utils import pixel_array
from pydicom.uid import UID

from listener.dicom.syntaxes import EXPLICIT_LITTLE
from listener.serve.picture import EXACT, SIGMOID, Picture, Window, placed

#: Most samples of a frame that is decoded, and bytes that a worker may have.
MOST_SAMPLES, MEMORY = 2**27, 4 * 2**30

#: Attributes that decoding needs.
_PIXELS = (
    "Rows",
    "Columns",
    "BitsAllocated",
    "BitsStored",
    "HighBit",
    "PixelRepresentation",
    "SamplesPerPixel",
    "PhotometricInterpretation",
    "PlanarConfiguration",
)

#: What the header says of all frames, unless the functional groups say it of one.
_OF_ALL = (
    "PhotometricInterpretation",
    "PixelRepresentation",
    "BitsStored",
    "PixelPaddingValue",
    "RescaleSlope",
    "RescaleIntercept",
    "WindowCenter",
    "WindowWidth",
    "VOILUTFunction",
    "VOILUTSequence",
    "ModalityLUTSequence",
)


class CannotDecode(Exception):
    """The frame cannot be decoded."""


class Stored(NamedTuple):
    """A frame as it is stored: its header, number from 1, bytes, and their transfer syntax: of native ones Explicit VR
    Little Endian, whatever the file has.
    """

    header: Dataset
    number: int
    syntax: str
    data: bytes


def decoded(frame: Stored) -> bytes:
    """Return the samples of a frame, pixel by pixel, little endian; colours as RGB. Raises CannotDecode."""
    array = _array(frame)
    return bytes(np.ascontiguousarray(array.astype(array.dtype.newbyteorder("<"), copy=False)).tobytes())


def _array(frame: Stored) -> Any:
    """Return the samples of a frame, by row, column and sample. Raises CannotDecode."""
    try:
        return _of_pydicom(frame)
    except CannotDecode:
        raise
    except Exception as error:  # noqa: BLE001 - whatever pydicom and its codecs raise
        raise CannotDecode(f"no decoder takes it ({type(error).__name__})") from None


def _of_pydicom(frame: Stored) -> Any:
    header = frame.header
    rows, columns, samples = (int(header.get(name) or 1) for name in ("Rows", "Columns", "SamplesPerPixel"))
    if rows * columns * samples > MOST_SAMPLES:
        raise CannotDecode("the frame is too large")
    if frame.syntax == EXPLICIT_LITTLE and "BitsStored" not in header:
        return _floats(frame)
    return pixel_array(_alone(frame))


def _alone(frame: Stored) -> Dataset:
    """Return a data set of this frame alone, as far as decoding needs it."""
    dataset = Dataset()
    for name in _PIXELS:
        if name in frame.header:
            setattr(dataset, name, frame.header[name].value)
    dataset.NumberOfFrames = 1
    dataset.file_meta = FileMetaDataset()
    dataset.file_meta.TransferSyntaxUID = UID(frame.syntax)
    if frame.syntax == EXPLICIT_LITTLE:
        dataset.PixelData = frame.data + b"\0" * (len(frame.data) % 2)
        dataset["PixelData"].VR = "OB" if int(dataset.BitsAllocated) <= 8 else "OW"
    else:
        dataset.PixelData = encapsulate([frame.data], has_bot=False)
        dataset["PixelData"].VR = "OB"
        dataset["PixelData"].is_undefined_length = True
    return dataset


def _floats(frame: Stored) -> Any:
    """Return the samples of Float or Double Float Pixel Data, of which the header says no stored bits."""
    kind = {32: "<f4", 64: "<f8"}.get(int(frame.header.get("BitsAllocated") or 0))
    if kind is None:
        raise CannotDecode("its header does not say how many bits a sample has")
    return np.frombuffer(frame.data, kind).reshape(int(frame.header.Rows), int(frame.header.Columns))


# -- pictures ----------------------------------------------------------------------------------------------------------


def rendered(frame: Stored, picture: Picture) -> bytes:
    """Return a picture of a frame, as PNG or JPEG. Raises CannotDecode."""
    array = _array(frame)
    if array.ndim == 3 or str(frame.header.get("PhotometricInterpretation", "")) == "PALETTE COLOR":
        made = Image.fromarray(_colours(frame, array))
    else:
        made = Image.fromarray(_grey(frame, array, picture.window))
    made = _viewed(made, picture)
    buffer = io.BytesIO()
    profile = _profile(frame.header) if picture.icc else b""
    if picture.media == "image/png":
        made.save(buffer, "PNG", icc_profile=profile or None, compress_level=3)
    else:
        made.save(buffer, "JPEG", quality=picture.quality, icc_profile=profile or None)
    return buffer.getvalue()


def _colours(frame: Stored, array: Any) -> Any:
    bits = int(frame.header.get("BitsStored") or 8)
    if array.ndim == 2:
        try:
            array = apply_color_lut(array, frame.header)
        except Exception as error:  # noqa: BLE001 - as above
            raise CannotDecode(f"its palette cannot be used ({type(error).__name__})") from None
        bits = array.dtype.itemsize * 8
    if bits > 8:
        array = array >> (bits - 8)
    return np.ascontiguousarray(array[..., :3].astype(np.uint8))


def _grey(frame: Stored, array: Any, asked: Window | None) -> Any:
    header = _of_frame(frame)
    try:
        values = apply_modality_lut(array, header).astype(np.float64)
        shown = _windowed(values, array, header, asked)
    except (AttributeError, ValueError, TypeError, KeyError, IndexError, NotImplementedError) as error:
        raise CannotDecode(f"its look-up tables cannot be used ({type(error).__name__})") from None
    if str(header.get("PhotometricInterpretation", "")) == "MONOCHROME1":
        shown = 1.0 - shown
    return np.ascontiguousarray((np.clip(shown, 0.0, 1.0) * 255.0 + 0.5).astype(np.uint8))


def _windowed(values: Any, array: Any, header: Dataset, asked: Window | None) -> Any:
    """Return values between 0 and 1: by the window that is asked for, the header's VOI LUT or window, or all that are
    there.
    """
    if asked is None and header.get("VOILUTSequence"):
        return _by_table(values, header.VOILUTSequence[0])
    window = asked or _window_of(header)
    if window is None:
        known = values[np.isfinite(values)]
        padding = header.get("PixelPaddingValue")
        if padding is not None:
            real = values[(array != int(padding)) & np.isfinite(values)]
            known = real if real.size else known
        low, high = (float(known.min()), float(known.max())) if known.size else (0.0, 1.0)
        return np.nan_to_num((values - low) / (high - low or 1.0), nan=0.0)
    return np.nan_to_num(placed(values, window, np), nan=0.0)


def _by_table(values: Any, item: Dataset) -> Any:
    count, first, bits = (int(one) for one in item.LUTDescriptor)
    data = item["LUTData"].value
    table = np.frombuffer(data, "<u2") if isinstance(data, bytes) else np.asarray(data, np.uint16)
    if bits <= 8 and table.size < (count or 65536):
        table = np.frombuffer(table.tobytes(), np.uint8)
    indexes = np.clip(values - first, 0, table.size - 1).astype(np.int64)
    return table[indexes] / float((1 << bits) - 1)


def _window_of(header: Dataset) -> Window | None:
    centers, widths = (_numbers(header.get(name)) for name in ("WindowCenter", "WindowWidth"))
    if not centers or not widths:
        return None
    function = str(header.get("VOILUTFunction", "") or "LINEAR").upper()
    window = Window(centers[0], widths[0], function if function in (EXACT, SIGMOID) else "LINEAR")
    return window if window.is_possible else None


def _numbers(value: Any) -> list[float]:
    values = value if isinstance(value, Sequence) and not isinstance(value, str) else [value]
    return [float(one) for one in values if one not in (None, "")]


def _of_frame(frame: Stored) -> Dataset:
    """Return what the header says of one frame: with that of the functional groups (PS3.3 section C.7.6.16)."""
    header = frame.header
    groups = list(header.get("SharedFunctionalGroupsSequence") or ())
    own = header.get("PerFrameFunctionalGroupsSequence")
    if own and frame.number <= len(own):
        groups.append(own[frame.number - 1])
    if not groups:
        return header
    found = Dataset()
    for name in _OF_ALL:
        if name in header:
            found[name] = header[name]
    for group in groups:
        for name in ("PixelValueTransformationSequence", "FrameVOILUTSequence"):
            for element in (group.get(name) or [Dataset()])[0]:
                found[element.tag] = element
    return found


def _viewed(made: Image.Image, picture: Picture) -> Image.Image:
    view = picture.viewport
    if view is None:
        return made
    left, top, width, height = view.region(*made.size)
    if (left, top, width, height) != (0, 0, *made.size):
        made = made.crop((left, top, left + width, top + height))
    if view.flips_x:
        made = made.transpose(Image.Transpose.FLIP_LEFT_RIGHT)
    if view.flips_y:
        made = made.transpose(Image.Transpose.FLIP_TOP_BOTTOM)
    return made.resize(view.fitted(*made.size), Image.Resampling.LANCZOS)


def _profile(header: Dataset) -> bytes:
    """Return the ICC profile of an instance, b"" where it has none."""
    paths = header.get("OpticalPathSequence") or []
    for one in (header, *paths):
        found = one.get("ICCProfile")
        if isinstance(found, bytes) and found:
            return found
    return b""
