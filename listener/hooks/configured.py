"""The hooks that a configuration asks for."""

from __future__ import annotations

import contextlib
import os
import time

from listener.config import Config
from listener.diagnostics import log
from listener.errors import LedgerFault
from listener.hooks.courier import Courier, Hook
from listener.hooks.program import Program
from listener.hooks.webhook import Webhook
from listener.ledger import consumers, deliveries
from listener.ledger.consumers import owner_of
from listener.ledger.opening import open_writer, path_of, translated

#: Every hook that may be configured, by the consumer's name in the ledger.
NAMES = (Webhook.name, Program.name)

#: How long `once` waits for a hook, in seconds.
_PATIENCE = 30.0


class Hooks:
    """Registered at once, so that nothing is missed that ends later; told from start() to stop(). `retires`: for the
    service, whose configuration says who is to be told from now on; a command that leaves says nothing of that.
    """

    def __init__(self, config: Config, *, retires: bool = False) -> None:
        hooks = asked_for(config)
        self.names = {hook.name for hook in hooks}
        _register(config, self.names, retires=retires)
        owner = owner_of(config.incoming) if retires else ""
        self._couriers = [Courier(hook, config.state, config.phi, owner) for hook in hooks]

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
