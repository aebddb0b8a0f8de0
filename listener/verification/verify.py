"""`listener verify`: compare the tree with the JSON logs, in both directions, and then the ledger with the logs.

First the logs, series by series, each with the folder of its instances; then the tree, folder by folder, for instances
without a document. A running service is no obstacle: a difference in a directory that has just changed is checked again
before it counts.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack
from functools import partial
from typing import NamedTuple

from listener.config import Config
from listener.disk import json_file, locks
from listener.errors import ConfigError
from listener.planning import documents
from listener.planning.names import OWN, document_name
from listener.repacking.context import WorkerContext
from listener.repacking.revision import is_documented
from listener.verification import ledger
from listener.verification.differences import Difference, Series, of_series, of_strays
from listener.verification.inventory import Inventory
from listener.verification.repair import Repairer, directories_of, staging_in
from listener.verification.report import Report
from listener.verification.tree import Folder, changed_ns, folders_in, is_foreign, names_in, series_in, studies_in

#: Seconds without a change in a directory after which a difference in it counts at once.
SETTLE = 1.0

#: Differences of a series that show only once its instances without documents have been described.
_LATE = frozenset({"base-dir", "no-shared-document", "bad-shared-document", "study-list"})


class Request(NamedTuple):
    """Options of one run: read every header (`deep`), repair logs and ledger (`repair`), print JSON lines (`json`)."""

    deep: bool = False
    repair: bool = False
    json: bool = False


def run(config: Config, request: Request) -> int:
    """Return 0 when there is no difference or all were repaired, else 1. Raise ConfigError for unusable directories."""
    try:
        _check(config, request)
        report = Report(config, as_json=request.json)
        with ExitStack() as stack:
            staging = stack.enter_context(staging_in(config.log)) if request.repair else ""
            _Verification(
                WorkerContext(config, directories_of(config, staging), lock_timeout=locks.COMMAND_SECONDS),
                request,
                report,
            ).run()
            ledger.verify(config, report, repair=request.repair)
    except PermissionError as error:
        where = f" '{error.filename}'" if config.phi and error.filename else " a directory or document"
        raise ConfigError([f"verify: no permission for{where}; run it as the user of the service"]) from error
    return report.summary(repairing=request.repair)


def _check(config: Config, request: Request) -> None:
    needed = [("--data", config.data), *([] if request.repair else [("--log", config.log)])]
    problems = [
        f"{option}: '{path}' is not a directory; give the one that the service uses"
        for option, path in needed
        if not os.path.isdir(path)
    ]
    if not problems and request.repair and not set(names_in(config.data)) - {OWN} and series_in(config.log):
        problems = [
            f"--data: '{config.data}' is empty while the logs tell of instances; is it mounted? nothing was repaired"
        ]
    if problems:
        raise ConfigError(problems)


class _Verification:
    """One pass over logs and tree."""

    def __init__(self, context: WorkerContext, request: Request, report: Report) -> None:
        self._context = context
        self._inventory = Inventory(context, deep=request.deep)
        self._repairer = Repairer(context, self._inventory.relocation) if request.repair else None
        self._report = report
        self._data = context.directories.data
        self._log = context.directories.log
        self._series_by_folder: dict[str, list[str]] = {}
        self._recheck: dict[str, None] = {}
        #: Hashes of what documents of instances say: series and patients in studies, and every series and study.
        self._seen: set[int] = set()

    def run(self) -> None:
        """Compare logs and tree, then check again the series whose undescribed instances were found in the tree."""
        for uid in series_in(self._log):
            self._series(uid)
        self._studies()
        self._patients()
        for folder in folders_in(self._data):
            self._folder(folder)
        for uid in self._recheck:
            for difference in of_series(self._inventory.series(uid)):
                if difference.word in _LATE:
                    self._handle(difference)

    def _series(self, uid: str) -> None:
        record = self._inventory.series(uid)
        folders = dict.fromkeys(os.path.dirname(described.path) for described in record.documents if described.path)
        # The series' own documents are written before those of its instances.
        changing = [record.images, *folders] if folders else [os.path.dirname(record.images)]
        for difference in _persistent(lambda: of_series(self._inventory.series(uid)), changing, of_series(record)):
            self._handle(difference)
        self._report.count_series(record)
        self._remember(record, folders)

    def _remember(self, record: Series, folders: Iterable[str]) -> None:
        for folder in folders:
            self._series_by_folder.setdefault(folder, []).append(record.series)
        owners = {(each.patient, each.study) for each in record.documents if each.readable and each.study}
        for patient, study in owners:
            name = document_name(study)
            keys = (("series", record.series), ("of", record.series, name), ("study", study), ("in", patient, study))
            self._seen.update(map(hash, keys))

    def _studies(self) -> None:
        """Report documents of series in studies that have no such series, and files there that are no documents."""
        for directory, names in studies_in(self._log):
            for difference in _persistent(partial(self._study, directory, names), [directory]):
                self._handle(difference)

    def _study(self, directory: str, names: list[str]) -> Iterator[Difference]:
        study = os.path.basename(directory).removesuffix("-series")
        for name in names:
            path, uid = f"{directory}/{name}", name.removesuffix("-meta.json")
            if is_foreign(name, "-meta.json"):
                yield Difference("foreign-in-log", path, study=study)
            elif not any(os.path.lexists(f"{self._log}/seriesData/{uid}{end}") for end in ("-img", "-meta.json")):
                yield Difference("no-instances", path, uid, study)
            elif self._has_left(uid, study):
                yield Difference("left-over", path, uid, study, document="study-series")

    def _has_left(self, uid: str, study: str) -> bool:
        """Return whether a series has instances, but none in this study; documents newer than the first pass count."""
        if hash(("series", uid)) not in self._seen or hash(("of", uid, study)) in self._seen:
            return False
        record = self._inventory.series(uid)
        return all(each.readable and each.study and document_name(each.study) != study for each in record.documents)

    def _patients(self) -> None:
        """Report studies in a StudyList that have instances, but none of this patient."""
        for name in names_in(f"{self._log}/patientData"):
            path = f"{self._log}/patientData/{name}"
            document = json_file.load_if_readable(path) or {}
            for patient in documents.patients_in(document, name):
                entry = document[patient]
                studies = entry.get("StudyList") if isinstance(entry, dict) else None
                for study in studies if isinstance(studies, list) else ():
                    if self._lacks(patient, study):
                        self._handle(Difference("left-over", path, study=study, document="patient"))

    def _lacks(self, patient: str, study: str) -> bool:
        """Return whether a study has instances, but none of this patient; documents newer than the first pass count."""
        if hash(("study", study)) not in self._seen or hash(("in", patient, study)) in self._seen:
            return False
        return not is_documented((patient, study), self._context)

    def _folder(self, folder: Folder) -> None:
        for path in folder.foreign:
            self._handle(Difference("foreign-in-tree", path))
        known: set[str] = set()
        for uid in self._series_by_folder.get(folder.path, ()):
            known.update(names_in(f"{self._log}/seriesData/{uid}-img"))
        strays = [f"{folder.path}/{name}" for name in folder.names if f"{name}.json" not in known]

        def look() -> Iterable[Difference]:
            return of_strays([stray for stray in map(self._inventory.stray, strays) if stray])

        differences = _persistent(look, [folder.path]) if strays else []
        missing = [difference for difference in differences if difference.word == "no-document"]
        repaired = self._repairer.describe([each.path for each in missing]) if self._repairer else [None] * len(missing)
        for difference, succeeded in zip(missing, repaired, strict=True):
            self._report.add(difference, succeeded)
            self._recheck[difference.series] = None
        for difference in differences:
            if difference.word != "no-document":
                self._handle(difference)

    def _handle(self, difference: Difference) -> None:
        """Repair a difference, if requested, and report it; that of a shared document only once."""
        if difference.document and self._report.already_reported(difference):
            return
        self._report.add(difference, self._repairer.repair(difference) if self._repairer else None)


def _persistent(
    look: Callable[[], Iterable[Difference]], directories: list[str], first: Iterable[Difference] | None = None
) -> list[Difference]:
    """Return the differences; if one of the directories has just changed, only those that a second look confirms."""
    differences = list(look() if first is None else first)
    if not differences:
        return differences
    age = (time.time_ns() - changed_ns(directories)) / 1e9
    if not 0 <= age < SETTLE:
        return differences
    time.sleep(SETTLE - age)
    again = {(each.word, each.path, each.document) for each in look()}
    return [each for each in differences if (each.word, each.path, each.document) in again]
