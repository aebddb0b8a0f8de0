"""A slide of two levels, as readers of whole slide images want it (PS3.3 section A.32.8)."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

from pydicom import dcmread
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.encaps import encapsulate
from pydicom.uid import UID

TILE = 64

#: SOP Instance UIDs of the levels, and their columns and rows.
LEVELS = {"1.2.3.4": (640, 512), "1.2.3.5": (320, 256)}

#: That of the label.
LABEL = "1.2.3.6"


def item(**attributes: Any) -> Dataset:
    made = Dataset()
    for keyword, value in attributes.items():
        setattr(made, keyword, value)
    return made


def code(value: str, scheme: str, meaning: str) -> Dataset:
    return item(CodeValue=value, CodingSchemeDesignator=scheme, CodeMeaning=meaning)


def tiles(count: int, seed: int) -> list[bytes]:
    """Tiles of two colours each, as JPEG."""
    import numpy as np
    from PIL import Image

    order = np.random.default_rng(seed)
    made = []
    for _ in range(count):
        array = np.full((TILE, TILE, 3), order.integers(0, 255, 3), np.uint8)
        array[::8] = order.integers(0, 255, 3)
        buffer = io.BytesIO()
        Image.fromarray(array).save(buffer, "JPEG", quality=80)
        made.append(buffer.getvalue() + b"\0" * (len(buffer.getvalue()) % 2))
    return made


def write_label(path: Path) -> None:
    """Write the label, which is one tile."""
    write_level(path, "1.2.3.5")
    made = dcmread(path)
    made.SOPInstanceUID, made.InstanceNumber, made.NumberOfFrames = UID(LABEL), 3, 1
    made.file_meta.MediaStorageSOPInstanceUID = made.SOPInstanceUID
    made.ImageType = ["ORIGINAL", "PRIMARY", "LABEL", "NONE"]
    made.TotalPixelMatrixColumns = made.TotalPixelMatrixRows = TILE
    made.SpecimenLabelInImage, made.BurnedInAnnotation = "YES", "YES"
    made.LabelText = "S1"
    made.PixelData = encapsulate(tiles(1, 3))
    made["PixelData"].VR, made["PixelData"].is_undefined_length = "OB", True
    made.save_as(path, enforce_file_format=True)


def write_level(path: Path, uid: str) -> None:
    """Write one level."""
    columns, rows = LEVELS[uid]
    number = list(LEVELS).index(uid) + 1
    made = item(
        SOPClassUID=UID("1.2.840.10008.5.1.4.1.1.77.1.6"), SOPInstanceUID=UID(uid), StudyInstanceUID="1.2.3",
        SeriesInstanceUID="1.2.3.1", FrameOfReferenceUID="1.2.3.9", Modality="SM", PatientName="Synthetic^Slide",
        PatientID="S1", PatientBirthDate="", PatientSex="", ReferringPhysicianName="", StudyDate="20240101",
        StudyTime="101112", ContentDate="20240101", ContentTime="101112", AcquisitionDateTime="20240101101112",
        AccessionNumber="A1", StudyID="1", SeriesNumber=1, InstanceNumber=number, Manufacturer="M",
        ManufacturerModelName="M", DeviceSerialNumber="1", SoftwareVersions="1", SamplesPerPixel=3,
        PhotometricInterpretation="YBR_FULL_422", PlanarConfiguration=0, Rows=TILE, Columns=TILE, BitsAllocated=8,
        BitsStored=8, HighBit=7, PixelRepresentation=0, TotalPixelMatrixColumns=columns, TotalPixelMatrixRows=rows,
        TotalPixelMatrixFocalPlanes=1, NumberOfOpticalPaths=1, FocusMethod="AUTO", ExtendedDepthOfField="NO",
        SpecimenLabelInImage="NO", BurnedInAnnotation="NO", LossyImageCompression="01", LossyImageCompressionRatio=10,
        LossyImageCompressionMethod="ISO_10918_1", VolumetricProperties="VOLUME", AcquisitionContextSequence=[],
        PositionReferenceIndicator="SLIDE_CORNER", ImagedVolumeWidth=10.0, ImagedVolumeHeight=10.0 * rows / columns,
        ImagedVolumeDepth=0.001, ContainerIdentifier="C", IssuerOfTheContainerIdentifierSequence=[],
        ImageOrientationSlide=[0, -1, 0, -1, 0, 0], DimensionOrganizationType="TILED_FULL",
    )  # fmt: skip
    made.ImageType = ["ORIGINAL" if number == 1 else "DERIVED", "PRIMARY", "VOLUME", "NONE"]
    if number > 1:
        made.ImageType = ["DERIVED", "PRIMARY", "VOLUME", "RESAMPLED"]
    made.TotalPixelMatrixOriginSequence = [item(XOffsetInSlideCoordinateSystem=0.0, YOffsetInSlideCoordinateSystem=0.0)]
    spacing = 10.0 / columns
    shared = item(
        PixelMeasuresSequence=[item(PixelSpacing=[spacing, spacing], SliceThickness=0.001)],
        WholeSlideMicroscopyImageFrameTypeSequence=[item(FrameType=made.ImageType)],
        OpticalPathIdentificationSequence=[item(OpticalPathIdentifier="0")],
    )
    made.SharedFunctionalGroupsSequence = [shared]
    light = code("111744", "DCM", "Brightfield illumination")
    path_of_light = item(OpticalPathIdentifier="0", IlluminationTypeCodeSequence=[light])
    path_of_light.IlluminationColorCodeSequence = [light]
    made.OpticalPathSequence = [path_of_light]
    made.SpecimenDescriptionSequence = [item(SpecimenIdentifier="S", SpecimenUID="1.2.3.8")]
    made.ContainerTypeCodeSequence = [code("433466003", "SCT", "Microscope slide")]
    made.DimensionOrganizationSequence = [item(DimensionOrganizationUID="1.2.3.7")]
    frames = tiles(columns // TILE * rows // TILE, number)
    made.NumberOfFrames = len(frames)
    made.PixelData = encapsulate(frames)
    made["PixelData"].VR, made["PixelData"].is_undefined_length = "OB", True
    made.file_meta = FileMetaDataset()
    made.file_meta.TransferSyntaxUID = UID("1.2.840.10008.1.2.4.50")
    made.save_as(path, enforce_file_format=True)
