"""PURE. Header -> Plan: where one instance goes and what its path lacked."""

from __future__ import annotations

from typing import NamedTuple

from listener.dicom.header import Header
from listener.planning.layouts import Layout
from listener.planning.names import MAX_COMPONENT, sanitize

#: What every instance's own document reads (pypx's `<file>.dcm.json`).
INSTANCE_KEYWORDS = (
    "SOPInstanceUID",
    "SeriesInstanceUID",
    "StudyInstanceUID",
    "PatientID",
    "SeriesDescription",
    "SeriesNumber",
    "SeriesDate",
    "Modality",
)

#: What the documents of a patient and a study read beside these.
SHARED_KEYWORDS = (
    "PatientName",
    "PatientAge",
    "PatientSex",
    "PatientBirthDate",
    "StudyDescription",
    "StudyDate",
    "PerformedStationAETitle",
)


class Plan(NamedTuple):
    """Where one instance goes: `directory` below the data root, and `name` with its `.dcm`."""

    directory: str
    name: str

    @property
    def relative(self) -> str:
        """The path below the data root."""
        return f"{self.directory}/{self.name}"


def make_plan(header: Header, layout: Layout) -> Plan:
    """Where the instance of `header` goes. The result is always below the data root: components are sanitised one by
    one.
    """
    values = header.values
    if "SourceApplicationEntityTitle" in layout.keywords:
        values = {**values, "SourceApplicationEntityTitle": header.SourceApplicationEntityTitle}
    directory, raw = layout.place(values)
    # `.dcm` must survive the cut, so it is not part of what is cut.
    stem = sanitize(raw, MAX_COMPONENT - 4)
    if stem.startswith("."):  # Readers count every file, so none may be hidden.
        stem = f"_{stem[1:]}"
    return Plan(directory, f"{stem}.dcm")


def lacking(header: Header, keywords: frozenset[str] | tuple[str, ...]) -> list[str]:
    """The wanted keywords that the instance has no value for, in a fixed order."""
    values = header.values
    return [one for one in keywords if one not in values and one != "SourceApplicationEntityTitle"]
