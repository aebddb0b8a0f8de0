"""Revise a series after a correction: one file for each instance, shared documents of the newest one.

Runs in a thread of its own, started by the ledger's writer. Everything here can be repeated, and works beside workers
and other listeners, under the locks that they take.
"""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Iterator
from typing import NamedTuple

from listener.dicom.reader import read_header
from listener.disk import files, json_file, sync
from listener.planning import documents
from listener.planning.documents import Document
from listener.reasons import FileFault
from listener.records import Outcome
from listener.repacking import dataset, document_files, setaside, shared_documents
from listener.repacking.context import WorkerContext
from listener.repacking.job import Instance

#: PatientID and Study Instance UID.
Owner = tuple[str, str]


class Revision(NamedTuple):
    """What to revise in a series: `doubles` are instances with more than one file (file names, the oldest first),
    `former` its previous owners, `renews` whether shared documents follow the newest instance.
    """

    SeriesInstanceUID: str
    doubles: frozenset[tuple[str, ...]] = frozenset()
    former: frozenset[Owner] = frozenset()
    renews: bool = False


def merge(first: Revision, second: Revision) -> Revision:
    """Combine two revisions of one series."""
    return Revision(
        first.SeriesInstanceUID,
        first.doubles | second.doubles,
        first.former | second.former,
        first.renews or second.renews,
    )


class Described(NamedTuple):
    """An instance's document, the path and owner it names, when it was written, and the instance's ctime (when it
    changed or a sender was told that it is present), both in nanoseconds.
    """

    document: str
    path: str
    owner: Owner
    at_ns: int
    marked_ns: int


def described(series: str, context: WorkerContext) -> Iterator[Described]:
    """Yield the readable documents of a series' instances whose file is in the tree."""
    folder = os.path.dirname(f"{context.directories.log}/{documents.instance_path(series, 'x')}")
    with contextlib.suppress(FileNotFoundError), os.scandir(folder) as entries:
        for entry in entries:
            document = json_file.load_if_readable(entry.path) or {}
            path = documents.location(document)
            if path.startswith(f"{context.directories.data}/") and os.path.isfile(path):
                yield Described(entry.path, path, _owner(document), entry.stat().st_mtime_ns, os.stat(path).st_ctime_ns)


def revise(revision: Revision, context: WorkerContext, outcomes: list[Outcome]) -> None:
    """Revise a series. Append to `outcomes`: files set aside ("revised"), and the instance that shared documents were
    renewed from ("renewed"). Raises OSError or LockHeld: try again.
    """
    uid = revision.SeriesInstanceUID
    before = {entry.owner for entry in described(uid, context)}
    for names in sorted(revision.doubles):
        outcomes.extend(_keep_one(uid, names, context))
    there = sorted(described(uid, context), key=lambda entry: (entry.at_ns, entry.document))
    owners = {entry.owner: entry for entry in there}  # The newest of each.
    for entry in owners.values():
        _update_shared(entry, context, renews=revision.renews and entry is there[-1])
    if owners:  # A series without instances was pruned: nothing is left to forget.
        for former in (revision.former | before) - owners.keys():
            _forget(uid, former, {study for _, study in owners}, context)
    if there and revision.renews:
        outcomes.append(_renewed(uid, there[-1]))


def _renewed(uid: str, newest: Described) -> Outcome:
    outcome = Outcome("renewed", newest.path, 0, newest.at_ns, time.time_ns(), dst=newest.path)
    return outcome._replace(SeriesInstanceUID=uid, StudyInstanceUID=newest.owner[1])


# -- one file an instance ----------------------------------------------------------------------------------------------


def _keep_one(uid: str, names: tuple[str, ...], context: WorkerContext) -> Iterator[Outcome]:
    """Keep the newest of these files as the instance, or the oldest, by policy; set the others aside."""
    if context.config.on_conflict == "keep-both":
        return
    wanted = {f"{name}.json" for name in names}
    entries = [entry for entry in described(uid, context) if os.path.basename(entry.document) in wanted]
    entries.sort(key=lambda entry: names.index(os.path.basename(entry.path)))
    entries.sort(key=lambda entry: entry.at_ns)
    if len(entries) < 2 or len({_instance(entry.path, context) for entry in entries}) != 1:
        return
    keeps = entries[-1] if context.config.on_conflict == "replace" else entries[0]
    for entry in entries:
        if entry is not keeps:
            outcome = _set_aside(entry, keeps, context)
            if outcome:
                yield outcome


def _instance(path: str, context: WorkerContext) -> tuple[str, str]:
    """Return Series and SOP Instance UID of a file, or its path and "" where it cannot be read."""
    try:
        with files.opened(path) as descriptor:
            header = read_header(descriptor, os.fstat(descriptor).st_size, context.wanted, context.limits)
    except (FileFault, OSError):
        return path, ""
    return header.get("SeriesInstanceUID"), header.get("SOPInstanceUID")


def _set_aside(double: Described, keeps: Described, context: WorkerContext) -> Outcome | None:
    """Copy a double to set-aside, then remove its document, then the file. Return the outcome, None if the file changed
    meanwhile.
    """
    reason, why = "superseded", "a newer data set of the same instance has another name"
    if context.config.on_conflict != "replace":
        reason, why = "conflict", "another data set of the same instance is in the tree, under another name"
    series, sop = _instance(double.path, context)
    with context.locked_place(double.path), document_files.locked(double.document, context):
        status = os.lstat(double.path)
        location = documents.location(json_file.load(double.document) or {})
        if status.st_ctime_ns != double.marked_ns or location != double.path or not os.path.isfile(keeps.path):
            return None  # It came again meanwhile; the next revision decides.
        kept = setaside.keep(
            double.path, context, setaside.Why(reason, why), 0, dataset.digest_of(double.path, context)
        )
        os.unlink(double.document)
        if context.syncs:
            sync.directories([os.path.dirname(double.document)])
        os.unlink(double.path)
    if context.syncs:
        sync.directories([os.path.dirname(double.path)])
    now = time.time_ns()
    outcome = Outcome("revised", sop, 0, now, now, size=status.st_size, reason=reason, error=why, dst=kept)
    return outcome._replace(SOPInstanceUID=sop, SeriesInstanceUID=series, StudyInstanceUID=double.owner[1])


# -- shared documents --------------------------------------------------------------------------------------------------


def _update_shared(entry: Described, context: WorkerContext, *, renews: bool) -> None:
    """Write missing shared documents of this instance; with `renews`, update them to what it says."""
    base = os.path.dirname(entry.path)
    try:
        with files.opened(entry.path) as descriptor:
            header = read_header(descriptor, os.fstat(descriptor).st_size, context.wanted, context.limits)
            instance = Instance(header, descriptor)
            if renews:
                shared_documents.write_newest(instance, base, context)
            else:
                shared_documents.SharedDocuments(context).write_if_missing(instance, base)
    except FileFault:
        return  # Damaged since it was published: `verify --deep` names it.


def _forget(uid: str, former: Owner, studies: set[str], context: WorkerContext) -> None:
    """Remove what says that the series is this patient's in this study, unless another series still needs it."""
    patient, study = former
    if not study:
        return
    log = context.directories.log
    if study not in studies:
        document_files.remove(f"{log}/{documents.study_series_path(study, uid)}", context)
    beside = os.path.dirname(f"{log}/{documents.study_series_path(study, uid)}")
    if patient and not is_documented(former, context):
        document_files.update(
            f"{log}/{documents.patient_path(patient)}",
            context,
            lambda there: documents.without_study(there, patient, study) if there else None,
        )
    with contextlib.suppress(OSError):
        os.rmdir(beside)
        document_files.remove(f"{log}/{documents.study_path(study)}", context)


def is_documented(owner: Owner, context: WorkerContext) -> bool:
    """Return whether any series documented in a study's directory has an instance of this patient in this study."""
    log = context.directories.log
    with contextlib.suppress(FileNotFoundError):
        for name in os.listdir(os.path.dirname(f"{log}/{documents.study_series_path(owner[1], 'x')}")):
            images = f"{log}/seriesData/{name.removesuffix('-meta.json')}-img"
            if any(_owner(document) == owner for document in _documents(images)):
                return True
    return False


def _documents(images: str) -> Iterator[Document]:
    with contextlib.suppress(FileNotFoundError), os.scandir(images) as entries:
        for entry in entries:
            yield json_file.load_if_readable(entry.path) or {}


def _owner(document: Document) -> Owner:
    return documents.patient_of(document), documents.study_of(document)
