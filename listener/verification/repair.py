"""Repair the documents of the log directory from the instances in the tree."""

from __future__ import annotations

import contextlib
import errno
import os
import secrets
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing
from typing import Any, NamedTuple

from listener.config import Config
from listener.dicom.reader import check_uids, read_header
from listener.disk import files, json_file, sync
from listener.disk.directories import Directories, remove_killed_runs
from listener.planning import documents
from listener.planning.documents import Document
from listener.planning.names import OWN
from listener.planning.plan import Plan
from listener.reasons import FileFault
from listener.repacking import describe, document_files
from listener.repacking.context import WorkerContext
from listener.repacking.document_files import locked, locked_series, update
from listener.repacking.job import Instance, NotYet, Placed, Resources, SharedContent, StagedDocument
from listener.repacking.revision import Revision, revise
from listener.repacking.shared_documents import SharedDocuments
from listener.verification.differences import Difference
from listener.verification.inventory import base_directory, entry_with
from listener.verification.tree import Relocation, names_in

#: Instances whose documents are written between two barriers.
BATCH = 32


def directories_of(config: Config, staging: str) -> Directories:
    """Return the directories of a verification, which writes to the log directory alone, through `staging` there."""
    return Directories(
        data=config.data,
        log=config.log,
        state=config.state,
        log_staging=staging,
        locks=os.path.join(config.log, OWN, "locks"),
    )


@contextlib.contextmanager
def staging_in(log: str) -> Iterator[str]:
    """Make a staging directory for one run, and the directory of locks; the former is removed at the end."""
    remove_killed_runs(log)
    path = os.path.join(log, OWN, "staging", f"verify-{os.getpid()}-{secrets.token_hex(4)}")
    for made in (path, os.path.join(log, OWN, "locks")):
        os.makedirs(made, mode=0o700, exist_ok=True)
    try:
        yield path
    finally:
        with contextlib.suppress(OSError):
            os.rmdir(path)


class _Staged(NamedTuple):
    """An instance in the tree whose document is staged; `content` is what missing shared documents are made of."""

    instance: Instance
    path: str
    plan: Plan
    content: SharedContent | None
    document: StagedDocument


class Describer:
    """Writes the documents of instances that are in the tree."""

    def __init__(self, context: WorkerContext) -> None:
        self._context = context
        self._shared = SharedDocuments(context)

    def describe(self, paths: Sequence[str]) -> list[bool]:
        """Write the documents of these instances, and missing shared ones; return for each whether that worked."""
        batches = [paths[start : start + BATCH] for start in range(0, len(paths), BATCH)]
        return [done for batch in batches for done in self._describe_batch(batch)]

    def _describe_batch(self, paths: Sequence[str]) -> list[bool]:
        """Write the documents of one batch with one barrier: data before names, then the names."""
        self._shared.begin_batch()
        with closing(Resources()) as instances, closing(Resources()) as fresh:
            staged = [self._stage(path, instances, fresh) for path in paths]
            if self._context.syncs:
                sync.descriptors(fresh.opened)
            described = [self._publish(entry, fresh) if entry else "" for entry in staged]
            if self._context.syncs:
                sync.directories(dict.fromkeys(os.path.dirname(path) for path in described if path))
            return [bool(path) for path in described]

    def _stage(self, path: str, instances: Resources, fresh: Resources) -> _Staged | None:
        """Read an instance and stage its document; return None for a faulty file or where that fails."""
        context = self._context
        try:
            descriptor = files.open_regular(path)
            instances.opened.append(descriptor)
            instance = self._read(descriptor)
            content = self._shared.read_if_missing(instance)
            plan = Plan(*os.path.split(os.path.relpath(path, context.directories.data)))
            return _Staged(instance, path, plan, content, describe.stage(instance, plan, context, fresh))
        except (FileFault, OSError):
            return None

    def _read(self, descriptor: int) -> Instance:
        """Read the header of a complete instance. Raises as the reader does."""
        size = os.fstat(descriptor).st_size
        header = read_header(descriptor, size, self._context.wanted, self._context.limits)
        check_uids(header)
        return Instance(header, descriptor)

    def _publish(self, staged: _Staged, fresh: Resources) -> str:
        """Put the documents of an instance in place; return the path of its own, "" where that failed."""
        instance, path, plan, content, document = staged
        placed = Placed("published", path, plan, self._context.document(instance.series, plan.name))
        try:
            describe.describe(instance, placed, document, content, self._shared, fresh)
        except (NotYet, FileFault, OSError):  # Described by a worker just now, locked by a process, or damaged.
            return ""
        return placed.document

    def share(self, path: str) -> bool:
        """Write the missing shared documents of the instance at `path`. Raises FileFault or OSError."""
        with files.opened(path) as descriptor:
            SharedDocuments(self._context).write_if_missing(self._read(descriptor), os.path.dirname(path))
        return True

    def whole_size(self, path: str) -> int:
        """Return the size of a complete instance, in bytes. Raises FileFault or OSError for any other file."""
        with files.opened(path) as descriptor:
            return self._read(descriptor).header.size


Repair = Callable[[Difference], bool]


class Repairer:
    """Repairs differences, each by its word."""

    def __init__(self, context: WorkerContext, relocation: Relocation) -> None:
        self._context = context
        self._relocation = relocation
        self._log = context.directories.log
        self._describer = Describer(context)
        self._repairs: dict[str, Repair] = {
            "moved": self._repoint,
            "no-instance": self._remove_dangling,
            "bad-document": self._rewrite_document,
            "wrong-document": self._rewrite_document,
            "size": self._correct_size,
            "no-shared-document": lambda difference: self._describer.share(difference.other),
            "bad-shared-document": self._rewrite_shared,
            "study-list": lambda difference: self._describer.share(difference.other),
            "outdated": self._update_outdated,
            "left-over": self._remove_left_over,
            "base-dir": lambda difference: self._rewrite(
                difference.path, "SeriesBaseDir", os.path.dirname(difference.other)
            ),
            "no-instances": self._remove_series,
            "foreign-in-log": lambda difference: self._remove(difference.path),
        }

    def repair(self, difference: Difference) -> bool:
        """Try to repair a difference; return whether it is gone."""
        try:
            repair = self._repairs.get(difference.word)
            return repair is not None and repair(difference)
        except (FileFault, OSError):
            return False

    def describe(self, paths: list[str]) -> list[bool]:
        """Write the documents of these instances of the tree; return for each whether that worked."""
        return self._describer.describe(paths)

    def _remove(self, path: str) -> bool:
        """Move a file or directory out of the logs, to `.listener/removed`."""
        document_files.remove(path, self._context)
        return True

    def _remove_dangling(self, difference: Difference) -> bool:
        """Remove the document of a missing instance, unless that has come meanwhile: a worker that finds its document
        unchanged leaves it, and checks this under the same lock.
        """
        with locked(difference.path, self._context):
            recorded = documents.location(json_file.load_if_readable(difference.path) or {})
            directory = self._relocation.find(os.path.dirname(recorded)).path
            return os.path.isfile(f"{directory}/{os.path.basename(recorded)}") or self._remove(difference.path)

    def _rewrite_document(self, difference: Difference) -> bool:
        """Remove a document and write it again; if its instance is unknown, the pass over the tree does that."""
        return self._remove(difference.path) and (
            not difference.other or self._describer.describe([difference.other])[0]
        )

    def _rewrite_shared(self, difference: Difference) -> bool:
        return self._remove(difference.path) and self._describer.share(difference.other)

    def _correct_size(self, difference: Difference) -> bool:
        """Correct the size in a document, only if the instance is complete: it may have been truncated."""
        return self._rewrite(difference.path, "size", self._describer.whole_size(difference.other))

    def _repoint(self, difference: Difference) -> bool:
        """Make every document of a series point to where its instances are now."""
        studies = set()
        for name in names_in(difference.path):
            path = f"{difference.path}/{name}"
            document = json_file.load_if_readable(path) or {}
            studies.add(str(entry_with(document, "StudyInstanceUID").get("StudyInstanceUID", "")))
            recorded = documents.location(document)
            directory = self._relocation.find(os.path.dirname(recorded))
            if recorded and directory.moved:
                self._rewrite(path, "FSlocation", f"{directory.path}/{os.path.basename(recorded)}")
        for study in studies:
            path = f"{self._log}/{documents.study_series_path(study, difference.series)}"
            base = self._relocation.find(base_directory(json_file.load_if_readable(path) or {}))
            if base.moved:
                self._rewrite(path, "SeriesBaseDir", base.path)
        return True

    def _update_outdated(self, difference: Difference) -> bool:
        revise(Revision(difference.series, renews=True), self._context, [])
        return True

    def _remove_left_over(self, difference: Difference) -> bool:
        """Remove the document, or the entry of a StudyList, of a study in which a series or patient has no instance."""
        if difference.document != "patient":
            return self._remove(difference.path)

        def without(there: Document | None) -> Document | None:
            there = there or {}
            patients = documents.patients_in(there, os.path.basename(difference.path))
            changed = (documents.without_study(there, patient, difference.study) for patient in patients)
            return next((document for document in changed if document), None)

        document_files.update(difference.path, self._context, without)
        return True

    def _rewrite(self, path: str, key: str, value: object) -> bool:
        """Change one value of a document and keep everything else that another program wrote there."""
        update(path, self._context, lambda there: None if there is None else _with_value(there, key, value))
        return True

    def _remove_series(self, difference: Difference) -> bool:
        """Remove our documents of a series without instances; those of other programs stay."""
        if difference.study:
            return self._remove(difference.path)
        path = f"{self._log}/{documents.series_path(difference.series)}"
        study = str(entry_with(json_file.load_if_readable(path) or {}, "StudyInstanceUID").get("StudyInstanceUID", ""))
        names = [documents.series_path(difference.series), documents.pack_path(difference.series)]
        names += [documents.study_series_path(study, difference.series)] if study else []
        with locked_series(difference.series, self._context):
            try:
                os.rmdir(difference.path)
            except OSError as error:  # ENOENT: it never had any. Instances that came meanwhile need the others.
                if error.errno != errno.ENOENT:
                    return False
            for name in names:
                self._remove(f"{self._log}/{name}")
        return True


def _with_value(document: Document, key: str, value: object) -> Document:
    """Return `document` with `key` set at every level that has it."""
    changed: dict[str, Any] = {}
    for name, part in document.items():
        if name == key:
            changed[name] = value
        elif isinstance(part, dict) and name != "DICOM":
            changed[name] = _with_value(part, key, value)
        else:
            changed[name] = part
    return changed
