"""Give an instance its place in the tree: link it there, or settle with the instance that has the name already.

A link cannot overwrite, and claim and target exist side by side until the claim is released, so every later step can be
repeated. Bytes are copied only where links cannot work, or where a name outside the tree could still be written to.
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

#: Attempts to place an instance while others come and go at its name.
_MOST_TRIES = 5

#: Why a data set is in set-aside as superseded.
_REPLACED = setaside.Why("superseded", setaside.SUPERSEDED_TEXT)

#: Results of settling with an instance that is present: decided; the new one needs another name; the present one went.
_SETTLED, _BESIDE, _GONE = "settled", "beside", "gone"


def prepare(job: FileJob, context: WorkerContext) -> None:
    """Set the target and, where the source cannot be linked, copy it. Runs before the first barrier."""
    job.target = f"{context.directories.data}/{job.plan.relative}"
    outside_name = job.claimed.links > 1 and not _is_same(job.target, job.claimed.inode)
    if not job.link_source or outside_name or not context.directories.links[job.arrival.root_index]:
        _copy(job, context, context.data_staging)
    mode = context.config.file_mode
    if mode is not None and job.resources.copied < 0:
        os.fchmod(job.resources.descriptor, mode)


def descriptors_to_sync(job: FileJob) -> list[int]:
    """Return the descriptors whose data must be on disk before they get names."""
    return [job.resources.copied if job.resources.copied >= 0 else job.resources.descriptor, *job.resources.opened]


def _copy(job: FileJob, context: WorkerContext, staging: files.StagingDir) -> None:
    """Copy bytes, mode and times of the source; the copy is linked from now on."""
    if job.resources.copied >= 0:
        job.resources.opened.append(job.resources.copied)
    job.link_source, job.resources.copied = staging.copy(job.resources.descriptor, job.claimed.size)
    job.resources.temporaries.append(job.link_source)
    status = os.fstat(job.resources.descriptor)
    mode = context.config.file_mode
    os.fchmod(job.resources.copied, status.st_mode & 0o7777 if mode is None else mode)
    os.utime(job.resources.copied, ns=(status.st_atime_ns, status.st_mtime_ns))


def place(job: FileJob, context: WorkerContext) -> None:
    """Link the instance to its target, or settle with the one there. Sets job.kind, job.target and job.document; raises
    Conflict by policy, NotYet where instances come and go at that name.
    """
    for _ in range(_MOST_TRIES):
        if _find_place(job, context):
            break
    else:
        raise NotYet
    if job.arrival.claim and job.claimed.links > 1:  # A replay: its last step may be missing.
        still = setaside.still_in_tree(job.plan.name, context)
        job.leaves += [(path, _inode(path)) for path in still if path != job.target]


def _find_place(job: FileJob, context: WorkerContext) -> bool:
    """Link the instance or settle with the present one; return False where that went meanwhile (`prune`): try again."""
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
    """Return whether another data set to be replaced is at the target: one of another sender, which its worker is about
    to describe.
    """
    replaces = context.config.on_conflict == "replace"
    return replaces and os.path.lexists(job.target) and not _is_same(job.target, job.claimed.inode)


def _replace_elsewhere(job: FileJob, context: WorkerContext, known: str) -> None:
    """Replace the instance at `known`, which is described still: it was to be replaced by the one that this job
    replaced.
    """
    with locked_place(known, context):
        if (
            os.path.lexists(known)
            and not _is_same(known, job.claimed.inode)
            and compare(job, known, context) != "other-instance"
        ):
            setaside.keep(known, context, _REPLACED, job.arrival.root_index, dataset.digest_of(known, context))
            job.leaves.append((known, _inode(known)))


def _linked(job: FileJob, context: WorkerContext) -> bool:
    try:
        _link(job, context)
    except FileExistsError:
        return False
    return True


def remove_replaced(job: FileJob, context: WorkerContext) -> None:
    """Remove replaced instances from their old places, now that the document points at the new one; leave what another
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
        if job.resources.copied < 0:
            _copy(job, context, context.data_staging)
            if context.syncs:
                sync.descriptors([job.resources.copied])
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
    """Return whether the target's directory is on another file system than staging (a link, or a mount in the tree)."""
    return os.stat(os.path.dirname(job.target)).st_dev != os.stat(context.directories.data_staging).st_dev


def _copy_beside(job: FileJob, context: WorkerContext) -> None:
    """Copy the source to a hidden name beside its target and sync it. Remove what a killed try left."""
    directory, name = os.path.split(job.target)
    prefix = f".listener-{short_hash(name)}"
    if job.arrival.claim:
        with os.scandir(directory) as entries:
            for entry in entries:
                if entry.name.startswith(f"{prefix}-"):
                    files.discard(entry.path)
    _copy(job, context, files.StagingDir(directory, prefix))
    if context.syncs:
        sync.descriptors([job.resources.copied])


def _rename_without_links(job: FileJob, context: WorkerContext) -> None:
    # Without hard links a rename could overwrite: check first, under the lock that all listeners take.
    with locked_place(job.target, context):
        if os.path.lexists(job.target):
            raise FileExistsError
        files.rename(job.link_source, job.target, context.config.dir_mode, syncs=context.syncs)


def _described_elsewhere(job: FileJob, context: WorkerContext) -> str:
    """Return where this instance's document says it lies, if that is another place in this tree and a file is there
    (its path moves with a corrected PatientName), else "".
    """
    if not os.access(job.document, os.F_OK):  # The usual case, and cheaper than an exception.
        return ""
    job.document_signature = json_file.signature(job.document)
    location = os.path.normpath(documents.location(json_file.load(job.document) or {}))
    # Another program may have written it for its own data directory: touch nothing outside ours.
    if location.startswith(f"{context.directories.data}/") and location != job.target and os.path.isfile(location):
        return location
    return ""


def _settle(job: FileJob, context: WorkerContext, present: str) -> str:
    """Settle with the file at `present`: a replay, a duplicate or a conflict. Return _SETTLED, _BESIDE (the new one
    needs another name) or _GONE.
    """
    with locked_place(present, context):
        try:
            return _settle_locked(job, context, present)
        except FileNotFoundError:
            if os.path.lexists(present):
                raise
            return _GONE  # Its worker removed it after describing its replacement.


def _settle_locked(job: FileJob, context: WorkerContext, present: str) -> str:
    if not os.path.lexists(present):
        return _GONE
    if _is_same(present, job.claimed.inode):
        if present != job.target and not _is_same(job.target, job.claimed.inode):
            _link(job, context)
        _change_ctime(present)
        return _SETTLED
    verdict = compare(job, present, context)
    replayed = job.claimed.links > 1 and setaside.was_superseded(job.claimed.inode, context)
    if verdict == "equal" or replayed:
        _duplicate(job, present)
        return _SETTLED
    if verdict == "other-instance" or context.config.on_conflict == "set-aside":
        raise Conflict
    if context.config.on_conflict == "keep-both":
        return _BESIDE
    return _replace(job, context, present)


def locked_place(path: str, context: WorkerContext) -> AbstractContextManager[int]:
    """Hold the lock under which is decided what becomes of the instance at `path`: whether another one is its duplicate
    or replaces it, and whether it leaves the tree.
    """
    # By the path in the tree, which may be mounted elsewhere on another machine.
    below = path.removeprefix(f"{context.directories.data}/")
    return context.locks.locked(context.directories.locks, f"place-{short_hash(below, 2)}")


def _duplicate(job: FileJob, present: str) -> None:
    """Record the job as a duplicate of `present`, which stays in the tree. Call under the lock of `present`."""
    job.kind = "duplicate"
    job.target = present
    job.present_size = os.stat(present).st_size
    _change_ctime(present)


def _change_ctime(present: str) -> None:
    """Change st_ctime of an instance that a sender was told of again, so that `prune` leaves it. Setting the same mode
    does that, but needs the owner; another user's file stays unmarked.
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
    """Place the instance beside the present one as `<stem>-<8 hex of the digest>.dcm`, in tree and document name.
    Return False where the instance with that name went meanwhile.
    """
    suffix = f"-{dataset.digest(job.resources.descriptor, job.header)[:8]}.dcm"
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
        if _is_same(job.target, job.claimed.inode):
            _change_ctime(job.target)
        else:
            _duplicate(job, job.target)
        return True


def _replace(job: FileJob, context: WorkerContext, present: str) -> str:
    """Give the new instance the name, after the old one is kept in set-aside as `superseded`. Return _SETTLED, or _GONE
    where its place was taken meanwhile by another instance that is to be replaced.
    """
    linked = _is_same(job.target, job.claimed.inode)  # A replay: an earlier attempt came this far.
    if present != job.target and not linked and os.path.lexists(job.target):
        if compare(job, job.target, context) == "other-instance":
            raise Conflict
        return _GONE
    job.superseded = setaside.keep(
        present, context, _REPLACED, job.arrival.root_index, dataset.digest_of(present, context)
    )
    if present != job.target:
        if not linked and not _linked(job, context):
            return _GONE
        job.leaves.append((present, _inode(present)))
        return _SETTLED
    if job.resources.copied < 0:
        twin = context.data_staging.name()
        job.resources.temporaries.append(twin)
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
    """Remove the name in the tree of a file that is set aside after all: it is never in both places."""
    if is_placed(job):
        os.unlink(job.target)


def take_back(job: FileJob, context: WorkerContext) -> None:
    """Remove the name in the tree of a file that must wait, unless it is described. Takes the lock of the place, since
    another worker may be about to describe it as the instance that its own file duplicates.
    """
    if is_placed(job) and not _is_described(job):
        with locked_place(job.target, context):
            if not _is_described(job):
                os.unlink(job.target)


def is_placed(job: FileJob) -> bool:
    """Return whether this job, or an earlier interrupted one, gave the file its name in the tree."""
    if job.kind != "published" or not job.target or not (job.linked or job.claim):
        return False
    inode = job.claimed.inode
    if job.resources.copied >= 0:
        status = os.fstat(job.resources.copied)
        inode = (status.st_dev, status.st_ino)
    try:
        return _is_same(job.target, inode)
    except OSError:  # Unknown; a claim with a single name is in no tree.
        return job.linked or (job.resources.copied < 0 and job.claimed.links > 1)


def _is_described(job: FileJob) -> bool:
    """Return whether the instance's document names the target; where it cannot be read, whether an earlier job linked
    it.
    """
    try:
        return os.path.normpath(documents.location(json_file.load(job.document) or {})) == job.target
    except OSError:
        return not job.linked
