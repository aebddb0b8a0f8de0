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
from listener.reasons import EmptyFile, NotRegular, Unreadable
from listener.records import Arrival
from listener.repacking.context import CLAIM, HOLDING, WorkerContext
from listener.repacking.job import Claimed, NotYet, Source

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


def key_of(claim: str) -> bytes:
    """Return the key (PathKeys) in the name of a part's claim, b"" of any other claim."""
    serial = os.path.basename(claim).split(".", 2)[1:2]
    try:
        return bytes.fromhex(serial[0].split("-")[2]) if serial else b""
    except (IndexError, ValueError):
        return b""


def take(source: Source, context: WorkerContext) -> Claimed:
    """Open the arrival, make sure that nobody writes to it, claim it (in mode CLAIM) and return what was found.

    Raises Gone, NotYet, NotRegular, EmptyFile, Unreadable, or OSError.
    """
    status = _open(source, context)
    if context.network[source.arrival.root_index] and context.config.keep_source:
        _require_settled(status, context.config.settle)
    if context.mode == CLAIM:
        if not source.claim:
            if not source.leased:
                _require_settled(status, context.config.settle)
            status = _claim(source, context, status)
        # The rename keeps new writers out, but one that had the file open before it is still there.
        if not (source.leased and leases.holds(source.descriptor)):
            _await_writer(source, context)
            status = os.fstat(source.descriptor)
    if not status.st_size:
        raise EmptyFile
    return Claimed(status.st_size, status.st_mtime_ns, (status.st_dev, status.st_ino), status.st_nlink)


def _open(source: Source, context: WorkerContext) -> os.stat_result:
    """Open the file and return its status. Keep a lease on what will be claimed. Raises NotYet while it is open for
    writing.
    """
    try:
        source.descriptor = files.open_regular(source.path)
    except FileNotFoundError:
        raise Gone from None
    except OSError as error:
        _raise_for_open_error(source, context, error)
    state = _take_lease(source, context)
    if state == leases.BUSY and not source.claim:
        raise NotYet
    source.leased = state == leases.FREE and context.mode in HOLDING
    status = os.fstat(source.descriptor)
    if not stat.S_ISREG(status.st_mode):
        _refuse_special(source, context, status)
    return status


def _take_lease(source: Source, context: WorkerContext) -> str:
    """Take a lease as leases.take does, and keep it only on what will be claimed. Return UNKNOWN for a free file on a
    network file system: a lease granted there excludes no other machine (FUSE), so --settle decides.
    """
    state = leases.take(source.descriptor)
    network = context.network[source.arrival.root_index]
    if state == leases.FREE and (network or context.mode not in HOLDING):
        leases.release(source.descriptor)
    return leases.UNKNOWN if state == leases.FREE and network else state


def _raise_for_open_error(source: Source, context: WorkerContext, error: OSError) -> NoReturn:
    """Raise what a failed open means: Gone, NotRegular, Unreadable, or the error itself."""
    try:
        status = os.lstat(source.path)
    except FileNotFoundError:
        raise Gone from None
    _refuse_special(source, context, status)
    if isinstance(error, PermissionError):
        _claim_irregular(source, context, status)
        raise Unreadable from None
    if error.errno in (errno.ELOOP, errno.ENXIO):  # It was a link or a socket when it was opened.
        raise Gone from None
    raise error


def _refuse_special(source: Source, context: WorkerContext, status: os.stat_result) -> None:
    """Raise Gone for a directory; claim any other irregular file and raise NotRegular, so that it is set aside."""
    if stat.S_ISDIR(status.st_mode):
        raise Gone
    if not stat.S_ISREG(status.st_mode):
        _claim_irregular(source, context, status)
        raise NotRegular


def _claim_irregular(source: Source, context: WorkerContext, status: os.stat_result) -> None:
    if context.mode == CLAIM and not source.claim:
        _claim(source, context, status)


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


def _claim(source: Source, context: WorkerContext, status: os.stat_result) -> os.stat_result:
    """Claim the file, whose status is `status`; return the status of the claim."""
    root, name = source.arrival.root_index, context.claim_name(source.arrival)
    claim = f"{context.directories.claims[root]}/{name}"
    try:
        _move(source.path, claim)
    except OSError as error:
        if error.errno != errno.EXDEV:
            raise
        # Something was mounted over incoming since the start.
        _, inside = context.directories.claim_places(root)
        claim = f"{inside}/{name}"
        try:
            _move(source.path, claim)
        except OSError as second:
            if second.errno != errno.EXDEV:
                raise
            return _claim_by_copy(source, claim, status)
    source.claim = source.path = claim
    return status


def _claim_by_copy(source: Source, claim: str, status: os.stat_result) -> os.stat_result:
    """Claim by copying a file on a volume mounted below incoming, from where no rename works. Return the status of the
    claim.

    The copy is on disk before the source is removed; a crash between the two leaves duplicates. Raises NotYet when
    somebody wrote to the source meanwhile.
    """
    os.makedirs(os.path.dirname(claim), mode=0o700, exist_ok=True)
    # The process id in its name lets it be removed if this process dies before the rename.
    moves.copy(source.path, claim, files.StagingDir(os.path.dirname(claim), moves.COPYING).name())
    try:
        _remove_source(source, status)
    except BaseException:
        files.discard(claim)
        raise
    source.claim = source.path = claim
    if source.descriptor < 0:  # A special file, which is never opened.
        return os.lstat(claim)
    os.close(source.descriptor)
    source.descriptor = files.open_regular(claim)
    os.utime(source.descriptor, ns=(status.st_atime_ns, status.st_mtime_ns))
    source.leased = leases.take(source.descriptor) == leases.FREE
    return os.fstat(source.descriptor)


def _remove_source(source: Source, status: os.stat_result) -> None:
    if not _is_unchanged(source, status):
        raise NotYet
    os.unlink(source.path)


def _is_unchanged(source: Source, status: os.stat_result) -> bool:
    """Return whether the source is still the file with this status, and nobody has written to it since."""
    try:
        now = os.lstat(source.path)
    except FileNotFoundError:
        raise Gone from None
    same = (now.st_dev, now.st_ino, now.st_size, now.st_mtime_ns)
    if same != (status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns):
        return False
    if source.descriptor < 0:
        return True
    return leases.holds(source.descriptor) if source.leased else leases.probe(source.descriptor) != leases.BUSY


def _move(path: str, claim: str) -> None:
    try:
        files.rename(path, claim, 0o700, syncs=False)
    except FileNotFoundError:
        raise Gone from None


def _await_writer(source: Source, context: WorkerContext) -> None:
    if source.leased:  # A writer waits for the lease to end.
        leases.release(source.descriptor)
    end = time.monotonic() + _WRITER_SECONDS
    while (state := _take_lease(source, context)) == leases.BUSY:
        if time.monotonic() >= end:
            source.leased = False
            raise NotYet
        time.sleep(0.002)
    source.leased = state == leases.FREE


def unchanged(source: Source) -> bool:
    """Return whether the source still is what was read; checked before it is released."""
    if source.leased:
        return leases.holds(source.descriptor)
    status = os.fstat(source.descriptor)
    if (status.st_size, status.st_mtime_ns) != (source.claimed.size, source.claimed.mtime_ns):
        return False
    return leases.probe(source.descriptor) != leases.BUSY


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
