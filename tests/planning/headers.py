"""A header of one instance, as layouts see it."""

from __future__ import annotations

SERIES = "1.3.12.2.1107.5.2.19.45152.2013030808061520200285270.0.0.0"


#: A header as a layout sees it: texts of what is present and not empty.
FULL = {
    "PatientID": "1449c1d",
    "PatientName": "anonymized",
    "PatientBirthDate": "20090701",
    "StudyDescription": "MR-Brain w/o Contrast",
    "AccessionNumber": "98edede8b2",
    "StudyDate": "20130308",
    "SeriesNumber": "5",
    "SeriesDescription": "SAG MPRAGE 220 FOV",
    "SeriesInstanceUID": SERIES,
    "InstanceNumber": "1",
    "SOPInstanceUID": "1.2.3",
    "SourceApplicationEntityTitle": "MYPACS",
}
