"""Documents on disk: one an instance, and those that the instances of a series, study and patient share.

Written beside and renamed, never rewritten when nothing changed. Whoever comes first writes a shared document; only a
patient's StudyList grows, under a lock that all listeners on one log directory take.
"""

from __future__ import annotations

import os
import time
from collections import OrderedDict
from collections.abc import Callable
from typing import Any

import orjson

from listener import documents, files
from listener.desk import Desk, Job
from listener.documents import Document
from listener.header import Header
from listener.names import short_hash
from listener.reader import read_elements, read_header

#: How long shared documents are trusted to be as they were, in seconds; then they are looked at again.
_TRUST = 1.0
_REMEMBERED = 4096

Signature = tuple[int, int, int]


def stage(job: Job, desk: Desk) -> None:
    """Before the first barrier: the instance's document beside the log, when it is not there already word for word."""
    job.document = f"{desk.directories.log}/{documents.instance_path(job.series, job.plan.name)}"
    _write_beside(job, desk)


def _write_beside(job: Job, desk: Desk) -> None:
    plan = job.plan
    base = f"{desk.directories.data}/{plan.directory}"
    data = documents.encode(documents.instance(job.header, plan, base, job.size))
    path, descriptor = desk.log_stage.write(data)
    job.temporaries.append(path)
    job.opened.append(descriptor)
    job.staged = (path, data, plan.name)


def describe(job: Job, desk: Desk, known: Known) -> None:
    """Put the documents in place, the instance's last: readers count those."""
    known.ensure(job, desk)
    path, data, name = job.staged
    if job.plan.name != name:  # keep-both gave it another name
        _write_beside(job, desk)
        path, data, name = job.staged
        if desk.syncs:
            files.sync_descriptors(job.opened[-1:])
    if job.kind == "duplicate" and _is_document(job.document):
        return
    if not _holds(job.document, data):
        files.rename(path, job.document)
        job.temporaries.remove(path)


def _holds(path: str, data: bytes) -> bool:
    if not os.access(path, os.F_OK):  # The usual case, and cheaper than an exception.
        return False
    try:
        with open(path, "rb") as file:
            return file.read() == data
    except OSError:
        return False


def load(path: str) -> Document | None:
    """A document; None where there is none, or something that is no document (garbage, a link, a directory)."""
    try:
        descriptor = files.open_regular(path)
        with open(descriptor, "rb") as file:
            document = orjson.loads(file.read())
    except (OSError, orjson.JSONDecodeError):
        return None
    return document if isinstance(document, dict) else None


def _is_document(path: str) -> bool:
    return load(path) is not None


class Known:
    """Which shared documents this worker has seen whole, so that only the first instance of a series pays for them."""

    def __init__(self) -> None:
        self._seen: OrderedDict[tuple[str, str, str], tuple[float, tuple[Signature, ...]]] = OrderedDict()

    def ensure(self, job: Job, desk: Desk, now: Callable[[], float] = time.monotonic) -> None:
        """Make sure that the documents of the instance's patient, study and series are there and can be read."""
        key = (documents.patient_id(job.header), job.header.get("StudyInstanceUID"), job.series)
        moment = now()
        seen = self._seen.get(key)
        if seen and moment - seen[0] < _TRUST:
            return
        paths = _shared_paths(desk.directories.log, *key)
        signatures = _signatures(paths)
        if not seen or seen[1] != signatures or not all(signatures):
            _Shared(job, desk, paths).write_missing()
            signatures = _signatures(paths)
        self._seen[key] = (moment, signatures)
        self._seen.move_to_end(key)
        if len(self._seen) > _REMEMBERED:
            self._seen.popitem(last=False)


def _shared_paths(log: str, patient: str, study: str, series: str) -> tuple[str, ...]:
    names = (
        documents.patient_path(patient),
        documents.study_path(study),
        documents.study_series_path(study, series),
        documents.series_path(series),
        documents.pack_path(series),
    )
    return tuple(f"{log}/{name}" for name in names)


def _signatures(paths: tuple[str, ...]) -> tuple[Signature, ...]:
    return tuple(_signature(path) for path in paths)


def _signature(path: str) -> Signature:
    try:
        status = os.lstat(path)
    except OSError:
        return (0, 0, 0)
    return (status.st_ino, status.st_mtime_ns, status.st_size)


class _Shared:
    """The documents that one instance shares with others, written where they are absent or cannot be read."""

    def __init__(self, job: Job, desk: Desk, paths: tuple[str, ...]) -> None:
        self._job = job
        self._desk = desk
        self._paths = paths

    def write_missing(self) -> None:
        """All five; the patient's StudyList gets this study."""
        job, desk = self._job, self._desk
        job.shared = header = read_header(job.descriptor, job.size, desk.wanted_shared, desk.limits)
        patient, study, study_series, series, pack = self._paths
        self._update(patient, lambda there: documents.with_study(there, header) if there else documents.patient(header))
        self._once(study, lambda: documents.study(header))
        self._once(study_series, lambda: self._study_series(header))
        self._once(series, lambda: documents.series(header))
        self._once(pack, documents.pack)

    def _study_series(self, header: Header) -> Document:
        job, desk = self._job, self._desk
        return documents.study_series(
            header, os.path.dirname(job.target), read_elements(job.descriptor, job.size, desk.limits)
        )

    def _once(self, path: str, make: Callable[[], Document]) -> None:
        if load(path) is None:
            self._update(path, lambda there: None if there else make())

    def _update(self, path: str, change: Callable[[Document | None], Document | None]) -> None:
        desk = self._desk
        with files.locked(desk.directories.locks, f"document-{short_hash(path, 2)}"):
            changed: Any = change(load(path))
            if changed is not None:
                files.write_document(desk.log_stage, path, documents.encode(changed), desk.syncs)
