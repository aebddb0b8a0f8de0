"""`listener verify`: whether the tree holds what the JSON logs tell, and the logs tell what is in the tree.

First the logs, series by series, each beside the folder of its instances; then the tree, folder by folder, for what no
document tells of. It works beside a running service: what looks wrong in a place that changed a moment ago is looked at
again before it counts.
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

#: How long a directory must have been left alone for a difference in it to count at once, in seconds.
SETTLE = 1.0

#: What instances that were found late, in the tree, may bring to light about their series.
_LATE = frozenset({"base-dir", "no-shared-document", "bad-shared-document", "study-list"})


class Request(NamedTuple):
    """How to verify: read every header (`deep`), mend logs and ledger (`repair`), tell it as JSON."""

    deep: bool = False
    repair: bool = False
    json: bool = False


def run(config: Config, request: Request) -> int:
    """Verify; 0 when there is no difference, or all were repaired, else 1."""
    try:
        _check(config, request)
        tally = Report(config, as_json=request.json)
        with ExitStack() as stack:
            staging = stack.enter_context(staging_in(config.log)) if request.repair else ""
            _Verification(
                WorkerContext(config, directories_of(config, staging), lock_timeout=locks.COMMAND_SECONDS),
                request,
                tally,
            ).run()
            ledger.verify(config, tally, repair=request.repair)
    except PermissionError as error:
        where = f" '{error.filename}'" if config.phi and error.filename else " a directory or document"
        raise ConfigError([f"verify: no permission for{where}; run it as the user of the service"]) from error
    return tally.summary(repairing=request.repair)


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
    """One pass over logs and tree. For each folder it remembers which series have instances there."""

    def __init__(self, context: WorkerContext, request: Request, tally: Report) -> None:
        self._context = context
        self._inventory = Inventory(context, deep=request.deep)
        self._repairer = Repairer(context, self._inventory.places) if request.repair else None
        self._tally = tally
        self._data = context.directories.data
        self._log = context.directories.log
        self._homes: dict[str, list[str]] = {}
        self._found_late: dict[str, None] = {}
        #: Hashes of what documents of instances told: series in studies, patients in studies, and what was met at all.
        self._met: set[int] = set()

    def run(self) -> None:
        """Logs, tree, and once more the series of which the tree brought instances to light."""
        for uid in series_in(self._log):
            self._series(uid)
        self._studies()
        self._patients()
        for folder in folders_in(self._data):
            self._folder(folder)
        for uid in self._found_late:
            for difference in of_series(self._inventory.series(uid)):
                if difference.word in _LATE:
                    self._settle(difference)

    def _series(self, uid: str) -> None:
        record = self._inventory.series(uid)
        homes = dict.fromkeys(os.path.dirname(one.path) for one in record.documents if one.path)
        # A series begins with its own documents; those of its instances come later.
        changing = [record.images, *homes] if homes else [os.path.dirname(record.images)]
        for difference in _lasting(lambda: of_series(self._inventory.series(uid)), changing, of_series(record)):
            self._settle(difference)
        self._tally.looked_at(record)
        self._remember(record, homes)

    def _remember(self, record: Series, homes: Iterable[str]) -> None:
        for home in homes:
            self._homes.setdefault(home, []).append(record.series)
        for patient, study in {(one.patient, one.study) for one in record.documents if one.readable and one.study}:
            name = document_name(study)
            keys = (("series", record.series), ("of", record.series, name), ("study", study), ("in", patient, study))
            self._met.update(map(hash, keys))

    def _studies(self) -> None:
        """What lies among a study's documents of series and belongs to no series, or is no document."""
        for directory, names in studies_in(self._log):
            for difference in _lasting(partial(self._study, directory, names), [directory]):
                self._settle(difference)

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
        """Whether a series has instances, and none of them is of this study; what was not met before is read anew."""
        if hash(("series", uid)) not in self._met or hash(("of", uid, study)) in self._met:
            return False
        record = self._inventory.series(uid)
        return all(one.readable and one.study and document_name(one.study) != study for one in record.documents)

    def _patients(self) -> None:
        """Studies that a patient's document lists and that have instances, but none of this patient."""
        for name in names_in(f"{self._log}/patientData"):
            path = f"{self._log}/patientData/{name}"
            document = json_file.load_if_readable(path) or {}
            for patient in documents.patients_in(document, name):
                entry = document[patient]
                studies = entry.get("StudyList") if isinstance(entry, dict) else None
                for study in studies if isinstance(studies, list) else ():
                    keys = hash(("study", study)), hash(("in", patient, study))
                    if (
                        keys[0] in self._met
                        and keys[1] not in self._met
                        and not is_documented((patient, study), self._context)
                    ):
                        self._settle(Difference("left-over", path, study=study, document="patient"))

    def _folder(self, folder: Folder) -> None:
        for path in folder.foreign:
            self._settle(Difference("foreign-in-tree", path))
        known: set[str] = set()
        for uid in self._homes.get(folder.path, ()):
            known.update(names_in(f"{self._log}/seriesData/{uid}-img"))
        strays = [f"{folder.path}/{name}" for name in folder.names if f"{name}.json" not in known]

        def look() -> Iterable[Difference]:
            return of_strays([stray for stray in map(self._inventory.stray, strays) if stray])

        found = _lasting(look, [folder.path]) if strays else []
        missing = [one for one in found if one.word == "no-document"]
        described = self._repairer.describe([one.path for one in missing]) if self._repairer else [None] * len(missing)
        for difference, fine in zip(missing, described, strict=True):
            self._tally.count(difference, fine)
            self._found_late[difference.series] = None
        for difference in found:
            if difference.word != "no-document":
                self._settle(difference)

    def _settle(self, difference: Difference) -> None:
        """Mend a difference, if that is asked for, and tell of it; a document that many share is told of once."""
        if difference.document and self._tally.told_of(difference):
            return
        self._tally.count(difference, self._repairer.mend(difference) if self._repairer else None)


def _lasting(
    look: Callable[[], Iterable[Difference]], directories: list[str], first: Iterable[Difference] | None = None
) -> list[Difference]:
    """The differences that are still there at a second look, if these directories changed only a moment ago."""
    found = list(look() if first is None else first)
    if not found:
        return found
    age = (time.time_ns() - changed_ns(directories)) / 1e9
    if not 0 <= age < SETTLE:
        return found
    time.sleep(SETTLE - age)
    again = {(one.word, one.path, one.document) for one in look()}
    return [one for one in found if (one.word, one.path, one.document) in again]
