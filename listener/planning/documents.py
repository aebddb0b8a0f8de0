"""PURE. The JSON documents that the pypx programs read (px-status, px-smdb, px-push, px-report), as px-repack nests
them.

Every value is text, as px-repack has it; an attribute that is absent or empty reads ``Not defined``. Each document is a
pure function of one instance, so a repetition after a crash writes the same bytes.
Source: pypx 3.11.22 and 3.12.6, smdb.py and repack.py.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import orjson

from listener.dicom.attributes import Header
from listener.planning.names import document_name, former_document_name
from listener.planning.plan import Plan

#: What stands in a document for an attribute that is absent or empty.
NOT_DEFINED = "Not defined"

#: The directories below the log root that hold the documents of everybody.
FOLDERS = ("patientData", "studyData", "seriesData")

Document = dict[str, Any]


def encode(document: Document) -> bytes:
    """The bytes of a document: UTF-8, indented, ending in a newline."""
    return orjson.dumps(document, option=orjson.OPT_INDENT_2 | orjson.OPT_APPEND_NEWLINE)


def patient_path(patient_id: str) -> str:
    """Where the patient's document lies below the log root; safe whatever a peer sends as PatientID."""
    return f"patientData/{document_name(patient_id)}.json"


def former_patient_path(patient_id: str) -> str:
    """Where earlier versions and px-repack put it, when that is another place, else ""."""
    former = former_document_name(patient_id)
    return f"patientData/{former}.json" if former else ""


def study_path(study: str) -> str:
    """Where the study's document lies."""
    return f"studyData/{document_name(study)}-meta.json"


def study_series_path(study: str, series: str) -> str:
    """Where the document of a series within its study lies: the one with the whole header."""
    return f"studyData/{document_name(study)}-series/{document_name(series)}-meta.json"


def series_path(series: str) -> str:
    """Where the series' document lies."""
    return f"seriesData/{document_name(series)}-meta.json"


def pack_path(series: str) -> str:
    """Where the mark lies that a series has been packed."""
    return f"seriesData/{document_name(series)}-pack.json"


def retrieve_path(series: str) -> str:
    """Where another program writes how many instances a series will have; we only read it."""
    return f"seriesData/{document_name(series)}-retrieve.json"


def shared_paths(patient: str, study: str, series: str) -> tuple[str, ...]:
    """Where the documents lie that a series' instances share: patient, study, series in study, series, pack."""
    return (
        patient_path(patient),
        study_path(study),
        study_series_path(study, series),
        series_path(series),
        pack_path(series),
    )


def instance_path(series: str, name: str) -> str:
    """Where the document of one instance lies; readers count these."""
    return f"seriesData/{document_name(series)}-img/{name}.json"


def patient_id(header: Header) -> str:
    """PatientID as documents are named after it; a placeholder where it is absent or empty (legal: type 2)."""
    return header.get("PatientID") or "PatientID"


def _texts(header: Header, *keywords: str) -> Document:
    values = header.values
    return {keyword: values.get(keyword) or NOT_DEFINED for keyword in keywords}


def patient(header: Header) -> Document:
    """patientData/<PatientID>.json with this study as its only one."""
    return {
        patient_id(header): {
            "PatientID": patient_id(header),
            **_texts(header, "PatientName", "PatientAge", "PatientSex", "PatientBirthDate"),
            "StudyList": [header.get("StudyInstanceUID")],
        }
    }


def with_study(document: Document, header: Header) -> Document | None:
    """`document` of a patient with this instance's study in its StudyList; None when it is there already.

    Whatever else another program wrote there stays as it is.
    """
    study = header.get("StudyInstanceUID")
    key = patient_id(header)
    entry = document.get(key)
    if not isinstance(entry, dict):
        return {**document, **patient(header)}
    studies = entry.get("StudyList")
    if not isinstance(studies, list):
        studies = []
    if study in studies:
        return None
    return {**document, key: {**entry, "StudyList": [*studies, study]}}


def without_study(document: Document, patient: str, study: str) -> Document | None:
    """`document` of a patient without a study in its StudyList; None when it does not list it."""
    entry = document.get(patient)
    holder = entry if isinstance(entry, dict) else document
    studies = holder.get("StudyList")
    if not isinstance(studies, list) or study not in studies:
        return None
    left = {**holder, "StudyList": [one for one in studies if one != study]}
    return {**document, patient: left} if holder is entry else left


def updated(document: Document, fresh: Document) -> Document | None:
    """`document` with what `fresh` tells; None when it tells that already. What else another program wrote there
    stays, and so do the studies that a StudyList has beside.
    """
    changed = dict(document)
    for key, entry in fresh.items():
        there = document.get(key)
        if not isinstance(there, dict):
            changed[key] = entry
            continue
        changed[key] = {**there, **entry}
        if isinstance(there.get("StudyList"), list) and "StudyList" in entry:
            changed[key]["StudyList"] = list(dict.fromkeys([*there["StudyList"], *entry["StudyList"]]))
    return None if changed == document else changed


def study(header: Header) -> Document:
    """studyData/<Study>-meta.json."""
    names = ("StudyDescription", "StudyDate", "StudyInstanceUID", "PerformedStationAETitle")
    return {header.get("StudyInstanceUID"): {"PatientID": patient_id(header), **_texts(header, *names)}}


def study_series(header: Header, base: str, elements: Mapping[str, Mapping[str, str]]) -> Document:
    """studyData/<Study>-series/<Series>-meta.json; `base` is the series' absolute directory, `elements` its header."""
    return {
        header.get("StudyInstanceUID"): {
            "SeriesInstanceUID": header.get("SeriesInstanceUID"),
            "SeriesBaseDir": base,
            "DICOM": dict(elements),
        }
    }


_SERIES_KEYWORDS = (
    "StudyInstanceUID",
    "SeriesInstanceUID",
    "SeriesDescription",
    "SeriesNumber",
    "SeriesDate",
    "Modality",
)


def series(header: Header) -> Document:
    """seriesData/<Series>-meta.json."""
    return {header.get("SeriesInstanceUID"): {"PatientID": patient_id(header), **_texts(header, *_SERIES_KEYWORDS)}}


def pack() -> Document:
    """seriesData/<Series>-pack.json."""
    return {"seriesPack": True}


def instance(header: Header, plan: Plan, base: str, size: int) -> Document:
    """seriesData/<Series>-img/<file>.dcm.json; `size` in bytes. FSlocation is what readers follow."""
    location = f"{base}/{plan.name}"
    described = series(header)
    entry = described[header.get("SeriesInstanceUID")]
    entry["outputFile"] = plan.name
    entry["imageObj"] = {plan.name: {"size": size, "FSlocation": location}}
    return described


def describes(document: Document, path: str, size: int) -> bool:
    """Whether an instance's document (ours or px-repack's) tells of a file at `path` with `size` bytes."""
    for entry in document.values():
        images = entry.get("imageObj") if isinstance(entry, dict) else None
        image = images.get(path.rpartition("/")[2]) if isinstance(images, dict) else None
        if isinstance(image, dict) and image.get("FSlocation") == path and image.get("size", size) == size:
            return True
    return False


def location(document: Document) -> str:
    """The FSlocation of an instance's document, "" when it has none (another program's or a damaged one)."""
    for entry in document.values():
        images = entry.get("imageObj") if isinstance(entry, dict) else None
        for image in images.values() if isinstance(images, dict) else ():
            if isinstance(image, dict) and isinstance(image.get("FSlocation"), str):
                return str(image["FSlocation"])
    return ""


def entry_of(document: Document, key: str) -> Document:
    """Return the part of a shared document that is about `key`, a UID or PatientID: the object under that name, or of
    a flat document (rx-repack) the values at the top. px-repack writes the patients and studies that it met before in
    the same run into it too; nobody looks these up there.
    """
    entry = document.get(key)
    if isinstance(entry, dict):
        return entry
    return {name: value for name, value in document.items() if not isinstance(value, dict)}


def patients_in(document: Document, name: str) -> list[str]:
    """Return the PatientIDs whose own document is the one with the file name `name` (px-repack names it after the
    PatientID as it stands); entries of other patients beside them are px-repack's.
    """
    return [patient for patient in document if name in (f"{patient}.json", f"{document_name(patient)}.json")]


def study_of(document: Document) -> str:
    """The Study Instance UID that a document of an instance or a series tells, nested or flat; "" when it has none."""
    for entry in (*document.values(), document):
        told = entry.get("StudyInstanceUID") if isinstance(entry, dict) else None
        if isinstance(told, str) and told != NOT_DEFINED:
            return told
    return ""


def patient_of(document: Document) -> str:
    """The PatientID that a document of an instance tells, nested or flat; "" when it has none."""
    for entry in (*document.values(), document):
        told = entry.get("PatientID") if isinstance(entry, dict) else None
        if isinstance(told, str):
            return told
    return ""
