"""Make synthetic MR series for the quick start, the tests and the benchmark. They contain no patient data.

The bytes depend on the arguments only. pydicom writes the first instance of each series; the others are that one with a
few fields of fixed length exchanged, which costs little more than writing the file.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from functools import cache
from io import BytesIO
from itertools import product
from pathlib import Path

from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.uid import UID, ExplicitVRLittleEndian, MRImageStorage

#: Every UID made here begins with this; a whole UID is 48 characters long.
ROOT = "1.2.826.0.1.3680043.10.1470."

_NAMES = ("One", "Two", "Three", "Four", "Five", "Six", "Seven", "Eight", "Nine", "Ten")
_STUDIES = ("SYNTHETIC BRAIN", "SYNTHETIC BRAIN FOLLOW-UP", "SYNTHETIC KNEE")
_SERIES = ("T1 MPRAGE SAG", "T2 FLAIR TRA", "DWI b1000 (ADC)")

#: Placeholders in the first instance for values that differ; with length bytes and signs they occur nowhere else.
_NUMBER = "000000"
_POSITION = "-7777.777"


@dataclass(frozen=True, slots=True)
class Look:
    """Appearance of the instances.

    `seed` changes every UID; `private_bytes` adds a private element of that size to each header (scanners write some
    100 KB there); `attributes` replaces, or with None removes, attributes by keyword in all of them.
    """

    seed: str = "listener"
    rows: int = 64
    columns: int = 64
    private_bytes: int = 0
    attributes: Mapping[str, object] = field(default_factory=dict)


def uid(*parts: object) -> str:
    """Return the UID that belongs to these parts: always the same one, always 48 characters."""
    digest = hashlib.sha256("/".join(map(str, parts)).encode()).digest()
    return f"{ROOT}{10**19 + int.from_bytes(digest[:8], 'big') % (9 * 10**19)}"


def make_series(
    folder: Path,
    *,
    instances: int = 3,
    patients: int = 1,
    studies: int = 1,
    series: int = 1,
    look: Look | None = None,
) -> list[Path]:
    """Write `instances` files for each of `series` in each of `studies` of each of `patients`; return their paths.

    The files lie side by side in `folder` and are named as storescp names them (`MR.<SOPInstanceUID>`).
    """
    folder.mkdir(parents=True, exist_ok=True)
    paths = []
    for indices in product(range(1, patients + 1), range(1, studies + 1), range(1, series + 1)):
        for name, content in _instances(indices, instances, look or Look()):
            path = folder / name
            path.write_bytes(content)
            paths.append(path)
    return paths


def make_dataset(patient: int = 1, study: int = 1, series: int = 1, look: Look | None = None) -> Dataset:
    """Return the first instance of one series, as a data set that can be changed and saved (`save_as`)."""
    look = look or Look()
    made = Dataset()
    for part in (_patient(patient), _study(look.seed, patient, study), _series(look.seed, patient, study, series)):
        made.update(part)
    made.update(_image(look))
    made.SOPInstanceUID = uid(look.seed, patient, study, series, 1)
    if look.private_bytes:
        block = made.private_block(0x0029, "SYNTHETIC PRIVATE", create=True)
        block.add_new(0x10, "OB", bytes(look.private_bytes + look.private_bytes % 2))
    made.file_meta = FileMetaDataset()
    made.file_meta.MediaStorageSOPClassUID = MRImageStorage
    made.file_meta.MediaStorageSOPInstanceUID = UID(str(look.attributes.get("SOPInstanceUID") or made.SOPInstanceUID))
    made.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    made.file_meta.ImplementationClassUID = UID(f"{ROOT}1")
    made.file_meta.ImplementationVersionName = "SYNTHETIC"
    made.file_meta.SourceApplicationEntityTitle = "SYNTHETIC"
    for keyword, value in look.attributes.items():
        if value is not None:
            setattr(made, keyword, value)
        elif keyword in made:
            delattr(made, keyword)
    return made


def _instances(indices: tuple[int, int, int], count: int, look: Look) -> Iterator[tuple[str, bytes]]:
    """Yield name and content of each instance of one series."""
    placeholders = {
        "InstanceNumber": _NUMBER,
        "SliceLocation": _POSITION,
        "ImagePositionPatient": ["-120", "-120", _POSITION],
    }
    first = make_dataset(*indices, replace(look, attributes={**placeholders, **look.attributes}))
    buffer = BytesIO()
    first.save_as(buffer, enforce_file_format=True)
    head, mark, pixels = buffer.getvalue().partition(b"\xe0\x7f\x10\x00OW")
    first_uid = uid(look.seed, *indices, 1).encode()
    for index in range(1, count + 1):
        own_uid = uid(look.seed, *indices, index)
        own = head.replace(first_uid, own_uid.encode())
        own = own.replace(b"IS\x06\x00" + _NUMBER.encode(), b"IS\x06\x00%-6d" % index)
        own = own.replace(_POSITION.encode(), b"%+9.2f" % (index - 1 - count / 2))
        yield f"MR.{own_uid}", own + mark + pixels


def _dataset(**attributes: object) -> Dataset:
    made = Dataset()
    for keyword, value in attributes.items():
        setattr(made, keyword, value)
    return made


def _patient(patient: int) -> Dataset:
    return _dataset(
        PatientID=f"SYN-{patient:04}",
        PatientName=f"Synthetic^{_NAMES[patient - 1] if patient <= len(_NAMES) else f'Number {patient}'}",
        PatientBirthDate=f"{1950 + patient % 50}0101",
        PatientSex="FM"[patient % 2],
        PatientAge=f"{76 - patient % 50:03}Y",
        PatientWeight="70",
    )


def _study(seed: str, patient: int, study: int) -> Dataset:
    return _dataset(
        StudyInstanceUID=uid(seed, patient, study),
        StudyDate=f"202601{1 + study % 28:02}",
        StudyTime="080000",
        StudyID=f"{study}",
        StudyDescription=_STUDIES[(study - 1) % len(_STUDIES)],
        AccessionNumber=f"SYN{patient:04}{study:03}",
        ReferringPhysicianName="",
        InstitutionName="Synthetic Hospital",
    )


def _series(seed: str, patient: int, study: int, series: int) -> Dataset:
    day = f"202601{1 + study % 28:02}"
    return _dataset(
        Modality="MR",
        SeriesInstanceUID=uid(seed, patient, study, series),
        SeriesNumber=series,
        SeriesDescription=_SERIES[(series - 1) % len(_SERIES)],
        SeriesDate=day,
        SeriesTime=f"08{series % 60:02}00",
        AcquisitionDate=day,
        ContentDate=day,
        ContentTime=f"08{series % 60:02}30",
        ProtocolName="SYNTHETIC PROTOCOL",
        PatientPosition="HFS",
        FrameOfReferenceUID=uid(seed, patient, study, "frame of reference"),
        PositionReferenceIndicator="",
        Manufacturer="No Company",
        ManufacturerModelName="Gradient 1",
        SoftwareVersions="listener.generator",
    )


def _image(look: Look) -> Dataset:
    """Return everything of the MR Image Storage object below the series, PS3.3 A.4: its types 1 and 2, some
    of type 3.
    """
    return _dataset(
        SOPClassUID=MRImageStorage,
        ImageType=["ORIGINAL", "PRIMARY", "M", "ND"],
        ScanningSequence=["GR", "IR"],
        SequenceVariant=["SP", "MP"],
        ScanOptions="",
        MRAcquisitionType="3D",
        SequenceName="*tfl3d1",
        SliceThickness="1",
        RepetitionTime="2300",
        EchoTime="2.98",
        EchoTrainLength="1",
        InversionTime="900",
        MagneticFieldStrength="3",
        FlipAngle="9",
        AcquisitionNumber=1,
        InstanceNumber=1,
        ImagePositionPatient=["-120", "-120", "0"],
        ImageOrientationPatient=["1", "0", "0", "0", "1", "0"],
        SliceLocation="0",
        SamplesPerPixel=1,
        PhotometricInterpretation="MONOCHROME2",
        Rows=look.rows,
        Columns=look.columns,
        PixelSpacing=["1", "1"],
        BitsAllocated=16,
        BitsStored=12,
        HighBit=11,
        PixelRepresentation=0,
        WindowCenter="2048",
        WindowWidth="4096",
        PixelData=_gradient(look.rows, look.columns),
    )


@cache
def _gradient(rows: int, columns: int) -> bytes:
    """Return 12-bit pixels that grow from the upper left corner to the lower right one."""
    steps = max(rows + columns - 2, 1)
    line = b"".join((step * 4095 // steps).to_bytes(2, "little") for step in range(rows + columns))
    return b"".join(line[2 * row : 2 * (row + columns)] for row in range(rows))
