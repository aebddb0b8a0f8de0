"""PURE. Why an instance is held for a person, by its attributes."""

from __future__ import annotations

from collections.abc import Collection, Mapping

#: Reasons of instances, and those of whole units.
OF_INSTANCES = ("burned-in", "recognizable", "content", "filter", "recipe", "not-understood")
OF_UNITS = ("incomplete", "patient-conflict", "no-identifier", "residual")
REASONS = OF_INSTANCES + OF_UNITS

#: What reason() needs of a header.
KEYWORDS = (
    "BurnedInAnnotation",
    "RecognizableVisualFeatures",
    "SOPClassUID",
    "SOPInstanceUID",
    "StudyInstanceUID",
    "SeriesInstanceUID",
    "Modality",
    "ImageType",
    "SeriesDescription",
    "SpecimenLabelInImage",
    "DateOfSecondaryCapture",
    "SecondaryCaptureDeviceManufacturer",
    "SecondaryCaptureDeviceManufacturerModelName",
    "SecondaryCaptureDeviceSoftwareVersions",
    "SecondaryCaptureDeviceID",
    "PatientID",
    "IssuerOfPatientID",
    "AccessionNumber",
)

_CAPTURES = KEYWORDS[10:15]
_ROOT = "1.2.840.10008.5.1.4.1.1."
_CAPTURE_CLASSES, _DOCUMENTS, _REPORTS, _PRESENTATIONS = (_ROOT + part for part in ("7", "104.", "88.", "11."))
_MODALITIES = frozenset({"US", "XC", "ES", "OT"})


def reason(values: Mapping[str, str], burned_in: str, options: Collection[str]) -> str:
    """Return why an instance is held: one of OF_INSTANCES, "" if nothing speaks against it. `burned_in` is suspect, yes
    or unless-no.
    """
    if is_burned_in(values, burned_in):
        return "burned-in"
    if values.get("RecognizableVisualFeatures") == "YES":
        return "recognizable"
    sop_class = values.get("SOPClassUID", "")
    if sop_class.startswith(_DOCUMENTS):
        return "content"
    if sop_class.startswith(_REPORTS) and "clean-structured-content" not in options:
        return "content"
    if sop_class.startswith(_PRESENTATIONS) and "clean-graphics" not in options:
        return "content"
    return ""


def is_burned_in(values: Mapping[str, str], policy: str) -> bool:
    """Return whether the pixels are suspected to hold text."""
    told = values.get("BurnedInAnnotation", "")
    if told == "YES" or policy == "yes":
        return told == "YES"
    if told == "NO":
        return False
    return policy == "unless-no" or _is_suspect(values)


def _is_suspect(values: Mapping[str, str]) -> bool:
    sop_class = values.get("SOPClassUID", "")
    texts = (values.get("ImageType", "") + values.get("SeriesDescription", "")).upper()
    return (
        sop_class == _CAPTURE_CLASSES
        or sop_class.startswith(f"{_CAPTURE_CLASSES}.")
        or any(values.get(keyword) for keyword in _CAPTURES)
        or values.get("Modality") in _MODALITIES
        or "SAVE" in texts
        or values.get("SpecimenLabelInImage") == "YES"
    )
