"""The thread that tells one hook: takes deliveries from the ledger, one at a time, and writes down how it went.

A hook that hangs or refuses holds up nothing but itself: the deliveries are rows of the ledger, and wait there.
"""

from __future__ import annotations

import time
from sqlite3 import Connection
from threading import Event, Thread
from typing import Protocol

from listener.diagnostics import log
from listener.disk.retry import hook_pause
from listener.errors import HookFailed, LedgerFault
from listener.hooks.message import Message, message
from listener.ledger import deliveries
from listener.ledger.access import Stamp
from listener.ledger.opening import open_writer, path_of, translated
from listener.ledger.rows import Delivery

#: How often the ledger is asked for something to tell, and how long a ledger that cannot be used is left alone, in
#: seconds.
_LOOK, _PATIENCE = 0.5, 5.0

#: After so many attempts (a day, at the longest pauses) a delivery is given up: `failed`, and shown.
MOST_ATTEMPTS = 150

#: The longest that a hook which fails is left alone altogether, in seconds.
_LONGEST_REST = 60.0


class Hook(Protocol):
    """Somebody to be told."""

    name: str
    lease: float

    def tell(self, told: Message) -> None:
        """Tell it; raises HookFailed."""

    def abort(self) -> None:
        """End the attempt that is under way; from any thread."""


class Courier:
    """Tells `hook` what the ledger of a state directory has for it, until stop()."""

    def __init__(self, hook: Hook, state: str, phi: bool) -> None:
        self._hook = hook
        self._path = path_of(state)
        self._phi = phi
        self._stopping = Event()
        self._failures = 0
        self._fault = ""
        #: Everything that was due is told, or the hook or the ledger does not take it now.
        self.idle = Event()
        self._thread = Thread(target=self._work, name=f"listener-{hook.name}", daemon=True)

    def start(self) -> None:
        """Begin."""
        self._thread.start()

    def stop(self, timeout: float = 3.0) -> None:
        """Tell no more. What is under way is ended, and told again by the next start."""
        self._stopping.set()
        self._hook.abort()
        if self._thread.ident:
            self._thread.join(timeout)

    def _work(self) -> None:
        while not self._stopping.is_set():
            try:
                with translated():
                    self._tell_all()
            except LedgerFault as fault:
                if str(fault) != self._fault:
                    log.error("the %s hook waits, because the ledger cannot be used: %s", self._hook.name, fault)
                self._fault = str(fault)
                self.idle.set()
                self._stopping.wait(_PATIENCE)

    def _tell_all(self) -> None:
        connection = open_writer(self._path)
        try:
            now = time.time_ns()
            consumer = deliveries.register(connection, self._hook.name, now)
            opened = Stamp.of(self._path)
            # A ledger that was made anew does not know us yet.
            while not self._stopping.is_set() and opened.is_still(Stamp.of(self._path)):
                before, now = now, time.time_ns()
                if now < before:  # The clock was set back, and what is due soon would wait for as long.
                    deliveries.register(connection, self._hook.name, now)
                until = now + int(self._hook.lease * 1e9)
                due = deliveries.lease(connection, consumer, now, until)
                for delivery in due:
                    self._tell(connection, delivery)
                if not due or self._failures:
                    self.idle.set()
                self._stopping.wait(self._rest() if due else _LOOK)
        finally:
            connection.close()

    def _rest(self) -> float:
        """A hook that fails gets a pause before anything else is tried; one that works gets none."""
        return min(hook_pause(self._failures), _LONGEST_REST) if self._failures else 0.0

    def _tell(self, connection: Connection, delivery: Delivery) -> None:
        try:
            self._hook.tell(message(delivery, self._phi))
        except HookFailed as failure:
            self._failed(connection, delivery, failure.detail)
        else:
            if self._failures:
                log.info("the %s hook takes deliveries again", self._hook.name)
            self._failures = 0
            deliveries.settle(connection, delivery, "delivered", time.time_ns())
            self._fault = ""

    def _failed(self, connection: Connection, delivery: Delivery, why: str) -> None:
        now = time.time_ns()
        if self._stopping.is_set():  # It was we who ended it.
            deliveries.settle(connection, delivery, "pending", now, next_ns=now, error="the service stopped meanwhile")
            return
        if not self._failures:
            log.warning("the %s hook failed (%s); it is told again, later and later", self._hook.name, why)
        self._failures += 1
        if delivery.attempts >= MOST_ATTEMPTS:
            log.error(
                "the %s hook was told %s %d times in vain; given up", self._hook.name, delivery.key, MOST_ATTEMPTS
            )
            deliveries.settle(connection, delivery, "failed", now, error=why)
        else:
            later = now + int(hook_pause(delivery.attempts) * 1e9)
            deliveries.settle(connection, delivery, "pending", now, next_ns=later, error=why)
