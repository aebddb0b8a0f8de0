"""Who hears what happens in the engine: metrics and events in the service, progress in `once`."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from listener.records import Deferral, Outcome
from listener.service.pool import Lost


class Listens(Protocol):
    """Who hears what happens: metrics, events, progress."""

    def discovered(self, source: str) -> None:
        """A file entered; `source` is one of records.SOURCES."""

    def finished(self, outcomes: Sequence[Outcome]) -> None:
        """Files are done."""

    def deferred(self, deferral: Deferral) -> None:
        """A file must wait."""

    def lost(self, lost: Lost) -> None:
        """A worker died and was replaced."""
