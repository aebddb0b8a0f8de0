"""A front before a store of HTTP, which does to requests what a test says."""

from __future__ import annotations

import contextlib
import http.client
import socket
import struct
import threading
import time
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import NamedTuple
from urllib.parse import urlsplit


class Asked(NamedTuple):
    """A request, and how many like it (of this method) came before."""

    method: str
    path: str
    number: int


class Answer(NamedTuple):
    """What the store answered."""

    status: int
    headers: list[tuple[str, str]]
    body: bytes


#: What becomes of a request: None: it goes through. "reset": the connection breaks off before the store sees it;
#: "lost": after it did; "hang:SECONDS"; a function of the answer; or an Answer of the front's own.
Deed = None | str | Callable[[Answer], Answer] | Answer
Script = Callable[[Asked], Deed]


class Front:
    """The front: `script` and `bytes_per_second` may be changed at any time; `asked` holds what came."""

    def __init__(self, store: str) -> None:
        self.script: Script = lambda _asked: None
        self.asked: list[Asked] = []
        #: How fast bodies pass, both ways; 0: as fast as they come.
        self.bytes_per_second = 0
        self._lock = threading.Lock()
        self._store = urlsplit(store).netloc
        front = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def handle_one(self) -> None:
                front._handle(self)

            do_GET = do_PUT = do_POST = do_HEAD = do_DELETE = handle_one

            def log_message(self, *_: object) -> None:
                """Nothing is logged."""

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self.endpoint = f"http://127.0.0.1:{self._server.server_address[1]}"
        self._thread = threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.02})
        self._thread.start()

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()

    def _handle(self, handler: BaseHTTPRequestHandler) -> None:
        body = handler.rfile.read(int(handler.headers.get("Content-Length") or 0))
        with self._lock:
            number = sum(one.method == handler.command for one in self.asked)
            asked = Asked(handler.command, handler.path, number)
            self.asked.append(asked)
        self._pass(body)
        deed = self.script(asked)
        if deed == "reset":
            return self._reset(handler)
        if isinstance(deed, str) and deed.startswith("hang:"):
            time.sleep(float(deed[5:]))
            return self._reset(handler)
        answer = deed if isinstance(deed, Answer) else self._forward(handler, body)
        if deed == "lost":
            return self._reset(handler)
        if callable(deed) and not isinstance(deed, Answer):
            answer = deed(answer)
        return self._reply(handler, answer)

    def _forward(self, handler: BaseHTTPRequestHandler, body: bytes) -> Answer:
        connection = http.client.HTTPConnection(self._store, timeout=120)
        with contextlib.closing(connection):
            connection.putrequest(handler.command, handler.path, skip_host=True, skip_accept_encoding=True)
            for name, value in handler.headers.items():
                connection.putheader(name, value)
            connection.endheaders(body or None)
            response = connection.getresponse()
            return Answer(response.status, response.getheaders(), response.read())

    def _pass(self, body: bytes) -> None:
        if self.bytes_per_second:
            time.sleep(len(body) / self.bytes_per_second)

    def _reply(self, handler: BaseHTTPRequestHandler, answer: Answer) -> None:
        handler.send_response_only(answer.status)
        for name, value in answer.headers:
            if name.lower() not in ("content-length", "transfer-encoding", "connection"):
                handler.send_header(name, value)
        length = {name.lower(): value for name, value in answer.headers}.get("content-length", "0")
        is_head = handler.command == "HEAD"
        handler.send_header("Connection", "close")
        handler.close_connection = True
        handler.send_header("Content-Length", length if is_head else str(len(answer.body)))
        handler.end_headers()
        if not is_head:
            self._pass(answer.body)
            handler.wfile.write(answer.body)

    def _reset(self, handler: BaseHTTPRequestHandler) -> None:
        handler.close_connection = True
        handler.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))


@contextlib.contextmanager
def front(store: str) -> Iterator[Front]:
    """A front before the store at this address."""
    one = Front(store)
    try:
        yield one
    finally:
        one.close()
