"""The way of batches through the service, beside that of incoming; without --batches only what others make batches
of is announced.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from math import inf
from selectors import EVENT_READ, BaseSelector

from listener.config import Config
from listener.disk.directories import Directories
from listener.ledger.thread import LedgerThread
from listener.service.batch_watch import BatchWatch
from listener.service.batches import Batches, BatchObserver, announce
from listener.service.engine import Engine


class BatchLane:
    """The batches of a service, and the watch on their directories. `wake` wakes the loop, from any thread."""

    def __init__(self, config: Config, observer: BatchObserver, ledger: LedgerThread, wake: Callable[[], None]) -> None:
        self._config = config
        self._observer = observer
        self._ledger = ledger
        self._batches: Batches | None = None
        self._watch = None if config.poll or not config.batches else BatchWatch(config.batches, wake)

    def open(self, directories: Directories, keep_open: Sequence[int]) -> None:
        """Start the workers, if there are directories of batches."""
        if self._config.batches:
            self._batches = Batches(self._config, directories, self._observer, self._ledger, keep_open)

    @property
    def engines(self) -> list[Engine]:
        """Return its engine, if it has one."""
        return [self._batches.engine] if self._batches else []

    def start(self, selector: BaseSelector) -> None:
        """Watch, and read what the ledger knows; `selector` reports when a worker has something."""
        if self._batches:
            selector.register(self._batches.engine.selector, EVENT_READ, _nothing)
            if self._watch:
                self._watch.ensure()
            self._batches.start()

    def tick(self) -> None:
        """Look after the watch; about once a second."""
        if self._watch:
            self._watch.ensure()

    def turn(self, now: float, incoming_came: float) -> None:
        """Go on for a slice. `incoming_came`: when the last file of incoming came."""
        if self._batches:
            for path in self._watch.take() if self._watch else ():
                self._batches.moved(path)
            self._batches.turn(now, incoming_came)
        else:  # Of batches that are no folders.
            for news in self._ledger.take_batch_news():
                announce(news, self._observer, self._ledger)

    def next_wake(self) -> float:
        """Return when `turn` has something to do, on the monotonic clock."""
        return self._batches.next_wake() if self._batches else inf

    @property
    def working(self) -> int:
        """Return how many files workers have in hand."""
        return self._batches.engine.backlog.working if self._batches else 0

    def open_series(self) -> frozenset[str]:
        """Return the series of which files are still to come."""
        return self._batches.open_series() if self._batches else frozenset()

    def stop(self) -> None:
        """Begin nothing more: neither a folder nor a file."""
        if self._watch:
            self._watch.close()
        if self._batches:
            self._batches.engine.pause("stopping")

    def close(self, *, at_once: bool) -> None:
        """End the workers."""
        if self._watch:
            self._watch.close()
        if self._batches:
            self._batches.close(at_once=at_once)


def _nothing() -> None:
    """Do nothing: the selector has woken the loop, whose next turn takes what is there."""
