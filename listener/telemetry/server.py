"""A small bounded HTTP server: metrics and health, made in memory; the status page and its API, read from the ledger.

One thread serves every connection without blocking, so that five hundred silent sockets do not delay a scrape. Every
connection ends within DEADLINE seconds; a head is at most HEAD_LIMIT bytes; above LIMIT connections the oldest idle one
is dropped. One request a connection (`Connection: close`): a scrape comes every few seconds.
Routes run in this thread, one after another: they must be quick and not wait for a disk. Slow routes may, and run in a
BackgroundWorker, so that a volume that hangs does not stop metrics and health.
"""

from __future__ import annotations

import errno
import os
import resource
import selectors
import socket
from collections import OrderedDict
from collections.abc import Callable, Mapping
from contextlib import suppress
from functools import partial
from threading import Event, Thread
from time import monotonic

from listener.errors import FatalFault
from listener.telemetry.http_messages import BackgroundWorker, Response, Route, Router, head_of, parse

_REMEDY = "give another address with --http ADDR:PORT, or --http off"
_REMEDIES = {
    errno.EADDRINUSE: f"another program, perhaps another listener, has this port; stop it or {_REMEDY}",
    errno.EADDRNOTAVAIL: f"this machine does not have that address; {_REMEDY}",
    errno.EACCES: f"ports below 1024 need a privilege; {_REMEDY}",
}


def _port(text: str) -> int:
    """Return a port's number. Raises ValueError (getaddrinfo would take a larger one modulo 65536)."""
    if not 0 <= int(text) < 2**16:
        raise ValueError("there is no such port")
    return int(text)


def listen(address: str, backlog: int) -> socket.socket:
    """Return a socket that listens on ADDR:PORT ([::] takes IPv4 too, if the system can). Raises FatalFault."""
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


DEADLINE = 5.0  # seconds a connection, from accept to close
LIMIT = 1024  # connections at once; at most half of the descriptors that the process may open
HEAD_LIMIT = 8192  # bytes of request line and header fields

_SPILL = 65536  # bytes that a client may still send behind its request before it is cut off
_ACCEPTS = 64  # connections accepted at a time, so that those already open get their turn


class _Connection:
    """One connection: the head is received, the response sent, and then the client may close it."""

    __slots__ = ("answered", "deadline", "received", "socket", "spilled", "unsent")

    def __init__(self, peer: socket.socket, deadline: float) -> None:
        self.socket, self.deadline = peer, deadline
        self.received, self.unsent = bytearray(), memoryview(b"")
        self.answered, self.spilled = False, 0


class Server:
    """Serves `routes` and `slow` ones (see Router) on `address` ("ADDR:PORT", port 0: any free one).

    `on_error` is called with what a route raised, in the thread that ran it; it must not raise.
    """

    def __init__(
        self,
        address: str,
        routes: Mapping[str, Route],
        on_error: Callable[[Exception], None],
        deadline: float = DEADLINE,
        limit: int = LIMIT,
        slow: Mapping[str, Route] | None = None,
    ) -> None:
        self.address = address
        self._router, self._deadline = Router(routes, slow or {}, on_error), deadline
        # Clients must not take the descriptors that the rest of the process needs.
        descriptors = resource.getrlimit(resource.RLIMIT_NOFILE)[0]
        self._limit = limit if descriptors == resource.RLIM_INFINITY else max(1, min(limit, descriptors // 2))
        # In the order of accepting, and so of deadlines.
        self._connections: OrderedDict[_Connection, None] = OrderedDict()
        self._stopping = Event()
        self._thread: Thread | None = None

    def start(self) -> None:
        """Bind, set `address` to the bound one, and serve. Raises FatalFault if the address cannot be bound."""
        self._listening = listen(self.address, LIMIT)
        self._listening.setblocking(False)
        host, port = self._listening.getsockname()[:2]
        self.address = f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
        self._woken, self._waker = socket.socketpair()
        self._selector = selectors.DefaultSelector()
        self._selector.register(self._listening, selectors.EVENT_READ, self._accept)
        self._selector.register(self._woken, selectors.EVENT_READ, self._take_answers)
        self._background: BackgroundWorker[_Connection] = BackgroundWorker(self._wake)
        self._background.start()
        self._thread = Thread(target=self._serve, name="listener-http", daemon=True)
        self._thread.start()

    @property
    def alive(self) -> bool:
        """Return whether the thread runs."""
        return self._thread is not None and self._thread.is_alive()

    def stop(self, timeout: float = 2.0) -> bool:
        """Close everything; return False if a route holds the thread after `timeout` seconds. May be called again."""
        if self._thread is None:
            return True
        self._stopping.set()
        self._wake()
        self._background.stop(timeout)
        self._thread.join(timeout)
        if self._thread.is_alive():
            return False
        self._waker.close()
        return True

    def _wake(self) -> None:
        with suppress(OSError):  # the thread has ended already
            self._waker.send(b"x")

    def _serve(self) -> None:
        try:
            while not self._stopping.is_set():
                for key, _ in self._selector.select(self._patience()):
                    key.data()
                self._expire(monotonic())
        finally:
            for connection in tuple(self._connections):
                self._drop(connection)
            for closable in (self._selector, self._listening, self._woken):
                closable.close()

    def _patience(self) -> float | None:
        """Return the seconds until the next deadline; None without connections."""
        oldest = next(iter(self._connections), None)
        return None if oldest is None else max(0.0, oldest.deadline - monotonic())

    def _expire(self, now: float) -> None:
        while self._connections and (oldest := next(iter(self._connections))).deadline <= now:
            self._drop(oldest)

    def _accept(self) -> None:
        for _ in range(_ACCEPTS):
            try:
                peer, _address = self._listening.accept()
            except (BlockingIOError, ConnectionAbortedError):
                return
            except OSError:
                # No descriptors left: close the oldest connection, or give the process time to free one.
                self._make_room()
                self._stopping.wait(0 if self._connections else 0.1)
                return
            peer.setblocking(False)
            if len(self._connections) >= self._limit:
                self._make_room()
            connection = _Connection(peer, monotonic() + self._deadline)
            self._connections[connection] = None
            self._selector.register(peer, selectors.EVENT_READ, partial(self._progress, connection))

    def _make_room(self) -> None:
        """Drop the oldest connection without an unsent response, or else the oldest."""
        idle = (connection for connection in self._connections if not connection.unsent)
        oldest = next(idle, next(iter(self._connections), None))
        if oldest is not None:
            self._drop(oldest)

    def _drop(self, connection: _Connection) -> None:
        # Twice is possible: dropped for room while its own event waits in the same batch.
        if connection in self._connections:
            del self._connections[connection]
            with suppress(KeyError):  # it waits for a slow answer
                self._selector.unregister(connection.socket)
            connection.socket.close()

    def _progress(self, connection: _Connection) -> None:
        """Go on with a connection that sent something, or can take more."""
        try:
            finished = self._send(connection) if connection.unsent else self._receive(connection)
        except BlockingIOError:
            return
        except OSError:
            finished = True
        if finished:
            self._drop(connection)

    def _receive(self, connection: _Connection) -> bool:
        """Receive; return True if the connection is finished."""
        data = connection.socket.recv(HEAD_LIMIT)
        if not data:
            return True
        if connection.answered:
            connection.spilled += len(data)
            return connection.spilled > _SPILL
        connection.received += data
        head, ended = head_of(connection.received)
        if not ended and len(connection.received) <= HEAD_LIMIT:
            return False
        connection.answered = True
        asked = parse(head) if len(head) <= HEAD_LIMIT else Response.problem(431)
        if self._router.is_slow(asked):
            if self._background.submit(connection, partial(self._router.answer, asked)):
                # Not read from meanwhile: a client that has shut down its side still wants the answer.
                self._selector.unregister(connection.socket)
                return False
            asked = Response.problem(503)
        connection.unsent = memoryview(self._router.answer(asked))
        return self._send(connection)

    def _take_answers(self) -> None:
        self._woken.recv(HEAD_LIMIT)
        for connection, answer in self._background.answers():
            if connection in self._connections:
                connection.unsent = memoryview(answer)
                self._selector.register(connection.socket, selectors.EVENT_WRITE, partial(self._progress, connection))

    def _send(self, connection: _Connection) -> bool:
        """Send; return False, as the connection is not finished.

        Closing with unread bytes would make the kernel reset what the client has not read yet. So shut down this side,
        read on, and let the client, _SPILL or the deadline end the connection.
        """
        wanted = selectors.EVENT_WRITE
        with suppress(BlockingIOError):
            connection.unsent = connection.unsent[connection.socket.send(connection.unsent) :]
        if not connection.unsent:
            connection.socket.shutdown(socket.SHUT_WR)
            wanted = selectors.EVENT_READ
        key = self._selector.get_key(connection.socket)
        if key.events != wanted:
            self._selector.modify(connection.socket, wanted, key.data)
        return False
