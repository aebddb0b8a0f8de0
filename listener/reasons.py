"""Why a file is set aside, waits or is held up: the reasons, their texts and remedies.

The docstring of a class is what a person reads, the remedy last; `reason` is the word in set-aside folders, events and
metric labels (a closed set).
"""

from __future__ import annotations

import errno
from collections.abc import Mapping

from listener.errors import ListenerError, LockHeld

#: Reasons for which a file is set aside; also folder names below ``<state>/set-aside`` and metric labels. No file gets
#: `uid-mismatch` any more, but earlier versions may have left some.
SET_ASIDE_REASONS = (
    "empty",
    "not-dicom",
    "incomplete",
    "missing-uid",
    "bad-uid",
    "uid-mismatch",
    "too-deep",
    "too-large",
    "not-regular",
    "unreadable",
    "conflict",
    "superseded",
    "unplaceable",
    "worker-lost",
    "internal",
)


#: Reasons of the system, not of a file: the file waits and is tried again.
SYSTEM_REASONS = ("no-space", "io-error", "permission", "timeout")


#: Why one file waits alone: another process holds a lock that it needs.
LOCKED = "locked"


#: Reasons for which files are held up alone; metric labels.
HELD_UP_REASONS = (*SYSTEM_REASONS, LOCKED)


class FileFault(ListenerError):
    """An error of the file itself: no retry can help, so it is set aside under `reason`.

    `known` has the values read before the error, by DICOM keyword: with them the instance can be requested again.
    """

    def __init__(self, detail: str = "") -> None:
        super().__init__(detail)
        self.known: Mapping[str, str] = {}


class EmptyFile(FileFault):
    """The file has no bytes (the mark of a power cut or of a full disk).

    Remedy: have it sent again, then remove it: the file itself holds nothing.
    """

    reason = "empty"


class NotDicom(FileFault):
    """The file cannot be read as DICOM.

    Remedy: see what it is and who put it there; remove what is none of yours.
    """

    reason = "not-dicom"


class Incomplete(FileFault):
    """The data set is not whole.

    Remedy: have it sent again, then remove the piece; see why the sender or the disk broke off.
    """

    reason = "incomplete"


class MissingUID(FileFault):
    """A UID that every instance must have is absent or empty.

    Remedy: have the sending program mended: without its UIDs an instance cannot be told from others.
    """

    reason = "missing-uid"


class BadUID(FileFault):
    """A UID holds something other than 1 to 64 digits and dots.

    Remedy: have the sending program mended, then have it sent again.
    """

    reason = "bad-uid"


class TooDeep(FileFault):
    """Sequences are nested deeper than --max-depth allows.

    Remedy: raise --max-depth if the sender can be trusted, then 'listener retry'.
    """

    reason = "too-deep"


class TooLarge(FileFault):
    """The header is too large.

    Remedy: raise --max-header if the sender can be trusted, then 'listener retry'.
    """

    reason = "too-large"


class NotRegular(FileFault):
    """Not a regular file (link, FIFO, socket or device); it was not opened.

    Remedy: see who makes links or devices in incoming; remove it by hand.
    """

    reason = "not-regular"


class Unreadable(FileFault):
    """The file cannot be read.

    Remedy: mend its owner, its mode or the disk, then 'listener retry'.
    """

    reason = "unreadable"


class Conflict(FileFault):
    """Another data set already has this instance's name.

    Remedy: see which of the two data sets is right; 'listener retry' tries it again under --on-conflict.
    """

    reason = "conflict"


class Unplaceable(FileFault):
    """The file's place in the tree or the log cannot be used, and was not mended within --give-up.

    Remedy: mend the place that the error names, then 'listener retry'.
    """

    reason = "unplaceable"


class WorkerLost(FileFault):
    """The worker died or hung each time it held this file.

    Remedy: 'listener retry' once; if it comes back, report it together with its header.
    """

    reason = "worker-lost"


#: Remedies of reasons that no class stands for.
_REMEDIES = {
    "superseded": "nothing: the older of two data sets, kept until 'listener prune --set-aside' removes it",
    "uid-mismatch": "'listener retry': it is published now, with a warning",
    "internal": "report the error; 'listener retry' when a newer version is there",
}


#: What ends it for every reason.
SETTLING = (
    "put back: 'listener retry --reason R'; remove: 'listener prune --set-aside 0 --reason R'; "
    "both take --sender, --study and --dry-run"
)


def remedy(reason: str) -> str:
    """Return what a person can do about files that are set aside for this reason: one of SET_ASIDE_REASONS."""
    for kind in FileFault.__subclasses__():
        if kind.reason == reason:
            return (kind.__doc__ or "").partition("Remedy: ")[2].strip().removesuffix(".")
    return _REMEDIES[reason]


_SYSTEM_ERRNOS = {
    errno.ENOSPC: "no-space",
    errno.EDQUOT: "no-space",
    errno.EMLINK: "no-space",
    errno.EIO: "io-error",
    errno.ESTALE: "io-error",
    errno.EBUSY: "io-error",
    errno.EMFILE: "io-error",
    errno.ENFILE: "io-error",
    errno.ENOMEM: "io-error",
    errno.ETIMEDOUT: "timeout",
    errno.EROFS: "permission",
    errno.EACCES: "permission",
    errno.EPERM: "permission",
}


#: Errors of the process, or of a whole volume unless it can still be written elsewhere.
_SHARED_ERRNOS = frozenset({errno.EMFILE, errno.ENFILE, errno.ENOMEM, errno.ENOSPC, errno.EDQUOT, errno.EROFS})


def concerns_all(error: OSError) -> bool:
    """Return whether an error concerns the process or a volume, so that other files would meet it as well."""
    return error.errno in _SHARED_ERRNOS


def internal(error: Exception) -> str:
    """Describe an unexpected exception by its type and where it was raised: its message may hold patient data."""
    trace = error.__traceback__
    while trace and trace.tb_next:
        trace = trace.tb_next
    where = f"{trace.tb_frame.f_code.co_filename.rpartition('/')[2]}:{trace.tb_lineno}" if trace else "?"
    return f"{type(error).__name__} at {where}"


def system_reason(error: OSError) -> str:
    """Return the metric label for an error of the system: one of SYSTEM_REASONS, or LOCKED for a lock."""
    if isinstance(error, LockHeld):
        return LOCKED
    return _SYSTEM_ERRNOS.get(error.errno or 0, "io-error")
