"""PURE. What keeps a series, or the whole stage, from being exported: a docstring is the message, remedy last."""

from __future__ import annotations

from listener.errors import ListenerError

#: Why a series cannot be exported; metric labels. `internal`: a defect of this program.
REASONS = ("identified", "gone", "changed", "unreadable", "collision", "internal")


class TargetFault(ListenerError):
    """The target cannot be used now.

    It is tried again with growing pauses, and not within `pause` seconds, if it asked for that.
    """

    def __init__(self, detail: str = "", pause: float = 0.0) -> None:
        self.detail, self.pause = detail, pause
        super().__init__(detail)


class TargetRefuses(TargetFault):
    """The target refuses what the export needs; when that is mended, it goes on by itself."""


class Busy(TargetFault):
    """The target is too busy for the moment."""


class NotThere(TargetFault):
    """The target does not have what was written to it."""


class SeriesFault(ListenerError):
    """The series cannot be exported; what is the matter is told, and the others go on."""

    reason = "internal"


class Identified(SeriesFault):
    """An instance does not say that it was de-identified (PatientIdentityRemoved YES); nothing of the series was sent.

    Remedy: export the collection that 'listener deidentify' made, or allow it with --allow-identified.
    """

    reason = "identified"


class Gone(SeriesFault):
    """A file of the series is not in the tree any more; 'listener verify' says what else is missing."""

    reason = "gone"


class Changed(SeriesFault):
    """A file of the series is not what the ledger knows; 'listener verify' compares them."""

    reason = "changed"


class NotReadable(SeriesFault):
    """A file of the series cannot be read as DICOM."""

    reason = "unreadable"


class Collision(SeriesFault):
    """Two instances of the series would have one key; give '--keys path'."""

    reason = "collision"


class Stopped(ListenerError):
    """The stage stops; what was under way is done by the next start."""
