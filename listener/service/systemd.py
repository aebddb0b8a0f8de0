"""Notifications to systemd (sd_notify): ready, status, stopping, and the watchdog's keep-alive.

The loop sends the keep-alive, so systemd (`WatchdogSec=`) restarts a service whose loop is stuck. Without a service
manager nothing is sent.
"""

from __future__ import annotations

import os
import socket
from collections.abc import Mapping


class SystemdNotifier:
    """Sends to the socket that `NOTIFY_SOCKET` names."""

    def __init__(self, environment: Mapping[str, str] = os.environ) -> None:
        address = environment.get("NOTIFY_SOCKET", "")
        # A name in the abstract namespace is spelled with @, and begins with NUL.
        self._address = "\0" + address[1:] if address.startswith("@") else address
        self._sent: set[str] = set()

    def tick(self, status: str, *, started: bool, stopping: bool) -> None:
        """Send the keep-alive. `status` is one line for `systemctl status`; `started`: the first rescan is complete."""
        if not self._address:
            return
        states = {"READY=1": started, "STOPPING=1": stopping}
        once = [state for state, holds in states.items() if holds and state not in self._sent]
        if self._send("\n".join([*once, f"STATUS={status}", "WATCHDOG=1"])):
            self._sent.update(once)

    def _send(self, message: str) -> bool:
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as sender:
            sender.setblocking(False)  # A manager that does not read must not stop the loop.
            try:
                sender.sendto(message.encode(), self._address)
            except OSError:
                return False  # Tried again a second later; without keep-alives systemd acts by itself.
        return True
