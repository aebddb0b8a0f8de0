"""What systemd hears of us (sd_notify): started, how it is, stopping, and the beat that its watchdog waits for.

The loop gives the beat, so a loop that is stuck is ended by systemd (`WatchdogSec=`) and begun anew. Where no service
manager listens nothing is said.
"""

from __future__ import annotations

import os
import socket
from collections.abc import Mapping


class SystemdNotifier:
    """Speaks to the socket that `NOTIFY_SOCKET` names."""

    def __init__(self, environment: Mapping[str, str] = os.environ) -> None:
        address = environment.get("NOTIFY_SOCKET", "")
        # A name in the abstract namespace is spelled with @, and begins with NUL.
        self._address = "\0" + address[1:] if address.startswith("@") else address
        self._told: set[str] = set()

    def tick(self, status: str, *, started: bool, stopping: bool) -> None:
        """The loop came round. `status` is one line for `systemctl status`; `started`: the first sweep is done."""
        if not self._address:
            return
        states = {"READY=1": started, "STOPPING=1": stopping}
        once = [state for state, holds in states.items() if holds and state not in self._told]
        if self._send("\n".join([*once, f"STATUS={status}", "WATCHDOG=1"])):
            self._told.update(once)

    def _send(self, message: str) -> bool:
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as sender:
            sender.setblocking(False)  # A manager that does not read must not hold the loop.
            try:
                sender.sendto(message.encode(), self._address)
            except OSError:
                return False  # The next beat tries again; systemd acts by itself when none comes.
        return True
