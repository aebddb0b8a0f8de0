"""One pass over all incoming directories: finds whatever events missed, and counts what does not fit the backlog."""

from __future__ import annotations

import time
from collections.abc import Iterator

from listener.engine import Engine
from listener.watch import walk

#: Paths that are looked at before the loop serves workers again.
_SLICE = 500


class Sweep:
    """A sweep under way, done in slices. `beyond` counts what the bounded queue had no room for."""

    def __init__(self, roots: tuple[str, ...], engine: Engine, source: str) -> None:
        self._engine = engine
        self._source = source
        self._begun = time.monotonic()
        self._paths = self._walk(roots)
        self.beyond = 0
        self.troubles: list[OSError] = []

    def _walk(self, roots: tuple[str, ...]) -> Iterator[tuple[int, str]]:
        for root, directory in enumerate(roots):
            for path in walk(directory, self.troubles.append):
                yield root, path

    def slice(self) -> bool:
        """Offer the next paths; whether the sweep is complete."""
        engine = self._engine
        for _ in range(_SLICE):
            found = next(self._paths, None)
            if found is None:
                return True
            root, path = found
            if engine.backlog.holds(path):
                continue
            if engine.backlog.full:
                self.beyond += 1
            else:
                engine.offer(path, root, self._source)
        return False

    @property
    def seconds(self) -> float:
        """How long it has taken."""
        return time.monotonic() - self._begun
