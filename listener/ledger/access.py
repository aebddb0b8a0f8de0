"""The writer's hold on the ledger: opened when it is needed, given up when it fails, and tried again later."""

from __future__ import annotations

import contextlib
import sqlite3
from collections.abc import Iterator

from listener.diagnostics import log
from listener.disk.mounts import mount_of
from listener.errors import LedgerFault
from listener.ledger.opening import open_writer, path_of, translated

#: How long after a failure the ledger is tried again, in seconds: doubled each time up to the second.
_SOON, _LATEST = 1.0, 30.0


class Access:
    """`connection` is None while the ledger cannot be used, and `fault` then the reason, for people."""

    def __init__(self, state: str) -> None:
        self._state = state
        self._retry_at = 0.0
        self._failures = 0
        self.connection: sqlite3.Connection | None = None
        self.fault = ""

    def open(self, now: float) -> sqlite3.Connection | None:
        """A new connection, if one is due; `now` on the monotonic clock."""
        if now >= self._retry_at:
            with self.minding(now):
                mount = mount_of(self._state)
                self.connection = open_writer(path_of(self._state), local=not (mount and mount.is_network))
        return self.connection

    def works(self) -> None:
        """Something was written."""
        if self.fault:
            log.info("the ledger is written again")
        self.fault, self._failures = "", 0

    @contextlib.contextmanager
    def minding(self, now: float) -> Iterator[None]:
        """What the ledger refuses is told once; it is given up for a while."""
        try:
            with translated():
                yield
        except LedgerFault as fault:
            self.close()
            self._retry_at = now + min(_LATEST, _SOON * 2 ** min(self._failures, 10))
            self._failures += 1
            if self.fault != str(fault):
                self.fault = str(fault)
                log.error("%s (files are published meanwhile)", self.fault)

    def close(self) -> None:
        """Let it go."""
        if self.connection:
            with contextlib.suppress(sqlite3.Error):
                self.connection.close()
        self.connection = None
