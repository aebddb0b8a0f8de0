"""All targets: a sender each, filled from the queue, and replaced when the routes file changes."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable

from listener.errors import FatalFault
from listener.network.association import Peer
from listener.route.directory import DirectorySender
from listener.route.health import Health, Standing
from listener.route.queue import Queue
from listener.route.reload import Loaded, patience_of
from listener.route.routes_file import Target
from listener.route.sender import Line, Sender
from listener.route.window import LOW, SIZE, Window

#: What is there for each target.
AnySender = Sender | DirectorySender


class Senders:
    """The senders of the targets in use. Called in the loop's thread."""

    def __init__(self, line: Line) -> None:
        self._line = line
        self._targets: dict[str, tuple[Target, Peer | None]] = {}
        self._senders: dict[str, AnySender] = {}
        #: Those whose target changed or left: a successor starts when nothing is in hand any more.
        self._ending: dict[str, AnySender] = {}
        self._has_more: set[str] = set()
        self._retry_ns: dict[str, int] = {}
        self._is_stopping = False

    def use(self, loaded: Loaded, were_down: Iterable[str]) -> None:
        """Send to the targets of a routes file from now on; `were_down` when the last service ended."""
        wanted = {name: (target, loaded.peers.get(name)) for name, target in loaded.routes.targets.items()}
        for name in [name for name, sender in self._senders.items() if not self._is_same(name, wanted.get(name))]:
            sender = self._senders.pop(name)
            sender.finish()
            self._ending[name] = sender
        self._targets = wanted
        self._start(frozenset(were_down))

    def _is_same(self, name: str, other: tuple[Target, Peer | None] | None) -> bool:
        """Return whether a target is sent to as before; certificates that it names may be new ones."""
        before = self._targets[name][0]
        return other is not None and not before.tls and before == other[0]

    def _start(self, were_down: frozenset[str] = frozenset()) -> None:
        for name, sender in list(self._ending.items()):
            if sender.is_finished():
                del self._ending[name]
        for name in self._targets.keys() - self._senders.keys() - self._ending.keys():
            sender = self._senders[name] = self._made(name, is_down=name in were_down)
            self._has_more.add(name)
            sender.start()

    def _made(self, name: str, *, is_down: bool) -> AnySender:
        target, peer = self._targets[name]
        if peer is None:
            return DirectorySender(target.directory, self._line)
        health = Health(self._line.down_after, is_down=is_down)
        return Sender(peer, patience_of(target), self._line, health, target.associations)

    def turn(self) -> None:
        """Start what waits for its predecessor. Raises FatalFault if a thread ended that should not have."""
        if self._is_stopping:
            return
        if self._ending:
            self._start()
        for name, sender in self._senders.items():
            if sender.is_finished():
                raise FatalFault(f"the thread that sends to {name} has ended; see the log above it")

    def standings(self) -> dict[str, Standing]:
        """Return how each target stands."""
        return {name: sender.standing for name, sender in self._senders.items()}

    def window(self, name: str) -> Window | None:
        """Return the window of a target, also of one that is ending."""
        sender = self._senders.get(name) or self._ending.get(name)
        return sender.window if sender else None

    def windows(self) -> list[Window]:
        """Return all windows."""
        return [sender.window for sender in (*self._senders.values(), *self._ending.values())]

    def retry_at(self, name: str, next_ns: int) -> None:
        """Look at the queue of a target again at a time (nanoseconds since the epoch)."""
        self._retry_ns[name] = min(next_ns, self._retry_ns.get(name, next_ns))

    def fill(self, queue: Queue, touched: Iterable[str], now_ns: int) -> None:
        """Offer what is due to those that run low, or have something to try again."""
        due = {name for name, at_ns in self._retry_ns.items() if at_ns <= now_ns}
        for name, sender in self._senders.items():
            if name in touched:
                self._has_more.add(name)
            # What is queued for one that is down would else be read anew with each file that comes.
            is_low = name in self._has_more and len(sender.window) < LOW
            if name in due or is_low:
                sends = queue.due(name, now_ns, SIZE)
                sender.window.offer(sends)
                if len(sends) < SIZE:
                    self._has_more.discard(name)
                else:
                    self._has_more.add(name)
                if name in due or is_low:
                    self._retry_ns.pop(name, None)
                    later_ns = queue.next_ns(name, now_ns)
                    if later_ns:
                        self._retry_ns[name] = later_ns

    def next_retry_ns(self) -> int:
        """Return when the next of what waits to be tried again is due; 0: nothing waits."""
        return min(self._retry_ns.values(), default=0)

    def finish(self) -> None:
        """Take nothing more; what is in hand is finished."""
        self._is_stopping = True
        self._each(lambda sender: sender.finish())

    def is_finished(self) -> bool:
        """Return whether nothing is in hand any more, after finish()."""
        return all(sender.is_finished() for sender in (*self._senders.values(), *self._ending.values()))

    def abort(self) -> None:
        """End what is in hand without its answer."""
        self.finish()
        deadline = time.monotonic() + 3.0
        self._each(lambda sender: sender.abort(max(0.1, deadline - time.monotonic())))

    def _each(self, do: Callable[[AnySender], None]) -> None:
        for sender in (*self._senders.values(), *self._ending.values()):
            do(sender)
