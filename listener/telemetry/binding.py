"""Addresses of the HTTP port: ADDR:PORT and unix:PATH, to be listened on, shown, and left."""

from __future__ import annotations

import errno
import os
import socket
import stat
import struct
from contextlib import suppress

from listener.errors import FatalFault
from listener.telemetry.access import Peer

_REMEDY = "give another address with --http ADDR:PORT, or --http off"
_REMEDIES = {
    errno.EADDRINUSE: f"another program, perhaps another listener, has this port; stop it or {_REMEDY}",
    errno.EADDRNOTAVAIL: f"this machine does not have that address; {_REMEDY}",
    errno.EACCES: f"ports below 1024 need a privilege; {_REMEDY}",
}


#: How --http names a Unix socket.
UNIX = "unix:"

#: Who may connect to a Unix socket may look: its owner and its group.
_SOCKET_MODE = 0o660


def _port(text: str) -> int:
    """Return a port's number. Raises ValueError (getaddrinfo would take a larger one modulo 65536)."""
    if not 0 <= int(text) < 2**16:
        raise ValueError("there is no such port")
    return int(text)


def listen(address: str, backlog: int) -> socket.socket:
    """Return a socket that listens on ADDR:PORT ([::] takes IPv4 too, if the system can) or unix:PATH. Raises
    FatalFault.
    """
    if address.startswith(UNIX):
        return _listen_at(address.removeprefix(UNIX), backlog)
    host, _, port = address.rpartition(":")
    try:
        addresses = socket.getaddrinfo(host.strip("[]") or None, _port(port), type=socket.SOCK_STREAM)[0]
        family, where = addresses[0], addresses[4]
        both = family == socket.AF_INET6 and where[0] == "::" and socket.has_dualstack_ipv6()
        return socket.create_server(where, family=family, backlog=backlog, dualstack_ipv6=both)
    except (OSError, ValueError) as error:
        number = getattr(error, "errno", None) or 0
        why = os.strerror(number) if number > 0 else getattr(error, "strerror", None) or str(error)
        raise FatalFault(f"cannot listen on {address} ({why}): {_REMEDIES.get(number, _REMEDY)}") from error


def _listen_at(path: str, backlog: int) -> socket.socket:
    """Return a Unix socket that listens at `path`. One that nobody listens at is left by a process that was killed,
    and replaced; anything else there is left alone.
    """
    listening = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        with suppress(FileNotFoundError):
            if not stat.S_ISSOCK(os.lstat(path).st_mode):
                raise FileExistsError(errno.EEXIST, "what lies there is no socket")
            _remove_stale(path)
        listening.bind(path)
        os.chmod(path, _SOCKET_MODE)  # Before anybody can connect, which listening allows.
        listening.listen(backlog)
    except OSError as error:
        listening.close()
        remedy = "give another path with --http unix:PATH, in a directory where the service may write"
        raise FatalFault(f"cannot listen on {UNIX}{path} ({error.strerror or error}): {remedy}") from error
    return listening


def _remove_stale(path: str) -> None:
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        probe.setblocking(False)
        try:
            probe.connect(path)
        except ConnectionRefusedError:
            os.unlink(path)
            return
        except BlockingIOError:  # Its queue is full, so somebody listens.
            pass
    raise OSError(errno.EADDRINUSE, "another program, perhaps another listener, listens there")


def shown(listening: socket.socket) -> str:
    """Return a bound address as --http takes it."""
    name = listening.getsockname()
    if listening.family == socket.AF_UNIX:
        return f"{UNIX}{name}"
    host, port = name[:2]
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


#: struct ucred of unix(7): process, user, group.
_CREDENTIALS = struct.Struct("3i")


def peer_of(accepted: socket.socket, address: tuple[str, int]) -> Peer:
    """Return the other end of a connection."""
    if accepted.family == socket.AF_UNIX:
        credentials = accepted.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _CREDENTIALS.size)
        return Peer("", uid=_CREDENTIALS.unpack(credentials)[1])
    return Peer(address[0])


def inode(address: str) -> int:
    """Return the inode of a Unix socket's path; 0 if it is gone, or the address is another."""
    try:
        return os.lstat(address.removeprefix(UNIX)).st_ino if address.startswith(UNIX) else 0
    except OSError:
        return 0
