"""Within the environment of highdicom: images of several frames. `images.py CT FOLDER` writes segmentations of three
slices of 11 rows and 13 columns, cut out of a CT (of single bits, of fractions, of labels), and a parametric map.
"""

from __future__ import annotations

import copy
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import highdicom as hd  # type: ignore[import-not-found]
import numpy as np
from pydicom import Dataset, dcmread
from pydicom.sr.codedict import codes

ROWS, COLUMNS = 11, 13

DEVICE = {"manufacturer": "Nobody", "manufacturer_model_name": "None", "software_versions": "1"}


def slices(image: Dataset) -> list[Dataset]:
    """Three slices, one above the other."""
    pixels = image.pixel_array[:ROWS, :COLUMNS]
    made = []
    for number in range(3):
        one = copy.deepcopy(image)
        one.Rows, one.Columns, one.PixelData = ROWS, COLUMNS, (pixels + number).tobytes() + b"\0"
        one.SOPInstanceUID, one.InstanceNumber = hd.UID(), number + 1
        one.ImagePositionPatient = [0.0, 0.0, 5.0 * number]
        made.append(one)
    return made


def about(number: int) -> dict[str, Any]:
    uids = {"series_instance_uid": hd.UID(), "sop_instance_uid": hd.UID()}
    return {**DEVICE, "device_serial_number": "1", "instance_number": 1, "series_number": number, **uids}


def segmentations(images: list[Dataset]) -> Iterator[tuple[str, Any]]:
    mask = np.random.default_rng(17).integers(0, 2, (3, ROWS, COLUMNS)).astype(np.uint8)
    algorithm = hd.AlgorithmIdentificationSequence("test", codes.cid7162.ArtificialIntelligence, "1")
    what = (codes.SCT.Tissue, codes.SCT.ConnectiveTissue)
    automatic = hd.seg.SegmentAlgorithmTypeValues.AUTOMATIC
    description = hd.seg.SegmentDescription(1, "tissue", *what, automatic, algorithm)
    for number, kind in enumerate(("BINARY", "FRACTIONAL", "LABELMAP"), 2):
        array = mask.astype(float) / 2 if kind == "FRACTIONAL" else mask
        kind_of = hd.seg.SegmentationTypeValues(kind)
        made = hd.seg.Segmentation(images, array, kind_of, [description], omit_empty_frames=False, **about(number))
        yield kind.lower(), made


def parametric_map(images: list[Dataset]) -> Any:
    pixels = np.random.default_rng(18).random((3, ROWS, COLUMNS)).astype(np.float32)
    mapping = hd.pm.RealWorldValueMapping("1", "share", codes.UCUM.NoUnits, (0.0, 1.0), 1.0, 0.0)
    return hd.pm.ParametricMap(
        images, pixels, contains_recognizable_visual_features=False, real_world_value_mappings=[mapping],
        window_center=0.5, window_width=1.0, **about(9),
    )  # fmt: skip


if __name__ == "__main__":
    sources, folder = slices(dcmread(sys.argv[1])), Path(sys.argv[2])
    for name, dataset in (*segmentations(sources), ("map", parametric_map(sources))):
        dataset.save_as(folder / f"{name}.dcm")
    print("equal")
