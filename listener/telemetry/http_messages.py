"""HTTP requests and answers: parsing, pages, routes, and answers that may wait for a disk."""

from __future__ import annotations

import gzip
from collections import deque
from collections.abc import Callable, Iterator, Mapping
from email.utils import formatdate
from http import HTTPStatus
from queue import Empty, Full, Queue, SimpleQueue
from threading import Thread
from typing import Any, Generic, NamedTuple, TypeVar

import orjson

GZIP_FROM = 1024  # bytes; a smaller body gains nothing
METHODS = ("GET", "HEAD")


class Request(NamedTuple):
    """What a route may know of a request; `query` is the undecoded text behind the question mark."""

    method: str
    path: str
    query: str = ""
    gzip: bool = False


class Response(NamedTuple):
    """What a route returns; `fields` are more lines of the head."""

    status: int
    content_type: str
    body: bytes
    fields: tuple[str, ...] = ()

    @classmethod
    def json(cls, status: int, value: Any) -> Response:
        """A JSON page of anything that orjson takes."""
        return cls(status, "application/json", orjson.dumps(value) + b"\n")


def head_of(received: bytearray) -> tuple[bytes, bool]:
    """What came up to and with the empty line, and whether the empty line is there."""
    for mark in (b"\r\n\r\n", b"\n\n"):
        at = received.find(mark)
        if at >= 0:
            return bytes(received[: at + len(mark)]), True
    return bytes(received), False


def parse(head: bytes) -> Request | Response:
    """The request that a head (up to and with the empty line) asks for, or the response that refuses it."""
    lines = head.decode("latin-1").replace("\r\n", "\n").split("\n")
    try:
        method, target, version = lines[0].split(" ")
    except ValueError:
        return refusal(400)
    if not method.isalpha() or not version.startswith("HTTP/"):
        return refusal(400)
    if version not in ("HTTP/1.0", "HTTP/1.1"):
        return refusal(505)
    if target.startswith(("http://", "https://")):
        target = "/" + target.partition("://")[2].partition("/")[2]
    path, _, query = target.partition("?")
    fields = (line.partition(":") for line in lines[1:])
    coded = any(name.strip().lower() == "accept-encoding" and _accepts_gzip(value) for name, _, value in fields)
    return Request(method, path, query, coded)


def render(response: Response, request: Request) -> bytes:
    """The bytes of a response; to HEAD the same fields as to GET, and no body."""
    body, fields = response.body, [f"Content-Type: {response.content_type}", "Vary: Accept-Encoding"]
    if request.gzip and len(body) >= GZIP_FROM:
        body = gzip.compress(body, compresslevel=1, mtime=0)
        fields.append("Content-Encoding: gzip")
    if response.status == HTTPStatus.METHOD_NOT_ALLOWED:
        fields.append(f"Allow: {', '.join(METHODS)}")
    fields += [f"Content-Length: {len(body)}", f"Date: {formatdate(usegmt=True)}", "Cache-Control: no-store"]
    fields += ["X-Content-Type-Options: nosniff", "Connection: close", *response.fields]
    start = f"HTTP/1.1 {response.status} {HTTPStatus(response.status).phrase}"
    head = "\r\n".join([start, *fields, "", ""]).encode("latin-1")
    return head if request.method == "HEAD" else head + body


def refusal(status: int) -> Response:
    """The page that says no, in JSON."""
    return Response.json(status, {"status": status, "error": HTTPStatus(status).phrase})


def _accepts_gzip(value: str) -> bool:
    for coding in value.lower().replace(" ", "").split(","):
        name, _, weight = coding.partition(";q=")
        if name.strip() == "gzip":
            return weight.strip("0.") != "" or weight == ""
    return False


Route = Callable[[Request], Response]


class Router:
    """Routes by path; a path that ends in a slash (but for "/") stands for all that begins with it. `slow` ones may
    wait for a disk. `on_error` gets what a route raised (the peer gets 500 without details); it must not raise.
    """

    def __init__(
        self, routes: Mapping[str, Route], slow: Mapping[str, Route], on_error: Callable[[Exception], None]
    ) -> None:
        self._routes = {**routes, **slow}
        self._slow = frozenset(slow)
        self._on_error = on_error

    def is_slow(self, asked: Request | Response) -> bool:
        """Whether the answer may take its time."""
        return isinstance(asked, Request) and self._known(asked.path) in self._slow

    def answer(self, asked: Request | Response) -> bytes:
        """The bytes that answer a request, or that say a refusal."""
        if isinstance(asked, Response):
            return render(asked, Request("GET", ""))
        route = self._routes.get(self._known(asked.path))
        if route is None:
            return render(refusal(404), asked)
        if asked.method not in METHODS:
            return render(refusal(405), asked)
        try:
            return render(route(asked), asked)
        except Exception as error:  # noqa: BLE001 -- the boundary of the thread: one bad page must not end them all
            self._on_error(error)
            return render(refusal(500), asked)

    def _known(self, path: str) -> str:
        if path in self._routes:
            return path
        folder = path[: path.rfind("/") + 1]
        return folder if len(folder) > 1 else ""


#: Questions that wait at most.
MOST = 32

Asker = TypeVar("Asker")


class BackgroundWorker(Generic[Asker]):
    """Works questions off, one after another; `done` is called in its thread when an answer can be fetched."""

    def __init__(self, done: Callable[[], None], most: int = MOST) -> None:
        self._done = done
        self._questions: Queue[tuple[Asker, Callable[[], bytes]] | None] = Queue(most)
        self._answers: SimpleQueue[tuple[Asker, bytes]] = SimpleQueue()
        self._thread = Thread(target=self._work, name="listener-pages", daemon=True)

    def start(self) -> None:
        """Begin."""
        self._thread.start()

    def ask(self, asker: Asker, work: Callable[[], bytes]) -> bool:
        """Let `work` be done, which must not raise; False when too many wait."""
        try:
            self._questions.put_nowait((asker, work))
        except Full:
            return False
        return True

    def answers(self) -> Iterator[tuple[Asker, bytes]]:
        """What is answered by now: who asked, and the answer."""
        while True:
            try:
                yield self._answers.get_nowait()
            except Empty:
                return

    def _work(self) -> None:
        for asker, work in iter(self._questions.get, None):
            self._answers.put((asker, work()))
            self._done()

    def stop(self, timeout: float) -> None:
        """Answer no more; a volume that hangs is waited for until `timeout` seconds are over."""
        with self._questions.mutex:
            self._questions.queue = deque([None])
            self._questions.not_empty.notify()
        self._thread.join(timeout)
