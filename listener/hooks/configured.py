"""The hooks that a configuration asks for."""

from __future__ import annotations

import os
import time

from listener.config import Config
from listener.diagnostics import log
from listener.errors import LedgerFault
from listener.hooks.courier import Courier, Hook
from listener.hooks.program import Program
from listener.hooks.webhook import Webhook
from listener.ledger import deliveries
from listener.ledger.opening import open_writer, path_of

#: Every hook that may be configured, by the consumer's name in the ledger.
NAMES = (Webhook.name, Program.name)

#: How long `once` waits for a hook, in seconds.
_PATIENCE = 30.0


class Hooks:
    """Registered at once, so that nothing is missed that ends later; told from start() to stop()."""

    def __init__(self, config: Config) -> None:
        hooks = asked_for(config)
        self.names = {hook.name for hook in hooks}
        _register(config.state, self.names)
        self._couriers = [Courier(hook, config.state, config.phi) for hook in hooks]

    def start(self) -> None:
        """Begin to tell."""
        for courier in self._couriers:
            courier.start()

    def tell_due(self) -> None:
        """Tell what is due now, for as long as one attempt may take; then stop."""
        self.start()
        for courier in self._couriers:
            courier.idle.wait(_PATIENCE)
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
        found.append(Program(config.on_series_complete_exec))
    return found


def _register(state: str, names: set[str]) -> None:
    """Make it known in the ledger who is to be told; those that are not asked for any more are retired."""
    if not names and not os.path.exists(path_of(state)):
        return
    try:
        connection = open_writer(path_of(state))
        try:
            known = {name for (name,) in connection.execute("SELECT name FROM consumers WHERE active = 1")}
            for name in NAMES:
                if name in names:
                    deliveries.register(connection, name, time.time_ns())
                elif name in known:
                    deliveries.retire(connection, name)
        finally:
            connection.close()
    except LedgerFault as fault:  # Each courier tries again for as long as it takes.
        if names:
            log.error("the ledger cannot be used, so hooks are not told: %s", fault)
