"""Where a frame cache gets frames from."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager
from typing import NamedTuple, Protocol

from listener.frames.reference import InstanceReference


class Reading(NamedTuple):
    """Frames being read: the instance's `stamp`, which changes when it is replaced, `total`, the number of its frames
    (0: not known), and numbers with frames, which may raise as the origin does.
    """

    stamp: object
    total: int
    frames: Iterator[tuple[int, bytes]]


class Origin(Protocol):
    """Where frames come from; used by several threads at once. Its methods raise ListenerError and OSError."""

    def stamp(self, instance: InstanceReference) -> object:
        """Return the stamp of an instance as it is now, None where that is not known without reading it."""

    def read(self, instance: InstanceReference, numbers: Sequence[int], whole: bool) -> AbstractContextManager[Reading]:
        """Read frames by ascending numbers, counted from 1; those that the instance does not have are left out.
        `whole`: these are all that the caller knows of, so that any more may come too.
        """

    def close(self) -> None:
        """Let go of what is open."""
