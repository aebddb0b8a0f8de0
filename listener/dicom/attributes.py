"""PURE. Header of an instance, its keywords and tags, and the length that its pixel data must have."""

from __future__ import annotations

from collections.abc import Mapping
from functools import lru_cache
from typing import NamedTuple

from listener.dicom.loading import load_pydicom

#: Keyword under which `values` holds the SOP Instance UID of the file meta information.
META_UID = "MediaStorageSOPInstanceUID"

#: The keyword of the calling AE title, as storescp writes it (0002,0016).
SENDER = "SourceApplicationEntityTitle"

_NONE: frozenset[str] = frozenset()


class Header(NamedTuple):
    """The attributes of one instance that a layout or a document asked for.

    `values` maps a DICOM keyword to its text (what `str()` of pydicom's value prints) for each wanted element that is
    present and not empty; `empty` names the wanted ones that are present without a value. `size` is the file's length
    in bytes, `dataset_offset` that of the first byte behind the file meta information (PS3.10 section 7.1), `warning` a
    text free of patient data ("" when nothing is odd), `fast` whether pydicom was not needed.
    """

    values: Mapping[str, str]
    size: int
    dataset_offset: int
    TransferSyntaxUID: str = ""
    SourceApplicationEntityTitle: str = ""
    empty: frozenset[str] = _NONE
    warning: str = ""
    fast: bool = True

    def get(self, keyword: str) -> str:
        """Return the text of an attribute, "" when it is absent or empty."""
        return self.values.get(keyword, "")


class Limits(NamedTuple):
    """How much of a file's header is accepted: `max_header` bytes (inflated; without pixels and other values over 1
    MiB, which are skipped) and `max_depth` nested sequences.
    """

    max_header: int = 64 * 1024 * 1024
    max_depth: int = 64


SAMPLES = 0x00280002
PHOTOMETRIC = 0x00280004
FRAMES = 0x00280008
ROWS = 0x00280010
COLUMNS = 0x00280011
BITS = 0x00280100

#: The attributes that determine the length, in the order of least_length's values.
TAGS = (SAMPLES, PHOTOMETRIC, FRAMES, ROWS, COLUMNS, BITS)

#: Chroma of every second pixel only: two samples a pixel instead of three.
_HALVED = frozenset((b"YBR_FULL_422", b"YBR_PARTIAL_422"))
#: Chroma of every fourth pixel only.
_QUARTERED = b"YBR_PARTIAL_420"

_FRAMES_DIGITS = 12


@lru_cache(maxsize=256)
def least_length(values: tuple[bytes, ...], little: bool) -> int:
    """Return the least length in bytes of native pixel data, 0 when these raw values (b"" where absent) do not
    determine it.
    """
    photometric, frames = (values[TAGS.index(tag)].strip(b" \0") for tag in (PHOTOMETRIC, FRAMES))
    samples, rows, columns, bits = (
        int.from_bytes(values[TAGS.index(tag)], "little" if little else "big") for tag in (SAMPLES, ROWS, COLUMNS, BITS)
    )
    if photometric in _HALVED:
        samples = 2
    elif photometric == _QUARTERED or not samples:
        samples = 1
    count = int(frames) if frames.isdigit() and len(frames) <= _FRAMES_DIGITS else int(not frames)
    # frames of single bits are packed without a gap (PS3.5 section 8.1.1)
    return (rows * columns * samples * bits * count + 7) // 8


#: Keyword: tag and VR of PS3.6; a test compares it with pydicom's dictionary.
USUAL: dict[str, tuple[int, bytes]] = {
    "SpecificCharacterSet": (0x00080005, b"CS"),
    "ImageType": (0x00080008, b"CS"),
    "SOPClassUID": (0x00080016, b"UI"),
    "SOPInstanceUID": (0x00080018, b"UI"),
    "StudyDate": (0x00080020, b"DA"),
    "SeriesDate": (0x00080021, b"DA"),
    "AcquisitionDate": (0x00080022, b"DA"),
    "ContentDate": (0x00080023, b"DA"),
    "StudyTime": (0x00080030, b"TM"),
    "SeriesTime": (0x00080031, b"TM"),
    "AcquisitionTime": (0x00080032, b"TM"),
    "ContentTime": (0x00080033, b"TM"),
    "AccessionNumber": (0x00080050, b"SH"),
    "Modality": (0x00080060, b"CS"),
    "Manufacturer": (0x00080070, b"LO"),
    "InstitutionName": (0x00080080, b"LO"),
    "ReferringPhysicianName": (0x00080090, b"PN"),
    "StationName": (0x00081010, b"SH"),
    "StudyDescription": (0x00081030, b"LO"),
    "SeriesDescription": (0x0008103E, b"LO"),
    "ManufacturerModelName": (0x00081090, b"LO"),
    "PatientName": (0x00100010, b"PN"),
    "PatientID": (0x00100020, b"LO"),
    "IssuerOfPatientID": (0x00100021, b"LO"),
    "PatientBirthDate": (0x00100030, b"DA"),
    "PatientSex": (0x00100040, b"CS"),
    "PatientAge": (0x00101010, b"AS"),
    "PatientIdentityRemoved": (0x00120062, b"CS"),
    "BodyPartExamined": (0x00180015, b"CS"),
    "ProtocolName": (0x00181030, b"LO"),
    "StudyInstanceUID": (0x0020000D, b"UI"),
    "SeriesInstanceUID": (0x0020000E, b"UI"),
    "StudyID": (0x00200010, b"SH"),
    "SeriesNumber": (0x00200011, b"IS"),
    "AcquisitionNumber": (0x00200012, b"IS"),
    "InstanceNumber": (0x00200013, b"IS"),
    "SamplesPerPixel": (0x00280002, b"US"),
    "PhotometricInterpretation": (0x00280004, b"CS"),
    "NumberOfFrames": (0x00280008, b"IS"),
    "Rows": (0x00280010, b"US"),
    "Columns": (0x00280011, b"US"),
    "BitsAllocated": (0x00280100, b"US"),
    "PixelRepresentation": (0x00280103, b"US"),
    "PerformedStationAETitle": (0x00400241, b"AE"),
    "RequestedProcedureID": (0x00401001, b"SH"),
}


def tag_of(keyword: str) -> int:
    """Return the tag of a keyword, group in the upper half. Raises KeyError when DICOM has no such keyword."""
    if keyword in USUAL:
        return USUAL[keyword][0]
    load_pydicom()
    from pydicom.datadict import tag_for_keyword

    tag = tag_for_keyword(keyword)
    if tag is None:
        raise KeyError(keyword)
    return int(tag)


def is_defined(tag: int) -> bool:
    """Return whether DICOM (PS3.6, repeating groups too) has an element with this tag."""
    load_pydicom()
    from pydicom.datadict import dictionary_has_tag, repeater_has_tag

    return dictionary_has_tag(tag) or repeater_has_tag(tag)


@lru_cache(maxsize=8192)
def dictionary_vr(tag: int) -> str:
    """Return the VR that DICOM (PS3.6, repeating groups too) gives an element, "" when it has none with this tag. Of
    several ("US or SS") all are named.
    """
    load_pydicom()
    from pydicom.datadict import dictionary_VR

    try:
        return dictionary_VR(tag)
    except KeyError:
        return ""


def is_keyword(word: str) -> bool:
    """Return whether DICOM (PS3.6) has this keyword."""
    try:
        return bool(tag_of(word))
    except KeyError:
        return False


def vr_of(keyword: str) -> bytes:
    """Return the VR that implicit VR implies for a usual keyword, b"" for any other (pydicom decides)."""
    return USUAL[keyword][1] if keyword in USUAL else b""
