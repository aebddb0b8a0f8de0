"""Read what `listener verify` compares: the documents of one series, the instances they name, and headers."""

from __future__ import annotations

import contextlib
import os
import stat
from typing import Any

from listener.dicom.reader import check_uids, read_header
from listener.disk import files, json_file
from listener.planning import documents
from listener.planning.plan import make_plan
from listener.reasons import FileFault, Unreadable
from listener.repacking.context import WorkerContext
from listener.repacking.revision import is_documented
from listener.verification.differences import Described, Reading, Series, SharedState, Stray, expected
from listener.verification.tree import IMAGES, Location, Relocation, is_foreign, names_in


class Inventory:
    """Reads series and instances for one verification. `deep`: headers of described instances too."""

    def __init__(self, context: WorkerContext, *, deep: bool) -> None:
        self._context = context
        self._log = context.directories.log
        self._deep = deep
        self.relocation = Relocation(context.directories.data)

    def series(self, uid: str) -> Series:
        """Return the documents of one series, and what there is in the tree of the instances that they name."""
        images = f"{self._log}/seriesData/{uid}{IMAGES}"
        names = names_in(images)
        described = [self._described(f"{images}/{name}") for name in names if not is_foreign(name)]
        foreign = [f"{images}/{name}" for name in names if is_foreign(name)]
        owners = {(each.patient, each.study) for each in described if each.readable and each.study}
        shared = [_checked_series(_shared_state("series", f"{self._log}/{documents.series_path(uid)}"), uid, owners)]
        shared.append(_shared_state("pack", f"{self._log}/{documents.pack_path(uid)}"))
        recorded = ""
        for patient, study in dict.fromkeys((each.patient, each.study) for each in described) or [self._owner(uid)]:
            path = f"{self._log}/{documents.study_series_path(study, uid)}"
            if study:
                shared.append(self._study(study, owners))
                shared += [self._patient(patient, study), _shared_state("study-series", path, study, "SeriesBaseDir")]
                recorded = recorded or base_directory(json_file.load_if_readable(path) or {})
        home = self.relocation.find(recorded) if recorded else Location("")
        occupied = bool(home.path) and bool(names_in(home.path))
        keep_both = self._context.config.on_conflict == "keep-both"
        described = _with_guessed_paths(described, home.path)
        return Series(uid, images, described, foreign, shared, home.path, home.moved, occupied, keep_both)

    def _study(self, study: str, owners: set[tuple[str, str]]) -> SharedState:
        """Return the state of a study's document: outdated if no instance of the study is of its patient."""
        state = _shared_state("study", f"{self._log}/{documents.study_path(study)}", study)
        entry = documents.entry_of(json_file.load_if_readable(state.path) or {}, study)
        patient = documents.patient_of(entry)
        if state.word or not patient or (patient, study) in owners or is_documented((patient, study), self._context):
            return state
        return state._replace(word="outdated")

    def _owner(self, uid: str) -> tuple[str, str]:
        """Return PatientID and Study Instance UID of a series without documents of instances."""
        document = json_file.load_if_readable(f"{self._log}/{documents.series_path(uid)}") or {}
        entry = entry_with(document, "StudyInstanceUID")
        return str(entry.get("PatientID", "")), str(entry.get("StudyInstanceUID", ""))

    def _described(self, path: str) -> Described:
        """Return what the document at `path` says of its instance, and what there is of this in the tree."""
        name = os.path.basename(path).removesuffix(".json")
        document = json_file.load_if_readable(path) or {}
        recorded = documents.location(document)
        if not recorded or os.path.basename(recorded) != name:
            return Described(name, path, readable=False)
        entry, image = entry_with(document, "imageObj"), {}
        with contextlib.suppress(KeyError, TypeError):
            image = entry["imageObj"][name]
        directory = self.relocation.find(os.path.dirname(recorded))
        here = f"{directory.path}/{name}"
        size = image.get("size", -1)
        described = Described(
            name,
            path,
            True,
            here,
            _size(here),
            size if isinstance(size, int) else -1,
            moved=directory.moved,
            study=str(entry.get("StudyInstanceUID") or ""),
            patient=str(entry.get("PatientID") or ""),
        )
        if self._deep and described.size >= 0 and self.relocation.holds(here):
            return described._replace(reading=self.read(here))
        return described

    def _patient(self, patient: str, study: str) -> SharedState:
        """Return the state of a patient's document, which has our name or px-repack's (the PatientID as it is)."""
        ours = f"{self._log}/{documents.patient_path(patient)}"
        theirs = f"{self._log}/patientData/{patient}.json" if "/" not in patient and "\0" not in patient else ours
        present = [path for path in (ours, theirs) if os.path.lexists(path)]
        loaded = [document for document in map(json_file.load_if_readable, present) if document is not None]
        if any(study in _studies(document, patient) for document in loaded):
            return SharedState("patient", ours, "", study)
        word = "study-list" if loaded else "bad-shared-document" if present else "no-shared-document"
        return SharedState("patient", present[0] if present else ours, word, study)

    def read(self, path: str) -> Reading:
        """Return the UIDs of the instance at `path` and where it should be, or its fault."""
        context = self._context
        try:
            descriptor = files.open_regular(path)
            try:
                header = read_header(descriptor, os.fstat(descriptor).st_size, context.wanted, context.limits)
            finally:
                os.close(descriptor)
            check_uids(header)
        except FileFault as fault:
            return Reading(fault=fault.reason, text=str(fault))
        except OSError as error:
            return Reading(fault=Unreadable.reason, text=str(Unreadable(error.strerror or "")))
        sop, series, study = (header.get(f"{level}InstanceUID") for level in ("SOP", "Series", "Study"))
        return Reading(sop, series, study, f"{context.directories.data}/{make_plan(header, context.layout).relative}")

    def stray(self, path: str) -> Stray | None:
        """Return a file that no known series of its folder describes; None if the series in its header describes it."""
        reading = self.read(path)
        if reading.fault:
            return Stray(path, reading) if os.path.lexists(path) else None
        images = f"{self._log}/seriesData/{reading.SeriesInstanceUID}{IMAGES}"
        for name in dict.fromkeys((os.path.basename(path), os.path.basename(expected(path, reading)))):
            document = f"{images}/{name}.json"
            if not os.path.lexists(document):
                continue
            described = self._described(document)
            if not described.readable or described.path == path:
                return None
            if described.size >= 0:
                return Stray(path, reading, twin=True)
        return Stray(path, reading)


def _with_guessed_paths(described: list[Described], base: str) -> list[Described]:
    """Return the documents, unreadable ones with the path of an instance of their name in a folder of the series."""
    folders = dict.fromkeys(os.path.dirname(each.path) for each in described if each.readable)
    if base:
        folders[base] = None

    def guessed(unreadable: Described) -> Described:
        paths = (f"{folder}/{unreadable.name}" for folder in folders)
        path = next((path for path in paths if _size(path) >= 0), unreadable.path)
        return unreadable._replace(path=path, size=_size(path) if path else -1)

    return [each if each.readable else guessed(each) for each in described]


def _size(path: str) -> int:
    try:
        status = os.lstat(path)
    except OSError:
        return -1
    return status.st_size if stat.S_ISREG(status.st_mode) else -1


def _shared_state(kind: str, path: str, study: str = "", key: str = "") -> SharedState:
    """Return the state of a shared document: whether it can be read, and has `key` in one of its entries."""
    if not os.path.lexists(path):
        return SharedState(kind, path, "no-shared-document", study)
    document = json_file.load_if_readable(path)
    valid = document is not None and (not key or key in entry_with(document, key))
    return SharedState(kind, path, "" if valid else "bad-shared-document", study)


def _checked_series(state: SharedState, uid: str, owners: set[tuple[str, str]]) -> SharedState:
    """Return the state of a series' document: outdated if no instance of the series is of its patient and study."""
    entry = documents.entry_of(json_file.load_if_readable(state.path) or {}, uid)
    owner = documents.patient_of(entry), documents.study_of(entry)
    outdated = owners and all(owner) and owner not in owners
    return state._replace(word="outdated") if outdated and not state.word else state


def entry_with(document: documents.Document, key: str) -> dict[str, Any]:
    """Return the entry of a document that has `key`: nested under a UID (px-repack), or the document (rx-repack)."""
    for entry in (*document.values(), document):
        if isinstance(entry, dict) and key in entry:
            return entry
    return {}


def base_directory(document: documents.Document) -> str:
    """Return SeriesBaseDir of a study's document of a series; "" when it has none."""
    base = entry_with(document, "SeriesBaseDir").get("SeriesBaseDir")
    return base if isinstance(base, str) else ""


def _studies(document: documents.Document, patient: str) -> list[Any]:
    entry = document.get(patient)
    studies = (entry if isinstance(entry, dict) else document).get("StudyList")
    return studies if isinstance(studies, list) else []
