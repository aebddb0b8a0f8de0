"""Hooks: a thread each takes deliveries from the ledger and records how they went."""

from __future__ import annotations

import contextlib
import os
import time
from sqlite3 import Connection
from threading import Event, Thread
from typing import Protocol

from listener.config import Config
from listener.diagnostics import log
from listener.disk.retry import hook_pause
from listener.errors import HookFailed, HookGone, LedgerFault
from listener.hooks.payload import Payload, message
from listener.hooks.targets import CommandHook, Webhook
from listener.ledger import consumers, deliveries
from listener.ledger.connection import Stamp, open_writer, path_of, translated
from listener.ledger.consumers import Position, owner_of
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

    def tell(self, told: Payload) -> None:
        """Tell it; raises HookFailed."""

    def abort(self) -> None:
        """End the attempt that is under way; from any thread."""


class HookThread:
    """Tells `hook` what the ledger of a state directory has for it, until stop()."""

    def __init__(self, hook: Hook, state: str, phi: bool, owner: str = "") -> None:
        self._hook = hook
        self._path = path_of(state)
        self._phi = phi
        self._owner = owner
        self._stopping = Event()
        self._failures = 0
        self._fault = ""
        self._files = Stamp()
        self._consumer = 0
        self._seen: Position | None = None
        self._since_ns = 0
        self._now_ns = 0
        self._rests_until = 0.0
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
        with contextlib.closing(open_writer(self._path)) as connection:
            self._take_up(connection)
            # A ledger that was made anew does not know us yet.
            while not self._stopping.is_set() and self._files.is_still(Stamp.of(self._path)):
                if not self._look(connection):
                    return
                due = self._lease(connection)
                for delivery in due:
                    self._tell(connection, delivery)
                if not due or self._failures:
                    self.idle.set()
                if not due:
                    self._stopping.wait(_LOOK)

    def _take_up(self, connection: Connection) -> None:
        files, now_ns = Stamp.of(self._path), time.time_ns()
        if self._seen and files.database == self._files.database:
            self._look(connection)
        else:
            self._seen, self._since_ns = None, now_ns
        self._files = files
        self._consumer = deliveries.register(connection, self._hook.name, now_ns, owner=self._owner)
        self._seen = consumers.position(connection, self._consumer)

    def _look(self, connection: Connection) -> bool:
        """See how the consumer stands, and register it again where somebody retired it; False when it is gone."""
        before, self._now_ns = self._now_ns, time.time_ns()
        if self._now_ns < before:  # The clock was set back, and what is due soon would wait for as long.
            deliveries.register(connection, self._hook.name, self._now_ns, owner=self._owner)
        found = consumers.position(connection, self._consumer)
        if found and self._seen and not found.is_active:
            consumers.resume(connection, self._consumer, self._seen, self._since_ns, self._now_ns)
            log.warning(
                "the %s hook was retired by somebody, and is registered again: this service serves it until its option "
                "is taken away",
                self._hook.name,
            )
        self._seen = found
        return found is not None

    def _lease(self, connection: Connection) -> list[Delivery]:
        """What is due; nothing while the hook is stopped, or gets a rest."""
        if (self._seen and self._seen.stopped) or time.monotonic() < self._rests_until:
            return []
        until_ns = self._now_ns + int(self._hook.lease * 1e9)
        return deliveries.lease(connection, self._consumer, self._now_ns, until_ns)

    def _tell(self, connection: Connection, delivery: Delivery) -> None:
        try:
            self._hook.tell(message(delivery, self._phi))
        except HookGone as gone:
            self._gone(connection, delivery, gone.detail)
        except HookFailed as failure:
            self._failed(connection, delivery, failure.detail, failure.pause)
        else:
            if self._failures:
                log.info("the %s hook takes deliveries again", self._hook.name)
            self._failures = 0
            deliveries.settle(connection, delivery, "delivered", time.time_ns())
            self._fault = ""

    def _gone(self, connection: Connection, delivery: Delivery, why: str) -> None:
        """The hook wants nothing more: all that is to be told waits, until a person decides."""
        now_ns, name = time.time_ns(), self._hook.name
        deliveries.settle(connection, delivery, "pending", now_ns, next_ns=now_ns, error=why)
        consumers.stop(connection, self._consumer, why)
        log.error(
            "the %s hook is told nothing more (%s); 'listener hooks redeliver %s' or the next start tells it again, "
            "without its option it is retired",
            name,
            why,
            name,
        )

    def _failed(self, connection: Connection, delivery: Delivery, why: str, pause: float) -> None:
        now = time.time_ns()
        if self._stopping.is_set():  # It was we who ended it.
            deliveries.settle(connection, delivery, "pending", now, next_ns=now, error="the service stopped meanwhile")
            return
        if not self._failures:
            log.warning("the %s hook failed (%s); it is told again, later and later", self._hook.name, why)
        self._failures += 1
        # A hook that fails gets a pause before anything else is tried.
        self._rests_until = time.monotonic() + max(pause, min(hook_pause(self._failures), _LONGEST_REST))
        if delivery.attempts >= MOST_ATTEMPTS:
            log.error(
                "the %s hook was told %s %d times in vain; given up", self._hook.name, delivery.key, MOST_ATTEMPTS
            )
            deliveries.settle(connection, delivery, "failed", now, error=why)
        else:
            later = now + int(max(pause, hook_pause(delivery.attempts)) * 1e9)
            deliveries.settle(connection, delivery, "pending", now, next_ns=later, error=why)


#: Every hook that may be configured, by the consumer's name in the ledger.
NAMES = (Webhook.name, CommandHook.name)

#: How long `once` waits for a hook, in seconds.
_STOP_SECONDS = 30.0


class HookManager:
    """Registered at once, so that nothing is missed that ends later; told from start() to stop(). `retires`: for the
    service, whose configuration says who is to be told from now on; a command that leaves says nothing of that.
    """

    def __init__(self, config: Config, *, retires: bool = False) -> None:
        hooks = asked_for(config)
        self.names = {hook.name for hook in hooks}
        _register(config, self.names, retires=retires)
        owner = owner_of(config.incoming) if retires else ""
        self._couriers = [HookThread(hook, config.state, config.phi, owner) for hook in hooks]

    def start(self) -> None:
        """Begin to tell."""
        for courier in self._couriers:
            courier.start()

    def tell_due(self) -> None:
        """Tell what is due now, for as long as one attempt may take; then stop."""
        self.start()
        for courier in self._couriers:
            courier.idle.wait(_STOP_SECONDS)
        self.stop()

    def stop(self) -> None:
        """Tell no more; what is left is told after the next start."""
        for courier in self._couriers:
            courier.stop()


def asked_for(config: Config) -> list[Hook]:
    """The hooks."""
    found: list[Hook] = []
    if config.on_series_complete:
        found.append(Webhook(config.on_series_complete, config.hook_secret_file))
    if config.on_series_complete_exec:
        found.append(CommandHook(config.on_series_complete_exec))
    return found


def _register(config: Config, names: set[str], *, retires: bool) -> None:
    """Make it known in the ledger who is to be told. With `retires` those of this listener that are not asked for any
    more are retired; another listener may serve its own from the same ledger.
    """
    path = path_of(config.state)
    if not names and not (retires and os.path.exists(path)):
        return
    owner, now_ns = owner_of(config.incoming), time.time_ns()
    try:
        with contextlib.closing(open_writer(path)) as connection, translated():
            for name in NAMES:
                if name in names:
                    deliveries.register(connection, name, now_ns, owner=owner, is_start=True, takes_over=retires)
                elif retires and consumers.is_own(connection, name, owner):
                    deliveries.retire(connection, name, now_ns)
                    log.info("the %s hook is not asked for any more, and retired", name)
    except LedgerFault as fault:  # Each courier tries again for as long as it takes.
        if names:
            log.error("the ledger cannot be used, so hooks are not told: %s", fault)
