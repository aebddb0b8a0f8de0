"""PURE. The columns of the table: what stands in manifests, and attributes of headers, each with its type."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from listener.dicom.attributes import is_keyword

#: Types of columns.
TEXT, WHOLE, NUMBER, DAY = "text", "whole", "number", "day"


class Column(NamedTuple):
    """A column: its name, and one of the types."""

    name: str
    type: str


#: What manifests tell, and where the instance is.
OF_MANIFEST = (
    Column("StudyInstanceUID", TEXT),
    Column("SeriesInstanceUID", TEXT),
    Column("SOPInstanceUID", TEXT),
    Column("generation", WHOLE),
    Column("key", TEXT),
    Column("offset", WHOLE),
    Column("size", WHOLE),
    Column("sha256", TEXT),
    Column("path", TEXT),
    Column("TransferSyntaxUID", TEXT),
)

_KEYWORDS = """
    SOPClassUID Modality Manufacturer ManufacturerModelName StationName InstitutionName PatientID PatientSex PatientAge
    PatientBirthDate PatientSize PatientWeight AccessionNumber StudyID StudyDate StudyTime StudyDescription SeriesDate
    SeriesTime SeriesNumber SeriesDescription BodyPartExamined Laterality PatientPosition ProtocolName
    FrameOfReferenceUID AcquisitionDate AcquisitionTime AcquisitionNumber InstanceNumber ImageType NumberOfFrames Rows
    Columns BitsAllocated BitsStored SamplesPerPixel PhotometricInterpretation PixelSpacing SliceThickness
    SpacingBetweenSlices SliceLocation ImagePositionPatient ImageOrientationPatient RepetitionTime EchoTime FlipAngle
    MagneticFieldStrength KVP ExposureTime ConvolutionKernel ContrastBolusAgent DeidentificationMethod
    BurnedInAnnotation
"""

#: Those of one number (VR IS, US; DS, FD) and of a date (DA); all others, and what --columns adds, are texts.
_TYPES = {
    WHOLE: """
        SeriesNumber AcquisitionNumber InstanceNumber NumberOfFrames Rows Columns BitsAllocated BitsStored
        SamplesPerPixel ExposureTime
    """,
    NUMBER: """
        PatientSize PatientWeight SliceThickness SpacingBetweenSlices SliceLocation RepetitionTime EchoTime FlipAngle
        MagneticFieldStrength KVP
    """,
    DAY: "PatientBirthDate StudyDate SeriesDate AcquisitionDate",
}
_TYPE_OF = {keyword: kind for kind, words in _TYPES.items() for keyword in words.split()}

#: What stands in the column `header`, of the first instance of each series in a part.
HEADER = Column("header", TEXT)


def of_keyword(keyword: str) -> Column:
    """Return the column of an attribute."""
    return Column(keyword, _TYPE_OF.get(keyword, TEXT))


def keywords(more: Sequence[str] = ()) -> tuple[str, ...]:
    """Return the keywords of attributes in the table, `more` last."""
    return tuple(dict.fromkeys((*_KEYWORDS.split(), *more)))


def columns(more: Sequence[str] = ()) -> tuple[Column, ...]:
    """Return all columns, in order."""
    return (*OF_MANIFEST, *map(of_keyword, keywords(more)), HEADER)


def value_of(column: Column, values: Mapping[str, Any]) -> Any:
    """Return what stands in a column: text, number, or days since 1970; None where there is none, or no such value."""
    text = values.get(column.name)
    if text is None or text == "":
        return None
    try:
        if column.type == WHOLE:
            return int(text)
        if column.type == NUMBER:
            return float(text)
        return _day(str(text)) if column.type == DAY else str(text)
    except ValueError:
        return None


def _day(text: str) -> int | None:
    """Return the days from 1970-01-01 to a date (YYYYMMDD, or with dots or dashes, as ACR-NEMA had it)."""
    from datetime import date

    match = re.fullmatch(r"(\d{4})[.-]?(\d\d)[.-]?(\d\d)", text.strip())
    return (date(*map(int, match.groups())) - date(1970, 1, 1)).days if match else None


def more_of(text: str) -> str:
    """Return one keyword of --columns. Raises ValueError."""
    keyword = text.strip()
    if not is_keyword(keyword):
        raise ValueError("is no DICOM keyword; give one of PS3.6, as SeriesDescription")
    return keyword
