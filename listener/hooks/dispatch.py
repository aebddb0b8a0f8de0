"""Hooks: who is told of the ends of series and studies, and of set-aside files, by a thread each."""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Callable, Iterable, Mapping
from threading import Lock
from typing import Protocol

from listener.config import Config
from listener.diagnostics import log
from listener.errors import LedgerFault
from listener.hook_config import HookConfig
from listener.hooks.payload import Payload, payload_of
from listener.hooks.targets import CommandHook, Webhook
from listener.ledger import consumers, deliveries
from listener.ledger.connection import open_writer, path_of, translated
from listener.ledger.consumers import owner_of
from listener.ledger.delivery_threads import Consumer, DeliveryThread
from listener.ledger.rows import Delivery

#: Attempts (a day, at the longest pauses) after which a delivery is given up: `failed`, and shown.
MAX_ATTEMPTS = 150


class Hook(Protocol):
    """A receiver of deliveries: `name` and `wants` as in its row of the ledger. `lease` is how long a delivery is
    leased, in seconds; `is_local`: what it is told stays on this machine.
    """

    name: str
    wants: str
    lease: float
    is_local: bool

    def send(self, payload: Payload) -> None:
        """Send one payload. Raises NotTaken, or ConsumerGone if the receiver wants no more."""

    def abort(self) -> None:
        """End the attempt that is under way; from any thread."""


class _Receiver:
    """Sends deliveries to a hook, as JSON."""

    def __init__(self, hook: Hook, config: Config) -> None:
        self._hook = hook
        self._phi = config.phi
        #: A folder's name holds what its files tell of the patient.
        self._data_dir = config.data if hook.is_local or config.phi else ""

    def take(self, delivery: Delivery, _renew: Callable[[], None]) -> None:
        """See Receiver."""
        self._hook.send(payload_of(delivery, self._phi, self._data_dir))

    def abort(self) -> None:
        """See Receiver."""
        self._hook.abort()


def thread_of(hook: Hook, config: Config, owner: str = "") -> DeliveryThread:
    """Return the thread that tells a hook."""
    name = hook.name
    remedy = f"'listener hooks redeliver {name}' or the next start resumes it, without its option it is retired"
    consumer = Consumer(name, f"{name} hook", hook.wants, hook.lease, remedy, MAX_ATTEMPTS)
    return DeliveryThread(consumer, _Receiver(hook, config), config.state, owner)


#: Seconds that `once` waits for a hook.
_STOP_SECONDS = 30.0


class HookManager:
    """The configured hooks. They are registered at once, so that nothing is missed, and served from start() to stop().
    `retires`: retire hooks that are configured no more; for the service, not for a command that ends by itself.
    `wants`: what each is told, by name, as in deliveries.add_consumers.
    """

    def __init__(self, config: Config, *, retires: bool = False) -> None:
        self._retires = retires
        self._changing = Lock()
        self._stopped = False
        self._threads: dict[str, tuple[HookConfig, DeliveryThread]] = {}
        self._set_up(config)

    def _set_up(self, config: Config) -> list[DeliveryThread]:
        """Register the hooks of `config` that are new; return their threads."""
        configured = {hook.name: hook for hook in config.every_hook}
        made = {name: hook_of(hook) for name, hook in configured.items()}
        self.wants = {name: hook.wants for name, hook in made.items()}
        fresh = {name: hook for name, hook in made.items() if name not in self._threads}
        _register(config, self.wants, fresh, retires=self._retires)
        owner = owner_of(config.incoming or config.batches) if self._retires else ""
        self._threads |= {name: (configured[name], thread_of(hook, config, owner)) for name, hook in fresh.items()}
        return [self._threads[name][1] for name in fresh]

    def start(self) -> None:
        """Start the threads."""
        for _, thread in self._threads.values():
            thread.start()

    def change(self, newest: Callable[[], Config]) -> None:
        """Serve the hooks of another configuration. Those that are the same go on; an attempt of one that is not is
        aborted, and repeated by its successor. Waits for threads and for the ledger; of several calls that wait for
        each other each asks for the `newest` configuration in its turn, for nobody knows their order.
        """
        with self._changing:
            if self._stopped:
                return
            config = newest()
            same = {hook.name: hook for hook in config.every_hook}
            for name, (hook, thread) in tuple(self._threads.items()):
                if same.get(name) != hook:
                    thread.stop()
                    del self._threads[name]
            for thread in self._set_up(config):
                thread.start()
            log.info("hooks that are served now: %s", ", ".join(self._threads) or "none")

    def deliver_due(self) -> None:
        """Send what is due now, for at most _STOP_SECONDS a hook; then stop."""
        self.start()
        for _, thread in self._threads.values():
            thread.idle.wait(_STOP_SECONDS)
        self.stop()

    def stop(self) -> None:
        """Stop the threads; what is left is sent after the next start."""
        with self._changing:
            self._stopped = True
            for _, thread in self._threads.values():
                thread.stop()


def configured_hooks(config: Config) -> list[Hook]:
    """Return the hooks that the configuration asks for: those of flags, then those of tables."""
    return [hook_of(hook) for hook in config.every_hook]


def hook_of(config: HookConfig) -> Hook:
    """Return the receiver that a configured hook names."""
    return CommandHook(config) if config.command else Webhook(config)


def _register(config: Config, wants: Mapping[str, str], fresh: Iterable[str], *, retires: bool) -> None:
    """Register the `fresh` hooks of `wants` in the ledger. With `retires`, retire those of this listener that are
    configured no more; another listener may serve its own from the same ledger.
    """
    path = path_of(config.state)
    if not wants and not (retires and os.path.exists(path)):
        return
    owner, now_ns = owner_of(config.incoming or config.batches), time.time_ns()
    try:
        with contextlib.closing(open_writer(path)) as connection, translated():
            for name in fresh:
                deliveries.register(connection, name, now_ns, owner=owner, takes_over=retires, wants=wants[name])
                consumers.start(connection, name)
            for name in consumers.served_by(connection, owner) - wants.keys() if retires else ():
                deliveries.retire(connection, name, now_ns)
                log.info("the %s hook is not asked for any more, and retired", name)
    except LedgerFault as fault:  # Each thread tries again for as long as it takes.
        if wants:
            log.error("the ledger cannot be used, so hooks get nothing: %s", fault)
