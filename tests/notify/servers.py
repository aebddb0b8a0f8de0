"""Real brokers, a subscriber that decodes LONK by itself, and a CUBE that registers as the real one was seen to."""

from __future__ import annotations

import contextlib
import http.server
import json
import shutil
import socket
import subprocess
import sys
import threading
import time
from base64 import b64decode
from collections.abc import Iterator
from pathlib import Path
from typing import Any, BinaryIO
from urllib.parse import parse_qs, urlsplit

import pytest
import redis

from tests.conftest import PROJECT
from tests.dicomnet import accepts, free_port
from tests.notify.cube_worker import database
from tests.service_process import environment
from tests.waiting import until


def program(name: str) -> str:
    """The path of a server; where it is not installed the test is skipped."""
    found = shutil.which(name) or shutil.which(name, path="/usr/sbin")
    if found is None:
        pytest.skip(f"{name} is not installed")
    return found


@contextlib.contextmanager
def _serving(command: list[str], port: int) -> Iterator[subprocess.Popen[bytes]]:
    process = subprocess.Popen(
        [program(command[0]), *command[1:]],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        until(lambda: accepts(port), 10, what=f"{command[0]} answers")
        yield process
    finally:
        process.kill()
        process.wait()


@contextlib.contextmanager
def redis_server(port: int = 0, *more: str) -> Iterator[tuple[str, subprocess.Popen[bytes]]]:
    """A Redis without persistence, unless `more` of its options say so, by its URL."""
    port = port or free_port()
    command = ["redis-server", "--port", str(port), "--save", "", "--bind", "127.0.0.1", *more]
    with _serving(command, port) as process:
        yield f"redis://127.0.0.1:{port}/0", process


@contextlib.contextmanager
def nats_server(port: int = 0, *more: str) -> Iterator[tuple[str, subprocess.Popen[bytes]]]:
    """A NATS server, by its URL."""
    port = port or free_port()
    with _serving(["nats-server", "-a", "127.0.0.1", "-p", str(port), *more], port) as process:
        yield f"nats://127.0.0.1:{port}", process


@contextlib.contextmanager
def serving(server: http.server.HTTPServer) -> Iterator[http.server.HTTPServer]:
    """Let a server of the tests' own answer until the block is left, and close it."""
    with server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        try:
            yield server
        finally:
            server.shutdown()
            thread.join()


@contextlib.contextmanager
def saying(data: bytes) -> Iterator[int]:
    """A server that says this to everybody, and hangs up; its port."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        server.settimeout(0.05)
        ended = threading.Event()

        def serve() -> None:
            while not ended.is_set():
                try:
                    connection, _ = server.accept()
                except TimeoutError:
                    continue
                with connection:
                    connection.sendall(data)

        thread = threading.Thread(target=serve)
        thread.start()
        try:
            yield server.getsockname()[1]
        finally:
            ended.set()
            thread.join()


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
    """Keeps what is told below a root: subject, ("done",), ("number", n) or ("error", text), and when; over restarts of
    the server.
    """

    def __init__(self, url: str, root: str = "oxidicom") -> None:
        self.told: list[tuple[str, tuple[Any, ...], float]] = []
        parts = urlsplit(url)
        self.port = parts.port or 0
        self._address = (parts.hostname or "", self.port)
        login = {"user": parts.username, "pass": parts.password} if parts.username else {}
        self._greeting = f"CONNECT {json.dumps({'verbose': False, **login})}\r\nSUB {root}.> 1\r\nPING\r\n".encode()
        self._listening, self._closing = threading.Event(), threading.Event()
        self._socket: socket.socket | None = None
        self._thread = threading.Thread(target=self._run)
        self._thread.start()
        assert self._listening.wait(120), "NATS answers"

    def of(self, series: str) -> list[tuple[Any, ...]]:
        """What was told of a series."""
        return [message for message, _ in self.timed(series)]

    def timed(self, series: str) -> list[tuple[tuple[Any, ...], float]]:
        """The same, and when, on the monotonic clock."""
        end = "." + series.replace(".", "_")
        return [(message, at) for subject, message, at in self.told if subject.endswith(end)]

    def _run(self) -> None:
        while not self._closing.wait(0.002):
            with contextlib.suppress(OSError), socket.create_connection(self._address, 1) as self._socket:
                self._socket.settimeout(None)
                self._socket.sendall(self._greeting)
                with self._socket.makefile("rb") as file:
                    self._read(self._socket, file)

    def _read(self, connection: socket.socket, file: BinaryIO) -> None:
        while line := file.readline():
            if line == b"PING\r\n":
                connection.sendall(b"PONG\r\n")
            elif line == b"PONG\r\n":
                self._listening.set()
            elif line.startswith(b"MSG "):
                _, subject, *_, size = line.decode().split()
                data = file.read(int(size) + 2)[:-2]
                self.told.append((subject, _decoded(data), time.monotonic()))

    def close(self) -> None:
        self._closing.set()
        with contextlib.suppress(OSError, AttributeError):
            self._socket.shutdown(socket.SHUT_RDWR)  # type: ignore[union-attr]
        self._thread.join()


@contextlib.contextmanager
def subscriber(url: str) -> Iterator[Subscriber]:
    """A Subscriber, closed at the end."""
    made = Subscriber(url)
    try:
        yield made
    finally:
        made.close()


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
    """A CUBE: a real Celery worker registers what is in the queue (see cube_worker), an API tells what is registered.

    `status` is what the API answers, `questions` how often it was asked; `hold()` lets each task stay where it begins.
    """

    def __init__(self, broker: str, storage: Path, base: Path) -> None:
        self.status, self.questions = 200, 0
        self._hold, self._ready = base / "hold", base / "cube-ready"
        self._variables = {
            "CUBE_BROKER": broker,
            "CUBE_STORAGE": str(storage),
            "CUBE_DATABASE": str(base / "cube.sqlite"),
            "CUBE_PATIENCE": "0.3",
            "CUBE_HOLD": str(self._hold),
            "CUBE_READY": str(self._ready),
        }
        self._worker: subprocess.Popen[bytes] | None = None
        self.start_worker()
        outer = self

        class Handler(http.server.BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                outer.questions += 1
                uid = parse_qs(urlsplit(self.path).query)["SeriesInstanceUID"][0]
                results = [entry for entry in outer.registered if entry["SeriesInstanceUID"] == uid]
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
        self._thread = threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.05})
        self._thread.start()

    def start_worker(self) -> None:
        """A worker that takes one task after the other; it is ready."""
        self._ready.unlink(missing_ok=True)
        manner = (
            "--pool",
            "solo",
            "--without-gossip",
            "--without-mingle",
            "--without-heartbeat",
            "--loglevel",
            "CRITICAL",
        )
        self._worker = subprocess.Popen(
            [sys.executable, "-m", "celery", "-A", "tests.notify.cube_worker", "worker", "-Q", "main2", *manner],
            env=environment(**self._variables),
            cwd=PROJECT,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        try:
            until(self._ready.exists, 30, what="CUBE's worker takes tasks")
        except AssertionError:
            self.kill_worker()
            raise

    def kill_worker(self) -> None:
        """SIGKILL to the worker; what it had begun is lost, for it acknowledged that."""
        if self._worker:
            self._worker.kill()
            self._worker.wait()

    @contextlib.contextmanager
    def hold(self) -> Iterator[None]:
        """Tasks that begin meanwhile stay where they are."""
        self._hold.touch()
        try:
            yield
        finally:
            self._hold.unlink()

    def _rows(self, query: str) -> list[tuple[Any, ...]]:
        with contextlib.closing(database(self._variables["CUBE_DATABASE"])) as connection:
            return connection.execute(query).fetchall()

    @property
    def registered(self) -> list[dict[str, Any]]:
        """What is registered, as the API tells it."""
        names = ("pacs_identifier", "SeriesInstanceUID", "folder_path", "ndicom")
        return [dict(zip(names, row, strict=True)) for row in self._rows("SELECT * FROM series")]

    @property
    def begun(self) -> list[str]:
        """The series of all tasks that began."""
        return [uid for (uid,) in self._rows("SELECT * FROM begun")]

    @property
    def refused(self) -> set[tuple[str, str]]:
        """Series that were refused, and why."""
        return {(uid, why) for uid, why in self._rows("SELECT * FROM calls")}

    def close(self) -> None:
        self.kill_worker()
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()


@contextlib.contextmanager
def cube_of(broker: str, storage: Path, base: Path) -> Iterator[Cube]:
    """A CUBE, ended at the end."""
    made = Cube(broker, storage, base)
    try:
        yield made
    finally:
        made.close()
