"""PURE. Why something does not pass."""

from __future__ import annotations

from listener.errors import ListenerError


class NotUnderstood(ListenerError):
    """The data set is not understood as a whole, so nothing of it passes.

    The detail names no patient.
    """
