"""The documents that instances share: of their patient, study and series."""

from __future__ import annotations

import time
from collections import OrderedDict
from collections.abc import Callable
from functools import partial

from listener.dicom.attributes import Header
from listener.dicom.reader import read_elements, read_header
from listener.disk import json_file
from listener.disk.json_file import Signature
from listener.planning import documents
from listener.planning.documents import Document
from listener.repacking.context import WorkerContext
from listener.repacking.document_files import create_once, update
from listener.repacking.job import Instance, SharedContent

#: Seconds after which shared documents are checked again.
_TRUST_SECONDS = 1.0
_MOST_SERIES = 4096

Key = tuple[str, str, str]


class SharedDocuments:
    """The shared documents that this worker has seen whole: only the first instance of a series pays for them, also
    where a batch begins with many of one series.
    """

    def __init__(self, context: WorkerContext, clock: Callable[[], float] = time.monotonic) -> None:
        self.context = context
        self._clock = clock
        # Hashes instead of signatures: a worker may have met thousands of series.
        self._seen: OrderedDict[Key, tuple[float, int]] = OrderedDict()
        # Series of this batch for which an instance was read whole, whose documents are not written yet.
        self._awaited: set[Key] = set()

    def begin_batch(self) -> None:
        """Await nothing of the instances before: some may have failed."""
        self._awaited.clear()

    def read_if_missing(self, instance: Instance, *, trusts: bool = True) -> SharedContent | None:
        """Read the whole header if a shared document must be made of it, before the instance is placed: what cannot be
        described must not be placed. Return None where all are there, or an earlier instance of the batch was read for
        them (then `read_awaited` makes sure); with `trusts`, also where all were there a moment ago. Raises as the
        reader does.
        """
        key = _key(instance)
        return None if key in self._awaited else self._read_if_missing(instance, key, trusts=trusts)

    def read_awaited(self, instance: Instance) -> SharedContent | None:
        """Read the whole header if the instance that should have made the shared documents failed; else return None.
        Raises as the reader does.
        """
        if not self._awaited:
            return None
        key = _key(instance)
        return self._read_if_missing(instance, key, trusts=False) if key in self._awaited else None

    def _read_if_missing(self, instance: Instance, key: Key, *, trusts: bool) -> SharedContent | None:
        seen = self._seen.get(key)
        now = self._clock()
        if seen and now - seen[0] < _TRUST_SECONDS and trusts:
            return None
        paths = _paths(self.context.directories.log, key)
        signatures = _signatures(paths)
        if all(signatures) and ((seen and seen[1] == hash(signatures)) or _are_whole(paths, instance.header)):
            self._remember(key, now, signatures)
            return None
        content = _read_whole(instance, self.context)
        self._awaited.add(key)
        return content

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
        self._awaited.discard(key)
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
    create_once(study, context, lambda: documents.study(header))
    create_once(study_series, context, lambda: documents.study_series(header, base, elements))
    create_once(series, context, lambda: documents.series(header))
    create_once(pack, context, documents.pack)


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


def _former_patient(header: Header, context: WorkerContext) -> Document:
    """Return the patient's document under its file name of earlier versions, {} if none: its studies are kept."""
    path = documents.former_patient_path(documents.patient_id(header))
    return json_file.load_if_readable(f"{context.directories.log}/{path}") or {} if path else {}
