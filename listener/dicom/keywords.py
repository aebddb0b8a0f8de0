"""The DICOM keywords that layouts and documents usually ask for, so that pydicom (90 ms, 30 MB) is rarely imported."""

from __future__ import annotations

#: Keyword: tag and VR of PS3.6; a test holds it equal to pydicom's dictionary.
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
    "PatientBirthDate": (0x00100030, b"DA"),
    "PatientSex": (0x00100040, b"CS"),
    "PatientAge": (0x00101010, b"AS"),
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
    """The tag of a keyword, group in the upper half; KeyError when DICOM has no such keyword."""
    if keyword in USUAL:
        return USUAL[keyword][0]
    from pydicom.datadict import tag_for_keyword

    tag = tag_for_keyword(keyword)
    if tag is None:
        raise KeyError(keyword)
    return int(tag)


def is_defined(tag: int) -> bool:
    """Whether DICOM (PS3.6, repeating groups too) has an element with this tag."""
    from pydicom.datadict import dictionary_has_tag, repeater_has_tag

    return dictionary_has_tag(tag) or repeater_has_tag(tag)


def is_keyword(word: str) -> bool:
    """Whether DICOM (PS3.6) has this keyword."""
    try:
        return bool(tag_of(word))
    except KeyError:
        return False


def vr_of(keyword: str) -> bytes:
    """The VR that implicit VR implies for a usual keyword, b"" for any other (pydicom knows)."""
    return USUAL[keyword][1] if keyword in USUAL else b""
