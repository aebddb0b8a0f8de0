"""The errors that end a command or an attempt, and the words for them; those of one file are in `reasons`.

The docstring of a class is its message, and `exit_code` the exit status of the command.
"""

from __future__ import annotations

import errno

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
