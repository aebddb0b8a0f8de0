"""Repair: make documents and ledger anew from the tree."""

from __future__ import annotations

import contextlib
import errno
import os
import secrets
from collections.abc import Callable, Iterator, Sequence
from typing import Any

from listener.config import Config
from listener.dicom.reader import check_uids, read_header
from listener.disk import files, json_file, sync
from listener.disk.directories import Directories, remove_killed_runs
from listener.errors import FileFault
from listener.planning import documents
from listener.planning.documents import Document
from listener.planning.names import OWN
from listener.planning.plan import Plan
from listener.records import Arrival
from listener.repacking import describe
from listener.repacking.context import FileJob, NotYet, WorkerContext
from listener.repacking.describe import SharedDocuments, locked, locked_series, update
from listener.repacking.revision import Revision, revise
from listener.verification.differences import Difference
from listener.verification.inventory import base_directory, part_with
from listener.verification.tree import Places, names_in

#: Instances that are described between two barriers.
BATCH = 32


def directories_of(config: Config, staging: str) -> Directories:
    """Directories for a verification: only the logs are ever written to, through `staging` below them."""
    return Directories(
        data=config.data,
        log=config.log,
        state=config.state,
        log_staging=staging,
        locks=os.path.join(config.log, OWN, "locks"),
    )


@contextlib.contextmanager
def staging_in(log: str) -> Iterator[str]:
    """A staging directory for one run, gone at its end; the directory of locks is there, too."""
    remove_killed_runs(log)
    path = os.path.join(log, OWN, "staging", f"verify-{os.getpid()}-{secrets.token_hex(4)}")
    for made in (path, os.path.join(log, OWN, "locks")):
        os.makedirs(made, mode=0o700, exist_ok=True)
    try:
        yield path
    finally:
        with contextlib.suppress(OSError):
            os.rmdir(path)


class Rebuilder:
    """Describes instances where they lie."""

    def __init__(self, context: WorkerContext) -> None:
        self._context = context
        self._shared = SharedDocuments()

    def describe(self, paths: Sequence[str]) -> list[bool]:
        """Write the documents of these instances, and the shared ones that lack; for each, whether that worked."""
        # Most are of one series: its first one writes what they share, so that the others need not read all they hold.
        done = self._together(paths[:1])
        for start in range(1, len(paths), BATCH):
            done += self._together(paths[start : start + BATCH])
        return done

    def _together(self, paths: Sequence[str]) -> list[bool]:
        """One barrier for all: data before names, and then the names."""
        jobs = [self._open(path) for path in paths]
        try:
            ready = [job is not None and self._prepared(job) for job in jobs]
            self._sync(job for job, fine in zip(jobs, ready, strict=True) if job and fine)
            done = [job is not None and fine and self._placed(job) for job, fine in zip(jobs, ready, strict=True)]
            if self._context.syncs:
                described = [job.document for job, fine in zip(jobs, done, strict=True) if job and fine]
                sync.directories(dict.fromkeys(map(os.path.dirname, described)))
            return done
        finally:
            for job in jobs:
                if job is not None:
                    job.close()

    def _sync(self, jobs: Iterator[FileJob]) -> None:
        if self._context.syncs:
            sync.descriptors([descriptor for job in jobs for descriptor in job.opened])

    def _open(self, path: str) -> FileJob | None:
        """An instance of the tree as if it had just been placed; None for what is no good."""
        context = self._context
        job = FileJob(Arrival(path, 0, 0, "startup"), path, target=path)
        try:
            job.descriptor = files.open_regular(path)
            job.size = os.fstat(job.descriptor).st_size
            job.header = read_header(job.descriptor, job.size, context.wanted, context.limits)
            check_uids(job.header)
        except (FileFault, OSError):
            job.close()
            return None
        job.plan = Plan(*os.path.split(os.path.relpath(path, context.directories.data)))
        return job

    def _prepared(self, job: FileJob) -> bool:
        try:
            self._shared.read_if_missing(job, self._context)
            describe.prepare(job, self._context)
        except (FileFault, OSError):
            return False
        return True

    def _placed(self, job: FileJob) -> bool:
        try:
            describe.describe(job, self._context, self._shared)
        except (NotYet, OSError):  # A worker has just described it, or somebody holds its lock.
            return False
        return True

    def share(self, path: str) -> bool:
        """Complete what the instance at `path` shares with others; its own document stays as it is."""
        job = self._open(path)
        if job is None:
            return False
        try:
            shared = SharedDocuments()
            shared.read_if_missing(job, self._context)
            shared.write_missing(job, self._context)
        finally:
            job.close()
        return True

    def whole_size(self, path: str) -> int:
        """The size of an instance that is proven complete; -1 for any other."""
        job = self._open(path)
        if job is None:
            return -1
        job.close()
        return job.size


Way = Callable[[Difference], bool]


class Repairer:
    """Mends differences one by one; says which it could not."""

    def __init__(self, context: WorkerContext, places: Places) -> None:
        self._context = context
        self._places = places
        self._log = context.directories.log
        self._rebuilder = Rebuilder(context)
        self._ways: dict[str, Way] = {
            "moved": self._follow,
            "no-instance": self._remove_dangling,
            "bad-document": self._describe_anew,
            "wrong-document": self._describe_anew,
            "size": self._tell_size,
            "no-shared-document": lambda one: self._rebuilder.share(one.other),
            "bad-shared-document": self._share_anew,
            "study-list": lambda one: self._rebuilder.share(one.other),
            "outdated": self._renew,
            "left-over": self._drop,
            "base-dir": lambda one: self._rewrite(one.path, "SeriesBaseDir", os.path.dirname(one.other)),
            "no-instances": self._forget,
            "foreign-in-log": lambda one: self._remove(one.path),
        }

    def mend(self, difference: Difference) -> bool:
        """Try; whether the difference is gone."""
        try:
            way = self._ways.get(difference.word)
            return way is not None and way(difference)
        except (FileFault, OSError):
            return False

    def describe(self, paths: list[str]) -> list[bool]:
        """Write the documents of these instances of the tree; for each, whether that worked."""
        return self._rebuilder.describe(paths)

    def _remove(self, path: str) -> bool:
        """Move something out of the logs, where nobody reads it and nothing is lost."""
        describe.remove(path, self._context)
        return True

    def _remove_dangling(self, one: Difference) -> bool:
        """The document of an instance that is not there, unless that is there by now: a worker that finds its document
        word for word leaves it, and looks under the same lock.
        """
        with locked(one.path, self._context):
            told = documents.location(json_file.load_if_readable(one.path) or {})
            place = self._places.find(os.path.dirname(told)).path
            return os.path.isfile(f"{place}/{os.path.basename(told)}") or self._remove(one.path)

    def _describe_anew(self, one: Difference) -> bool:
        """Out of the way. Without an instance that it is known to be of, the tree will tell what belongs there."""
        return self._remove(one.path) and (not one.other or self._rebuilder.describe([one.other])[0])

    def _share_anew(self, one: Difference) -> bool:
        return self._remove(one.path) and self._rebuilder.share(one.other)

    def _tell_size(self, one: Difference) -> bool:
        """Only of an instance that is whole: the document may be right, and the instance cut."""
        size = self._rebuilder.whole_size(one.other)
        return size >= 0 and self._rewrite(one.path, "size", size)

    def _follow(self, one: Difference) -> bool:
        """Let every document of a series point to where its instances are now."""
        studies = set()
        for name in names_in(one.path):
            path = f"{one.path}/{name}"
            document = json_file.load_if_readable(path) or {}
            studies.add(str(part_with(document, "StudyInstanceUID").get("StudyInstanceUID", "")))
            told = documents.location(document)
            place = self._places.find(os.path.dirname(told))
            if told and place.moved:
                self._rewrite(path, "FSlocation", f"{place.path}/{os.path.basename(told)}")
        for study in studies:
            path = f"{self._log}/{documents.study_series_path(study, one.series)}"
            place = self._places.find(base_directory(json_file.load_if_readable(path) or {}))
            if place.moved:
                self._rewrite(path, "SeriesBaseDir", place.path)
        return True

    def _renew(self, one: Difference) -> bool:
        revise(Revision(one.series, renews=True), self._context, [])
        return True

    def _drop(self, one: Difference) -> bool:
        """What tells of a study that a series, or a patient, is not in any more."""
        if one.document != "patient":
            return self._remove(one.path)

        def without(there: Document | None) -> Document | None:
            there = there or {}
            patients = documents.patients_in(there, os.path.basename(one.path))
            changed = (documents.without_study(there, patient, one.study) for patient in patients)
            return next((document for document in changed if document), None)

        describe.update(one.path, self._context, without)
        return True

    def _rewrite(self, path: str, key: str, value: object) -> bool:
        """Change one value of a document; whatever else another program wrote there stays."""
        update(path, self._context, lambda there: None if there is None else _with_value(there, key, value))
        return True

    def _forget(self, one: Difference) -> bool:
        """A series without instances: its documents go out of the way; what other programs wrote of it stays."""
        if one.study:
            return self._remove(one.path)
        path = f"{self._log}/{documents.series_path(one.series)}"
        study = str(part_with(json_file.load_if_readable(path) or {}, "StudyInstanceUID").get("StudyInstanceUID", ""))
        names = [documents.series_path(one.series), documents.pack_path(one.series)]
        names += [documents.study_series_path(study, one.series)] if study else []
        with locked_series(one.series, self._context):
            try:
                os.rmdir(one.path)
            except OSError as error:  # It may never have had any; what lies in it by now needs the others.
                if error.errno != errno.ENOENT:
                    return False
            for name in names:
                self._remove(f"{self._log}/{name}")
        return True


def _with_value(document: Document, key: str, value: object) -> Document:
    """`document` with `key` set wherever it stands; of an instance's document, its one image gets it."""
    changed: dict[str, Any] = {}
    for name, part in document.items():
        if name == key:
            changed[name] = value
        elif isinstance(part, dict) and name != "DICOM":
            changed[name] = _with_value(part, key, value)
        else:
            changed[name] = part
    return changed
