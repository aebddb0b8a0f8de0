"""Real brokers, a subscriber that decodes LONK by itself, and a CUBE that registers as the real one was seen to."""

from __future__ import annotations

import contextlib
import http.server
import json
import shutil
import socket
import subprocess
import threading
import time
from base64 import b64decode
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest
import redis

from tests.dicomnet import accepts, free_port
from tests.waiting import until


@contextlib.contextmanager
def _serving(command: list[str], port: int) -> Iterator[subprocess.Popen[bytes]]:
    program = shutil.which(command[0]) or shutil.which(command[0], path="/usr/sbin")
    if program is None:
        pytest.skip(f"{command[0]} is not installed")
    process = subprocess.Popen(
        [program, *command[1:]], stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    try:
        until(lambda: accepts(port), 10, what=f"{command[0]} answers")
        yield process
    finally:
        process.kill()
        process.wait()


@contextlib.contextmanager
def redis_server(port: int = 0) -> Iterator[tuple[str, subprocess.Popen[bytes]]]:
    """A Redis without persistence, by its URL."""
    port = port or free_port()
    with _serving(["redis-server", "--port", str(port), "--save", "", "--bind", "127.0.0.1"], port) as process:
        yield f"redis://127.0.0.1:{port}/0", process


@contextlib.contextmanager
def nats_server(port: int = 0) -> Iterator[tuple[str, subprocess.Popen[bytes]]]:
    """A NATS server, by its URL."""
    port = port or free_port()
    with _serving(["nats-server", "-a", "127.0.0.1", "-p", str(port)], port) as process:
        yield f"nats://127.0.0.1:{port}", process


def messages(url: str, queue: str = "main2") -> list[dict[str, Any]]:
    """The messages in the queue, in their order: `task`, `args`, `kwargs` and `embed`."""
    with redis.Redis.from_url(url) as client:
        texts = client.lrange(queue, 0, -1)
    found = []
    for text in reversed(texts):
        message = json.loads(text)
        args, kwargs, embed = json.loads(b64decode(message["body"]))
        found.append({"task": message["headers"]["task"], "args": args, "kwargs": kwargs, "embed": embed})
    return found


class Subscriber:
    """Keeps what is told below a root: subject, and ("done",), ("number", n) or ("error", text)."""

    def __init__(self, url: str, root: str = "oxidicom") -> None:
        parts = urlsplit(url)
        self.told: list[tuple[str, tuple[Any, ...], float]] = []
        self._socket = socket.create_connection((parts.hostname, parts.port))
        self._socket.sendall(f'CONNECT {{"verbose":false}}\r\nSUB {root}.> 1\r\nPING\r\n'.encode())
        self._file = self._socket.makefile("rb")
        while self._file.readline() != b"PONG\r\n":
            pass
        self._thread = threading.Thread(target=self._read)
        self._thread.start()

    def of(self, series: str) -> list[tuple[Any, ...]]:
        """What was told of a series."""
        return [message for subject, message, _ in self.told if subject.endswith(series.replace(".", "_"))]

    def _read(self) -> None:
        while line := self._file.readline():
            if line == b"PING\r\n":
                self._socket.sendall(b"PONG\r\n")
            elif line.startswith(b"MSG "):
                _, subject, *_, size = line.decode().split()
                data = self._file.read(int(size) + 2)[:-2]
                self.told.append((subject, _decoded(data), time.monotonic()))

    def close(self) -> None:
        with contextlib.suppress(OSError):
            self._socket.shutdown(socket.SHUT_RDWR)
        self._thread.join()
        self._file.close()
        self._socket.close()


def _decoded(data: bytes) -> tuple[Any, ...]:
    kind, rest = data[0], data[1:]
    if kind == 0:
        assert rest == b""
        return ("done",)
    if kind == 1:
        assert len(rest) == 4
        return ("number", int.from_bytes(rest, "little"))
    assert kind == 2
    return ("error", rest.decode())


class Cube:
    """A CUBE: its worker counts files and registers a series once, its API tells what is registered.

    `work()` takes what is in the queue as the worker does; `loses` is how many messages it takes and forgets, as one
    does that is killed; `status` what the API answers.
    """

    def __init__(self, broker: str, storage: Path) -> None:
        self.registered: dict[str, dict[str, Any]] = {}
        self.refused: list[str] = []
        self.loses, self.status, self.questions = 0, 200, 0
        self._broker, self._storage = broker, storage
        self._stopping = threading.Event()
        outer = self

        class Handler(http.server.BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                outer.questions += 1
                uid = parse_qs(urlsplit(self.path).query)["SeriesInstanceUID"][0]
                found = outer.registered.get(uid)
                results = [] if found is None else [_entry(found)]
                status = outer.status if self.headers.get("Authorization") == "Token secret" else 401
                body = json.dumps({"count": len(results), "results": results}).encode()
                self.send_response(status)
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, *_: Any) -> None:
                """Silent."""

        self._server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = False
        self.url = f"http://127.0.0.1:{self._server.server_port}"
        self._threads = [
            threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.05}),
            threading.Thread(target=self._work),
        ]
        for thread in self._threads:
            thread.start()

    def _work(self) -> None:
        with redis.Redis.from_url(self._broker) as client:
            while not self._stopping.is_set():
                if taken := client.brpop(["main2"], timeout=0.1):
                    kwargs = json.loads(b64decode(json.loads(taken[1])["body"]))[1]
                    if self.loses:
                        self.loses -= 1
                    else:
                        self._register(kwargs)

    def _register(self, told: dict[str, Any]) -> None:
        there = sum(1 for _ in (self._storage / told["path"]).rglob("*.dcm"))
        if told["SeriesInstanceUID"] in self.registered or there != told["ndicom"]:
            self.refused.append(told["SeriesInstanceUID"])
        else:
            self.registered[told["SeriesInstanceUID"]] = told

    def close(self) -> None:
        self._stopping.set()
        self._server.shutdown()
        for thread in self._threads:
            thread.join()
        self._server.server_close()


def _entry(told: dict[str, Any]) -> dict[str, Any]:
    return {
        "SeriesInstanceUID": told["SeriesInstanceUID"],
        "pacs_identifier": told["pacs_name"],
        "folder_path": told["path"],
    }
