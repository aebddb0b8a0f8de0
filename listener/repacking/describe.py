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
from listener.repacking.context import WorkerContext
from listener.repacking.job import Instance, NotYet, Placed, Resources, SharedContent, StagedDocument

#: Seconds after which shared documents are checked again.
_TRUST_SECONDS = 1.0
_MOST_SERIES = 4096

Key = tuple[str, str, str]


class SharedDocuments:
    """The shared documents that this worker has seen whole: only the first instance of a series pays for them."""

    def __init__(self, context: WorkerContext, clock: Callable[[], float] = time.monotonic) -> None:
        self.context = context
        self._clock = clock
        # Hashes instead of signatures: a worker may have met thousands of series.
        self._seen: OrderedDict[Key, tuple[float, int]] = OrderedDict()

    def read_if_missing(self, instance: Instance, *, trusts: bool = True) -> SharedContent | None:
        """Read the whole header if a shared document must be made of it, before the instance is placed: what cannot be
        described must not be placed. Return None where all are there; with `trusts`, also where all were there a moment
        ago. Raises as the reader does.
        """
        key = _key(instance)
        seen = self._seen.get(key)
        now = self._clock()
        if seen and now - seen[0] < _TRUST_SECONDS and trusts:
            return None
        paths = _paths(self.context.directories.log, key)
        signatures = _signatures(paths)
        if all(signatures) and ((seen and seen[1] == hash(signatures)) or _are_whole(paths, instance.header)):
            self._remember(key, now, signatures)
            return None
        return _read_whole(instance, self.context)

    def write_missing(self, instance: Instance, content: SharedContent, base: str) -> None:
        """Write the shared documents that are absent or unreadable, after the instance was placed in directory
        `base`.
        """
        key = _key(instance)
        paths = _paths(self.context.directories.log, key)
        _write_missing(content, base, self.context, paths)
        self._remember(key, self._clock(), _signatures(paths))

    def write_if_missing(self, instance: Instance, base: str) -> None:
        """Read the whole header of an instance in directory `base` and write its shared documents, if one is missing.
        Raises as the reader does.
        """
        content = self.read_if_missing(instance)
        if content:
            self.write_missing(instance, content, base)

    def ensure(self, instance: Instance, content: SharedContent | None, base: str) -> SharedContent | None:
        """Write absent shared documents, whatever was seen before; return what they were made of, `content` where all
        are there. Call under the lock of the series (`locked_series`), before the first document of an instance in it.
        Raises as the reader does.
        """
        key = _key(instance)
        paths = _paths(self.context.directories.log, key)
        signatures, seen = _signatures(paths), self._seen.get(key)
        if all(signatures) and seen and seen[1] == hash(signatures):
            return content
        if not (all(signatures) and _are_whole(paths, instance.header)):
            content = content or _read_whole(instance, self.context)
            _write_missing(content, base, self.context, paths)
        self._remember(key, self._clock(), _signatures(paths))
        return content

    def _remember(self, key: Key, now: float, signatures: tuple[Signature | None, ...]) -> None:
        self._seen[key] = (now, hash(signatures))
        self._seen.move_to_end(key)
        if len(self._seen) > _MOST_SERIES:
            self._seen.popitem(last=False)


def _read_whole(instance: Instance, context: WorkerContext) -> SharedContent:
    """Read what shared documents are made of. Raises as the reader does."""
    descriptor, size = instance.descriptor, instance.header.size
    return SharedContent(
        read_header(descriptor, size, context.wanted_shared, context.limits),
        read_elements(descriptor, size, context.limits),
    )


def _key(instance: Instance) -> Key:
    header = instance.header
    return documents.patient_id(header), header.get("StudyInstanceUID"), header.get("SeriesInstanceUID")


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


def _write_missing(content: SharedContent, base: str, context: WorkerContext, paths: tuple[str, ...]) -> None:
    header, elements = content
    patient, study, study_series, series, pack = paths
    update(patient, context, lambda there: documents.with_study(there or _former_patient(header, context), header))
    _create_once(study, context, lambda: documents.study(header))
    _create_once(study_series, context, lambda: documents.study_series(header, base, elements))
    _create_once(series, context, lambda: documents.series(header))
    _create_once(pack, context, documents.pack)


def write_newest(instance: Instance, base: str, context: WorkerContext) -> None:
    """Update the shared documents of an instance in directory `base` to what it says, for one that was corrected.
    Raises as the reader does.
    """
    header, elements = _read_whole(instance, context)
    patient, study, study_series, series, pack = _paths(context.directories.log, _key(instance))
    newest = (
        (patient, documents.patient(header)),
        (study, documents.study(header)),
        (study_series, documents.study_series(header, base, elements)),
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


def _former_patient(header: Header, context: WorkerContext) -> Document:
    """Return the patient's document under its file name of earlier versions, {} if none: its studies are kept."""
    path = documents.former_patient_path(documents.patient_id(header))
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


def stage(instance: Instance, plan: Plan, context: WorkerContext, resources: Resources) -> StagedDocument:
    """Write the instance's document into staging, before the first barrier."""
    document = documents.instance(
        instance.header, plan, f"{context.directories.data}/{plan.directory}", instance.header.size
    )
    data = documents.encode(document)
    return StagedDocument(_write_beside(data, context, resources), data, plan.name)


def _write_beside(data: bytes, context: WorkerContext, resources: Resources) -> str:
    path, descriptor = context.log_staging.write(data)
    resources.temporaries.append(path)
    resources.opened.append(descriptor)
    return path


def describe(
    instance: Instance,
    placed: Placed,
    staged: StagedDocument,
    content: SharedContent | None,
    shared: SharedDocuments,
    resources: Resources,
) -> SharedContent | None:
    """Put the documents in place: the shared ones, made of `content` (None: they are there), then the instance's own.

    Return what shared documents were made of, also if they went meanwhile. Raises Overtaken or NotYet where another
    worker was faster.
    """
    if content:
        shared.write_missing(instance, content, os.path.dirname(placed.target))
    own = _OwnDocument(instance, placed, content, shared)
    path = own.describe_present(resources) if placed.kind == "duplicate" else own.describe_new(staged, resources)
    if path:
        resources.temporaries.remove(path)
    return own.content


class Overtaken(NotYet):
    """Another worker has described another data set of this instance since its place was decided: one of the two would
    be in the tree without a document.
    """


class _OwnDocument:
    """The document of one instance while it gets its name. `content` is what shared documents were made of."""

    def __init__(
        self, instance: Instance, placed: Placed, content: SharedContent | None, shared: SharedDocuments
    ) -> None:
        self.content = content
        self._instance = instance
        self._placed = placed
        self._path = placed.document
        self._shared = shared
        self._context = shared.context

    def describe_new(self, staged: StagedDocument, resources: Resources) -> str:
        """Rename the staged document into place; return where it was staged, "" if the same document is there."""
        if self._placed.plan.name != staged.name:  # keep-both renamed the instance
            staged = stage(self._instance, self._placed.plan, self._context, resources)
            if self._context.syncs:
                sync.descriptors(resources.opened[-1:])
        return staged.path if self._give_name(staged.path, staged.data) else ""

    def _give_name(self, path: str, data: bytes) -> bool:
        """Rename the staged document into place; return False where the same document is there already."""
        signature = self._placed.signature
        if signature is None:
            try:
                self._move_in(rename_new, path)
            except FileExistsError:
                if json_file.load(self._path) is not None and not _is_identical(self._path, data, self._context):
                    raise Overtaken from None
            else:
                return True
        with locked(self._path, self._context):
            # Under the lock: a command that found the document without an instance may be about to remove it.
            if _is_identical(self._path, data, self._context):
                return False
            if signature and json_file.signature(self._path) not in (signature, None):
                raise NotYet
            if _rename_or_false(path, self._path):
                return True
        self._move_in(os.rename, path)
        return True

    def _move_in(self, operation: Callable[[str, str], None], path: str) -> None:
        """Give a staged document its name by `operation`.

        A missing directory means that this is the first document of its series, or that `prune` removed the others:
        then the shared documents are ensured first, under the series' lock, so that no reader meets an instance without
        them.
        """
        try:
            operation(path, self._path)
        except FileNotFoundError:
            os.lstat(path)
            base = os.path.dirname(self._placed.target)
            with locked_series(self._instance.series, self._context):
                files.make_directories(os.path.dirname(self._path), 0o755, syncs=self._context.syncs)
                self.content = self._shared.ensure(self._instance, self.content, base)
                operation(path, self._path)

    def describe_present(self, resources: Resources) -> str:
        """Describe a duplicate: keep the document of the instance in the tree if it names that file and its size, else
        write it. Return where it was staged, "" if it was kept. Raises NotYet where the instance was withdrawn or
        replaced meanwhile.
        """
        target, size, context = self._placed.target, self._placed.present_size, self._context
        if documents.describes(json_file.load(self._path) or {}, target, size):
            return ""
        displace_directory(self._path, context)
        base, name = os.path.split(target)
        document = documents.instance(self._instance.header, Plan("", name), base, size)
        path = _write_beside(documents.encode(document), context, resources)
        if context.syncs:
            sync.descriptors(resources.opened[-1:])
        with context.locked_place(target):
            with locked(self._path, context):
                # Another worker may have replaced the instance and removed it from the tree.
                changed = (
                    json_file.signature(self._path) not in (self._placed.signature, None)
                    and json_file.load(self._path) is not None
                )
                if changed or not os.path.lexists(target):
                    raise NotYet
                done = _rename_or_false(path, self._path)
            if not done:
                self._move_in(os.rename, path)
        return path


def _rename_or_false(path: str, document: str) -> bool:
    """Rename; return False where the directory is missing."""
    try:
        os.rename(path, document)
    except FileNotFoundError:
        return False
    return True


def _is_identical(path: str, data: bytes, context: WorkerContext) -> bool:
    """Return whether the document at `path` holds exactly `data`."""
    displace_directory(path, context)
    try:
        with open(path, "rb", opener=lambda name, _: files.open_regular(name)) as file:
            return file.read() == data
    except OSError:
        return False
