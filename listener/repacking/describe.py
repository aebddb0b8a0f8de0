"""The documents of an instance: its own, and those that it shares with its patient, study and series."""

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

#: How long shared documents are trusted to be as they were, in seconds; then they are looked at again.
_TRUST_SECONDS = 1.0
_MOST_SERIES = 4096

Key = tuple[str, str, str]


class SharedDocuments:
    """Which shared documents this worker has seen whole, so that only the first instance of a series pays for them."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        # A hash of the signatures is kept, not these: a worker may have met thousands of series.
        self._seen: OrderedDict[Key, tuple[float, int]] = OrderedDict()

    def read_if_missing(self, job: FileJob, context: WorkerContext) -> None:
        """Before the instance is placed: read its whole header if a document may have to be made of it, so that what
        cannot be described is not placed either. Raises what the reader raises.
        """
        key = _key(job)
        seen = self._seen.get(key)
        now = self._clock()
        # A claim that is done again is looked at in any case: the worker that had it may have died over its documents.
        if seen and now - seen[0] < _TRUST_SECONDS and not job.arrival.claim:
            return
        paths = _paths(context.directories.log, key)
        signatures = _signatures(paths)
        if all(signatures) and ((seen and seen[1] == hash(signatures)) or _are_whole(paths, job.header)):
            self._remember(key, now, signatures)
            return
        job.shared = read_header(job.descriptor, job.size, context.wanted_shared, context.limits)
        job.elements = read_elements(job.descriptor, job.size, context.limits)

    def write_missing(self, job: FileJob, context: WorkerContext) -> None:
        """After the instance was placed: write the documents that are absent or cannot be read."""
        if job.shared is UNREAD:
            return
        key = _key(job)
        paths = _paths(context.directories.log, key)
        _write_missing(job, context, paths)
        self._remember(key, self._clock(), _signatures(paths))

    def ensure(self, job: FileJob, context: WorkerContext) -> None:
        """Under the lock of the series (`locked_series`), before the first document of an instance in it: whatever was
        trusted, write what is absent. Raises what the reader raises.
        """
        key = _key(job)
        paths = _paths(context.directories.log, key)
        signatures, seen = _signatures(paths), self._seen.get(key)
        if all(signatures) and seen and seen[1] == hash(signatures):
            return
        if not (all(signatures) and _are_whole(paths, job.header)):
            if job.shared is UNREAD:
                job.shared = read_header(job.descriptor, job.size, context.wanted_shared, context.limits)
                job.elements = read_elements(job.descriptor, job.size, context.limits)
            _write_missing(job, context, paths)
        self._remember(key, self._clock(), _signatures(paths))

    def _remember(self, key: Key, now: float, signatures: tuple[Signature | None, ...]) -> None:
        self._seen[key] = (now, hash(signatures))
        self._seen.move_to_end(key)
        if len(self._seen) > _MOST_SERIES:
            self._seen.popitem(last=False)


def _key(job: FileJob) -> Key:
    return documents.patient_id(job.header), job.header.get("StudyInstanceUID"), job.series


def _paths(log: str, key: Key) -> tuple[str, ...]:
    return tuple(f"{log}/{name}" for name in documents.shared_paths(*key))


def _signatures(paths: tuple[str, ...]) -> tuple[Signature | None, ...]:
    return tuple([json_file.signature(path) for path in paths])


def _are_whole(paths: tuple[str, ...], header: Header) -> bool:
    """Whether nothing is to be written: all can be read, and the patient's one lists the study. Another worker has
    written them, or an earlier run: to look costs a tenth of reading a header whole.
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
    """Let the documents that an instance shares tell what it tells, whoever came first; for one that was corrected.
    Raises what the reader raises.
    """
    job.shared = read_header(job.descriptor, job.size, context.wanted_shared, context.limits)
    job.elements = read_elements(job.descriptor, job.size, context.limits)
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
    """Move a document that tells of nothing any more out of the logs, to <log>/.listener/removed."""
    below = os.path.relpath(path, context.directories.log)
    kept = os.path.join(context.directories.log, OWN, "removed", os.path.dirname(below))
    os.makedirs(kept, mode=0o700, exist_ok=True)
    with suppress(FileNotFoundError):
        moves.rename_free(path, kept, os.path.basename(below))
        if context.syncs:
            sync.directories([kept, os.path.dirname(path)])


def _former_patient(job: FileJob, context: WorkerContext) -> Document:
    """The patient's document under the name that it had in earlier versions: its studies are not forgotten."""
    path = documents.former_patient_path(documents.patient_id(job.header))
    return json_file.load_if_readable(f"{context.directories.log}/{path}") or {} if path else {}


def _create_once(path: str, context: WorkerContext, make: Callable[[], Document]) -> None:
    """A document that never changes: the first writer wins, without a lock that could be held against it."""
    if json_file.load(path) is not None:
        return
    try:
        files.write_document(
            context.log_staging, path, documents.encode(make()), syncs=context.syncs, operation=moves.rename_new
        )
    except FileExistsError:  # Another worker's, or what is no document and must go.
        update(path, context, lambda there: None if there is not None else make())


def update(path: str, context: WorkerContext, change: Callable[[Document | None], Document | None]) -> None:
    """Read, change and write one shared document under its lock; `change` returns None to leave it as it is.

    Raises LockHeld; NotCurrent where another machine has just written it, and this one's kernel shows the one before.
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
            # Always: the log may be local here, and a network's elsewhere.
            stamps.write(lock, before, below, encoded)
            if context.network_log:
                os.fdatasync(lock)


def locked(path: str, context: WorkerContext) -> AbstractContextManager[int]:
    """Hold the lock of one document, which all listeners on one log directory take to change it. Raises LockHeld."""
    return context.locks.locked(context.directories.locks, _lock_name(_below(path, context)))


def _below(path: str, context: WorkerContext) -> str:
    """The path of a document in the log: another machine may have the log elsewhere."""
    return path.removeprefix(f"{context.directories.log}/")


def _lock_name(below: str) -> str:
    return f"document-{short_hash(below, 2)}"


def locked_series(series: str, context: WorkerContext) -> AbstractContextManager[int]:
    """Hold the lock under which a series' directory of documents is made, and removed together with what its instances
    shared. Locks of documents may be taken under it, never the other way round.
    """
    return context.locks.locked(context.directories.locks, f"series-{short_hash(document_name(series), 2)}")


def displace_directory(path: str, context: WorkerContext) -> None:
    """A directory where a document belongs (somebody made it) is moved out of the way, below
    <log>/.listener/displaced.
    """
    if os.path.isdir(path) and not os.path.islink(path):
        displaced = f"{context.directories.log}/{OWN}/displaced"
        files.rename(path, f"{displaced}/{time.time_ns()}-{os.path.basename(path)}", 0o700, syncs=context.syncs)


def prepare(job: FileJob, context: WorkerContext) -> None:
    """Before the first barrier: the instance's document beside the log, when it is not there already word for word."""
    job.document = f"{context.directories.log}/{documents.instance_path(job.series, job.plan.name)}"
    try:
        _write_beside(job, context)
    except OSError:
        job.step = "describe"  # It is the log that refuses, and an alert looks for that.
        raise


def _write_beside(job: FileJob, context: WorkerContext) -> None:
    plan = job.plan
    base = f"{context.directories.data}/{plan.directory}"
    data = documents.encode(documents.instance(job.header, plan, base, job.size))
    path, descriptor = context.log_staging.write(data)
    job.temporaries.append(path)
    job.opened.append(descriptor)
    job.staged_document = (path, data, plan.name)


def describe(job: FileJob, context: WorkerContext, shared: SharedDocuments) -> None:
    """Put the documents in place: those that the instance shares with others, then its own."""
    shared.write_missing(job, context)
    if job.kind == "duplicate":
        _describe_present(job, context, shared)
        return
    path, data, name = job.staged_document
    if job.plan.name != name:  # keep-both gave it another name
        _write_beside(job, context)
        path, data, name = job.staged_document
        if context.syncs:
            sync.descriptors(job.opened[-1:])
    if _give_name(path, data, job, (context, shared)):
        job.temporaries.remove(path)


def _give_name(path: str, data: bytes, job: FileJob, means: tuple[WorkerContext, SharedDocuments]) -> bool:
    """Rename the document into place; False when it is there word for word.

    Another worker may have described another data set of this instance since its place was decided. Then one of the
    two would be in the tree without a document, so this one is done again. Raises NotYet.
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
        # Looked at under the lock: a command that found it without an instance may be about to move it away.
        if _is_identical(job.document, data, context):
            return False
        if job.document_signature and json_file.signature(job.document) not in (job.document_signature, None):
            raise NotYet
        if _rename_or_false(path, job.document):
            return True
    _move_in(os.rename, path, job, *means)
    return True


def _rename_or_false(path: str, document: str) -> bool:
    """Rename; False where the directory is not there."""
    try:
        os.rename(path, document)
    except FileNotFoundError:
        return False
    return True


def _move_in(
    operation: Callable[[str, str], None], path: str, job: FileJob, context: WorkerContext, shared: SharedDocuments
) -> None:
    """Give a staged document its name by `operation`. Where its directory is not there, this is the first document of
    its series, or `prune` has removed the others: then what they share is looked at again, under prune's lock, before
    a reader can meet an instance without it.
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
    """A duplicate: what is in the tree stays, and its document too, if it tells where and how large that is. Raises
    NotYet where that changed meanwhile: the worker that gave it its name took that back, or it was replaced.
    """
    if documents.describes(json_file.load(job.document) or {}, job.target, job.present_size):
        return
    displace_directory(job.document, context)
    base, name = os.path.split(job.target)
    document = documents.instance(job.header, Plan("", name), base, job.present_size)
    path, descriptor = context.log_staging.write(documents.encode(document))
    job.temporaries.append(path)
    job.opened.append(descriptor)
    if context.syncs:
        sync.descriptors([descriptor])
    with place.locked_place(job.target, context):
        with locked(job.document, context):
            # Another worker may have replaced what this one duplicates, and let it leave the tree.
            changed = (
                json_file.signature(job.document) not in (job.document_signature, None)
                and json_file.load(job.document) is not None
            )
            if changed or not os.path.lexists(job.target):
                raise NotYet
            done = _rename_or_false(path, job.document)
        if not done:
            _move_in(os.rename, path, job, context, shared)
    job.temporaries.remove(path)


def _is_identical(path: str, data: bytes, context: WorkerContext) -> bool:
    """Whether a document is there, word for word."""
    displace_directory(path, context)
    try:
        with open(path, "rb", opener=lambda name, _: files.open_regular(name)) as file:
            return file.read() == data
    except OSError:
        return False
