"""A real receiver of hooks: a server that keeps what was posted."""

from __future__ import annotations

import http.server
import json
import ssl
import threading
from collections.abc import Callable
from typing import Any, NamedTuple

from tests.waiting import until


class Post(NamedTuple):
    head: dict[str, str]
    body: bytes

    @property
    def json(self) -> dict[str, Any]:
        told: dict[str, Any] = json.loads(self.body)
        return told


class Receiver:
    """A server that answers each POST with what `answer` says: a status, or None for never."""

    def __init__(self, context: ssl.SSLContext | None = None) -> None:
        self.posts: list[Post] = []
        self.answer: Callable[[Post], int | None] = lambda _: 200
        self.head: dict[str, str] = {}
        self.closing = threading.Event()
        outer = self

        class Handler(http.server.BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["Content-Length"]))
                post = Post({name.lower(): value for name, value in self.headers.items()}, body)
                outer.posts.append(post)
                status = outer.answer(post)
                if status is None:
                    outer.closing.wait(30)
                    return
                self.send_response(status)
                for name, value in {"Location": "/elsewhere", **outer.head}.items():
                    self.send_header(name, value)
                self.end_headers()

            def log_message(self, *_: Any) -> None:
                """Silent."""

        self._server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = False
        self._server.handle_error = lambda *_: None  # type: ignore[method-assign]
        if context:
            self._server.socket = context.wrap_socket(self._server.socket, server_side=True)
        self.url = f"http{'s' * bool(context)}://127.0.0.1:{self._server.server_port}/hook?from=listener"
        self._thread = threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.05})
        self._thread.start()

    def close(self) -> None:
        self.closing.set()
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()

    def told(self, event: str) -> list[dict[str, Any]]:
        return [post.json for post in self.posts if post.json["event"] == event]

    def wait_for(self, event: str, count: int = 1, seconds: float = 20) -> list[dict[str, Any]]:
        return until(
            lambda: self.told(event) if len(self.told(event)) >= count else [], seconds, what=f"{count} times {event}"
        )
