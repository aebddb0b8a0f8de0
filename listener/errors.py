"""The errors, and the words for them.

The docstring of a class is its message (and of a file's fault the remedy), `reason` the word in set-aside folders,
events and metric labels (a closed set), and `exit_code` the exit status of the command.
"""

from __future__ import annotations

import errno
from collections.abc import Mapping

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

#: Why a DICOM peer is unavailable. `title`: it rejects an AE title.
PEER_CAUSES = (
    "unresolved",
    "refused",
    "unreachable",
    "timeout",
    "closed",
    "tls",
    "title",
    "rejected",
    "aborted",
    "protocol",
)

#: Steps of one file's story, in order; metric labels.
STEPS = ("claim", "read", "place", "describe", "release")


class ListenerError(Exception):
    """Something went wrong."""

    exit_code = 1
    reason = "internal"

    def __init__(self, detail: str = "") -> None:
        message = (type(self).__doc__ or "").strip().splitlines()[0]
        super().__init__(f"{message.rstrip('.')}: {detail}" if detail else message)


class ConfigError(ListenerError):
    """The configuration cannot work."""

    exit_code = 2

    def __init__(self, problems: list[str]) -> None:
        self.problems = problems
        Exception.__init__(self, "\n".join(problems))


class OwnedElsewhere(ListenerError):
    """Another listener owns this incoming directory."""


class FatalFault(ListenerError):
    """The service cannot go on."""


class LockHeld(OSError):
    """Another process holds a lock. Only what needs this lock waits.

    It is an OSError, as taking a lock raises; its `strerror` names the lock and its holder (`holder`, "" when unknown).
    """

    def __init__(self, lock: str, holder: str = "") -> None:
        super().__init__(errno.EAGAIN, f"the lock '{lock}' is held by {holder or 'another host or container'}")


class NotCurrent(LockHeld):
    """A document that another machine has just written under its lock is not seen here yet."""

    def __init__(self, lock: str) -> None:
        text = f"what another machine wrote under the lock '{lock}' is not to be read here yet"
        OSError.__init__(self, errno.EAGAIN, text)


class LedgerFault(ListenerError):
    """The ledger cannot be used; intake goes on without it."""


class LedgerMissing(LedgerFault):
    """There is no ledger in --state; the service makes one."""


class LedgerCorrupt(LedgerFault):
    """The ledger is damaged, or is none; move it away and run 'listener verify --repair', which makes it anew."""


class LedgerNewer(LedgerFault):
    """The ledger was made by a newer version of listener; use that one, or move the ledger away."""


class LedgerLocked(LedgerFault):
    """Another program holds the ledger locked; end it, or wait for it."""


class LedgerUnusable(LedgerFault):
    """The ledger cannot be opened or written; see the state directory's owner, mode, space and mount."""


class LedgerReplaced(LedgerFault):
    """The ledger's file was removed or replaced while in use; 'listener verify --repair' brings back what it had."""


class UnknownSeries(ListenerError):
    """The ledger knows no such series; 'listener series' lists them."""


class UnknownBatch(ListenerError):
    """The ledger knows no such batch; 'listener batches' lists them."""


class UnknownStudy(ListenerError):
    """The ledger knows no such study; 'listener find' looks for one."""


class UnknownReason(ListenerError):
    """There is no such reason for which files are set aside."""


class StateUnreadable(ListenerError):
    """The state cannot be read."""


class UnknownConsumer(ListenerError):
    """The ledger knows no such hook; 'listener hooks' lists them."""


class NothingDelivered(ListenerError):
    """The hook was told nothing of such a series or study; 'listener series UID' shows who was."""


class HookNotConfigured(ListenerError):
    """No such hook is configured here; give the options of its service (or its --config), or see 'listener hooks'."""


class ConsumerRetired(ListenerError):
    """The hook is retired, so nobody would take it; start its service again with its option, or forget what failed."""


class InvalidSignature(ListenerError):
    """The message of a hook is not signed with this secret, or not at this time."""


class NotTaken(ListenerError):
    """A consumer did not take a delivery.

    It gets none for `pause` seconds, if it asked for a pause; `is_final`: it is of no use to try this one again.
    """

    def __init__(self, detail: str = "", pause: float = 0.0, *, is_final: bool = False) -> None:
        self.detail, self.pause, self.is_final = detail, pause, is_final
        super().__init__(detail)


class ConsumerGone(NotTaken):
    """A consumer wants no more deliveries."""


class Postponed(ListenerError):
    """It is not yet the time for a delivery: it is given again after `seconds`, which is no failure."""

    def __init__(self, detail: str = "", seconds: float = 1.0) -> None:
        self.detail = detail
        self.seconds = seconds
        super().__init__(detail)


class PeerFault(ListenerError):
    """The peer cannot be reached, or does not answer as DICOM says.

    `cause` is one of PEER_CAUSES; the detail names no patient.
    """

    def __init__(self, cause: str = "", detail: str = "") -> None:
        self.cause, self.detail = cause, detail
        super().__init__(f"{cause} ({detail})" if detail else cause)


class NotAccepted(ListenerError):
    """The peer accepted no presentation context for this SOP class and transfer syntax."""


class Unsendable(ListenerError):
    """The file cannot be sent over DICOM as it is."""


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
