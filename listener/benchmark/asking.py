"""Clients that ask HTTP services and measure how long each answer takes."""

from __future__ import annotations

import http.client
import selectors
import socket
import statistics
import time
from collections.abc import Mapping, Sequence

from listener.benchmark.verify import Unfinished

#: Seconds that an answer may take.
PATIENCE = 120.0

_READ = 256 * 1024


def times(port: int, paths: Sequence[str], fields: Mapping[str, str], size: int = 0) -> list[float]:
    """Return the seconds of each request, one after the other by one connection; `size`: that of each body, 0 for any.

    Raises Unfinished for an answer that is none.
    """
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=PATIENCE)
    found = []
    for path in paths:
        begin = time.perf_counter()
        connection.request("GET", path, headers=dict(fields))
        answer = connection.getresponse()
        body = answer.read()
        found.append(time.perf_counter() - begin)
        if answer.status != 200 or (size and len(body) != size):
            raise Unfinished(f"{path.rpartition('/')[2]}: status {answer.status}, {len(body)} bytes")
    connection.close()
    return found


def median(port: int, path: str, fields: Mapping[str, str], count: int = 20) -> float:
    """Return the seconds of the middle one of several requests for the same."""
    return statistics.median(times(port, [path] * count, fields))


def p99(found: Sequence[float]) -> float:
    """Return the time within which 99 of 100 are."""
    return sorted(found)[int(len(found) * 0.99) - 1]


def _length(head: bytes) -> int:
    """Return the length of a body, as the fields before it say. Raises Unfinished."""
    for line in head.lower().split(b"\r\n"):
        if line.startswith(b"content-length:"):
            return int(line[15:])
    raise Unfinished("an answer does not say how long it is")


class _Asker:
    """One of several connections, which asks for one path after the other."""

    def __init__(self, port: int, paths: Sequence[str], fields: Mapping[str, str]) -> None:
        self.socket = socket.create_connection(("127.0.0.1", port), PATIENCE)
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        more = "".join(f"{name}: {value}\r\n" for name, value in fields.items())
        self._left = [f"GET {path} HTTP/1.1\r\nhost: 127.0.0.1:{port}\r\n{more}\r\n".encode() for path in paths[::-1]]
        self._begin, self._got = 0.0, b""
        self.times: list[float] = []

    def ask(self) -> bool:
        """Ask for the next one; return whether there was one."""
        if not self._left:
            return False
        self._begin, self._got = time.perf_counter(), b""
        self.socket.sendall(self._left.pop())
        return True

    def is_answered(self, size: int) -> bool:
        """Take what came; return whether that is all of an answer. Raises Unfinished for one that is none."""
        data = self.socket.recv(_READ)
        self._got += data
        head, end, body = self._got.partition(b"\r\n\r\n")
        if not data or not head.startswith(b"HTTP/1.1 200"[: len(head)]):
            raise Unfinished("an answer is none")
        if not end or len(body) < (size or _length(head)):
            return False
        self.times.append(time.perf_counter() - self._begin)
        return True


def times_of_many(
    port: int, paths: Sequence[str], fields: Mapping[str, str], size: int, connections: int
) -> list[float]:
    """Return the seconds of each request of several connections at once, of which each asks for all paths. `size` is
    that of each body, 0 for what its fields say. All are of one thread: threads would wait for each other, and measure
    that. Nothing but lengths is read of an answer: http.client takes 300 us for the fields of a multipart one.

    Raises Unfinished for an answer that is none.
    """
    with selectors.DefaultSelector() as selector:
        askers = [_Asker(port, paths, fields) for _ in range(connections)]
        for one in askers:
            selector.register(one.socket, selectors.EVENT_READ, one)
            one.ask()
        while selector.get_map():
            ready = selector.select(PATIENCE)
            if not ready:
                raise Unfinished("an answer does not come")
            for key, _ in ready:
                if key.data.is_answered(size) and not key.data.ask():
                    selector.unregister(key.fileobj)
                    key.data.socket.close()
        return [one for asker in askers for one in asker.times]
