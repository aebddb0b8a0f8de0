"""PURE. Why something does not pass."""

from __future__ import annotations

from listener.errors import ListenerError


class NotUnderstood(ListenerError):
    """The data set is not understood as a whole, so nothing of it passes.

    The detail names no patient.
    """


class RecipeFailed(ListenerError):
    """A line of a recipe cannot be done with an instance.

    The detail names no patient.
    """

    def __init__(self, number: int, why: str) -> None:
        super().__init__(f"line {number}: {why}")


class ProviderFailed(ListenerError):
    """Who gives identifiers did not, or what it said makes no sense.

    The detail names no patient.
    """

    def __init__(self, detail: str = "") -> None:
        self.detail = detail
        super().__init__(detail)
