"""Reading what is there, for `listener verify`: the documents of one series beside its instances, and headers."""

from __future__ import annotations

import contextlib
import os
import stat
from typing import Any

from listener.dicom.reader import check_uids, read_header
from listener.disk import files, json_file
from listener.errors import FileFault, Unreadable
from listener.planning import documents
from listener.planning.plan import make_plan
from listener.repacking.context import WorkerContext
from listener.repacking.revision import is_documented
from listener.verification.differences import Described, Reading, Series, SharedState, Stray, expected
from listener.verification.tree import IMAGES, Place, Places, is_foreign, names_in


class Inventory:
    """Reads series and instances for one verification. `deep`: headers of described instances too."""

    def __init__(self, context: WorkerContext, *, deep: bool) -> None:
        self._context = context
        self._log = context.directories.log
        self._deep = deep
        self.places = Places(context.directories.data)

    def series(self, uid: str) -> Series:
        """Everything that the logs tell of one series, beside what is there of it."""
        images = f"{self._log}/seriesData/{uid}{IMAGES}"
        names = names_in(images)
        described = [self._described(f"{images}/{name}") for name in names if not is_foreign(name)]
        foreign = [f"{images}/{name}" for name in names if is_foreign(name)]
        owners = {(one.patient, one.study) for one in described if one.readable and one.study}
        shared = [_told(_state("series", f"{self._log}/{documents.series_path(uid)}"), uid, owners)]
        shared.append(_state("pack", f"{self._log}/{documents.pack_path(uid)}"))
        told = ""
        for patient, study in dict.fromkeys((one.patient, one.study) for one in described) or [self._owner(uid)]:
            base = f"{self._log}/{documents.study_series_path(study, uid)}"
            if study:
                shared.append(self._study(study, owners))
                shared += [self._patient(patient, study), _state("study-series", base, study, "SeriesBaseDir")]
                told = told or base_directory(json_file.load_if_readable(base) or {})
        home = self.places.find(told) if told else Place("")
        occupied = bool(home.path) and bool(names_in(home.path))
        keeps_both = self._context.config.on_conflict == "keep-both"
        described = _guessed(described, home.path)
        return Series(uid, images, described, foreign, shared, home.path, home.moved, occupied, keeps_both)

    def _study(self, study: str, owners: set[tuple[str, str]]) -> SharedState:
        """The study's document, which tells of a patient who has an instance in it, perhaps in another series."""
        state = _state("study", f"{self._log}/{documents.study_path(study)}", study)
        entry = documents.entry_of(json_file.load_if_readable(state.path) or {}, study)
        patient = documents.patient_of(entry)
        if state.word or not patient or (patient, study) in owners or is_documented((patient, study), self._context):
            return state
        return state._replace(word="outdated")

    def _owner(self, uid: str) -> tuple[str, str]:
        """PatientID and Study Instance UID of a series without documents of instances."""
        document = json_file.load_if_readable(f"{self._log}/{documents.series_path(uid)}") or {}
        entry = part_with(document, "StudyInstanceUID")
        return str(entry.get("PatientID", "")), str(entry.get("StudyInstanceUID", ""))

    def _described(self, path: str) -> Described:
        name = os.path.basename(path).removesuffix(".json")
        document = json_file.load_if_readable(path) or {}
        told = documents.location(document)
        if not told or os.path.basename(told) != name:
            return Described(name, path, readable=False)
        entry, image = part_with(document, "imageObj"), {}
        with contextlib.suppress(KeyError, TypeError):
            image = entry["imageObj"][name]
        place = self.places.find(os.path.dirname(told))
        here = f"{place.path}/{name}"
        size = image.get("size", -1)
        one = Described(
            name,
            path,
            True,
            here,
            _size(here),
            size if isinstance(size, int) else -1,
            moved=place.moved,
            study=str(entry.get("StudyInstanceUID") or ""),
            patient=str(entry.get("PatientID") or ""),
        )
        if self._deep and one.size >= 0 and self.places.holds(here):
            return one._replace(reading=self.read(here))
        return one

    def _patient(self, patient: str, study: str) -> SharedState:
        """The patient's document by our name for it, or by px-repack's, which is the PatientID as it stands."""
        ours = f"{self._log}/{documents.patient_path(patient)}"
        theirs = f"{self._log}/patientData/{patient}.json" if "/" not in patient and "\0" not in patient else ours
        found = [path for path in (ours, theirs) if os.path.lexists(path)]
        loaded = [document for document in map(json_file.load_if_readable, found) if document is not None]
        if any(study in _studies(document, patient) for document in loaded):
            return SharedState("patient", ours, "", study)
        word = "study-list" if loaded else "bad-shared-document" if found else "no-shared-document"
        return SharedState("patient", found[0] if found else ours, word, study)

    def read(self, path: str) -> Reading:
        """Who the instance at `path` is and where it should be, or what is wrong with it."""
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
        """A file that no known series of its folder describes; None when its own series does, or says so itself."""
        read = self.read(path)
        if read.fault:
            return Stray(path, read) if os.path.lexists(path) else None
        images = f"{self._log}/seriesData/{read.SeriesInstanceUID}{IMAGES}"
        for name in dict.fromkeys((os.path.basename(path), os.path.basename(expected(path, read)))):
            document = f"{images}/{name}.json"
            if not os.path.lexists(document):
                continue
            one = self._described(document)
            if not one.readable or one.path == path:
                return None
            if one.size >= 0:
                return Stray(path, read, twin=True)
        return Stray(path, read)


def _guessed(described: list[Described], base: str) -> list[Described]:
    """With the place of what unreadable documents are named after, where their series tells it."""
    homes = dict.fromkeys(
        [*(os.path.dirname(one.path) for one in described if one.readable), *([base] if base else [])]
    )
    guessed = []
    for one in described:
        places = [f"{home}/{one.name}" for home in homes] if not one.readable else []
        place = next((path for path in places if _size(path) >= 0), one.path)
        guessed.append(one if one.readable else one._replace(path=place, size=_size(place) if place else -1))
    return guessed


def _size(path: str) -> int:
    try:
        status = os.lstat(path)
    except OSError:
        return -1
    return status.st_size if stat.S_ISREG(status.st_mode) else -1


def _state(kind: str, path: str, study: str = "", key: str = "") -> SharedState:
    """Whether a shared document can be read and holds `key` somewhere."""
    if not os.path.lexists(path):
        return SharedState(kind, path, "no-shared-document", study)
    document = json_file.load_if_readable(path)
    fine = document is not None and (not key or key in part_with(document, key))
    return SharedState(kind, path, "" if fine else "bad-shared-document", study)


def _told(state: SharedState, uid: str, owners: set[tuple[str, str]]) -> SharedState:
    """The series' document, which tells of a patient and a study that an instance of it is of."""
    entry = documents.entry_of(json_file.load_if_readable(state.path) or {}, uid)
    told = documents.patient_of(entry), documents.study_of(entry)
    wrong = owners and all(told) and told not in owners
    return state._replace(word="outdated") if wrong and not state.word else state


def part_with(document: documents.Document, key: str) -> dict[str, Any]:
    """The part of a document that holds `key`: nested under a UID, as px-repack writes it, or flat (rx-repack)."""
    for entry in (*document.values(), document):
        if isinstance(entry, dict) and key in entry:
            return entry
    return {}


def base_directory(document: documents.Document) -> str:
    """SeriesBaseDir of a study's document of a series, "" when it has none."""
    told = part_with(document, "SeriesBaseDir").get("SeriesBaseDir")
    return told if isinstance(told, str) else ""


def _studies(document: documents.Document, patient: str) -> list[Any]:
    entry = document.get(patient)
    told = (entry if isinstance(entry, dict) else document).get("StudyList")
    return told if isinstance(told, list) else []
