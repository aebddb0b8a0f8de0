"""PURE. The errors of a part, with exit statuses by which an Indexed Job tells what to do."""

from __future__ import annotations

from listener.errors import ListenerError


class InHand(ListenerError):
    """Another process has this in hand."""

    exit_code = 75


class NotMounted(ListenerError):
    """A volume is not there: nothing was read or written."""

    exit_code = 69


class PartFailed(ListenerError):
    """The part cannot go on; begin it again, and it goes on where it was."""

    exit_code = 74
