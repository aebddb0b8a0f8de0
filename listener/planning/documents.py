"""PURE. The JSON documents that the pypx programs read (px-status, px-smdb, px-push, px-report), nested as px-repack
does.

Every value is text; an absent or empty attribute reads ``Not defined``. Each document is a pure function of one
instance, so that a repetition after a crash writes the same bytes. Source: pypx 3.11.22 and 3.12.6, smdb.py and
repack.py.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import orjson

from listener.dicom.attributes import Header
from listener.planning.names import document_name, former_document_name
from listener.planning.plan import Plan
from listener.records import SeriesHeader

#: Text for an absent or empty attribute.
NOT_DEFINED = "Not defined"

#: The directories of documents below the log directory.
FOLDERS = ("patientData", "studyData", "seriesData")

Document = dict[str, Any]


def encode(document: Document) -> bytes:
    """Return the bytes of a document: UTF-8, indented, ending in a newline."""
    return orjson.dumps(document, option=orjson.OPT_INDENT_2 | orjson.OPT_APPEND_NEWLINE)


def patient_path(patient_id: str) -> str:
    """Return the path of the patient's document, relative to the log; safe whatever PatientID a peer sends."""
    return f"patientData/{document_name(patient_id)}.json"


def former_patient_path(patient_id: str) -> str:
    """Return its path in earlier versions and px-repack, if that differs, else ""."""
    former = former_document_name(patient_id)
    return f"patientData/{former}.json" if former else ""


def study_path(study: str) -> str:
    """Return the path of the study's document."""
    return f"studyData/{document_name(study)}-meta.json"


def study_series_path(study: str, series: str) -> str:
    """Return the path of the document of a series within its study, which holds the whole header."""
    return f"studyData/{document_name(study)}-series/{document_name(series)}-meta.json"


def series_path(series: str) -> str:
    """Return the path of the series' document."""
    return f"seriesData/{document_name(series)}-meta.json"


def pack_path(series: str) -> str:
    """Return the path of the mark that a series has been packed."""
    return f"seriesData/{document_name(series)}-pack.json"


def retrieve_path(series: str) -> str:
    """Return the path where another program writes how many instances a series will have; read only."""
    return f"seriesData/{document_name(series)}-retrieve.json"


def shared_paths(patient: str, study: str, series: str) -> tuple[str, ...]:
    """Return the paths of documents that a series' instances share: patient, study, series in study, series, pack."""
    return (
        patient_path(patient),
        study_path(study),
        study_series_path(study, series),
        series_path(series),
        pack_path(series),
    )


def instance_path(series: str, name: str) -> str:
    """Return the path of an instance's document; readers count these."""
    return f"seriesData/{document_name(series)}-img/{name}.json"


def patient_id(header: Header) -> str:
    """Return PatientID as documents use it; a placeholder where it is absent or empty (legal: type 2)."""
    return header.get("PatientID") or "PatientID"


def _texts(header: Header, *keywords: str) -> Document:
    values = header.values
    return {keyword: values.get(keyword) or NOT_DEFINED for keyword in keywords}


def patient(header: Header) -> Document:
    """Return patientData/<PatientID>.json with this study as its only one."""
    return {
        patient_id(header): {
            "PatientID": patient_id(header),
            **_texts(header, "PatientName", "PatientAge", "PatientSex", "PatientBirthDate"),
            "StudyList": [header.get("StudyInstanceUID")],
        }
    }


def with_study(document: Document, header: Header) -> Document | None:
    """Return a patient's `document` with this instance's study in its StudyList; None when it is there already.

    Whatever else another program wrote there stays.
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
    """Return a patient's `document` without a study in its StudyList; None when it does not list it."""
    entry = document.get(patient)
    holder = entry if isinstance(entry, dict) else document
    studies = holder.get("StudyList")
    if not isinstance(studies, list) or study not in studies:
        return None
    left = {**holder, "StudyList": [listed for listed in studies if listed != study]}
    return {**document, patient: left} if holder is entry else left


def updated(document: Document, fresh: Document) -> Document | None:
    """Return `document` updated with `fresh`; None when nothing changes. Other keys stay, and so do other studies in a
    StudyList.
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
    """Return studyData/<Study>-meta.json."""
    names = ("StudyDescription", "StudyDate", "StudyInstanceUID", "PerformedStationAETitle")
    return {header.get("StudyInstanceUID"): {"PatientID": patient_id(header), **_texts(header, *names)}}


def study_series(header: Header, base: str, elements: Mapping[str, Mapping[str, str]]) -> Document:
    """Return studyData/<Study>-series/<Series>-meta.json; `base` is the series' absolute directory, `elements` its
    header.
    """
    return {
        header.get("StudyInstanceUID"): {
            "SeriesInstanceUID": header.get("SeriesInstanceUID"),
            "SeriesBaseDir": base,
            "DICOM": dict(elements),
        }
    }


#: Characters of a text in a SeriesHeader; the longest that DICOM allows (a name) has 194.
_MOST_CHARACTERS = 512


def series_header(values: Mapping[str, str]) -> SeriesHeader:
    """Return what a header, as texts by keyword, says of patient, study and series; longer texts are cut."""
    texts = [values.get(keyword, "").replace("\0", " ").strip()[:_MOST_CHARACTERS] for keyword in SeriesHeader._fields]
    header = SeriesHeader(*[text.encode("utf-8", "replace").decode() for text in texts])
    return header._replace(SeriesNumber="") if header.SeriesNumber == "None" else header  # An empty number's text.


def texts(elements: object) -> dict[str, str]:
    """Return the texts by keyword of a map `DICOM`, which other programs may have written."""
    entries = elements.items() if isinstance(elements, dict) else ()
    values = ((keyword, entry.get("value")) for keyword, entry in entries if isinstance(entry, dict))
    return {keyword: value for keyword, value in values if isinstance(value, str)}


_SERIES_KEYWORDS = (
    "StudyInstanceUID",
    "SeriesInstanceUID",
    "SeriesDescription",
    "SeriesNumber",
    "SeriesDate",
    "Modality",
)


def series(header: Header) -> Document:
    """Return seriesData/<Series>-meta.json."""
    return {header.get("SeriesInstanceUID"): {"PatientID": patient_id(header), **_texts(header, *_SERIES_KEYWORDS)}}


def pack() -> Document:
    """Return seriesData/<Series>-pack.json."""
    return {"seriesPack": True}


def instance(header: Header, plan: Plan, base: str, size: int) -> Document:
    """Return seriesData/<Series>-img/<file>.dcm.json; `size` in bytes. Readers follow FSlocation."""
    location = f"{base}/{plan.name}"
    described = series(header)
    entry = described[header.get("SeriesInstanceUID")]
    entry["outputFile"] = plan.name
    entry["imageObj"] = {plan.name: {"size": size, "FSlocation": location}}
    return described


def describes(document: Document, path: str, size: int) -> bool:
    """Return whether an instance's document (ours or px-repack's) names the file at `path` with `size` bytes."""
    for entry in document.values():
        images = entry.get("imageObj") if isinstance(entry, dict) else None
        image = images.get(path.rpartition("/")[2]) if isinstance(images, dict) else None
        if isinstance(image, dict) and image.get("FSlocation") == path and image.get("size", size) == size:
            return True
    return False


def location(document: Document) -> str:
    """Return the FSlocation of an instance's document, "" when it has none (another program's or a damaged one)."""
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
    """Return the Study Instance UID in a document of an instance or a series, nested or flat; "" when it has none."""
    for entry in (*document.values(), document):
        value = entry.get("StudyInstanceUID") if isinstance(entry, dict) else None
        if isinstance(value, str) and value != NOT_DEFINED:
            return value
    return ""


def patient_of(document: Document) -> str:
    """Return the PatientID in a document of an instance, nested or flat; "" when it has none."""
    for entry in (*document.values(), document):
        value = entry.get("PatientID") if isinstance(entry, dict) else None
        if isinstance(value, str):
            return value
    return ""
