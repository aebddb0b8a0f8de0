"""Frames decoded and shown, compared with pydicom's and numpy's."""

from __future__ import annotations

import contextlib
import io
import os
from typing import Any

import pydicom
import pytest
from pydicom.data import get_testdata_files
from pydicom.dataset import Dataset
from pydicom.pixels.processing import apply_windowing
from pydicom.pixels.utils import pixel_array

from listener.frames.errors import FramesFault
from listener.frames.image import ImageFile
from listener.frames.layout import Encapsulated
from listener.reasons import FileFault
from listener.serve.picture import Picture, Viewport, Window

numpy = pytest.importorskip("numpy")
PIL = pytest.importorskip("PIL.Image")

from listener.serve.rendering import CannotDecode, Stored, decoded, rendered  # noqa: E402 - wants numpy

pytestmark = pytest.mark.filterwarnings("ignore::UserWarning", "ignore:overflow encountered:RuntimeWarning")

FILES = sorted({path for path in get_testdata_files() if os.path.isfile(path) and "dicomdirtests" not in path})
EXPLICIT = "1.2.840.10008.1.2.1"


def stored(path: str, number: int = 1) -> Stored:
    header = pydicom.dcmread(path, force=True, stop_before_pixels=True)
    with ImageFile(path) as image:
        syntax = str(header.file_meta.TransferSyntaxUID) if isinstance(image.image.layout, Encapsulated) else EXPLICIT
        return Stored(header, number, syntax, image.read(number - 1))


def picture_of(frame: Stored, **asked: Any) -> Any:
    return numpy.asarray(PIL.open(io.BytesIO(rendered(frame, Picture("image/png", **asked)))))


@pytest.mark.parametrize("path", FILES, ids=os.path.basename)
def test_a_decoded_frame_is_pydicom_s(path: str) -> None:
    try:
        frame = stored(path)
    except (FramesFault, FileFault, AttributeError):
        return
    try:
        wanted = pixel_array(path, index=0)
    except Exception:  # noqa: BLE001 - whatever it raises, ours is an error or right
        with contextlib.suppress(CannotDecode):
            decoded(frame)
        return
    assert decoded(frame) == wanted.astype(wanted.dtype.newbyteorder("<")).tobytes()
    shown = picture_of(frame)
    assert shown.shape[:2] == wanted.shape[:2]


def grey(rows: list[list[int]], **attributes: Any) -> Stored:
    array = numpy.array(rows, "<i2")
    header = Dataset()
    about: dict[str, Any] = (
        {
            "Rows": array.shape[0], "Columns": array.shape[1], "BitsAllocated": 16, "BitsStored": 16, "HighBit": 15,
            "PixelRepresentation": 1, "SamplesPerPixel": 1, "PhotometricInterpretation": "MONOCHROME2",
        }
    )  # fmt: skip
    for keyword, value in {**about, **attributes}.items():
        setattr(header, keyword, value)
    return Stored(header, 1, EXPLICIT, array.tobytes())


@pytest.mark.parametrize("function", ["LINEAR", "LINEAR_EXACT", "SIGMOID"])
@pytest.mark.parametrize(("center", "width"), [(40.0, 400.0), (-100.0, 2.0), (0.0, 1.0), (1000.5, 3000.0)])
def test_windows_are_pydicom_s(function: str, center: float, width: float) -> None:
    values = numpy.arange(-2000, 2000).reshape(50, 80)
    attributes = {"WindowCenter": center, "WindowWidth": width, "VOILUTFunction": function}
    frame = grey(values.tolist(), **attributes)
    by_pydicom = apply_windowing(values.astype("int16"), frame.header)
    wanted = (by_pydicom - -32768) / 65535 * 255
    for shown in (picture_of(frame), picture_of(grey(values.tolist()), window=Window(center, width, function))):
        assert abs(shown.astype(float) - wanted).max() <= 1.0


def test_rescale_inversion_and_all_that_is_there() -> None:
    assert picture_of(grey([[0, 50], [100, 200]])).tolist() == [[0, 64], [128, 255]]
    inverted = grey([[0, 200]], PhotometricInterpretation="MONOCHROME1")
    assert picture_of(inverted).tolist() == [[255, 0]]
    rescaled = grey([[0, 10]], RescaleSlope=10, RescaleIntercept=-50, WindowCenter=0.5, WindowWidth=101)
    assert picture_of(rescaled).tolist() == [[0, 255]]
    padded = grey([[-2000, 0], [10, 20]], PixelPaddingValue=-2000)
    assert picture_of(padded).tolist() == [[0, 0], [128, 255]]
    assert picture_of(grey([[7, 7]])).tolist() == [[0, 0]]


def test_functional_groups_say_it_of_each_frame() -> None:
    frame = grey([[0, 10]])
    groups = []
    for center in (5.5, 100.0):
        window, group = Dataset(), Dataset()
        window.WindowCenter, window.WindowWidth = center, 11
        group.FrameVOILUTSequence = [window]
        groups.append(group)
    frame.header.PerFrameFunctionalGroupsSequence = groups
    assert picture_of(frame).tolist() == [[0, 255]]
    assert picture_of(frame._replace(number=2)).tolist() == [[0, 0]]


def test_a_voi_table_is_used() -> None:
    item = Dataset()
    item.LUTDescriptor, item.LUTData = [4, 10, 8], [0, 100, 200, 255]
    item["LUTDescriptor"].VR, item["LUTData"].VR = "US", "US"
    frame = grey([[0, 10, 11, 12, 13, 99]], VOILUTSequence=[item])
    assert picture_of(frame).tolist() == [[0, 0, 100, 200, 255, 255]]


def test_a_viewport_crops_mirrors_and_scales() -> None:
    frame = grey([[0, 1, 2, 255]], WindowCenter=128, WindowWidth=256)
    assert picture_of(frame, viewport=Viewport(2, 1, 2, 0, -2, 0)).tolist() == [[255, 2]]
    assert picture_of(frame, viewport=Viewport(40, 40)).shape == (10, 40)


def test_floats_and_colours_and_profiles() -> None:
    (path,) = [one for one in FILES if one.endswith("examples_palette.dcm")]
    assert picture_of(stored(path)).shape[2] == 3
    header = Dataset()
    header.Rows, header.Columns, header.BitsAllocated = 1, 3, 32
    data = numpy.array([0.0, numpy.nan, 2.5], "<f4").tobytes()
    assert picture_of(Stored(header, 1, EXPLICIT, data)).tolist() == [[0, 0, 255]]
    header.ICCProfile = b"profile of nobody"
    made = PIL.open(io.BytesIO(rendered(Stored(header, 1, EXPLICIT, data), Picture("image/png", icc=True))))
    assert made.info["icc_profile"] == b"profile of nobody"


def test_what_is_too_large_or_broken_is_told() -> None:
    frame = grey([[0]])
    frame.header.Rows = frame.header.Columns = 60000
    for broken in (frame, frame._replace(syntax="1.2.840.10008.1.2.4.50"), grey([[0]])._replace(data=b"")):
        with pytest.raises(CannotDecode):
            decoded(broken)
