"""A consumer's thread: takes its deliveries from the ledger under leases, hands them to a receiver, records the result.

What a receiver does not take is tried again with growing pauses; what it holds when its process dies is given out again
when the lease ends. Hooks and stages take deliveries in this one way.
"""

from __future__ import annotations

import contextlib
import sqlite3
import time
from collections.abc import Callable
from sqlite3 import Connection
from threading import Event, Thread
from typing import NamedTuple, Protocol

from listener.diagnostics import log
from listener.errors import ConsumerGone, LedgerFault, NotTaken, Postponed
from listener.ledger import consumers, deliveries
from listener.ledger.connection import Stamp, open_writer, path_of, translated
from listener.ledger.consumers import Position
from listener.ledger.delivery_retry import retry_of
from listener.ledger.rows import Delivery
from listener.reasons import internal

#: Seconds between two looks for due deliveries.
_POLL_SECONDS = 0.25


class Consumer(NamedTuple):
    """Who takes deliveries: `name` and `wants` as in its row of the ledger, `title` as people read it ("webhook hook").
    `lease` is how long a delivery is leased, in seconds; `remedy` says what to do when it wants no more; `attempts`
    after how many a delivery is given up, 0: never.
    """

    name: str
    title: str
    wants: str
    lease: float
    remedy: str = ""
    attempts: int = 0


class Receiver(Protocol):
    """What is done with a delivery."""

    def take(self, delivery: Delivery, renew: Callable[[], None]) -> None:
        """Do it. Call `renew` from time to time where it may take longer than the lease. Raises NotTaken if it failed,
        Postponed if it is not its time yet, ConsumerGone if nobody wants any more.
        """

    def abort(self) -> None:
        """End the attempt that is under way; from any thread."""


class DeliveryThread:
    """Takes the deliveries in the ledger of a state directory for `receiver`, until stop(). One with a `leader`,
    another thread of the same consumer, leaves it to that to register it.
    """

    #: Seconds until a ledger that cannot be used is tried again.
    retry_seconds = 5.0

    def __init__(
        self,
        consumer: Consumer,
        receiver: Receiver,
        state_dir: str,
        owner: str = "",
        *,
        leader: DeliveryThread | None = None,
    ) -> None:
        self._consumer, self._receiver = consumer, receiver
        self._leader = leader
        #: Set once the consumer is registered, which gives out anew what was leased.
        self.registered = Event()
        self._path = path_of(state_dir)
        self._owner = owner
        self._stopping = Event()
        self._failures = 0
        self._fault = ""
        self._stamp = Stamp()
        self._id = 0
        self._position: Position | None = None
        self._since_ns = 0
        self._now_ns = 0
        self._paused_until = 0.0
        #: Set when nothing more can be taken now: nothing is due, or the receiver or the ledger fails.
        self.idle = Event()
        #: Called in the thread with how a delivery was answered (delivered, postponed, failed), and in how many s.
        self.answered: Callable[[str, float], None] = lambda _how, _seconds: None
        self._thread = Thread(target=self._work, name=f"listener-{consumer.name}", daemon=True)

    def start(self) -> None:
        """Start the thread."""
        self._thread.start()

    def stop(self, timeout: float = 3.0) -> None:
        """Stop. An attempt that is under way is aborted, and repeated by the next start."""
        self._stopping.set()
        self._receiver.abort()
        if self._thread.ident:
            self._thread.join(timeout)

    def finish(self) -> None:
        """Take nothing new, and end when what is under way is done."""
        self._stopping.set()

    @property
    def is_working(self) -> bool:
        """Return whether the thread runs."""
        return self._thread.is_alive()

    def _work(self) -> None:
        while not self._stopping.is_set():
            try:
                with translated():
                    self._serve()
            except LedgerFault as fault:
                if str(fault) != self._fault:
                    log.error("the %s waits, because the ledger cannot be used: %s", self._consumer.title, fault)
                self._fault = str(fault)
                self.idle.set()
                self._stopping.wait(self.retry_seconds)

    def _serve(self) -> None:
        with contextlib.closing(open_writer(self._path)) as connection:
            self._register(connection)
            # A ledger that replaced this one does not have the consumer yet.
            while not self._stopping.is_set() and self._stamp.is_still(Stamp.of(self._path)):
                if not self._refresh(connection):
                    self._stopping.wait(_POLL_SECONDS if self._leader else 0)
                    return
                due = self._lease(connection)
                for delivery in due:
                    self._deliver(connection, delivery)
                if not due or self._failures:
                    self.idle.set()
                if not due:
                    self._stopping.wait(_POLL_SECONDS)

    def _register(self, connection: Connection) -> None:
        files, now_ns = Stamp.of(self._path), time.time_ns()
        if self._leader:
            while not self._stopping.is_set() and not self._leader.registered.wait(_POLL_SECONDS):
                pass
            self._stamp, self._id = files, consumers.id_of(connection, self._consumer.name)
            return
        if self._position and files.database == self._stamp.database:
            self._refresh(connection)
        else:
            self._position, self._since_ns = None, now_ns
        self._stamp = files
        self._register_row(connection, now_ns)
        self._position = consumers.position(connection, self._id)
        self.registered.set()

    def _register_row(self, connection: Connection, now_ns: int) -> None:
        name, wants = self._consumer.name, self._consumer.wants
        self._id = deliveries.register(connection, name, now_ns, owner=self._owner, wants=wants)

    def _refresh(self, connection: Connection) -> bool:
        """Read the consumer's state, and register it again if it was retired; return False if it is gone."""
        before, self._now_ns = self._now_ns, time.time_ns()
        if self._leader:
            self._position = consumers.position(connection, self._id)
            return self._position is not None
        if self._now_ns < before:  # The clock was set back: without this, what is due soon would wait for as long.
            self._register_row(connection, self._now_ns)
        position = consumers.position(connection, self._id)
        if position and self._position and not position.is_active:
            consumers.resume(connection, self._id, self._position, self._since_ns, self._now_ns)
            log.warning(
                "the %s was retired by somebody, and is registered again: this service serves it until its option "
                "is taken away",
                self._consumer.title,
            )
        self._position = position
        return position is not None

    def _lease(self, connection: Connection) -> list[Delivery]:
        """Lease what is due; nothing while the consumer is stopped or paused."""
        if (self._position and self._position.stopped) or time.monotonic() < self._paused_until:
            return []
        until_ns = self._now_ns + int(self._consumer.lease * 1e9)
        return deliveries.lease(connection, self._id, self._now_ns, until_ns)

    def _deliver(self, connection: Connection, delivery: Delivery) -> None:
        begun, answer = time.monotonic(), "postponed"
        try:
            self._receiver.take(delivery, self._renewal(connection, delivery))
        except ConsumerGone as gone:
            self._stop_consumer(connection, delivery, gone.detail)
        except Postponed as later:
            next_ns = time.time_ns() + int(later.seconds * 1e9)
            deliveries.settle(connection, delivery, "pending", time.time_ns(), next_ns=next_ns, error=later.detail)
        except NotTaken as failure:
            answer = self._record_failure(connection, delivery, failure)
        except (LedgerFault, sqlite3.Error, OSError):
            raise
        except Exception as defect:  # noqa: BLE001 - a defect of the receiver ends neither the thread nor other deliveries
            answer = self._record_failure(connection, delivery, NotTaken(internal(defect)))
        else:
            if self._failures:
                log.info("the %s takes deliveries again", self._consumer.title)
            self._failures, answer = 0, "delivered"
            deliveries.settle(connection, delivery, "delivered", time.time_ns())
            self._fault = ""
        self.answered(answer, time.monotonic() - begun)

    def _renewal(self, connection: Connection, delivery: Delivery) -> Callable[[], None]:
        """Return a function that makes the lease of a delivery last, called as often as one likes."""
        seconds, taken = self._consumer.lease, [time.monotonic()]

        def renew() -> None:
            if time.monotonic() >= taken[0] + seconds / 3:
                taken[0] = time.monotonic()
                deliveries.renew(connection, delivery, time.time_ns() + int(seconds * 1e9))

        return renew

    def _stop_consumer(self, connection: Connection, delivery: Delivery, why: str) -> None:
        """Stop a consumer that wants no more: deliveries wait until a person decides."""
        now_ns = time.time_ns()
        deliveries.settle(connection, delivery, "pending", now_ns, next_ns=now_ns, error=why)
        consumers.stop(connection, self._id, why)
        log.error("the %s is stopped (%s); %s", self._consumer.title, why, self._consumer.remedy)

    def _record_failure(self, connection: Connection, delivery: Delivery, failure: NotTaken) -> str:
        """Let a delivery wait, or give it up; return which."""
        now = time.time_ns()
        if failure.is_final:
            log.error("the %s cannot take %s (%s); given up", self._consumer.title, delivery.key, failure.detail)
            deliveries.settle(connection, delivery, "failed", now, error=failure.detail)
            return "failed"
        why = failure.detail
        if self._stopping.is_set():  # stop() aborted it.
            deliveries.settle(connection, delivery, "pending", now, next_ns=now, error="the service stopped meanwhile")
            return "postponed"
        if not self._failures:
            log.warning("the %s failed (%s); it is tried again with growing pauses", self._consumer.title, why)
        self._failures += 1
        most = self._consumer.attempts
        retry = retry_of(failure, delivery.attempts, self._failures, most)
        self._paused_until = time.monotonic() + retry.pause
        if retry.wait is None:
            log.error("the %s was sent %s %d times in vain; given up", self._consumer.title, delivery.key, most)
            deliveries.settle(connection, delivery, "failed", now, error=why)
            return "failed"
        later = now + int(retry.wait * 1e9)
        deliveries.settle(connection, delivery, "pending", now, next_ns=later, error=why)
        return "postponed"


class DeliveryThreads:
    """So many DeliveryThreads of one consumer: as many deliveries are under way at once, and the receiver is called in
    all of them.
    """

    def __init__(self, count: int, consumer: Consumer, receiver: Receiver, state_dir: str) -> None:
        leader = DeliveryThread(consumer, receiver, state_dir)
        self._threads = [
            leader,
            *(DeliveryThread(consumer, receiver, state_dir, leader=leader) for _ in range(count - 1)),
        ]

    def start(self, answered: Callable[[str, float], None]) -> None:
        """Start all; `answered` is called in each as DeliveryThread.answered."""
        for thread in self._threads:
            thread.answered = answered
            thread.start()

    def finish(self) -> None:
        """Take nothing new, and end when what is under way is done."""
        for thread in self._threads:
            thread.finish()

    def stop(self, timeout: float = 3.0) -> None:
        """Stop, as DeliveryThread.stop does; `timeout` seconds are for all."""
        end = time.monotonic() + timeout
        self.finish()
        for thread in self._threads:
            thread.stop(max(0.0, end - time.monotonic()))

    @property
    def is_working(self) -> bool:
        """Return whether one of them runs."""
        return any(thread.is_working for thread in self._threads)

    @property
    def is_idle(self) -> bool:
        """Return whether each of them has found nothing to take, or failed."""
        return all(thread.idle.is_set() for thread in self._threads)
