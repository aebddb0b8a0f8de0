"""First and last step of a file: claim it, and release the claim.

A claim is a rename into a private directory. Exactly one process wins it; storescp can no longer truncate, overwrite or
delete the file by name; and until it is unlinked, the claim records that this file is unfinished (a write-ahead log).
"""

from __future__ import annotations

import errno
import os
import stat
import time
from typing import NamedTuple, NoReturn

from listener.disk import files, leases, moves
from listener.disk.directories import claim_directories
from listener.errors import EmptyFile, NotRegular, Unreadable
from listener.records import Arrival
from listener.repacking.context import CLAIM, COPY, Claimed, FileJob, NotYet, WorkerContext

_SECOND = 10**9

#: Seconds to wait after a claim for the end of a write that began before it.
_WRITER_SECONDS = 0.05


class Gone(Exception):
    """The file is no longer there: its sender removed it (an ordinary end)."""


class ClaimName(NamedTuple):
    """The parts of a claim's name: arrival time, number of attempts so far, original file name."""

    time_ns: int
    attempts: int
    name: str


def parse_name(name: str) -> ClaimName | None:
    """Parse the name of a claim; return None for any other name."""
    parts = name.split(".", 3)
    if len(parts) != 4 or not parts[0].isdigit() or not parts[2].isdigit():
        return None
    return ClaimName(int(parts[0]), int(parts[2]), parts[3])


def take(job: FileJob, context: WorkerContext) -> Claimed:
    """Open the arrival, make sure that nobody writes to it, claim it (in mode CLAIM) and return what was found.

    Raises Gone, NotYet, NotRegular, EmptyFile, Unreadable, or OSError.
    """
    status = _open(job, context)
    if context.network[job.arrival.root_index] and context.config.keep_source:
        _require_settled(status, context.config.settle)
    if context.mode == CLAIM:
        if not job.claim:
            if not job.leased:
                _require_settled(status, context.config.settle)
            status = _claim(job, context, status)
        # The rename keeps new writers out, but one that had the file open before it is still there.
        if not (job.leased and leases.holds(job.resources.descriptor)):
            _await_writer(job, context)
            status = os.fstat(job.resources.descriptor)
    if not status.st_size:
        raise EmptyFile
    job.link_source = "" if context.mode == COPY else job.path
    return Claimed(status.st_size, status.st_mtime_ns, (status.st_dev, status.st_ino), status.st_nlink)


def _open(job: FileJob, context: WorkerContext) -> os.stat_result:
    """Open the file and return its status. Keep a lease on what will be claimed. Raises NotYet while it is open for
    writing.
    """
    try:
        job.resources.descriptor = files.open_regular(job.path)
    except FileNotFoundError:
        raise Gone from None
    except OSError as error:
        _raise_for_open_error(job, context, error)
    state = _take_lease(job, context)
    if state == leases.BUSY and not job.claim:
        raise NotYet
    job.leased = state == leases.FREE and context.mode == CLAIM
    status = os.fstat(job.resources.descriptor)
    if not stat.S_ISREG(status.st_mode):
        _refuse_special(job, context, status)
    return status


def _take_lease(job: FileJob, context: WorkerContext) -> str:
    """Take a lease as leases.take does, and keep it only on what will be claimed. Return UNKNOWN for a free file on a
    network file system: a lease granted there excludes no other machine (FUSE), so --settle decides.
    """
    state = leases.take(job.resources.descriptor)
    network = context.network[job.arrival.root_index]
    if state == leases.FREE and (network or context.mode != CLAIM):
        leases.release(job.resources.descriptor)
    return leases.UNKNOWN if state == leases.FREE and network else state


def _raise_for_open_error(job: FileJob, context: WorkerContext, error: OSError) -> NoReturn:
    """Raise what a failed open means: Gone, NotRegular, Unreadable, or the error itself."""
    try:
        status = os.lstat(job.path)
    except FileNotFoundError:
        raise Gone from None
    _refuse_special(job, context, status)
    if isinstance(error, PermissionError):
        _claim_irregular(job, context, status)
        raise Unreadable from None
    if error.errno in (errno.ELOOP, errno.ENXIO):  # It was a link or a socket when it was opened.
        raise Gone from None
    raise error


def _refuse_special(job: FileJob, context: WorkerContext, status: os.stat_result) -> None:
    """Raise Gone for a directory; claim any other irregular file and raise NotRegular, so that it is set aside."""
    if stat.S_ISDIR(status.st_mode):
        raise Gone
    if not stat.S_ISREG(status.st_mode):
        _claim_irregular(job, context, status)
        raise NotRegular


def _claim_irregular(job: FileJob, context: WorkerContext, status: os.stat_result) -> None:
    if context.mode == CLAIM and not job.claim:
        _claim(job, context, status)


def _require_settled(status: os.stat_result, settle: float) -> None:
    """Raise NotYet unless the file is unchanged for `settle` seconds. For files without a lease; counts ctime too,
    since a preserved mtime may be old.
    """
    touched = max(status.st_mtime_ns, status.st_ctime_ns)
    if touched % _SECOND == 0:  # MooseFS keeps whole seconds: the change was at any moment of that second.
        touched += _SECOND
    # After the clock was set back, times may lie in the future; do not wait for them.
    if abs(time.time_ns() - touched) < settle * _SECOND:
        raise NotYet


def _claim(job: FileJob, context: WorkerContext, status: os.stat_result) -> os.stat_result:
    """Claim the file, whose status is `status`; return the status of the claim."""
    root, name = job.arrival.root_index, context.claim_name(job.arrival)
    claim = f"{context.directories.claims[root]}/{name}"
    try:
        _move(job.path, claim)
    except OSError as error:
        if error.errno != errno.EXDEV:
            raise
        # Something was mounted over incoming since the start.
        _, inside = claim_directories(context.directories.incoming[root], context.directories.state)
        claim = f"{inside}/{name}"
        try:
            _move(job.path, claim)
        except OSError as second:
            if second.errno != errno.EXDEV:
                raise
            return _claim_by_copy(job, claim, status)
    job.claim = job.path = claim
    return status


def _claim_by_copy(job: FileJob, claim: str, status: os.stat_result) -> os.stat_result:
    """Claim by copying a file on a volume mounted below incoming, from where no rename works. Return the status of the
    claim.

    The copy is on disk before the source is removed; a crash between the two leaves duplicates. Raises NotYet when
    somebody wrote to the source meanwhile.
    """
    os.makedirs(os.path.dirname(claim), mode=0o700, exist_ok=True)
    # The process id in its name lets it be removed if this process dies before the rename.
    moves.copy(job.path, claim, files.StagingDir(os.path.dirname(claim), moves.COPYING).name())
    try:
        _remove_source(job, status)
    except BaseException:
        files.discard(claim)
        raise
    job.claim = job.path = claim
    if job.resources.descriptor < 0:  # A special file, which is never opened.
        return os.lstat(claim)
    os.close(job.resources.descriptor)
    job.resources.descriptor = files.open_regular(claim)
    os.utime(job.resources.descriptor, ns=(status.st_atime_ns, status.st_mtime_ns))
    job.leased = leases.take(job.resources.descriptor) == leases.FREE
    return os.fstat(job.resources.descriptor)


def _remove_source(job: FileJob, status: os.stat_result) -> None:
    if not _is_unchanged(job, status):
        raise NotYet
    os.unlink(job.path)


def _is_unchanged(job: FileJob, status: os.stat_result) -> bool:
    """Return whether the source is still the file with this status, and nobody has written to it since."""
    try:
        now = os.lstat(job.path)
    except FileNotFoundError:
        raise Gone from None
    same = (now.st_dev, now.st_ino, now.st_size, now.st_mtime_ns)
    if same != (status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns):
        return False
    if job.resources.descriptor < 0:
        return True
    return (
        leases.holds(job.resources.descriptor) if job.leased else leases.probe(job.resources.descriptor) != leases.BUSY
    )


def _move(path: str, claim: str) -> None:
    try:
        files.rename(path, claim, 0o700, syncs=False)
    except FileNotFoundError:
        raise Gone from None


def _await_writer(job: FileJob, context: WorkerContext) -> None:
    if job.leased:  # A writer waits for the lease to end.
        leases.release(job.resources.descriptor)
    end = time.monotonic() + _WRITER_SECONDS
    while (state := _take_lease(job, context)) == leases.BUSY:
        if time.monotonic() >= end:
            job.leased = False
            raise NotYet
        time.sleep(0.002)
    job.leased = state == leases.FREE


def unchanged(job: FileJob) -> bool:
    """Return whether the source still is what was read; checked before it is released."""
    if job.leased:
        return leases.holds(job.resources.descriptor)
    status = os.fstat(job.resources.descriptor)
    if (status.st_size, status.st_mtime_ns) != (job.claimed.size, job.claimed.mtime_ns):
        return False
    return leases.probe(job.resources.descriptor) != leases.BUSY


def release(path: str) -> None:
    """Unlink a claim. This is the commit: only now the file counts as done."""
    files.discard(path)


def with_attempts(arrival: Arrival, attempts: int) -> Arrival:
    """Rename a claim so that its name holds `attempts`, which then survives a restart. Return the new arrival."""
    directory, name = os.path.split(arrival.claim)
    first, serial, _, rest = name.split(".", 3)
    renamed = os.path.join(directory, files.cut_name(f"{first}.{serial}.{attempts}.", rest))
    os.rename(arrival.claim, renamed)
    return arrival._replace(claim=renamed, attempts=attempts)
