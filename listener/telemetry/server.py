"""A small bounded HTTP server: metrics and health, made in memory; the status page and its API, read from the ledger.

One thread serves every connection without blocking, handshakes included, so that five hundred silent sockets do not
delay a scrape. A request is answered within `deadline` seconds of its connection or of its first byte, or dropped; a
head is at most HEAD_LIMIT bytes. A connection is kept for the next request for `idle` seconds; above `connections` in
all, or KEPT of those, the oldest idle one is dropped.
Routes run in this thread, one after another: they must be quick and not wait for a disk, and are open to everybody.
Slow routes may wait, run in a BackgroundWorker, so that a volume that hangs does not stop metrics and health, and
answer only who may look (telemetry.access).
"""

from __future__ import annotations

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
from typing import TYPE_CHECKING, NamedTuple

from listener.diagnostics import log
from listener.errors import FatalFault
from listener.telemetry.access import Access, Peer
from listener.telemetry.binding import UNIX, inode, listen, peer_of, shown
from listener.telemetry.http_messages import BackgroundWorker, Request, Response, Route, Router, head_of, parse, render

if TYPE_CHECKING:
    from listener.telemetry.tls import Tls

DEADLINE = 5.0  # seconds for a request, from its connection or its first byte to the last byte of the answer
IDLE = 75.0  # seconds that a connection is kept for the next request: longer than the usual scrape intervals
LIMIT = 1024  # connections at once; at most half of the descriptors that the process may open
KEPT = 128  # connections that wait for their next request
REQUESTS = 1000  # requests of one connection
HEAD_LIMIT = 8192  # bytes of request line and header fields

_PIECE = 16384  # bytes received at a time: a whole record of TLS, of which nothing then waits unseen
_SPILL = 65536  # bytes that a client may still send behind its last request before it is cut off
_ACCEPTS = 64  # connections accepted at a time, so that those already open get their turn


_SPEAKS_TLS = render(Response.problem(400, "this port speaks HTTPS; ask for https://"), Request("GET", ""))


def log_failed_page(error: Exception) -> None:
    """Log that a route raised, for Server's `on_error`; never what it raised, which may tell of patients."""
    log.error("a page could not be made: %s", type(error).__name__)


class Limits(NamedTuple):
    """Seconds for a request, seconds between two, and connections at once."""

    deadline: float = DEADLINE
    idle: float = IDLE
    connections: int = LIMIT


class _Connection:
    """One connection. `step` is what is done when its socket is ready, and says whether the connection is finished."""

    __slots__ = ("deadline", "keeps", "peer", "received", "requests", "socket", "spilled", "step", "tls", "unsent")

    def __init__(self, accepted: socket.socket, peer: Peer) -> None:
        self.socket, self.peer = accepted, peer
        self.tls: Tls | None = None
        self.deadline, self.requests, self.spilled = 0.0, 0, 0
        self.received, self.unsent = bytearray(), memoryview(b"")
        self.keeps = False
        self.step: Callable[[_Connection], bool]


class Server:
    """Serves `routes`, and `slow` ones to who may look, on `address` ("ADDR:PORT", port 0: any free one; "unix:PATH").

    `on_error` is called with what a route raised, in the thread that ran it; it must not raise.
    """

    def __init__(
        self,
        address: str,
        routes: Mapping[str, Route],
        on_error: Callable[[Exception], None],
        slow: Mapping[str, Route] | None = None,
        access: Access | None = None,
        limits: Limits = Limits(),  # noqa: B008 - it cannot be changed
    ) -> None:
        self.address, self.access = address, access or Access()
        self._router, self._limits, self._on_error = Router(routes, slow or {}, on_error), limits, on_error
        # Clients must not take the descriptors that the rest of the process needs.
        descriptors = resource.getrlimit(resource.RLIMIT_NOFILE)[0]
        most = limits.connections if descriptors == resource.RLIM_INFINITY else descriptors // 2
        self._most = max(1, min(limits.connections, most))
        # Both in the order of their deadlines, since all within one have the same time.
        self._busy: OrderedDict[_Connection, None] = OrderedDict()
        self._kept: OrderedDict[_Connection, None] = OrderedDict()
        self._stopping = Event()
        self._thread: Thread | None = None

    def start(self) -> None:
        """Bind, set `address` to the bound one, and serve. Raises FatalFault if the address cannot be bound or a file
        of `access` cannot be used.
        """
        problems = self.access.look()
        if problems:
            raise FatalFault("; ".join(problems))
        self._listening = listen(self.address, LIMIT)
        self._listening.setblocking(False)
        self.address = shown(self._listening)
        self._inode = inode(self.address)
        self._woken, self._waker = socket.socketpair()
        self._selector = selectors.DefaultSelector()
        self._selector.register(self._listening, selectors.EVENT_READ, self._accept)
        self._selector.register(self._woken, selectors.EVENT_READ, self._wake_up)
        self._background: BackgroundWorker[_Connection] = BackgroundWorker(self._wake)
        self._background.start()
        self.access.start(self._wake)
        self._thread = Thread(target=self._serve, name="listener-http", daemon=True)
        self._thread.start()

    def serve(self, routes: Mapping[str, Route], slow: Mapping[str, Route] | None = None) -> None:
        """Serve these routes from now on, in place of the former ones."""
        self._router = Router(routes, slow or {}, self._on_error)

    @property
    def alive(self) -> bool:
        """Return whether the thread runs."""
        return self._thread is not None and self._thread.is_alive()

    @property
    def url(self) -> str:
        """Return where it is, as a person types it."""
        if self.address.startswith(UNIX):
            return self.address
        return f"{'https' if self.access.tls else 'http'}://{self.address}"

    def stop(self, timeout: float = 2.0) -> bool:
        """Close everything; return False if a route holds the thread after `timeout` seconds. May be called again."""
        if self._thread is None:
            return True
        self._stopping.set()
        self._wake()
        self.access.stop()
        self._background.stop(timeout)
        self._thread.join(timeout)
        return not self._thread.is_alive()

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
            if self._inode and inode(self.address) == self._inode:  # Not that of another listener.
                os.unlink(self.address.removeprefix(UNIX))
            for connection in (*self._busy, *self._kept):
                self._drop(connection)
            for closable in (self._selector, self._listening, self._woken, self._waker):
                closable.close()

    # -- connections -------------------------------------------------------------------------------------------------

    def _patience(self) -> float | None:
        """Return the seconds until the next deadline; None without connections."""
        oldest = [next(iter(some)).deadline for some in (self._busy, self._kept) if some]
        return max(0.0, min(oldest) - monotonic()) if oldest else None

    def _expire(self, now: float) -> None:
        for some in (self._busy, self._kept):
            while some and (oldest := next(iter(some))).deadline <= now:
                self._drop(oldest)

    def _accept(self) -> None:
        for _ in range(_ACCEPTS):
            try:
                accepted, address = self._listening.accept()
            except (BlockingIOError, ConnectionAbortedError):
                return
            except OSError:
                # No descriptors left: close the oldest connection, or give the process time to free one.
                self._make_room()
                self._stopping.wait(0 if self._busy else 0.1)
                return
            accepted.setblocking(False)
            if len(self._busy) + len(self._kept) >= self._most:
                self._make_room()
            try:
                self._begin(accepted, peer_of(accepted, address))
            except OSError:  # It has gone already.
                accepted.close()

    def _begin(self, accepted: socket.socket, peer: Peer) -> None:
        connection = _Connection(accepted, peer)
        connection.step = self._receive
        tls = self.access.tls
        if peer.address:  # Answers to requests that come at once would else wait 40 ms for each other.
            accepted.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        if tls and peer.address:
            connection.socket, connection.tls, connection.step = tls.wrap(accepted), tls, self._shake_hands
        self._selector.register(connection.socket, selectors.EVENT_READ, partial(self._progress, connection))
        self._hasten(connection)

    def _hasten(self, connection: _Connection) -> None:
        """Give a connection the time for one request from now on."""
        self._kept.pop(connection, None)
        self._busy.pop(connection, None)
        self._busy[connection] = None
        connection.deadline = monotonic() + self._limits.deadline

    def _keep(self, connection: _Connection) -> None:
        """Keep a connection for the next request."""
        self._busy.pop(connection, None)
        self._kept[connection] = None
        connection.deadline = monotonic() + self._limits.idle
        if len(self._kept) > KEPT:
            self._drop(next(iter(self._kept)))

    def _make_room(self) -> None:
        """Drop the oldest connection that is kept, or else the oldest without an unsent response, or the oldest."""
        idle = (connection for connection in self._busy if not connection.unsent)
        oldest = next(iter(self._kept), None) or next(idle, None) or next(iter(self._busy), None)
        if oldest is not None:
            self._drop(oldest)

    def _drop(self, connection: _Connection) -> None:
        # Twice is possible: dropped for room while its own event waits in the same batch.
        if connection in self._busy or connection in self._kept:
            self._busy.pop(connection, None)
            self._kept.pop(connection, None)
            with suppress(KeyError):  # it waits for a slow answer
                self._selector.unregister(connection.socket)
            connection.socket.close()

    # -- the way of one request --------------------------------------------------------------------------------------

    def _progress(self, connection: _Connection) -> None:
        """Go on with a connection that sent something, or can take more."""
        if connection not in self._busy and connection not in self._kept:
            return
        try:
            finished = connection.step(connection)
        except BlockingIOError:
            return
        except OSError as error:
            awaited = connection.tls.awaits(error) if connection.tls else 0
            if awaited:
                self._await(connection, awaited)
            elif connection.tls and connection.tls.is_plain(error):
                with suppress(OSError):
                    socket.socket.send(connection.socket, _SPEAKS_TLS)
            finished = not awaited
        if finished:
            self._drop(connection)

    def _await(self, connection: _Connection, event: int, step: Callable[[_Connection], bool] | None = None) -> bool:
        """Let a connection wait for an event, with its next step; return False, as it is not finished."""
        connection.step = step or connection.step
        key = self._selector.get_key(connection.socket)
        if key.events != event:
            self._selector.modify(connection.socket, event, key.data)
        return False

    def _shake_hands(self, connection: _Connection) -> bool:
        if connection.tls:
            name = connection.tls.shake_hands(connection.socket)
            connection.peer = connection.peer._replace(certificate=name)
        return self._await(connection, selectors.EVENT_READ, self._receive)

    def _receive(self, connection: _Connection) -> bool:
        data = connection.socket.recv(_PIECE)
        if not data:
            return True
        if connection in self._kept:
            self._hasten(connection)
        connection.received += data
        return self._answer(connection)

    def _answer(self, connection: _Connection) -> bool:
        """Answer the first request received, once it is there whole."""
        head, ended = head_of(connection.received)
        if not ended and len(head) <= HEAD_LIMIT:
            return self._await(connection, selectors.EVENT_READ, self._receive)
        del connection.received[: len(head)]
        asked = parse(head) if len(head) <= HEAD_LIMIT else Response.problem(431)
        connection.requests += 1
        if isinstance(asked, Request):
            last = connection.requests >= REQUESTS or connection.tls is not self._tls_for(connection)
            asked = asked._replace(keeps=asked.keeps and not last)
        connection.keeps = isinstance(asked, Request) and asked.keeps
        if isinstance(asked, Request) and self._router.is_slow(asked):
            visitor = self.access.visitor(asked, connection.peer)
            if not visitor:
                return self._reply(connection, render(self.access.refusal(), asked))
            work = partial(self._router.answer, asked._replace(visitor=visitor))
            if self._background.submit(connection, work):
                # Not read from meanwhile: a client that has shut down its side still wants the answer.
                self._selector.unregister(connection.socket)
                return False
            return self._reply(connection, render(Response.problem(503), asked))
        return self._reply(connection, self._router.answer(asked))

    def _tls_for(self, connection: _Connection) -> Tls | None:
        """Return the TLS of a connection that was accepted now from the same peer."""
        return self.access.tls if connection.peer.address else None

    def _wake_up(self) -> None:
        """Take slow answers; close what is encrypted with a certificate that was replaced, or shown to an issuer that
        was.
        """
        self._woken.recv(_PIECE)
        for connection, answer in self._background.answers():
            if connection in self._busy:
                self._selector.register(connection.socket, selectors.EVENT_WRITE, partial(self._progress, connection))
                connection.unsent, connection.step = memoryview(answer), self._send
        for connection in [one for one in self._kept if one.tls is not self._tls_for(one)]:
            self._drop(connection)

    def _reply(self, connection: _Connection, answer: bytes) -> bool:
        connection.unsent, connection.step = memoryview(answer), self._send
        return self._send(connection)

    def _send(self, connection: _Connection) -> bool:
        with suppress(BlockingIOError):
            connection.unsent = connection.unsent[connection.socket.send(connection.unsent) :]
        if connection.unsent:
            return self._await(connection, selectors.EVENT_WRITE)
        if not connection.keeps:
            return self._close(connection)
        if connection.received:  # The next request is answered in its turn, after those of others.
            self._hasten(connection)
            return self._await(connection, selectors.EVENT_WRITE, self._answer)
        self._keep(connection)
        return self._await(connection, selectors.EVENT_READ, self._receive)

    def _close(self, connection: _Connection) -> bool:
        """Close this side. Closing both with unread bytes would make the kernel reset what the client has not read yet;
        so the client, _SPILL or the deadline ends the connection.
        """
        if connection.tls:
            with suppress(OSError):
                connection.tls.send_close_notify(connection.socket)
        connection.socket.shutdown(socket.SHUT_WR)
        return self._await(connection, selectors.EVENT_READ, self._spill)

    @staticmethod
    def _spill(connection: _Connection) -> bool:
        data = connection.socket.recv(_PIECE)
        connection.spilled += len(data)
        return not data or connection.spilled > _SPILL
