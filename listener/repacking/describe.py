"""The documents of an instance: its own, and those shared with its patient, study and series."""

from __future__ import annotations

import os
import time
from collections import OrderedDict
from collections.abc import Callable
from contextlib import AbstractContextManager, suppress
from functools import partial

from listener.dicom.attributes import Header
from listener.dicom.reader import read_elements, read_header
from listener.disk import files, json_file, moves, stamps, sync
from listener.disk.json_file import Signature
from listener.disk.moves import rename_new
from listener.planning import documents
from listener.planning.documents import Document
from listener.planning.names import OWN, document_name, short_hash
from listener.planning.plan import Plan
from listener.repacking import place
from listener.repacking.context import UNREAD, FileJob, NotYet, WorkerContext

#: Seconds after which shared documents are checked again.
_TRUST_SECONDS = 1.0
_MOST_SERIES = 4096

Key = tuple[str, str, str]


class SharedDocuments:
    """The shared documents that this worker has seen whole: only the first instance of a series pays for them."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        # Hashes instead of signatures: a worker may have met thousands of series.
        self._seen: OrderedDict[Key, tuple[float, int]] = OrderedDict()

    def read_if_missing(self, job: FileJob, context: WorkerContext) -> None:
        """Read the whole header if a shared document must be made of it, before the instance is placed: what cannot be
        described must not be placed. Raises as the reader does.
        """
        key = _key(job)
        seen = self._seen.get(key)
        now = self._clock()
        # A repeated claim is always checked: its first worker may have died while it wrote the documents.
        if seen and now - seen[0] < _TRUST_SECONDS and not job.arrival.claim:
            return
        paths = _paths(context.directories.log, key)
        signatures = _signatures(paths)
        if all(signatures) and ((seen and seen[1] == hash(signatures)) or _are_whole(paths, job.header)):
            self._remember(key, now, signatures)
            return
        _read_whole(job, context)

    def write_missing(self, job: FileJob, context: WorkerContext) -> None:
        """Write the shared documents that are absent or unreadable, after the instance was placed."""
        if job.shared is UNREAD:
            return
        key = _key(job)
        paths = _paths(context.directories.log, key)
        _write_missing(job, context, paths)
        self._remember(key, self._clock(), _signatures(paths))

    def ensure(self, job: FileJob, context: WorkerContext) -> None:
        """Write absent shared documents, whatever was seen before. Call under the lock of the series (`locked_series`),
        before the first document of an instance in it. Raises as the reader does.
        """
        key = _key(job)
        paths = _paths(context.directories.log, key)
        signatures, seen = _signatures(paths), self._seen.get(key)
        if all(signatures) and seen and seen[1] == hash(signatures):
            return
        if not (all(signatures) and _are_whole(paths, job.header)):
            if job.shared is UNREAD:
                _read_whole(job, context)
            _write_missing(job, context, paths)
        self._remember(key, self._clock(), _signatures(paths))

    def _remember(self, key: Key, now: float, signatures: tuple[Signature | None, ...]) -> None:
        self._seen[key] = (now, hash(signatures))
        self._seen.move_to_end(key)
        if len(self._seen) > _MOST_SERIES:
            self._seen.popitem(last=False)


def _read_whole(job: FileJob, context: WorkerContext) -> None:
    """Read what shared documents are made of. Raises as the reader does."""
    descriptor, size = job.resources.descriptor, job.claimed.size
    job.shared = read_header(descriptor, size, context.wanted_shared, context.limits)
    job.elements = read_elements(descriptor, size, context.limits)


def _key(job: FileJob) -> Key:
    return documents.patient_id(job.header), job.header.get("StudyInstanceUID"), job.series


def _paths(log: str, key: Key) -> tuple[str, ...]:
    return tuple(f"{log}/{name}" for name in documents.shared_paths(*key))


def _signatures(paths: tuple[str, ...]) -> tuple[Signature | None, ...]:
    return tuple([json_file.signature(path) for path in paths])


def _are_whole(paths: tuple[str, ...], header: Header) -> bool:
    """Return whether all shared documents are readable and the patient's lists the study (written by another worker, or
    an earlier run). This check costs a tenth of reading a whole header.
    """
    patient = json_file.load_if_readable(paths[0])
    if patient is None or documents.with_study(patient, header) is not None:
        return False
    return all(json_file.load_if_readable(path) is not None for path in paths[1:])


def _write_missing(job: FileJob, context: WorkerContext, paths: tuple[str, ...]) -> None:
    header, base = job.shared, os.path.dirname(job.target)
    patient, study, study_series, series, pack = paths
    update(patient, context, lambda there: documents.with_study(there or _former_patient(job, context), header))
    _create_once(study, context, lambda: documents.study(header))
    _create_once(study_series, context, lambda: documents.study_series(header, base, job.elements))
    _create_once(series, context, lambda: documents.series(header))
    _create_once(pack, context, documents.pack)


def write_newest(job: FileJob, context: WorkerContext) -> None:
    """Update the shared documents of an instance to what it says, for one that was corrected. Raises as the reader
    does.
    """
    _read_whole(job, context)
    header, base = job.shared, os.path.dirname(job.target)
    patient, study, study_series, series, pack = _paths(context.directories.log, _key(job))
    newest = (
        (patient, documents.patient(header)),
        (study, documents.study(header)),
        (study_series, documents.study_series(header, base, job.elements)),
        (series, documents.series(header)),
        (pack, documents.pack()),
    )
    for path, fresh in newest:
        update(path, context, partial(_renewed, fresh))


def _renewed(fresh: Document, there: Document | None) -> Document | None:
    return fresh if there is None else documents.updated(there, fresh)


def remove(path: str, context: WorkerContext) -> None:
    """Move a document that describes nothing any more to <log>/.listener/removed."""
    below = os.path.relpath(path, context.directories.log)
    kept = os.path.join(context.directories.log, OWN, "removed", os.path.dirname(below))
    os.makedirs(kept, mode=0o700, exist_ok=True)
    with suppress(FileNotFoundError):
        moves.rename_free(path, kept, os.path.basename(below))
        if context.syncs:
            sync.directories([kept, os.path.dirname(path)])


def _former_patient(job: FileJob, context: WorkerContext) -> Document:
    """Return the patient's document under its file name of earlier versions, {} if none: its studies are kept."""
    path = documents.former_patient_path(documents.patient_id(job.header))
    return json_file.load_if_readable(f"{context.directories.log}/{path}") or {} if path else {}


def _create_once(path: str, context: WorkerContext, make: Callable[[], Document]) -> None:
    """Create a document that never changes, unless it exists. The first writer wins, so no lock is needed."""
    if json_file.load(path) is not None:
        return
    try:
        files.write_document(
            context.log_staging, path, documents.encode(make()), syncs=context.syncs, operation=moves.rename_new
        )
    except FileExistsError:  # Another worker's document, or something else that must be replaced.
        update(path, context, lambda there: None if there is not None else make())


def update(path: str, context: WorkerContext, change: Callable[[Document | None], Document | None]) -> None:
    """Read, change and write one shared document under its lock; `change` returns None to leave it as it is.

    Raises LockHeld, and NotCurrent where another machine has just written it and this kernel still shows the old one.
    """
    below = _below(path, context)
    with locked(path, context) as lock:
        before = stamps.read_direct(lock) if context.network_log else stamps.read(lock)
        data = json_file.read(path)
        if context.network_log:
            stamps.require_current(before, f"locks/{_lock_name(below)}", below, data)
        changed = change(json_file.parsed(data))
        if changed is not None:
            displace_directory(path, context)
            encoded = documents.encode(changed)
            files.write_document(context.log_staging, path, encoded, syncs=context.syncs)
            # Always: a log that is local here may be a network mount on another machine.
            stamps.write(lock, before, below, encoded)
            if context.network_log:
                os.fdatasync(lock)


def locked(path: str, context: WorkerContext) -> AbstractContextManager[int]:
    """Hold the lock of one document, which every listener on this log directory takes to change it. Raises LockHeld."""
    return context.locks.locked(context.directories.locks, _lock_name(_below(path, context)))


def _below(path: str, context: WorkerContext) -> str:
    """Return the path of a document relative to the log, which other machines may have at another path."""
    return path.removeprefix(f"{context.directories.log}/")


def _lock_name(below: str) -> str:
    return f"document-{short_hash(below, 2)}"


def locked_series(series: str, context: WorkerContext) -> AbstractContextManager[int]:
    """Hold the lock of a series, under which its directory of documents is made, and removed with its shared documents.
    Lock order: series, then documents.
    """
    return context.locks.locked(context.directories.locks, f"series-{short_hash(document_name(series), 2)}")


def displace_directory(path: str, context: WorkerContext) -> None:
    """Move a directory that lies where a document belongs to <log>/.listener/displaced."""
    if os.path.isdir(path) and not os.path.islink(path):
        displaced = f"{context.directories.log}/{OWN}/displaced"
        files.rename(path, f"{displaced}/{time.time_ns()}-{os.path.basename(path)}", 0o700, syncs=context.syncs)


def prepare(job: FileJob, context: WorkerContext) -> None:
    """Stage the instance's document, before the first barrier."""
    job.document = f"{context.directories.log}/{documents.instance_path(job.series, job.plan.name)}"
    try:
        _write_beside(job, context)
    except OSError:
        job.step = "describe"  # The log is at fault, and an alert selects by this step.
        raise


def _write_beside(job: FileJob, context: WorkerContext) -> None:
    plan = job.plan
    base = f"{context.directories.data}/{plan.directory}"
    data = documents.encode(documents.instance(job.header, plan, base, job.claimed.size))
    path, descriptor = context.log_staging.write(data)
    job.resources.temporaries.append(path)
    job.resources.opened.append(descriptor)
    job.staged_document = (path, data, plan.name)


def describe(job: FileJob, context: WorkerContext, shared: SharedDocuments) -> None:
    """Put the documents in place: the shared ones, then the instance's own."""
    shared.write_missing(job, context)
    if job.kind == "duplicate":
        _describe_present(job, context, shared)
        return
    path, data, name = job.staged_document
    if job.plan.name != name:  # keep-both renamed the instance
        _write_beside(job, context)
        path, data, name = job.staged_document
        if context.syncs:
            sync.descriptors(job.resources.opened[-1:])
    if _give_name(path, data, job, (context, shared)):
        job.resources.temporaries.remove(path)


def _give_name(path: str, data: bytes, job: FileJob, means: tuple[WorkerContext, SharedDocuments]) -> bool:
    """Rename the staged document into place; return False where the same document is there already.

    Raises NotYet when another worker has described another data set of this instance since its place was decided: one
    of the two would be in the tree without a document.
    """
    context, _ = means
    if job.document_signature is None:
        try:
            _move_in(rename_new, path, job, *means)
        except FileExistsError:
            if json_file.load(job.document) is not None and not _is_identical(job.document, data, context):
                place.withdraw(job)
                raise NotYet from None
        else:
            return True
    with locked(job.document, context):
        # Under the lock: a command that found the document without an instance may be about to remove it.
        if _is_identical(job.document, data, context):
            return False
        if job.document_signature and json_file.signature(job.document) not in (job.document_signature, None):
            raise NotYet
        if _rename_or_false(path, job.document):
            return True
    _move_in(os.rename, path, job, *means)
    return True


def _rename_or_false(path: str, document: str) -> bool:
    """Rename; return False where the directory is missing."""
    try:
        os.rename(path, document)
    except FileNotFoundError:
        return False
    return True


def _move_in(
    operation: Callable[[str, str], None], path: str, job: FileJob, context: WorkerContext, shared: SharedDocuments
) -> None:
    """Give a staged document its name by `operation`.

    A missing directory means that this is the first document of its series, or that `prune` removed the others: then
    the shared documents are ensured first, under the series' lock, so that no reader meets an instance without them.
    """
    try:
        operation(path, job.document)
    except FileNotFoundError:
        os.lstat(path)
        with locked_series(job.series, context):
            files.make_directories(os.path.dirname(job.document), 0o755, syncs=context.syncs)
            shared.ensure(job, context)
            operation(path, job.document)


def _describe_present(job: FileJob, context: WorkerContext, shared: SharedDocuments) -> None:
    """Describe a duplicate: keep the document of the instance in the tree if it names that file and its size, else
    write it. Raises NotYet where the instance was withdrawn or replaced meanwhile.
    """
    if documents.describes(json_file.load(job.document) or {}, job.target, job.present_size):
        return
    displace_directory(job.document, context)
    base, name = os.path.split(job.target)
    document = documents.instance(job.header, Plan("", name), base, job.present_size)
    path, descriptor = context.log_staging.write(documents.encode(document))
    job.resources.temporaries.append(path)
    job.resources.opened.append(descriptor)
    if context.syncs:
        sync.descriptors([descriptor])
    with place.locked_place(job.target, context):
        with locked(job.document, context):
            # Another worker may have replaced the instance and removed it from the tree.
            changed = (
                json_file.signature(job.document) not in (job.document_signature, None)
                and json_file.load(job.document) is not None
            )
            if changed or not os.path.lexists(job.target):
                raise NotYet
            done = _rename_or_false(path, job.document)
        if not done:
            _move_in(os.rename, path, job, context, shared)
    job.resources.temporaries.remove(path)


def _is_identical(path: str, data: bytes, context: WorkerContext) -> bool:
    """Return whether the document at `path` holds exactly `data`."""
    displace_directory(path, context)
    try:
        with open(path, "rb", opener=lambda name, _: files.open_regular(name)) as file:
            return file.read() == data
    except OSError:
        return False
