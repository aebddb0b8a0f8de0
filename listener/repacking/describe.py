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
_TRUST = 1.0
_REMEMBERED = 4096

Key = tuple[str, str, str]


class Shared:
    """Which shared documents this worker has seen whole, so that only the first instance of a series pays for them."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        # A hash of the signatures is kept, not these: a worker may have met thousands of series.
        self._seen: OrderedDict[Key, tuple[float, int]] = OrderedDict()

    def look(self, job: FileJob, desk: WorkerContext) -> None:
        """Before the instance is placed: read its whole header if a document may have to be made of it, so that what
        cannot be described is not placed either. Raises what the reader raises.
        """
        key = _key(job)
        seen = self._seen.get(key)
        now = self._clock()
        # A claim that is done again is looked at in any case: the worker that had it may have died over its documents.
        if seen and now - seen[0] < _TRUST and not job.arrival.claim:
            return
        paths = _paths(desk.directories.log, key)
        signatures = _signatures(paths)
        if all(signatures) and ((seen and seen[1] == hash(signatures)) or _are_whole(paths, job.header)):
            self._remember(key, now, signatures)
            return
        job.shared = read_header(job.descriptor, job.size, desk.wanted_shared, desk.limits)
        job.elements = read_elements(job.descriptor, job.size, desk.limits)

    def write(self, job: FileJob, desk: WorkerContext) -> None:
        """After the instance was placed: write the documents that are absent or cannot be read."""
        if job.shared is UNREAD:
            return
        key = _key(job)
        paths = _paths(desk.directories.log, key)
        _write_missing(job, desk, paths)
        self._remember(key, self._clock(), _signatures(paths))

    def renew(self, job: FileJob, desk: WorkerContext) -> None:
        """Under the lock of the series (`locked_series`), before the first document of an instance in it: whatever was
        trusted, write what is absent. Raises what the reader raises.
        """
        key = _key(job)
        paths = _paths(desk.directories.log, key)
        signatures, seen = _signatures(paths), self._seen.get(key)
        if all(signatures) and seen and seen[1] == hash(signatures):
            return
        if not (all(signatures) and _are_whole(paths, job.header)):
            if job.shared is UNREAD:
                job.shared = read_header(job.descriptor, job.size, desk.wanted_shared, desk.limits)
                job.elements = read_elements(job.descriptor, job.size, desk.limits)
            _write_missing(job, desk, paths)
        self._remember(key, self._clock(), _signatures(paths))

    def _remember(self, key: Key, now: float, signatures: tuple[Signature | None, ...]) -> None:
        self._seen[key] = (now, hash(signatures))
        self._seen.move_to_end(key)
        if len(self._seen) > _REMEMBERED:
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


def _write_missing(job: FileJob, desk: WorkerContext, paths: tuple[str, ...]) -> None:
    header, base = job.shared, os.path.dirname(job.target)
    patient, study, study_series, series, pack = paths
    update(patient, desk, lambda there: documents.with_study(there or _former(job, desk), header))
    _once(study, desk, lambda: documents.study(header))
    _once(study_series, desk, lambda: documents.study_series(header, base, job.elements))
    _once(series, desk, lambda: documents.series(header))
    _once(pack, desk, documents.pack)


def write_newest(job: FileJob, desk: WorkerContext) -> None:
    """Let the documents that an instance shares tell what it tells, whoever came first; for one that was corrected.
    Raises what the reader raises.
    """
    job.shared = read_header(job.descriptor, job.size, desk.wanted_shared, desk.limits)
    job.elements = read_elements(job.descriptor, job.size, desk.limits)
    header, base = job.shared, os.path.dirname(job.target)
    patient, study, study_series, series, pack = _paths(desk.directories.log, _key(job))
    newest = (
        (patient, documents.patient(header)),
        (study, documents.study(header)),
        (study_series, documents.study_series(header, base, job.elements)),
        (series, documents.series(header)),
        (pack, documents.pack()),
    )
    for path, fresh in newest:
        update(path, desk, partial(_renewed, fresh))


def _renewed(fresh: Document, there: Document | None) -> Document | None:
    return fresh if there is None else documents.renewed(there, fresh)


def remove(path: str, desk: WorkerContext) -> None:
    """Move a document that tells of nothing any more out of the logs, to <log>/.listener/removed."""
    below = os.path.relpath(path, desk.directories.log)
    kept = os.path.join(desk.directories.log, OWN, "removed", os.path.dirname(below))
    os.makedirs(kept, mode=0o700, exist_ok=True)
    with suppress(FileNotFoundError):
        moves.rename_free(path, kept, os.path.basename(below))
        if desk.syncs:
            sync.directories([kept, os.path.dirname(path)])


def _former(job: FileJob, desk: WorkerContext) -> Document:
    """The patient's document under the name that it had in earlier versions: its studies are not forgotten."""
    path = documents.former_patient_path(documents.patient_id(job.header))
    return json_file.load_if_readable(f"{desk.directories.log}/{path}") or {} if path else {}


def _once(path: str, desk: WorkerContext, make: Callable[[], Document]) -> None:
    """A document that never changes: the first writer wins, without a lock that could be held against it."""
    if json_file.load(path) is not None:
        return
    try:
        files.write_document(
            desk.log_stage, path, documents.encode(make()), syncs=desk.syncs, operation=moves.rename_new
        )
    except FileExistsError:  # Another worker's, or what is no document and must go.
        update(path, desk, lambda there: None if there is not None else make())


def update(path: str, desk: WorkerContext, change: Callable[[Document | None], Document | None]) -> None:
    """Read, change and write one shared document under its lock; `change` returns None to leave it as it is.

    Raises LockHeld; NotCurrent where another machine has just written it, and this one's kernel shows the one before.
    """
    below = _below(path, desk)
    with locked(path, desk) as lock:
        before = stamps.read_past_memory(lock) if desk.network_log else stamps.read(lock)
        data = json_file.read(path)
        if desk.network_log:
            stamps.require_current(before, f"locks/{_lock_name(below)}", below, data)
        changed = change(json_file.parsed(data))
        if changed is not None:
            clear_way(path, desk)
            encoded = documents.encode(changed)
            files.write_document(desk.log_stage, path, encoded, syncs=desk.syncs)
            # Always: the log may be local here, and a network's elsewhere.
            stamps.write(lock, before, below, encoded)
            if desk.network_log:
                os.fdatasync(lock)


def locked(path: str, desk: WorkerContext) -> AbstractContextManager[int]:
    """Hold the lock of one document, which all listeners on one log directory take to change it. Raises LockHeld."""
    return desk.locks.locked(desk.directories.locks, _lock_name(_below(path, desk)))


def _below(path: str, desk: WorkerContext) -> str:
    """The path of a document in the log: another machine may have the log elsewhere."""
    return path.removeprefix(f"{desk.directories.log}/")


def _lock_name(below: str) -> str:
    return f"document-{short_hash(below, 2)}"


def locked_series(series: str, desk: WorkerContext) -> AbstractContextManager[int]:
    """Hold the lock under which a series' directory of documents is made, and removed together with what its instances
    shared. Locks of documents may be taken under it, never the other way round.
    """
    return desk.locks.locked(desk.directories.locks, f"series-{short_hash(document_name(series), 2)}")


def clear_way(path: str, desk: WorkerContext) -> None:
    """A directory where a document belongs (somebody made it) is moved out of the way, below
    <log>/.listener/displaced.
    """
    if os.path.isdir(path) and not os.path.islink(path):
        displaced = f"{desk.directories.log}/{OWN}/displaced"
        files.rename(path, f"{displaced}/{time.time_ns()}-{os.path.basename(path)}", 0o700, syncs=desk.syncs)


def stage(job: FileJob, desk: WorkerContext) -> None:
    """Before the first barrier: the instance's document beside the log, when it is not there already word for word."""
    job.document = f"{desk.directories.log}/{documents.instance_path(job.series, job.plan.name)}"
    try:
        _write_beside(job, desk)
    except OSError:
        job.stage = "describe"  # It is the log that refuses, and an alert looks for that.
        raise


def _write_beside(job: FileJob, desk: WorkerContext) -> None:
    plan = job.plan
    base = f"{desk.directories.data}/{plan.directory}"
    data = documents.encode(documents.instance(job.header, plan, base, job.size))
    path, descriptor = desk.log_stage.write(data)
    job.temporaries.append(path)
    job.opened.append(descriptor)
    job.staged = (path, data, plan.name)


def describe(job: FileJob, desk: WorkerContext, shared: Shared) -> None:
    """Put the documents in place: those that the instance shares with others, then its own."""
    shared.write(job, desk)
    if job.kind == "duplicate":
        _describe_present(job, desk, shared)
        return
    path, data, name = job.staged
    if job.plan.name != name:  # keep-both gave it another name
        _write_beside(job, desk)
        path, data, name = job.staged
        if desk.syncs:
            sync.descriptors(job.opened[-1:])
    if _give_name(path, data, job, (desk, shared)):
        job.temporaries.remove(path)


def _give_name(path: str, data: bytes, job: FileJob, means: tuple[WorkerContext, Shared]) -> bool:
    """Rename the document into place; False when it is there word for word.

    Another worker may have described another data set of this instance since its place was decided. Then one of the
    two would be in the tree without a document, so this one is done again. Raises NotYet.
    """
    desk, _ = means
    if job.met is None:
        try:
            _move_in(rename_new, path, job, *means)
        except FileExistsError:
            if json_file.load(job.document) is not None and not _holds(job.document, data, desk):
                place.withdraw(job)
                raise NotYet from None
        else:
            return True
    with locked(job.document, desk):
        # Looked at under the lock: a command that found it without an instance may be about to move it away.
        if _holds(job.document, data, desk):
            return False
        if job.met and json_file.signature(job.document) not in (job.met, None):
            raise NotYet
        if _renamed(path, job.document):
            return True
    _move_in(os.rename, path, job, *means)
    return True


def _renamed(path: str, document: str) -> bool:
    """Rename; False where the directory is not there."""
    try:
        os.rename(path, document)
    except FileNotFoundError:
        return False
    return True


def _move_in(
    operation: Callable[[str, str], None], path: str, job: FileJob, desk: WorkerContext, shared: Shared
) -> None:
    """Give a staged document its name by `operation`. Where its directory is not there, this is the first document of
    its series, or `prune` has removed the others: then what they share is looked at again, under prune's lock, before
    a reader can meet an instance without it.
    """
    try:
        operation(path, job.document)
    except FileNotFoundError:
        os.lstat(path)
        with locked_series(job.series, desk):
            files.make_directories(os.path.dirname(job.document), 0o755, syncs=desk.syncs)
            shared.renew(job, desk)
            operation(path, job.document)


def _describe_present(job: FileJob, desk: WorkerContext, shared: Shared) -> None:
    """A duplicate: what is in the tree stays, and its document too, if it tells where and how large that is. Raises
    NotYet where that changed meanwhile: the worker that gave it its name took that back, or it was replaced.
    """
    if documents.describes(json_file.load(job.document) or {}, job.target, job.present_size):
        return
    clear_way(job.document, desk)
    base, name = os.path.split(job.target)
    document = documents.instance(job.header, Plan("", name), base, job.present_size)
    path, descriptor = desk.log_stage.write(documents.encode(document))
    job.temporaries.append(path)
    job.opened.append(descriptor)
    if desk.syncs:
        sync.descriptors([descriptor])
    with place.locked_place(job.target, desk):
        with locked(job.document, desk):
            # Another worker may have replaced what this one duplicates, and let it leave the tree.
            changed = (
                json_file.signature(job.document) not in (job.met, None) and json_file.load(job.document) is not None
            )
            if changed or not os.path.lexists(job.target):
                raise NotYet
            done = _renamed(path, job.document)
        if not done:
            _move_in(os.rename, path, job, desk, shared)
    job.temporaries.remove(path)


def _holds(path: str, data: bytes, desk: WorkerContext) -> bool:
    """Whether a document is there, word for word."""
    clear_way(path, desk)
    try:
        with open(path, "rb", opener=lambda name, _: files.open_regular(name)) as file:
            return file.read() == data
    except OSError:
        return False
