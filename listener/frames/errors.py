"""PURE. The errors of frames: a docstring is the message, `reason` the word in answers of DICOMweb."""

from __future__ import annotations

from listener.errors import ListenerError


class FramesFault(ListenerError):
    """Frames of this instance cannot be read."""

    reason = "frames"


class FramesUnclear(FramesFault):
    """It cannot be told where a frame begins and ends."""

    reason = "frames-unclear"


class Deflated(FramesUnclear):
    """The data set is deflated: it has to be inflated as a whole."""


class NoSingleFrames(FramesFault):
    """Video has no single frames; retrieve the instance as a whole."""

    reason = "video"


class NoFrames(FramesFault):
    """The instance has no pixel data."""

    reason = "no-frames"


class FrameChanged(FramesFault):
    """The file is not what it was when its frames were looked for; ask again."""

    reason = "changed"


class UnknownInstance(FramesFault):
    """The collection has no such instance."""

    reason = "unknown"


class InvalidLRUMaxCacheSizeError(FramesFault, ValueError):
    """The largest size of a cache is at least one byte."""


class InvalidFrameNumberError(FramesFault, ValueError):
    """Frame numbers begin with 1."""


class UnexpectedTypeError(FramesFault, TypeError):
    """This is neither an instance nor a level of a pyramid."""
