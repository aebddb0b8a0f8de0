"""What the log directory and the tree say of a series: its documents, a header, the expected number of instances."""

from __future__ import annotations

import contextlib
import os
import re
from collections.abc import Callable, Iterable, Iterator
from typing import Any, NamedTuple, TypeVar

from listener.config import Config
from listener.dicom.attributes import Limits
from listener.dicom.reader import Wanted, read_header
from listener.disk import files, json_file
from listener.ledger.completion import SeriesState, expected_count
from listener.planning import documents, plan
from listener.planning.names import document_name
from listener.reasons import FileFault
from listener.records import SeriesHeader

#: Seconds without an instance after which another process may have recorded those that a series lacks.
_IDLE = 1.0


class ExpectedCounts:
    """Expected numbers of instances; re-reads a file only if its mtime or size changed."""

    def __init__(self, documents: DocumentReader) -> None:
        self._documents = documents

    def read(self, series: Iterable[SeriesState]) -> list[SeriesState]:
        """Read the numbers in `<series>-retrieve.json`; return the series whose expected number changed. A number that
        a person gave (`listener expect`) stays.
        """
        changed = []
        for state in series:
            state.promise_stamp, document = self._documents.promise(state.SeriesInstanceUID, state.promise_stamp)
            if document is None or state.expected_by == "expect":
                continue
            number = expected_count(document, state.StudyInstanceUID)
            if number != state.expected:
                state.expected, state.expected_by = number, "retrieve" if number else ""
                changed.append(state)
        return changed

    def behind_documents(self, series: Iterable[SeriesState], now: float) -> Iterator[str]:
        """Yield the UIDs of series that lack expected instances and have more documents than known instances."""
        for state in series:
            if state.instances < state.expected and now - state.last_activity >= _IDLE:
                changed = self._documents.changed_ns(state.SeriesInstanceUID)
                if changed != state.documents_ns:
                    state.documents_ns = changed
                    if (self._documents.count(state.SeriesInstanceUID) or 0) > state.instances:
                        yield state.SeriesInstanceUID


_IMAGES = "-img"

#: If the image template ends so, file names end in the instance's UID, and no header is read for it.
_UID_ENDING = "%SOPInstanceUID"
_UID = re.compile(r"[0-9]+(?:\.[0-9]+)*")
_UID_AT_END = re.compile(r"([0-9]+(?:\.[0-9]+)+)(?:-[0-9a-f]{8})?\.dcm$")

_Result = TypeVar("_Result")


class Instance(NamedTuple):
    """An instance by its document. `folder` is below the data directory; `at_ns` is the document's mtime;
    StudyInstanceUID is "" if the document has none.
    """

    SOPInstanceUID: str
    folder: str
    name: str
    size: int
    at_ns: int
    StudyInstanceUID: str = ""


class Identity(NamedTuple):
    """Patient, study and sender of a series, from the header of one of its instances. PatientID is that of documents
    (documents.patient_id), that of `header` as in the data set.
    """

    StudyInstanceUID: str = ""
    PatientID: str = ""
    AccessionNumber: str = ""
    Modality: str = ""
    sender: str = ""
    header: SeriesHeader | None = None


class DocumentReader:
    """Reads documents of series. Damaged or missing files raise nothing: they say nothing."""

    def __init__(self, config: Config) -> None:
        self._data_dir = config.data.rstrip("/")
        self._log_dir = config.log
        self._limits = Limits(config.max_header, config.max_depth)
        layout = plan.choose_preset(config.layout, image=config.image_template)
        self._names_end_in_uid = layout.image.endswith(_UID_ENDING)

    # -- all series

    def changed_since(self, moment_ns: int) -> Iterator[str]:
        """Yield the series whose instances' documents changed at or after a moment (since the epoch)."""
        with contextlib.suppress(OSError), os.scandir(f"{self._log_dir}/seriesData") as entries:
            for entry in entries:
                with contextlib.suppress(OSError):
                    if entry.name.endswith(_IMAGES) and entry.stat().st_mtime_ns >= moment_ns:
                        yield self.uid_of(entry.name.removesuffix(_IMAGES))

    def uid_of(self, name: str) -> str:
        """Return the series of a directory of documents: its name, or the UID in a document if that makes no safe name
        (`..`).
        """
        if _UID.fullmatch(name):
            return name
        for document in self.names(name) or ():
            for uid in json_file.load_if_readable(f"{self._log_dir}/{documents.instance_path(name, document)}") or {}:
                if document_name(uid) == name:
                    return uid
        return name

    # -- one series

    def _images(self, uid: str) -> str:
        return os.path.dirname(f"{self._log_dir}/{documents.instance_path(uid, 'x')}")

    def names(self, uid: str) -> list[str] | None:
        """Return the file names of the instances that have a document; None if they cannot be read."""
        return self._read_names(uid, list)

    def count(self, uid: str) -> int | None:
        """Return how many instances have a document, without holding their names; None if they cannot be read."""
        return self._read_names(uid, lambda names: sum(1 for _ in names))

    def _read_names(self, uid: str, summarize: Callable[[Iterator[str]], _Result]) -> _Result | None:
        try:
            with os.scandir(self._images(uid)) as entries:
                return summarize(
                    entry.name.removesuffix(".json")
                    for entry in entries
                    if entry.name.endswith(".json") and not entry.name.startswith(".")
                )
        except FileNotFoundError:
            return summarize(iter(()))
        except OSError:
            return None

    def count_of(self, uid: str, study: str) -> int:
        """Return how many instances of one study have a document, if several studies share the series UID."""
        paths = (f"{self._log_dir}/{documents.instance_path(uid, name)}" for name in self.names(uid) or ())
        return sum(documents.study_of(json_file.load_if_readable(path) or {}) in (study, "") for path in paths)

    def owners(self, uid: str) -> set[tuple[str, str]]:
        """Return PatientID and Study Instance UID of a series' instances, by their documents."""
        paths = (f"{self._log_dir}/{documents.instance_path(uid, name)}" for name in self.names(uid) or ())
        read = (json_file.load_if_readable(path) or {} for path in paths)
        return {(documents.patient_of(document), documents.study_of(document)) for document in read}

    def series_owner(self, uid: str) -> tuple[str, str]:
        """Return PatientID and Study Instance UID in the series' document."""
        document = json_file.load_if_readable(f"{self._log_dir}/{documents.series_path(uid)}") or {}
        return documents.patient_of(document), documents.study_of(document)

    def newest(self, uid: str, study: str) -> Instance | None:
        """Return the instance of a series of a study with the newest document; None if there is none."""
        read = (self.instance(uid, name) for name in self.names(uid) or ())
        candidates = [instance for instance in read if instance and instance.StudyInstanceUID == study]
        return max(candidates, key=lambda instance: instance.at_ns, default=None)

    def changed_ns(self, uid: str) -> int:
        """Return a number that changes when a document of an instance is added or removed; 0 if there are none."""
        try:
            return os.stat(self._images(uid)).st_mtime_ns
        except OSError:
            return 0

    def promise(self, uid: str, seen: tuple[int, int]) -> tuple[tuple[int, int], dict[str, Any] | None]:
        """Return stamp (mtime_ns, size) and content of `<series>-retrieve.json`; None for a stamp that is `seen`."""
        path = f"{self._log_dir}/{documents.retrieve_path(uid)}"
        try:
            status = os.stat(path)
        except OSError:
            return (0, 0), {} if seen != (0, 0) else None
        stamp = (status.st_mtime_ns, status.st_size)
        return stamp, None if stamp == seen else json_file.load_if_readable(path) or {}

    def instance(self, uid: str, name: str) -> Instance | None:
        """Return an instance by its document; None if that cannot be read or has no location."""
        path = f"{self._log_dir}/{documents.instance_path(uid, name)}"
        document = json_file.load_if_readable(path) or {}
        location = documents.location(document)
        if not location:
            return None
        try:
            at_ns, size = os.stat(path).st_mtime_ns, os.stat(location).st_size
        except OSError:
            return None
        sop = self._sop(location, name)
        folder = os.path.dirname(location)
        below = folder.removeprefix(f"{self._data_dir}/") if folder.startswith(f"{self._data_dir}/") else folder
        return Instance(sop, below, name, size, at_ns, documents.study_of(document)) if sop else None

    def _sop(self, location: str, name: str) -> str:
        match = _UID_AT_END.search(name) if self._names_end_in_uid else None
        return match[1] if match else self._header(location).get("SOPInstanceUID", "")

    def identity(self, uid: str, instance: Instance) -> Identity:
        """Return the identity in the header of an instance; empty if it is of another series or cannot be read."""
        folder = instance.folder if instance.folder.startswith("/") else f"{self._data_dir}/{instance.folder}"
        values = self._header(f"{folder}/{instance.name}")
        if values.get("SeriesInstanceUID") != uid:
            return Identity()
        study, modality, sender = (values.get(name, "") for name in ("StudyInstanceUID", "Modality", "sender"))
        header = documents.series_header(values)
        return Identity(study, values.get("PatientID") or "PatientID", header.AccessionNumber, modality, sender, header)

    def header(self, study: str, uid: str) -> SeriesHeader | None:
        """Return the header of a series of a study from its document with the whole header; None without one."""
        document = json_file.load_if_readable(f"{self._log_dir}/{documents.study_series_path(study, uid)}") or {}
        entry = document.get(study)
        values = documents.texts(entry.get("DICOM")) if isinstance(entry, dict) else {}
        return documents.series_header(values) if values else None

    def _header(self, path: str) -> dict[str, str]:
        try:
            descriptor = files.open_regular(path)
            try:
                header = read_header(descriptor, os.fstat(descriptor).st_size, _wanted(), self._limits)
            finally:
                os.close(descriptor)
        except (FileFault, OSError):
            return {}
        return {**header.values, "sender": header.SourceApplicationEntityTitle}


def _wanted() -> Wanted:
    return Wanted.of(("SOPInstanceUID", "SeriesInstanceUID", "StudyInstanceUID", "Modality", *SeriesHeader._fields))
