"""Tell whether a refusal (OSError) concerns one file's place or every file.

The directories that every file needs are probed: while each of them takes a new file, the error concerns one path
alone, and only files for that path wait. An error of the process (no descriptors, no memory) concerns all.
"""

from __future__ import annotations

import contextlib
import errno
import os
import stat
import time
from collections.abc import Iterator

from listener.disk import files
from listener.errors import LockHeld
from listener.planning import documents
from listener.planning.names import OWN, printable
from listener.reasons import concerns_all
from listener.records import Deferral, refusal
from listener.repacking.context import WorkerContext
from listener.repacking.job import FileJob

#: Seconds for which a probe of the volumes holds: a refused batch probes once.
_ANSWER_SECONDS = 0.5

#: Least and largest size in bytes of the file that a probe allocates.
_ROOM, _MOST_ROOM = 2**20, 64 * 2**20

#: Errors that come from a directory, not from the name in it.
_DIRECTORY_ERRORS = frozenset(
    {errno.EACCES, errno.EPERM, errno.EROFS, errno.ENOSPC, errno.EDQUOT, errno.EMLINK, errno.EXDEV, errno.ESTALE}
)
_NO_FALLOCATE = frozenset({errno.EOPNOTSUPP, errno.EINVAL, errno.ENOSYS, errno.ENODEV})
_PROCESS_ERRORS = frozenset({errno.EMFILE, errno.ENFILE, errno.ENOMEM})


class Refusals:
    """Makes Deferrals of refusals; one for each worker, with the last probe's result."""

    def __init__(self, context: WorkerContext) -> None:
        self._context = context
        self._probed_at = float("-inf")
        self._size = 0
        self._error: OSError | None = None

    def deferral(self, job: FileJob, error: OSError) -> Deferral:
        """Return the deferral of `job`, with a place when the error concerns that alone."""
        arrival = job.source.arrival._replace(claim=job.source.claim)
        if isinstance(error, LockHeld):
            return refusal(arrival, job.step, error, "a lock", job.series)
        everybodys = error if error.errno in _PROCESS_ERRORS else self._general_error(job.source.claimed.size)
        if everybodys is None:
            return refusal(arrival, job.step, error, self._place(job, error), job.series)
        # Report the file's own error, unless it says nothing about a volume.
        return refusal(arrival, job.step, error if concerns_all(error) else everybodys)

    def _general_error(self, size: int) -> OSError | None:
        """Return the error that the directories which every file needs give, None while all can be written."""
        now = time.monotonic()
        size = min(max(size, _ROOM), _MOST_ROOM)
        if now - self._probed_at >= _ANSWER_SECONDS or size > self._size:
            self._error = self._probe(size)
            self._probed_at, self._size = now, size
        return self._error

    def _probe(self, size: int) -> OSError | None:
        context, directories = self._context, self._context.directories
        own = (*directories.claims, directories.locks, directories.set_aside)
        shared = [f"{directories.log}/{name}" for name in documents.FOLDERS]
        try:
            for path in (directories.data, directories.log, directories.state, *own, *shared):
                _require_writable(path)
            for staging, path in (
                (context.data_staging, directories.data_staging),
                (context.log_staging, directories.log_staging),
                (context.state_staging, directories.state_staging),
            ):
                if path:
                    _try_to_write(staging, size)
        except OSError as error:
            return error
        return None

    # -- where -----------------------------------------------------------------------------------------------------

    def _place(self, job: FileJob, error: OSError) -> str:
        for role, root in self._roots(job):
            for path in self._paths(job, error):
                if root and path.startswith(f"{root}/"):
                    return self._text(role, root, _refusing_component(path, root, error))
        return f"step {job.step}"

    def _roots(self, job: FileJob) -> Iterator[tuple[str, str]]:
        directories = self._context.directories
        incoming = directories.incoming[job.source.arrival.root_index]
        if job.step == "claim":
            yield "incoming", incoming
        yield from (("data", directories.data), ("log", directories.log))
        yield from (("state", directories.state), ("incoming", incoming))

    def _paths(self, job: FileJob, error: OSError) -> Iterator[str]:
        """Yield the paths that an error may concern: those it names, the new name first, then where the step works."""
        named = (error.filename, error.filename2) if job.step == "claim" else (error.filename2, error.filename)
        yield from (path for path in named if isinstance(path, str))
        if job.step == "place":
            yield job.source.target or job.source.arrival.path
        elif job.step == "describe":
            yield job.document(self._context) or job.source.arrival.path
        else:
            yield job.source.arrival.path

    def _text(self, role: str, root: str, path: str) -> str:
        link = ", a link" if os.path.islink(path) else ""
        if self._context.config.phi:
            return f"'{printable(path)}'{link}"
        parts = path[len(root) :].strip("/").split("/")
        if parts[0] in (OWN, "set-aside", "claim"):  # Our own names hold no patient data.
            return f"{'/'.join(parts[: 3 if parts[0] == OWN else 2])} of the {role} directory{link}"
        level = len(parts) if parts[0] else 0
        return f"level {level} below the {role} directory{link}"


def _require_writable(path: str) -> None:
    """Raise OSError where `path` exists and is not a writable directory; a missing one can be made."""
    if not path or not os.path.lexists(path):
        return
    if not stat.S_ISDIR(os.stat(path).st_mode):
        raise NotADirectoryError(errno.ENOTDIR, os.strerror(errno.ENOTDIR))
    if not os.access(path, os.W_OK | os.X_OK):
        readonly = os.statvfs(path).f_flag & os.ST_RDONLY
        number = errno.EROFS if readonly else errno.EACCES
        raise OSError(number, os.strerror(number))


def _try_to_write(staging: files.StagingDir, size: int) -> None:
    """Write a new file of `size` bytes and remove it. Raises OSError where the directory refuses."""
    path, descriptor = staging.write(b"\0" * 4096)
    try:
        os.posix_fallocate(descriptor, 0, size)
    except OSError as error:
        if error.errno not in _NO_FALLOCATE:
            raise
    finally:
        os.close(descriptor)
        files.discard(path)


def _refusing_component(path: str, root: str, error: OSError) -> str:
    """Return the first component of `path` below `root` that cannot be entered or is absent, or that gave the error; a
    link in place of what it leads to.
    """
    if path.startswith(f"{root}/{OWN}/"):
        return path
    at, link = root, ""
    parts = path[len(root) + 1 :].split("/")
    for part in parts[:-1]:
        above, at = at, f"{at}/{part}"
        link = link or (at if os.path.islink(at) else "")
        with contextlib.suppress(OSError):
            if stat.S_ISDIR(os.stat(at).st_mode):
                continue
        return link or above if error.errno in _DIRECTORY_ERRORS and not os.path.lexists(at) else at
    return link or at if error.errno in _DIRECTORY_ERRORS else path
