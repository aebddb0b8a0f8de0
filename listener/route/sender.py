"""The threads that send to one target: an association each, C-ECHO while nothing is sent, what each answer means."""

from __future__ import annotations

import contextlib
import os
import time
from collections import deque
from collections.abc import Callable
from functools import partial
from threading import Event, Lock, Thread
from typing import NamedTuple

from listener.errors import NotAccepted, PeerFault, Unsendable
from listener.network import statuses
from listener.network.association import Association, Patience, Peer, Stored
from listener.network.contexts import Pair
from listener.network.dimse import HIGH, LOW, MEDIUM
from listener.network.instance import Instance, wanted
from listener.network.statuses import Meaning, meaning
from listener.route.health import DOWN, Health, Standing
from listener.route.queue import File, Send
from listener.route.report import GONE, OTHER_FILE, Report, answered, given_up, reported
from listener.route.schema import NO_STATUS
from listener.route.window import Window

#: Seconds after which an idle association is released.
_IDLE = 2.0

#: Most kinds of instances of which an association proposes contexts.
_MOST_PAIRS = 48

#: Most instances that are opened before it is their turn.
_AHEAD = 8

#: Most bytes of an instance of which the sending may go before the report of the one before.
_SMALL = 1024 * 1024

_PRIORITIES = (HIGH, MEDIUM, LOW)

#: Causes after which it is asked again at once, if something was stored on the association: it may have been over since
#: before.
_MAYBE_OVER = ("closed",)


class Line(NamedTuple):
    """What the threads of a target need: where instances lie, `down_after` and `echo` in seconds, and what is called,
    in any thread: with each report, and when a target went down or came up.
    """

    data_dir: str
    down_after: float
    echo: float
    report: Callable[[Report], None]
    changed: Callable[[], None]


class Sender:
    """Sends what its `window` holds to one peer. `associations` are open at once, each with a thread."""

    def __init__(self, peer: Peer, patience: Patience, line: Line, health: Health, associations: int = 1) -> None:
        self._peer, self._patience, self.line = peer, patience, line
        self._health, self._lock = health, Lock()
        self._rests_until = 0.0
        self.window = Window()
        self.stopping = Event()
        self._pairs: dict[Pair, None] = {}
        self._links = [_Link(self, first=not number) for number in range(associations)]

    def start(self) -> None:
        """Start the threads; the first asks at once whether the target answers."""
        for link in self._links:
            link.start()

    @property
    def standing(self) -> Standing:
        """Return how the target stands."""
        return self._health.standing

    def finish(self) -> None:
        """Take nothing more; what is in hand is finished."""
        self.stopping.set()
        self.window.close()

    def is_finished(self) -> bool:
        """Return whether nothing is in hand any more, after finish()."""
        return not any(link.is_alive() for link in self._links)

    def abort(self, seconds: float = 2.0) -> None:
        """End what is in hand without its answer, which is sent again later."""
        self.finish()
        for link in self._links:
            link.interrupt()
        deadline = time.monotonic() + seconds
        for link in self._links:
            link.join(max(0.0, deadline - time.monotonic()))

    # -- for its threads -----------------------------------------------------------------------------------------------

    def connect(self, pair: Pair | None) -> Association:
        """Open an association that proposes what was sent of late, and this. Raises PeerFault."""
        with self._lock:
            if pair:
                self._pairs.pop(pair, None)
                self._pairs[pair] = None
                while len(self._pairs) > _MOST_PAIRS:
                    del self._pairs[next(iter(self._pairs))]
            pairs = [*reversed(self._pairs)]
        return Association(self._peer, pairs, self._patience)

    def rest(self) -> float:
        """Return for how many seconds nothing is to be tried."""
        return self._rests_until - time.monotonic()

    def failed(self, fault: PeerFault) -> None:
        """Take in that the target was not available."""
        with self._lock:
            before, now = self._health.standing.state, time.monotonic()
            self._rests_until = now + self._health.failed(now, fault.cause, fault.detail)
        self._tell(before)

    def _tell(self, before: str) -> None:
        if self._health.standing.state != before:
            self.line.changed()

    def full(self, status: int) -> None:
        """Take in that the target has no room."""
        with self._lock:
            now = time.monotonic()
            self._rests_until = now + self._health.full(now, f"status {status:04X}")

    def answered(self, *, stored: bool) -> None:
        """Take in that the target answered."""
        with self._lock:
            before = self._health.standing.state
            self._health.answered(time.monotonic(), stored=stored)
        self._tell(before)


class _Prepared(NamedTuple):
    """What is sent next, opened while the answer to the one before is awaited; None if that failed."""

    send: Send
    instance: Instance | None


class _Link(Thread):
    """One association of a target, and its thread. The first one asks whether the target answers."""

    def __init__(self, sender: Sender, *, first: bool) -> None:
        super().__init__(name="listener-route-sender", daemon=True)
        self._sender, self._is_first = sender, first
        self._association: Association | None = None
        self._stored = 0
        self._used_at = -sender.line.echo
        self._reads = wanted()
        self._prepared: deque[_Prepared] = deque()
        #: Tells what was stored, if that is still to be done: while the peer is at work on the next.
        self._untold: Callable[[], None] | None = None

    def run(self) -> None:
        """Send until the sender stops."""
        try:
            while not self._sender.stopping.is_set():
                self._turn()
        finally:
            self._put_back()
            self._release()

    def _turn(self) -> None:
        rest = self._sender.rest()
        if rest > 0:
            self._put_back()
            self._release()
            self._sender.window.rest(rest)
        elif self._sender.standing.state == DOWN:
            self._put_back()
            self._ask_or_wait()
        elif self._is_due_echo():
            self._echo()
        else:
            self._take()

    def interrupt(self) -> None:
        """End what is under way; from another thread."""
        association = self._association
        if association:
            association.interrupt()

    def _ask_or_wait(self) -> None:
        if self._is_first:
            self._echo()
        else:
            self._sender.window.rest(1.0)

    def _is_due_echo(self) -> bool:
        return self._is_first and time.monotonic() - self._used_at >= self._sender.line.echo

    def _take(self) -> None:
        prepared = self._begun() or self._taken()
        if prepared is None:
            if self._association and time.monotonic() - self._used_at >= _IDLE:
                self._release()
            return
        again = False
        try:
            again = not self._send(*prepared)
        finally:
            self._sender.window.release(prepared.send, again=again)

    def _taken(self) -> _Prepared | None:
        """Wait for the next; return None if there is none for so long that something else is due."""
        seconds = self._used_at - time.monotonic() + (_IDLE if self._association else self._sender.line.echo)
        send = self._sender.window.take(seconds if self._association or self._is_first else 1.0)
        return _Prepared(send, None) if send else None

    def _begun(self) -> _Prepared | None:
        """Return what was prepared next, if it is still to be sent."""
        if self._prepared and self._sender.window.begin(self._prepared[0].send):
            return self._prepared.popleft()
        self._put_back()
        return None

    def _read_ahead(self, send: Send) -> None:
        """Tell what was stored before, open what goes behind `send`, and read the beginning of the next, while the peer
        is at work.
        """
        self._tell()
        if not self._prepared:
            self._prepare(send)
        following = self._prepared[0].instance if self._prepared else None
        if following and self._association:
            with contextlib.suppress(OSError, Unsendable):  # It is told when it is the next.
                self._association.preload(following)

    def _prepare(self, send: Send) -> None:
        """Open what goes behind `send`: several at once, which costs half of each alone."""
        for following in self._sender.window.prepare(send, _AHEAD):
            instance = None
            with contextlib.suppress(OSError, Unsendable):  # It is told when it is the next.
                instance = self._open(following)
            self._prepared.append(_Prepared(following, instance))

    def _put_back(self) -> None:
        """Leave to the window what was prepared: something else is to be done first."""
        self._tell()
        while self._prepared:
            send, instance = self._prepared.popleft()
            if instance:
                instance.close()
            self._sender.window.release(send, again=True)

    def _open(self, send: Send) -> Instance:
        path = os.path.join(self._sender.line.data_dir, send.path)
        return Instance(path, reads=self._reads, proven=send.SOPInstanceUID)

    def _send(self, send: Send, prepared: Instance | None) -> bool:
        """Send one; return False if it was not answered, and stays where it is."""
        begun = time.monotonic()
        try:
            with prepared or self._open(send) as instance:
                if File.of(instance.about) != send.file or instance.SOPInstanceUID != send.SOPInstanceUID:
                    return self._give_up(send, OTHER_FILE)
                return self._store(send, instance, begun)
        except FileNotFoundError:
            return self._give_up(send, GONE)
        except Unsendable as fault:
            return self._give_up(send, str(fault).partition(": ")[2])
        except OSError as error:
            self._report(send, statuses.UNREADABLE, NO_STATUS, f"the file cannot be read ({error.strerror})", begun)
            return True

    def _store(self, send: Send, instance: Instance, begun: float) -> bool:
        try:
            stored = self._associated(instance.pair).store(
                instance, _PRIORITIES[send.priority], partial(self._read_ahead, send)
            )
        except NotAccepted as refusal:
            self._used_at = time.monotonic()
            self._sender.answered(stored=False)
            text = f"no presentation context is accepted for {str(refusal).partition(': ')[2]}"
            self._report(send, statuses.NOT_ACCEPTED, NO_STATUS, text, begun)
            return True
        except PeerFault as fault:
            self._fail(fault)
            return False
        self._stored += 1
        self._used_at = time.monotonic()
        status = stored.response.status
        found = meaning(status)
        if found.outcome == statuses.FULL:
            self._sender.full(status)
            self._sender.line.report(Report(send, found.outcome, status, time.time_ns(), self._used_at - begun))
            return False
        at_ns, seconds = time.time_ns(), self._used_at - begun
        self._untold = partial(self._tell_stored, send, stored, found, at_ns, seconds)
        if found.outcome != statuses.DELIVERED or not self._goes_on():
            self._tell()
        return True

    def _goes_on(self) -> bool:
        """Return whether what is sent next is ready, and sent in no time."""
        following = self._prepared[0].instance if self._prepared else None
        return following is not None and following.size <= _SMALL

    def _tell(self) -> None:
        """Tell what was stored, if that was not done yet."""
        untold, self._untold = self._untold, None
        if untold:
            untold()

    def _tell_stored(self, send: Send, stored: Stored, found: Meaning, at_ns: int, seconds: float) -> None:
        self._sender.answered(stored=found.outcome == statuses.DELIVERED)
        made = reported(send, found, stored.response.status, stored.response.comment, at_ns, seconds)
        self._sender.line.report(made._replace(is_reencoded=stored.is_reencoded))

    def _report(self, send: Send, found: Meaning, status: int, text: str, begun: float) -> None:
        self._tell()
        self._sender.line.report(answered(send, found, status, text, begun))

    def _give_up(self, send: Send, why: str) -> bool:
        self._tell()
        self._sender.line.report(given_up(send, why))
        return True

    def _fail(self, fault: PeerFault) -> None:
        self._tell()
        was_used, self._association = self._stored, None
        self._stored = 0
        if not (was_used and fault.cause in _MAYBE_OVER) and not self._sender.stopping.is_set():
            self._sender.failed(fault)

    def _associated(self, pair: Pair | None) -> Association:
        """Return an association on which this kind of instance was proposed. Raises PeerFault."""
        association = self._association
        if association and association.is_open and (pair is None or pair in association.agreement.proposed):
            return association
        self._release()
        self._association = self._sender.connect(pair)
        return self._association

    def _echo(self) -> None:
        try:
            self._associated(None).echo()
        except NotAccepted:
            pass  # It answered.
        except PeerFault as fault:
            self._fail(fault)  # Asked again soon, until it is down or answers.
            return
        self._used_at = time.monotonic()
        self._sender.answered(stored=False)

    def _release(self) -> None:
        association, self._association, self._stored = self._association, None, 0
        if association:
            association.release()
