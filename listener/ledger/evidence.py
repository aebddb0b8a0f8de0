"""What tree and logs say of a series: its documents, a header, and the expected number of instances."""

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
from listener.errors import FileFault
from listener.ledger.completion import SeriesState, promised
from listener.planning import documents, plan
from listener.planning.names import document_name

#: A series that has less than was promised, and got nothing for so long (seconds), may have got it from another one.
_IDLE = 1.0


class ExpectedCounts:
    """Looks at files only when their looks changed."""

    def __init__(self, proofs: DocumentReader) -> None:
        self._proofs = proofs

    def read(self, series: Iterable[SeriesState]) -> list[SeriesState]:
        """Take over what `<series>-retrieve.json` promises; the series whose expected number changed by it. What a
        person said (`listener expect`) is not changed by a program.
        """
        changed = []
        for one in series:
            one.promise, document = self._proofs.promise(one.SeriesInstanceUID, one.promise)
            if document is None or one.expected_by == "expect":
                continue
            number = promised(document, one.StudyInstanceUID)
            if number != one.expected:
                one.expected, one.expected_by = number, "retrieve" if number else ""
                changed.append(one)
        return changed

    def elsewhere(self, series: Iterable[SeriesState], now: float) -> Iterator[str]:
        """Series that have less than was promised, and more documents than instances that we know of."""
        for one in series:
            if one.instances < one.expected and now - one.last_activity >= _IDLE:
                changed = self._proofs.changed(one.SeriesInstanceUID)
                if changed != one.documents:
                    one.documents = changed
                    if (self._proofs.count(one.SeriesInstanceUID) or 0) > one.instances:
                        yield one.SeriesInstanceUID


_IMAGES = "-img"

#: Where the image template ends so, a name ends in the instance's UID, and no header need be read for it.
_NAMED = "%SOPInstanceUID"
_UID = re.compile(r"[0-9]+(?:\.[0-9]+)*")
_UID_AT_END = re.compile(r"([0-9]+(?:\.[0-9]+)+)(?:-[0-9a-f]{8})?\.dcm$")

_Told = TypeVar("_Told")


class Instance(NamedTuple):
    """An instance as its document tells of it. `folder` is below the data directory; `at_ns` when it was described;
    StudyInstanceUID "" where the document has none.
    """

    SOPInstanceUID: str
    folder: str
    name: str
    size: int
    at_ns: int
    StudyInstanceUID: str = ""


class Identity(NamedTuple):
    """Whose a series is, from the header of one of its instances."""

    StudyInstanceUID: str = ""
    PatientID: str = ""
    AccessionNumber: str = ""
    Modality: str = ""
    sender: str = ""


class DocumentReader:
    """Reads them. Nothing here raises for what is damaged or gone: that proves nothing."""

    def __init__(self, config: Config) -> None:
        self._data = config.data.rstrip("/")
        self._log = config.log
        self._limits = Limits(config.max_header, config.max_depth)
        self._named = plan.choose_preset(config.layout, image=config.image_template).image.endswith(_NAMED)

    # -- all series

    def changed_since(self, moment_ns: int) -> Iterator[str]:
        """The series whose instances' documents changed at or after a moment."""
        with contextlib.suppress(OSError), os.scandir(f"{self._log}/seriesData") as entries:
            for entry in entries:
                with contextlib.suppress(OSError):
                    if entry.name.endswith(_IMAGES) and entry.stat().st_mtime_ns >= moment_ns:
                        yield self.uid_of(entry.name.removesuffix(_IMAGES))

    def uid_of(self, name: str) -> str:
        """The series of a directory of documents: its name, or what a document in it says where the UID makes no safe
        name (`..`).
        """
        if _UID.fullmatch(name):
            return name
        for document in self.names(name) or ():
            for uid in json_file.load_if_readable(f"{self._log}/{documents.instance_path(name, document)}") or {}:
                if document_name(uid) == name:
                    return uid
        return name

    # -- one series

    def _images(self, uid: str) -> str:
        return os.path.dirname(f"{self._log}/{documents.instance_path(uid, 'x')}")

    def names(self, uid: str) -> list[str] | None:
        """The instances that are described, by the names of their files; None where that cannot be told."""
        return self._told(uid, list)

    def count(self, uid: str) -> int | None:
        """How many instances are described, without holding their names; None where that cannot be told."""
        return self._told(uid, lambda names: sum(1 for _ in names))

    def _told(self, uid: str, tell: Callable[[Iterator[str]], _Told]) -> _Told | None:
        try:
            with os.scandir(self._images(uid)) as entries:
                return tell(
                    entry.name.removesuffix(".json")
                    for entry in entries
                    if entry.name.endswith(".json") and not entry.name.startswith(".")
                )
        except FileNotFoundError:
            return tell(iter(()))
        except OSError:
            return None

    def count_of(self, uid: str, study: str) -> int:
        """How many instances are described that are of one study, where several have the series UID."""
        paths = (f"{self._log}/{documents.instance_path(uid, name)}" for name in self.names(uid) or ())
        return sum(documents.study_of(json_file.load_if_readable(path) or {}) in (study, "") for path in paths)

    def owners(self, uid: str) -> set[tuple[str, str]]:
        """PatientID and Study Instance UID of a series' instances, as their documents tell."""
        paths = (f"{self._log}/{documents.instance_path(uid, name)}" for name in self.names(uid) or ())
        read = (json_file.load_if_readable(path) or {} for path in paths)
        return {(documents.patient_of(document), documents.study_of(document)) for document in read}

    def series_owner(self, uid: str) -> tuple[str, str]:
        """The same as the series' document tells."""
        document = json_file.load_if_readable(f"{self._log}/{documents.series_path(uid)}") or {}
        return documents.patient_of(document), documents.study_of(document)

    def newest(self, uid: str, study: str) -> Instance | None:
        """The instance of a series of a study that was described last."""
        read = (self.instance(uid, name) for name in self.names(uid) or ())
        found = [one for one in read if one and one.StudyInstanceUID == study]
        return max(found, key=lambda one: one.at_ns, default=None)

    def changed(self, uid: str) -> int:
        """A number that changes when an instance is described, or its document goes; 0 where there is none."""
        try:
            return os.stat(self._images(uid)).st_mtime_ns
        except OSError:
            return 0

    def promise(self, uid: str, seen: tuple[int, int]) -> tuple[tuple[int, int], dict[str, Any] | None]:
        """What another program promised of a series, and its document's looks; None when these are as `seen`."""
        path = f"{self._log}/{documents.retrieve_path(uid)}"
        try:
            status = os.stat(path)
        except OSError:
            return (0, 0), {} if seen != (0, 0) else None
        looks = (status.st_mtime_ns, status.st_size)
        return looks, None if looks == seen else json_file.load_if_readable(path) or {}

    def instance(self, uid: str, name: str) -> Instance | None:
        """An instance by its document; None for a document that cannot be read or tells of nothing."""
        path = f"{self._log}/{documents.instance_path(uid, name)}"
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
        below = folder.removeprefix(f"{self._data}/") if folder.startswith(f"{self._data}/") else folder
        return Instance(sop, below, name, size, at_ns, documents.study_of(document)) if sop else None

    def _sop(self, location: str, name: str) -> str:
        found = _UID_AT_END.search(name) if self._named else None
        return found[1] if found else self._header(location).get("SOPInstanceUID", "")

    def identity(self, uid: str, one: Instance) -> Identity:
        """Whose the series is, from one of its instances."""
        folder = one.folder if one.folder.startswith("/") else f"{self._data}/{one.folder}"
        values = self._header(f"{folder}/{one.name}")
        if values.get("SeriesInstanceUID") != uid:
            return Identity()
        return Identity(*[values.get(name, "") for name in Identity._fields])

    def accession(self, study: str, uid: str) -> str:
        """AccessionNumber, which not every layout reads, from the document that holds the series' whole header."""
        document = json_file.load_if_readable(f"{self._log}/{documents.study_series_path(study, uid)}") or {}
        try:
            value = document[study]["DICOM"]["AccessionNumber"]["value"]
        except (KeyError, TypeError):
            return ""
        return value if isinstance(value, str) else ""

    def _header(self, path: str) -> dict[str, str]:
        try:
            descriptor = files.open_regular(path)
            try:
                header = read_header(descriptor, os.fstat(descriptor).st_size, _wanted(), self._limits)
            finally:
                os.close(descriptor)
        except (FileFault, OSError):
            return {}
        patient = documents.patient_id(header)
        return {**header.values, "PatientID": patient, "sender": header.SourceApplicationEntityTitle}


def _wanted() -> Wanted:
    uids = ("SOPInstanceUID", "SeriesInstanceUID", "StudyInstanceUID")
    return Wanted.of((*uids, "PatientID", "AccessionNumber", "Modality"))
