"""Within the environment of highdicom: what a worker makes of an image. `results.py IMAGE FOLDER` writes a segmentation
and a report of its study, and a secondary capture in a study of its own that says which image it was made of.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import highdicom as hd  # type: ignore[import-not-found]
import numpy as np
from pydicom import Dataset, dcmread
from pydicom.sr.codedict import codes


def about(number: int) -> dict[str, Any]:
    """What every object says of itself."""
    uids = {"series_instance_uid": hd.UID(), "sop_instance_uid": hd.UID()}
    return {"manufacturer": "Nobody", "instance_number": 1, "series_number": number, **uids}


def segmentation(image: Dataset) -> Any:
    mask = np.zeros((image.Rows, image.Columns), dtype=bool)
    mask[10:20, 10:20] = True
    algorithm = hd.AlgorithmIdentificationSequence("test", codes.cid7162.ArtificialIntelligence, "1")
    kind, automatic = hd.seg.SegmentationTypeValues.BINARY, hd.seg.SegmentAlgorithmTypeValues.AUTOMATIC
    what = (codes.SCT.Tissue, codes.SCT.ConnectiveTissue)
    description = hd.seg.SegmentDescription(1, "tissue", *what, automatic, algorithm)
    device = {"manufacturer_model_name": "None", "software_versions": "1", "device_serial_number": "1"}
    return hd.seg.Segmentation([image], mask, kind, [description], **device, **about(2))


def report(image: Dataset) -> Any:
    observer = hd.sr.ObserverContext(codes.DCM.Device, hd.sr.DeviceObserverIdentifyingAttributes(hd.UID()))
    group = hd.sr.MeasurementsAndQualitativeEvaluations(
        hd.sr.TrackingIdentifier(hd.UID(), "one"),
        measurements=[hd.sr.Measurement(codes.SCT.Area, 1.0, codes.UCUM.SquareMillimeter)],
        source_images=[hd.sr.SourceImageForMeasurementGroup.from_source_image(image)],
    )
    content = hd.sr.MeasurementReport(
        hd.sr.ObservationContext(observer_device_context=observer),
        codes.LN.CTUnspecifiedBodyRegion,
        imaging_measurements=[group],
    )
    return hd.sr.ComprehensiveSR([image], content, **about(3))


def capture(image: Dataset) -> Any:
    pixels = np.zeros((image.Rows, image.Columns), dtype=np.uint8)
    made = hd.sc.SCImage.from_ref_dataset(
        image, pixels, "MONOCHROME2", 8, "PATIENT", **about(4), patient_orientation=("L", "P")
    )
    made.StudyInstanceUID = hd.UID()
    source = Dataset()
    source.ReferencedSOPClassUID, source.ReferencedSOPInstanceUID = image.SOPClassUID, image.SOPInstanceUID
    made.SourceImageSequence = [source]
    return made


if __name__ == "__main__":
    of, folder = dcmread(sys.argv[1]), Path(sys.argv[2])
    for make in (segmentation, report, capture):
        make(of).save_as(folder / f"{make.__name__}.dcm")
