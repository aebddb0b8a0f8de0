"""PURE. Attributes of searches (PS3.18 tables 10.6.1-5 and 10.6.3-3 to -5): what is matched and returned."""

from __future__ import annotations

from typing import NamedTuple


class Attribute(NamedTuple):
    """An attribute: keyword, tag as in DICOM JSON, VR, the level that it belongs to, whether it can be matched, and
    whether it is always returned.
    """

    keyword: str
    tag: str
    vr: str
    level: str
    matched: bool = True
    returned: bool = True


def _rows(level: str, *rows: tuple[str, str, str, str]) -> list[Attribute]:
    return [Attribute(keyword, tag, vr, level, "m" in how, "r" in how) for keyword, tag, vr, how in rows]


STUDY = _rows(
    "studies",
    ("StudyDate", "00080020", "DA", "mr"),
    ("StudyTime", "00080030", "TM", "mr"),
    ("AccessionNumber", "00080050", "SH", "mr"),
    ("InstanceAvailability", "00080056", "CS", "r"),
    ("ModalitiesInStudy", "00080061", "CS", "mr"),
    ("ReferringPhysicianName", "00080090", "PN", "mr"),
    ("TimezoneOffsetFromUTC", "00080201", "SH", ""),
    ("StudyDescription", "00081030", "LO", "mr"),
    ("RetrieveURL", "00081190", "UR", "r"),
    ("PatientName", "00100010", "PN", "mr"),
    ("PatientID", "00100020", "LO", "mr"),
    ("IssuerOfPatientID", "00100021", "LO", "m"),
    ("PatientBirthDate", "00100030", "DA", "mr"),
    ("PatientSex", "00100040", "CS", "mr"),
    ("PatientAge", "00101010", "AS", ""),
    ("StudyInstanceUID", "0020000D", "UI", "mr"),
    ("StudyID", "00200010", "SH", "mr"),
    ("NumberOfStudyRelatedSeries", "00201206", "IS", "r"),
    ("NumberOfStudyRelatedInstances", "00201208", "IS", "r"),
)
SERIES = _rows(
    "series",
    ("Modality", "00080060", "CS", "mr"),
    ("SeriesDate", "00080021", "DA", "m"),
    ("SeriesTime", "00080031", "TM", "m"),
    ("Manufacturer", "00080070", "LO", "m"),
    ("StationName", "00081010", "SH", "m"),
    ("SeriesDescription", "0008103E", "LO", "mr"),
    ("BodyPartExamined", "00180015", "CS", "mr"),
    ("ProtocolName", "00181030", "LO", "m"),
    ("SeriesInstanceUID", "0020000E", "UI", "mr"),
    ("SeriesNumber", "00200011", "IS", "mr"),
    ("NumberOfSeriesRelatedInstances", "00201209", "IS", "r"),
    ("PerformedProcedureStepStartDate", "00400244", "DA", "mr"),
    ("PerformedProcedureStepStartTime", "00400245", "TM", "mr"),
    ("RequestAttributesSequence", "00400275", "SQ", "r"),
)
INSTANCE = _rows(
    "instances",
    ("SOPClassUID", "00080016", "UI", "mr"),
    ("SOPInstanceUID", "00080018", "UI", "mr"),
    ("AvailableTransferSyntaxUID", "00083002", "UI", "r"),
    ("InstanceNumber", "00200013", "IS", "mr"),
    ("NumberOfFrames", "00280008", "IS", "r"),
    ("Rows", "00280010", "US", "r"),
    ("Columns", "00280011", "US", "r"),
    ("BitsAllocated", "00280100", "US", "r"),
)

OF_LEVEL = {"studies": STUDY, "series": SERIES, "instances": INSTANCE}
ALL = [*STUDY, *SERIES, *INSTANCE]
BY_NAME = {name.lower(): one for one in ALL for name in (one.keyword, one.tag)}

#: What the catalogue keeps of a series' first instance.
KEPT = [
    one for one in (*STUDY, *SERIES) if not one.keyword.startswith(("Number", "Retrieve", "ModalitiesIn", "InstanceA"))
]

#: Columns of the catalogue that searches compare, with the ledger's own columns for the rest.
COLUMNS = [one.keyword for one in KEPT if one.matched and one.vr != "SQ"]
