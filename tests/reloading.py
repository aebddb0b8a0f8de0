"""A service whose options are written again while it runs: nothing is quiet or late before a test says so."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from tests.service_process import Places, Service, service


@contextmanager
def reloading(places: Places, *flags: str, **first: str) -> Iterator[tuple[Service, Callable[..., None]]]:
    """A service with `flags` and with options in a file, and what gives it others: returns when they hold."""
    path = places.base / "listener.toml"

    def write(**given: str) -> None:
        path.write_text("".join(f"{name.replace('_', '-')} = {value}\n" for name, value in given.items()))

    write(**first)
    with service(places, "--config", str(path), *flags) as running:

        def change(**given: str) -> None:
            before = len(running.events("reloaded"))
            write(**given)
            os.kill(running.pid, signal.SIGHUP)
            running.wait_for("reloaded", before + 1)

        yield running, change
