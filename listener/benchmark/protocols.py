"""Fresh series of several protocols: real headers, changed from series to series and image to image as scanners do.

Copies of one series (corpus.py) are all alike, which suits a reader that remembers. Here each series is new: other
lengths of texts, other elements left out, other values. The headers are those of pydicom's own test files, or for MR
those of given files. The same arguments give the same bytes.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator, Sequence
from copy import deepcopy
from io import BytesIO
from itertools import chain, zip_longest
from pathlib import Path
from typing import NamedTuple

import pydicom.data
from pydicom import Dataset, FileDataset, dcmread
from pydicom.sequence import Sequence as Items
from pydicom.uid import EnhancedMRImageStorage

from listener.quickstart.synthetic import uid

#: Frames of an enhanced image.
_FRAMES = 60

#: Attributes that a protocol, an operator or an anonymiser leaves out in some series.
_OPTIONAL = [
    "AdditionalPatientHistory",
    "AcquisitionDate",
    "BodyPartExamined",
    "ImageComments",
    "InstitutionName",
    "KVP",
    "OperatorsName",
    "PatientAge",
    "PatientWeight",
    "PerformedProcedureStepID",
    "PixelSpacing",
    "ReferringPhysicianName",
    "ScanOptions",
    "SequenceName",
    "SliceThickness",
    "StationName",
    "StudyID",
    "TriggerTime",
]

_WORDS = ("ax", "BRAIN", "cor", "FLAIR", "Thorax", "t1_mprage", "w/o contrast", "3mm", "POST", "knee left", "b1000")


class Protocol(NamedTuple):
    """A number of series of a number of images. `one_size`: all files of a series have one length; `mixed`: all series
    arrive at the same time; `change` turns a base into an image of this kind.
    """

    name: str
    bases: tuple[str, ...]
    series: int
    images: int
    one_size: bool = False
    mixed: bool = False
    change: Callable[[Dataset], None] | None = None

    @property
    def files(self) -> int:
        """Return the number of files."""
        return self.series * self.images


def _enhance(made: Dataset) -> None:
    """Make an enhanced multi-frame image (PS3.3 section A.36.2): what differs between frames stands in groups."""
    made.SOPClassUID = made.file_meta.MediaStorageSOPClassUID = EnhancedMRImageStorage
    made.NumberOfFrames = _FRAMES
    made.PixelData = bytes(_FRAMES * made.Rows * made.Columns * made.BitsAllocated // 8)
    made.PerFrameFunctionalGroupsSequence = Items([_frame(number) for number in range(_FRAMES)])


def _frame(number: int) -> Dataset:
    frame, content, position = Dataset(), Dataset(), Dataset()
    content.DimensionIndexValues = [1, number + 1]
    content.FrameAcquisitionNumber = number + 1
    position.ImagePositionPatient = ["-120", "-120", f"{number * 1.25:g}"]
    frame.FrameContentSequence, frame.PlanePositionSequence = Items([content]), Items([position])
    return frame


_MR, _CT, _RLE = "MR_small.dcm", "CT_small.dcm", "MR_small_RLE.dcm"

PROTOCOLS = (
    Protocol("MR, series of 192, several sizes", (_MR,), series=4, images=192),
    Protocol("CT, series of 1,000, one size", (_CT,), series=2, images=1000, one_size=True),
    Protocol("enhanced MR, series of 4", (_MR,), series=30, images=4, change=_enhance),
    Protocol("MR in RLE, series of 192", (_RLE,), series=4, images=192),
    Protocol("50 series that arrive mixed", (_MR, _CT, _RLE), series=50, images=20, mixed=True),
)


def write(protocol: Protocol, folder: Path, given: Sequence[Path] = ()) -> list[Path]:
    """Write all files of a protocol; return their paths in the order of arrival. MR is made of `given` files,
    if any.
    """
    folder.mkdir(parents=True)
    own = Path(pydicom.data.__file__).parent / "test_files"
    series: list[list[Path]] = []
    for number in range(protocol.series):
        name = protocol.bases[number % len(protocol.bases)]
        bases = [dcmread(path) for path in (given if given and name == _MR else [own / name])]
        series.append([])
        for image, data in enumerate(_images(protocol, bases, number)):
            path = folder / f"{number:03}-{image:04}"
            path.write_bytes(data)
            series[-1].append(path)
    arriving = zip_longest(*series) if protocol.mixed else series
    return [path for path in chain.from_iterable(arriving) if path]


def _images(protocol: Protocol, bases: Sequence[FileDataset], series: int) -> Iterator[bytes]:
    """Yield the files of one series."""
    chance = random.Random(f"{protocol.name} {series}")  # noqa: S311 - the same each time, on purpose
    own = _series(protocol, series, chance)
    left_out = [keyword for keyword in _OPTIONAL if chance.random() < 0.3]
    for number in range(1, protocol.images + 1):
        made = deepcopy(bases[(number - 1) % len(bases)])
        if protocol.change:
            protocol.change(made)
        for keyword in left_out:
            made.pop(keyword, None)
        _set(made, own | _image(protocol, series, number, chance))
        made.file_meta.MediaStorageSOPInstanceUID = made.SOPInstanceUID
        buffer = BytesIO()
        made.save_as(buffer, enforce_file_format=True)
        yield buffer.getvalue()


def _set(made: Dataset, values: dict[str, object]) -> None:
    for keyword, value in values.items():
        setattr(made, keyword, value)


def _series(protocol: Protocol, series: int, chance: random.Random) -> dict[str, object]:
    """Return the values that all images of a series share, and no other series has."""
    day, time = f"2026{chance.randint(1, 12):02}{chance.randint(1, 28):02}", f"{chance.randint(8, 16):02}1500"
    return {
        "PatientID": f"{chance.randint(1, 10**9)}",
        "PatientName": "^".join(chance.choice(("Synthetic", "Nobody", "Y", "Anonymous")) for _ in range(2)),
        "StudyInstanceUID": uid(protocol.name, series // 3, "study"),
        "SeriesInstanceUID": uid(protocol.name, series)[: chance.randint(40, 48)],
        "FrameOfReferenceUID": uid(protocol.name, series, "frame of reference"),
        "StudyDescription": _words(chance),
        "SeriesDescription": _words(chance),
        "ProtocolName": _words(chance),
        "SeriesNumber": f"{chance.randint(1, 1200)}",
        "StudyDate": day,
        "SeriesDate": day,
        "PatientBirthDate": f"19{chance.randint(30, 99)}0{chance.randint(1, 9)}15",
        "SeriesTime": time,
        "AccessionNumber": f"{chance.randint(1, 10**8)}",
    }


def _words(chance: random.Random) -> str:
    return " ".join(chance.choice(_WORDS) for _ in range(chance.randint(1, 4)))


def _image(protocol: Protocol, series: int, number: int, chance: random.Random) -> dict[str, object]:
    """Return the values that differ from image to image, of one length where all files of a series are."""
    at = -200 + number * 0.625
    place = f"{at:+.4f}".ljust(10, "0")[:10] if protocol.one_size else f"{at:g}"
    serial = f"{number:06}" if protocol.one_size else f"{number}"
    time = f"08{number // 60 % 60:02}{number % 60:02}.{chance.randint(0, 999999):06}"
    return {
        "SOPInstanceUID": f"{uid(protocol.name, series, 'image')[:40]}.1{serial}",
        "InstanceNumber": serial if protocol.one_size else f"{number}",
        "SliceLocation": place,
        "ImagePositionPatient": ["-120.0000", "-120.0000", place],
        "AcquisitionTime": time,
        "ContentTime": time,
        "WindowCenter": f"{chance.randint(100, 999)}",
        "WindowWidth": f"{chance.randint(100, 999)}",
    }
