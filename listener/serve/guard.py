"""Connections of DICOMweb: how many there may be, how long a head may take, and how long a reader may stall; uvicorn
itself has no such limits.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections import Counter
from collections.abc import Coroutine, Generator, Sequence
from typing import Any

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from listener.serve.forwarded import Networks

#: Connections at once, and of one peer; seconds for a whole head, and its bytes.
MOST, MOST_OF_A_PEER, HEAD_SECONDS, HEAD_BYTES = 256, 16, 10.0, 64 * 1024

#: Seconds that a reader may take for what waits to be sent.
STALL_SECONDS = 30.0

#: Bytes up to which what is written waits for more of the same answer.
_SMALL = 64 * 1024

_FULL = b"HTTP/1.1 503 Service Unavailable\r\nretry-after: 1\r\ncontent-length: 0\r\nconnection: close\r\n\r\n"
_MANY = b"HTTP/1.1 429 Too Many Requests\r\nretry-after: 1\r\ncontent-length: 0\r\nconnection: close\r\n\r\n"
_LARGE = b"HTTP/1.1 431 Request Header Fields Too Large\r\ncontent-length: 0\r\nconnection: close\r\n\r\n"


class Connections:
    """The open connections, by peer. `proxies` are networks of which a peer may have any number."""

    def __init__(self, proxies: Sequence[str] = ()) -> None:
        self.peers: Counter[str] = Counter()
        self._proxies = Networks(proxies)

    @property
    def count(self) -> int:
        """The number of all."""
        return self.peers.total()

    def may_have_another(self, host: str) -> bool:
        """Return whether a peer has fewer than it may have."""
        return self.peers[host] < MOST_OF_A_PEER or host in self._proxies


class Gathering:
    """A transport that sends what is written of an answer at once, as far as it is small: uvicorn writes head and body
    apart, and each send costs more than all that is done for a frame that is in memory.
    """

    def __init__(self, transport: asyncio.Transport) -> None:
        self._transport = transport
        self._held = bytearray()

    def __getattr__(self, name: str) -> Any:
        return getattr(self._transport, name)

    def write(self, data: bytes) -> None:
        """Send data, or keep them until there are more of them, or flush() is called."""
        self._held += data
        if len(self._held) > _SMALL:
            self.flush()

    def flush(self) -> None:
        """Send what was kept."""
        if self._held:
            held, self._held = self._held, bytearray()
            self._transport.write(held)

    def close(self) -> None:
        """Send what was kept, and end the connection once it was taken."""
        self.flush()
        self._transport.close()


class Begun(Coroutine[Any, Any, None]):
    """A coroutine that has done its first step, outside of a task, and waits for `first`; a task goes on with it."""

    def __init__(self, first: object, running: Coroutine[Any, Any, None]) -> None:
        self._first, self._running = [first], running

    def send(self, value: Any) -> Any:
        """Tell what is waited for; see Generator.send()."""
        return self._first.pop() if self._first else self._running.send(value)

    def throw(self, *error: Any) -> Any:
        """Raise an error where the coroutine waits."""
        self._first.clear()
        return self._running.throw(*error)

    def close(self) -> None:
        """End the coroutine where it waits."""
        self._running.close()

    def __await__(self) -> Generator[Any, Any, None]:
        raise NotImplementedError  # It is for a task.


class Guarded(HttpToolsProtocol):
    """Uvicorn's protocol with limits. Made for one server by protocol()."""

    counted: Connections
    _peer: str | None = None
    _timer: asyncio.TimerHandle | None = None
    _stall: asyncio.TimerHandle | None = None
    _gathering: Gathering
    _head = 0
    _in_head = False
    _may_begin = False

    def connection_made(self, transport: Any) -> None:
        """Refuse a connection that is one too many."""
        peer = transport.get_extra_info("peername")
        host = str(peer[0]) if isinstance(peer, tuple) else ""
        full = self.counted.count >= MOST
        if full or not self.counted.may_have_another(host):
            transport.write(_FULL if full else _MANY)
            transport.close()
            return
        # asyncio does so only where the listening socket names its protocol: an answer in several pieces would wait for
        # the peer's delayed acknowledgement of the first.
        with contextlib.suppress(OSError):
            transport.get_extra_info("socket").setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._peer = host
        self.counted.peers[host] += 1
        self._gathering = Gathering(transport)
        super().connection_made(self._gathering)  # type: ignore[arg-type]
        self._await_head(0)

    def connection_lost(self, exc: Exception | None) -> None:
        """Count it no more."""
        self._stop_timer()
        self._stop_stall()
        if self._peer is None:
            return
        self.counted.peers[self._peer] -= 1
        if self.counted.peers[self._peer] <= 0:
            del self.counted.peers[self._peer]
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        """Count the bytes of a head."""
        if self._peer is None:
            return
        cycle: Any = self.cycle
        if self._timer:
            self._head += len(data)
            if self._head > HEAD_BYTES:
                self.transport.write(_LARGE)
                self.transport.close()
                return
        elif cycle is None or cycle.response_complete:
            self._head, self._in_head = len(data), True
        self._may_begin = True
        super().data_received(data)
        self._may_begin = False
        if self._in_head and not self._timer:  # Most heads come whole, and need no timer.
            self._await_head(self._head)

    def eof_received(self) -> None:
        """Pass it on."""
        if self._peer is not None:
            super().eof_received()

    def on_headers_complete(self) -> None:
        """Wait for the head no longer."""
        self._stop_timer()
        super().on_headers_complete()

    def _start_asgi_task(self, cycle: Any, app: Any) -> None:
        """Answer at once as far as nothing is waited for, and make a task of the rest: what is in memory needs none.
        Only the first request of what was received: others of the same peer shall not make everybody wait.

        The application can see whether the peer is gone: nothing else tells it. (By the connection: with something of
        the cycle's own each request would be left to the garbage collector.)
        """
        cycle.scope["state"]["is_gone"] = self._gathering.is_closing
        if not self._may_begin:
            super()._start_asgi_task(cycle, app)
            return
        self._may_begin = False
        running = cycle.run_asgi(app)
        try:
            first = running.send(None)
        except StopIteration:
            return
        task = self.loop.create_task(Begun(first, running))
        task.add_done_callback(self.tasks.discard)
        self.tasks.add(task)

    def on_response_complete(self) -> None:
        """Send the end of an answer."""
        self._gathering.flush()
        super().on_response_complete()

    def pause_writing(self) -> None:
        """Wait for the reader, but not for ever: closing alone would wait until it has taken everything."""
        self._stop_stall()
        self._stall = self.loop.call_later(STALL_SECONDS, self.transport.abort)
        super().pause_writing()

    def resume_writing(self) -> None:
        """Wait for the reader no longer."""
        self._stop_stall()
        super().resume_writing()

    def _stop_stall(self) -> None:
        if self._stall:
            self._stall.cancel()
        self._stall = None

    def _await_head(self, received: int) -> None:
        self._head = received
        self._timer = self.loop.call_later(HEAD_SECONDS, self.transport.close)

    def _stop_timer(self) -> None:
        if self._timer:
            self._timer.cancel()
        self._timer, self._in_head = None, False


def protocol(connections: Connections) -> type[Guarded]:
    """Return the protocol that counts in `connections`."""
    return type("Protocol", (Guarded,), {"counted": connections})
