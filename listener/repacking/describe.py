"""The document of one instance on disk: written beside the log, renamed into place last, since readers count those.

Never rewritten when nothing changed.
"""

from __future__ import annotations

import os
from collections.abc import Callable

from listener.disk import files, loading, sync
from listener.disk.moves import rename_new
from listener.planning import documents
from listener.planning.plan import Plan
from listener.repacking import place
from listener.repacking.desk import Desk, Job, NotYet
from listener.repacking.shared import Shared, clear_way, locked, locked_series


def stage(job: Job, desk: Desk) -> None:
    """Before the first barrier: the instance's document beside the log, when it is not there already word for word."""
    job.document = f"{desk.directories.log}/{documents.instance_path(job.series, job.plan.name)}"
    try:
        _write_beside(job, desk)
    except OSError:
        job.stage = "describe"  # It is the log that refuses, and an alert looks for that.
        raise


def _write_beside(job: Job, desk: Desk) -> None:
    plan = job.plan
    base = f"{desk.directories.data}/{plan.directory}"
    data = documents.encode(documents.instance(job.header, plan, base, job.size))
    path, descriptor = desk.log_stage.write(data)
    job.temporaries.append(path)
    job.opened.append(descriptor)
    job.staged = (path, data, plan.name)


def describe(job: Job, desk: Desk, shared: Shared) -> None:
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


def _give_name(path: str, data: bytes, job: Job, means: tuple[Desk, Shared]) -> bool:
    """Rename the document into place; False when it is there word for word.

    Another worker may have described another data set of this instance since its place was decided. Then one of the
    two would be in the tree without a document, so this one is done again. Raises NotYet.
    """
    desk, _ = means
    if job.met is None:
        try:
            _move_in(rename_new, path, job, *means)
        except FileExistsError:
            if loading.load(job.document) is not None and not _holds(job.document, data, desk):
                place.withdraw(job)
                raise NotYet from None
        else:
            return True
    with locked(job.document, desk):
        # Looked at under the lock: a command that found it without an instance may be about to move it away.
        if _holds(job.document, data, desk):
            return False
        if job.met and loading.signature(job.document) not in (job.met, None):
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


def _move_in(operation: Callable[[str, str], None], path: str, job: Job, desk: Desk, shared: Shared) -> None:
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


def _describe_present(job: Job, desk: Desk, shared: Shared) -> None:
    """A duplicate: what is in the tree stays, and its document too, if it tells where and how large that is. Raises
    NotYet where that changed meanwhile: the worker that gave it its name took that back, or it was replaced.
    """
    if documents.describes(loading.load(job.document) or {}, job.target, job.present_size):
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
            changed = loading.signature(job.document) not in (job.met, None) and loading.load(job.document) is not None
            if changed or not os.path.lexists(job.target):
                raise NotYet
            done = _renamed(path, job.document)
        if not done:
            _move_in(os.rename, path, job, desk, shared)
    job.temporaries.remove(path)


def _holds(path: str, data: bytes, desk: Desk) -> bool:
    """Whether a document is there, word for word."""
    clear_way(path, desk)
    try:
        with open(path, "rb", opener=lambda name, _: files.open_regular(name)) as file:
            return file.read() == data
    except OSError:
        return False
