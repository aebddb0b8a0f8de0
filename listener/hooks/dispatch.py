"""Hook threads: each takes deliveries of one hook from the ledger, sends them and records the result."""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Mapping
from sqlite3 import Connection
from threading import Event, Thread
from typing import Protocol

from listener.config import Config
from listener.diagnostics import log
from listener.disk.retry import hook_pause
from listener.errors import HookFailed, HookGone, LedgerFault
from listener.hooks.payload import Payload, payload_of
from listener.hooks.targets import CommandHook, Webhook
from listener.ledger import consumers, deliveries
from listener.ledger.connection import Stamp, open_writer, path_of, translated
from listener.ledger.consumers import Position, owner_of
from listener.ledger.rows import Delivery

#: Seconds between two looks for due deliveries, and until a ledger that cannot be used is tried again.
_POLL_SECONDS, _LEDGER_RETRY_SECONDS = 0.5, 5.0

#: Attempts (a day, at the longest pauses) after which a delivery is given up: `failed`, and shown.
MAX_ATTEMPTS = 150

#: Seconds at most in which a failing hook gets no delivery at all.
_LONGEST_PAUSE = 60.0


class Hook(Protocol):
    """A receiver of deliveries: `name` and `wants` as in its row of the ledger. `lease` is how long a delivery is
    leased, in seconds; `is_local`: what it is told stays on this machine.
    """

    name: str
    wants: str
    lease: float
    is_local: bool

    def send(self, payload: Payload) -> None:
        """Send one payload. Raises HookFailed, or HookGone if the receiver wants no more."""

    def abort(self) -> None:
        """End the attempt that is under way; from any thread."""


class HookThread:
    """Sends the deliveries in the ledger of the state directory to `hook`, until stop()."""

    def __init__(self, hook: Hook, config: Config, owner: str = "") -> None:
        self._hook = hook
        self._path = path_of(config.state)
        self._phi = config.phi
        #: A folder's name holds what its files tell of the patient.
        self._data_dir = config.data if hook.is_local or config.phi else ""
        self._owner = owner
        self._stopping = Event()
        self._failures = 0
        self._fault = ""
        self._stamp = Stamp()
        self._consumer = 0
        self._position: Position | None = None
        self._since_ns = 0
        self._now_ns = 0
        self._paused_until = 0.0
        #: Set when nothing more can be sent now: nothing is due, or the hook or the ledger fails.
        self.idle = Event()
        self._thread = Thread(target=self._work, name=f"listener-{hook.name}", daemon=True)

    def start(self) -> None:
        """Start the thread."""
        self._thread.start()

    def stop(self, timeout: float = 3.0) -> None:
        """Stop. An attempt that is under way is aborted, and repeated by the next start."""
        self._stopping.set()
        self._hook.abort()
        if self._thread.ident:
            self._thread.join(timeout)

    def _work(self) -> None:
        while not self._stopping.is_set():
            try:
                with translated():
                    self._serve()
            except LedgerFault as fault:
                if str(fault) != self._fault:
                    log.error("the %s hook waits, because the ledger cannot be used: %s", self._hook.name, fault)
                self._fault = str(fault)
                self.idle.set()
                self._stopping.wait(_LEDGER_RETRY_SECONDS)

    def _serve(self) -> None:
        with contextlib.closing(open_writer(self._path)) as connection:
            self._register(connection)
            # A ledger that replaced this one does not have the consumer yet.
            while not self._stopping.is_set() and self._stamp.is_still(Stamp.of(self._path)):
                if not self._refresh(connection):
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
        if self._position and files.database == self._stamp.database:
            self._refresh(connection)
        else:
            self._position, self._since_ns = None, now_ns
        self._stamp = files
        hook = self._hook
        self._consumer = deliveries.register(connection, hook.name, now_ns, owner=self._owner, wants=hook.wants)
        self._position = consumers.position(connection, self._consumer)

    def _refresh(self, connection: Connection) -> bool:
        """Read the consumer's state, and register it again if it was retired; return False if it is gone."""
        before, self._now_ns = self._now_ns, time.time_ns()
        if self._now_ns < before:  # The clock was set back: without this, what is due soon would wait for as long.
            hook = self._hook
            deliveries.register(connection, hook.name, self._now_ns, owner=self._owner, wants=hook.wants)
        position = consumers.position(connection, self._consumer)
        if position and self._position and not position.is_active:
            consumers.resume(connection, self._consumer, self._position, self._since_ns, self._now_ns)
            log.warning(
                "the %s hook was retired by somebody, and is registered again: this service serves it until its option "
                "is taken away",
                self._hook.name,
            )
        self._position = position
        return position is not None

    def _lease(self, connection: Connection) -> list[Delivery]:
        """Lease what is due; nothing while the hook is stopped or paused."""
        if (self._position and self._position.stopped) or time.monotonic() < self._paused_until:
            return []
        until_ns = self._now_ns + int(self._hook.lease * 1e9)
        return deliveries.lease(connection, self._consumer, self._now_ns, until_ns)

    def _deliver(self, connection: Connection, delivery: Delivery) -> None:
        try:
            self._hook.send(payload_of(delivery, self._phi, self._data_dir))
        except HookGone as gone:
            self._stop_hook(connection, delivery, gone.detail)
        except HookFailed as failure:
            self._record_failure(connection, delivery, failure.detail, failure.pause)
        else:
            if self._failures:
                log.info("the %s hook takes deliveries again", self._hook.name)
            self._failures = 0
            deliveries.settle(connection, delivery, "delivered", time.time_ns())
            self._fault = ""

    def _stop_hook(self, connection: Connection, delivery: Delivery, why: str) -> None:
        """Stop the hook, whose receiver wants no more: deliveries wait until a person decides."""
        now_ns, name = time.time_ns(), self._hook.name
        deliveries.settle(connection, delivery, "pending", now_ns, next_ns=now_ns, error=why)
        consumers.stop(connection, self._consumer, why)
        log.error(
            "the %s hook is stopped (%s); 'listener hooks redeliver %s' or the next start resumes it, "
            "without its option it is retired",
            name,
            why,
            name,
        )

    def _record_failure(self, connection: Connection, delivery: Delivery, why: str, pause: float) -> None:
        now = time.time_ns()
        if self._stopping.is_set():  # stop() aborted it.
            deliveries.settle(connection, delivery, "pending", now, next_ns=now, error="the service stopped meanwhile")
            return
        if not self._failures:
            log.warning("the %s hook failed (%s); it is tried again with growing pauses", self._hook.name, why)
        self._failures += 1
        # A failing hook is paused before the next delivery is tried.
        self._paused_until = time.monotonic() + max(pause, min(hook_pause(self._failures), _LONGEST_PAUSE))
        if delivery.attempts >= MAX_ATTEMPTS:
            log.error("the %s hook was sent %s %d times in vain; given up", self._hook.name, delivery.key, MAX_ATTEMPTS)
            deliveries.settle(connection, delivery, "failed", now, error=why)
        else:
            later = now + int(max(pause, hook_pause(delivery.attempts)) * 1e9)
            deliveries.settle(connection, delivery, "pending", now, next_ns=later, error=why)


#: Seconds that `once` waits for a hook.
_STOP_SECONDS = 30.0


class HookManager:
    """The configured hooks. They are registered at once, so that nothing is missed, and served from start() to stop().
    `retires`: retire hooks that are configured no more; for the service, not for a command that ends by itself.
    `wants`: what each is told, by name, as in deliveries.add_consumers.
    """

    def __init__(self, config: Config, *, retires: bool = False) -> None:
        configured = configured_hooks(config)
        self.wants = {hook.name: hook.wants for hook in configured}
        _register(config, self.wants, retires=retires)
        owner = owner_of(config.incoming) if retires else ""
        self._threads = [HookThread(hook, config, owner) for hook in configured]

    def start(self) -> None:
        """Start the threads."""
        for thread in self._threads:
            thread.start()

    def deliver_due(self) -> None:
        """Send what is due now, for at most _STOP_SECONDS a hook; then stop."""
        self.start()
        for thread in self._threads:
            thread.idle.wait(_STOP_SECONDS)
        self.stop()

    def stop(self) -> None:
        """Stop the threads; what is left is sent after the next start."""
        for thread in self._threads:
            thread.stop()


def configured_hooks(config: Config) -> list[Hook]:
    """Return the hooks that the configuration asks for: those of flags, then those of tables."""
    return [CommandHook(hook) if hook.command else Webhook(hook) for hook in config.every_hook]


def _register(config: Config, wants: Mapping[str, str], *, retires: bool) -> None:
    """Register the hooks in the ledger. With `retires`, retire those of this listener that are configured no more;
    another listener may serve its own from the same ledger.
    """
    path = path_of(config.state)
    if not wants and not (retires and os.path.exists(path)):
        return
    owner, now_ns = owner_of(config.incoming), time.time_ns()
    try:
        with contextlib.closing(open_writer(path)) as connection, translated():
            for name, text in wants.items():
                deliveries.register(connection, name, now_ns, owner=owner, takes_over=retires, wants=text)
                consumers.start(connection, name)
            for name in consumers.served_by(connection, owner) - wants.keys() if retires else ():
                deliveries.retire(connection, name, now_ns)
                log.info("the %s hook is not asked for any more, and retired", name)
    except LedgerFault as fault:  # Each thread tries again for as long as it takes.
        if wants:
            log.error("the ledger cannot be used, so hooks get nothing: %s", fault)
