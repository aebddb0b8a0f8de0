"""Giving one instance its place in the tree: link it there, or settle with what is already there.

A link cannot overwrite, and claim and target exist side by side until the claim is released, so that every later step
can be repeated. Bytes are copied only where links cannot work, or where a name outside could still be written through.
"""

from __future__ import annotations

import contextlib
import errno
import os
import stat
from contextlib import AbstractContextManager

from listener.disk import files, json_file, moves, sync
from listener.errors import Conflict
from listener.planning import documents
from listener.planning.names import short_hash
from listener.planning.plan import Plan
from listener.repacking import dataset, setaside
from listener.repacking.context import FileJob, NotYet, WorkerContext
from listener.repacking.dataset import compare

#: How often a place is looked for while what is there comes and goes.
_MOST_TRIES = 5

#: Why a data set is in set-aside as superseded.
_REPLACED = setaside.Why("superseded", setaside.SUPERSEDED_TEXT)

#: What came of settling with an instance that is there: it is decided; the new one gets a name beside it; it went.
_SETTLED, _BESIDE, _GONE = "settled", "beside", "gone"


def prepare(job: FileJob, context: WorkerContext) -> None:
    """Before the first barrier: make the copy that will be linked, where the source itself cannot be."""
    job.target = f"{context.directories.data}/{job.plan.relative}"
    outside_name = job.links > 1 and not _is_same(job.target, job.inode)
    if not job.link_source or outside_name or not context.directories.links[job.arrival.root]:
        _copy(job, context, context.data_staging)
    mode = context.config.file_mode
    if mode is not None and job.copied < 0:
        os.fchmod(job.descriptor, mode)


def descriptors_to_sync(job: FileJob) -> list[int]:
    """The descriptors whose data must be on disk before they get names."""
    return [job.copied if job.copied >= 0 else job.descriptor, *job.opened]


def _copy(job: FileJob, context: WorkerContext, staging: files.StagingDir) -> None:
    """Copy the source, bytes, mode and times; the copy is what gets linked from now on."""
    if job.copied >= 0:
        job.opened.append(job.copied)
    job.link_source, job.copied = staging.copy(job.descriptor, job.size)
    job.temporaries.append(job.link_source)
    status = os.fstat(job.descriptor)
    mode = context.config.file_mode
    os.fchmod(job.copied, status.st_mode & 0o7777 if mode is None else mode)
    os.utime(job.copied, ns=(status.st_atime_ns, status.st_mtime_ns))


def place(job: FileJob, context: WorkerContext) -> None:
    """Link the instance to its target. Sets job.kind, job.target and job.document; raises Conflict by policy, NotYet
    where what is there comes and goes.
    """
    for _ in range(_MOST_TRIES):
        if _find_place(job, context):
            break
    else:
        raise NotYet
    if job.arrival.claim and job.links > 1:  # A replay: its last step may be missing.
        still = setaside.still_in_tree(job.plan.name, context)
        job.leaves += [(path, _inode(path)) for path in still if path != job.target]


def _find_place(job: FileJob, context: WorkerContext) -> bool:
    """Link it, or settle with what is there; False where that went meanwhile (`prune`): then nothing is in the way."""
    known = _described_elsewhere(job, context)
    if not known and _linked(job, context):
        return True
    if known and _is_taken(job, context):
        verdict = _settle(job, context, job.target)
        if verdict == _SETTLED and job.kind == "published":
            _replace_elsewhere(job, context, known)
    else:
        verdict = _settle(job, context, known or job.target)
    return _keep_both(job, context) if verdict == _BESIDE else verdict == _SETTLED


def _is_taken(job: FileJob, context: WorkerContext) -> bool:
    """Whether another data set, which is to be replaced too, is where this one goes: another sender's, whose worker is
    about to describe it there.
    """
    replaces = context.config.on_conflict == "replace"
    return replaces and os.path.lexists(job.target) and not _is_same(job.target, job.inode)


def _replace_elsewhere(job: FileJob, context: WorkerContext, known: str) -> None:
    """What is described still, and was about to be replaced by what this one replaced, leaves the tree."""
    with locked_place(known, context):
        if (
            os.path.lexists(known)
            and not _is_same(known, job.inode)
            and compare(job, known, context) != "other-instance"
        ):
            setaside.keep(known, context, _REPLACED, job.arrival.root, dataset.digest_of(known, context))
            job.leaves.append((known, _inode(known)))


def _linked(job: FileJob, context: WorkerContext) -> bool:
    try:
        _link(job, context)
    except FileExistsError:
        return False
    return True


def remove_replaced(job: FileJob, context: WorkerContext) -> None:
    """Remove what was replaced from its old place, now that the document points at the new one; not what another
    worker has put there since. Raises LockHeld.
    """
    for path, inode in job.leaves:
        with locked_place(path, context):
            if _is_same(path, inode):
                files.discard(path)
        job.touched.append(os.path.dirname(path))


def _link(job: FileJob, context: WorkerContext) -> None:
    _give_name(job, context)
    job.linked = True


def _give_name(job: FileJob, context: WorkerContext) -> None:
    if files.link_or_false(job.link_source, job.target, context.config.dir_mode, syncs=context.syncs):
        return
    if not _lies_elsewhere(job, context):
        if job.copied < 0:
            _copy(job, context, context.data_staging)
            if context.syncs:
                sync.descriptors([job.copied])
            if files.link_or_false(job.link_source, job.target, context.config.dir_mode, syncs=context.syncs):
                return
        try:
            _rename_without_links(job, context)
        except OSError as error:
            if error.errno != errno.EXDEV:  # One file system, and two mounts of it.
                raise
        else:
            return
    _copy_beside(job, context)
    moves.rename_new(job.link_source, job.target)


def _lies_elsewhere(job: FileJob, context: WorkerContext) -> bool:
    """Whether the target's directory, which exists, lies on another file system than our staging: an administrator made
    it, or one above it, a link, or mounted a volume there.
    """
    return os.stat(os.path.dirname(job.target)).st_dev != os.stat(context.directories.data_staging).st_dev


def _copy_beside(job: FileJob, context: WorkerContext) -> None:
    """Copy the source to a hidden name beside its target, on disk when it is there. What an earlier try, which was
    killed, has left of it is removed.
    """
    directory, name = os.path.split(job.target)
    prefix = f".listener-{short_hash(name)}"
    if job.arrival.claim:
        with os.scandir(directory) as entries:
            for entry in entries:
                if entry.name.startswith(f"{prefix}-"):
                    files.discard(entry.path)
    _copy(job, context, files.StagingDir(directory, prefix))
    if context.syncs:
        sync.descriptors([job.copied])


def _rename_without_links(job: FileJob, context: WorkerContext) -> None:
    # A file system without hard links: a rename could overwrite, so look first, with all listeners kept out.
    with locked_place(job.target, context):
        if os.path.lexists(job.target):
            raise FileExistsError
        files.rename(job.link_source, job.target, context.config.dir_mode, syncs=context.syncs)


def _described_elsewhere(job: FileJob, context: WorkerContext) -> str:
    """Where this instance's document says it lies, if that is another place than ours and a file is there: its path may
    have moved with a corrected PatientName.
    """
    if not os.access(job.document, os.F_OK):  # The usual case, and cheaper than an exception.
        return ""
    job.document_signature = json_file.signature(job.document)
    location = os.path.normpath(documents.location(json_file.load(job.document) or {}))
    # Another program may have written it, with a data directory of its own: nothing outside ours is touched.
    if location.startswith(f"{context.directories.data}/") and location != job.target and os.path.isfile(location):
        return location
    return ""


def _settle(job: FileJob, context: WorkerContext, present: str) -> str:
    """Somebody is at `present` already: a replay of ours, a duplicate, or a conflict. _SETTLED, _BESIDE (it is to get a
    name of its own) or _GONE.
    """
    with locked_place(present, context):
        try:
            return _settle_locked(job, context, present)
        except FileNotFoundError:
            if os.path.lexists(present):
                raise
            return _GONE  # Its worker let it leave the tree, having described what replaced it.


def _settle_locked(job: FileJob, context: WorkerContext, present: str) -> str:
    if not os.path.lexists(present):
        return _GONE
    if _is_same(present, job.inode):
        if present != job.target and not _is_same(job.target, job.inode):
            _link(job, context)
        _change_ctime(present)
        return _SETTLED
    verdict = compare(job, present, context)
    replayed = job.links > 1 and setaside.was_superseded(job.inode, context)
    if verdict == "equal" or replayed:
        _duplicate(job, present)
        return _SETTLED
    if verdict == "other-instance" or context.config.on_conflict == "set-aside":
        raise Conflict
    if context.config.on_conflict == "keep-both":
        return _BESIDE
    return _replace(job, context, present)


def locked_place(path: str, context: WorkerContext) -> AbstractContextManager[int]:
    """Hold the lock under which it is decided what becomes of the instance at `path`: whether another one is its
    duplicate or replaces it, and whether it leaves the tree.
    """
    # By its path in the tree: another machine may have the tree elsewhere.
    below = path.removeprefix(f"{context.directories.data}/")
    return context.locks.locked(context.directories.locks, f"place-{short_hash(below, 2)}")


def _duplicate(job: FileJob, present: str) -> None:
    """Under the lock of `present`, which stays in the tree from now on."""
    job.kind = "duplicate"
    job.target = present
    job.present_size = os.stat(present).st_size
    _change_ctime(present)


def _change_ctime(present: str) -> None:
    """Change the time of change (st_ctime) of an instance that a sender is told of again: `prune` leaves one that
    changed since it was looked at. To set the mode that it has needs its owner; of another one's file there is no mark.
    """
    with contextlib.suppress(PermissionError):
        os.chmod(present, stat.S_IMODE(os.stat(present).st_mode))


def _inode(path: str) -> tuple[int, int]:
    status = os.lstat(path)
    return status.st_dev, status.st_ino


def _is_same(path: str, inode: tuple[int, int]) -> bool:
    try:
        status = os.lstat(path)
    except FileNotFoundError:
        return False
    return (status.st_dev, status.st_ino) == inode


def _keep_both(job: FileJob, context: WorkerContext) -> bool:
    """Side by side: `<stem>-<8 hex of the digest>.dcm`, in the tree and in the name of the document. False where that
    name's instance went meanwhile.
    """
    suffix = f"-{dataset.digest(job.descriptor, job.header)[:8]}.dcm"
    if not job.plan.name.endswith(suffix):
        job.plan = Plan(job.plan.directory, f"{job.plan.name.removesuffix('.dcm')}{suffix}")
    name = job.plan.name
    job.target = f"{context.directories.data}/{job.plan.relative}"
    job.document = f"{context.directories.log}/{documents.instance_path(job.series, name)}"
    job.document_signature = json_file.signature(job.document)
    if _linked(job, context):
        return True
    with locked_place(job.target, context):
        if not os.path.lexists(job.target):
            return False
        if _is_same(job.target, job.inode):
            _change_ctime(job.target)
        else:
            _duplicate(job, job.target)
        return True


def _replace(job: FileJob, context: WorkerContext, present: str) -> str:
    """The new one takes the name; the old one is kept in set-aside as `superseded`, and is there before it leaves the
    tree. _SETTLED, or _GONE where its place was taken meanwhile by another one that is to be replaced.
    """
    linked = _is_same(job.target, job.inode)  # A replay: it got so far before.
    if present != job.target and not linked and os.path.lexists(job.target):
        if compare(job, job.target, context) == "other-instance":
            raise Conflict
        return _GONE
    job.superseded = setaside.keep(present, context, _REPLACED, job.arrival.root, dataset.digest_of(present, context))
    if present != job.target:
        if not linked and not _linked(job, context):
            return _GONE
        job.leaves.append((present, _inode(present)))
        return _SETTLED
    if job.copied < 0:
        twin = context.data_staging.name()
        job.temporaries.append(twin)
        if not files.link_or_false(job.link_source, twin, 0o700, syncs=False):
            _copy(job, context, context.data_staging)
            twin = job.link_source
    else:
        twin = job.link_source
    try:
        files.rename(twin, job.target, context.config.dir_mode, syncs=context.syncs)
    except OSError as error:
        if error.errno != errno.EXDEV:
            raise
        _copy_beside(job, context)
        os.rename(job.link_source, job.target)
    return _SETTLED


def withdraw(job: FileJob) -> None:
    """Take back the name in the tree, when the file is to be set aside after all: never in both places."""
    if is_placed(job):
        os.unlink(job.target)


def take_back(job: FileJob, context: WorkerContext) -> None:
    """The same when the file must wait: nothing stays in the tree meanwhile that no document tells of. Under the lock
    of its place, since another worker may be about to describe it as what its own duplicate is equal to.
    """
    if is_placed(job) and not _is_described(job):
        with locked_place(job.target, context):
            if not _is_described(job):
                os.unlink(job.target)


def is_placed(job: FileJob) -> bool:
    """Whether this story, or an earlier one that was interrupted, gave the file its name in the tree."""
    if job.kind != "published" or not job.target or not (job.linked or job.claim):
        return False
    inode = job.inode
    if job.copied >= 0:
        status = os.fstat(job.copied)
        inode = (status.st_dev, status.st_ino)
    try:
        return _is_same(job.target, inode)
    except OSError:  # It cannot be looked at; a claim that has one name only is in no tree.
        return job.linked or (job.copied < 0 and job.links > 1)


def _is_described(job: FileJob) -> bool:
    """Whether the instance's document says that it lies at the target; where that cannot be read, what this story has
    not linked is taken for described.
    """
    try:
        return os.path.normpath(documents.location(json_file.load(job.document) or {})) == job.target
    except OSError:
        return not job.linked
