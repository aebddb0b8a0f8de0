"""The listening socket of the HTTP port, or an error that says what to do."""

from __future__ import annotations

import errno
import os
import socket

from listener.errors import FatalFault

_REMEDY = "give another address with --http ADDR:PORT, or --http off"
_REMEDIES = {
    errno.EADDRINUSE: f"another program, perhaps another listener, has this port; stop it or {_REMEDY}",
    errno.EADDRNOTAVAIL: f"this machine does not have that address; {_REMEDY}",
    errno.EACCES: f"ports below 1024 need a privilege; {_REMEDY}",
}


def _port(text: str) -> int:
    """A port's number (getaddrinfo would take a larger one modulo 65536)."""
    if not 0 <= int(text) < 2**16:
        raise ValueError("there is no such port")
    return int(text)


def listen(address: str, backlog: int) -> socket.socket:
    """Listen on ADDR:PORT ([::] takes IPv4 too, where the system can). Raises FatalFault that says what to do."""
    host, _, port = address.rpartition(":")
    try:
        found = socket.getaddrinfo(host.strip("[]") or None, _port(port), type=socket.SOCK_STREAM)[0]
        family, where = found[0], found[4]
        both = family == socket.AF_INET6 and where[0] == "::" and socket.has_dualstack_ipv6()
        return socket.create_server(where, family=family, backlog=backlog, dualstack_ipv6=both)
    except (OSError, ValueError) as error:
        number = getattr(error, "errno", None) or 0
        why = os.strerror(number) if number > 0 else getattr(error, "strerror", None) or str(error)
        raise FatalFault(f"cannot listen on {address} ({why}): {_REMEDIES.get(number, _REMEDY)}") from error
