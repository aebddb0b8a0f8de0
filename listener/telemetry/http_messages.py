"""HTTP requests and responses: parsing, rendering, routing, and a thread for routes that may wait for a disk."""

from __future__ import annotations

import gzip
from collections import deque
from collections.abc import Callable, Iterator, Mapping
from email.utils import formatdate
from hashlib import blake2b
from http import HTTPStatus
from queue import Empty, Full, Queue, SimpleQueue
from threading import Thread
from typing import Any, Generic, NamedTuple, TypeVar

import orjson

GZIP_FROM = 1024  # bytes; a smaller body gains nothing
METHODS = ("GET", "HEAD")


class Request(NamedTuple):
    """A request; `query` is the undecoded text after the question mark, `gzip` whether the client accepts it, `known`
    the entity tags that it has already (If-None-Match).
    """

    method: str
    path: str
    query: str = ""
    gzip: bool = False
    known: str = ""


class Response(NamedTuple):
    """A response; `fields` are additional header lines. `tagged`: it has an entity tag, so that a client that knows it
    gets 304 without a body (RFC 9110, section 13.1.2).
    """

    status: int
    content_type: str
    body: bytes
    fields: tuple[str, ...] = ()
    tagged: bool = False

    @classmethod
    def json(cls, status: int, value: Any) -> Response:
        """Return a JSON response of anything that orjson takes."""
        return cls(status, "application/json", orjson.dumps(value) + b"\n")

    @classmethod
    def problem(cls, status: int, detail: str = "") -> Response:
        """Return the problem details of an error status (RFC 9457)."""
        problem = {"type": "about:blank", "title": HTTPStatus(status).phrase, "status": status}
        return cls(status, "application/problem+json", orjson.dumps(problem | ({"detail": detail} if detail else {})))


def head_of(received: bytearray) -> tuple[bytes, bool]:
    """Return what was received up to and with the empty line, and whether that is there."""
    for mark in (b"\r\n\r\n", b"\n\n"):
        at = received.find(mark)
        if at >= 0:
            return bytes(received[: at + len(mark)]), True
    return bytes(received), False


def parse(head: bytes) -> Request | Response:
    """Return the request in a head (up to and with the empty line), or the response that refuses it."""
    lines = head.decode("latin-1").replace("\r\n", "\n").split("\n")
    try:
        method, target, version = lines[0].split(" ")
    except ValueError:
        return Response.problem(400)
    if not method.isalpha() or not version.startswith("HTTP/"):
        return Response.problem(400)
    if version not in ("HTTP/1.0", "HTTP/1.1"):
        return Response.problem(505)
    if target.startswith(("http://", "https://")):
        target = "/" + target.partition("://")[2].partition("/")[2]
    path, _, query = target.partition("?")
    fields = [(name.strip().lower(), value) for name, _, value in (line.partition(":") for line in lines[1:])]
    coded = any(name == "accept-encoding" and _accepts_gzip(value) for name, value in fields)
    return Request(method, path, query, coded, ",".join(value for name, value in fields if name == "if-none-match"))


def render(response: Response, request: Request) -> bytes:
    """Return the bytes of a response; for HEAD the same fields as for GET, and no body."""
    response, kept = _unless_known(response, request)
    body, fields = response.body, [f"Content-Type: {response.content_type}", "Vary: Accept-Encoding", *kept]
    if request.gzip and len(body) >= GZIP_FROM:
        body = gzip.compress(body, compresslevel=1, mtime=0)
        fields.append("Content-Encoding: gzip")
    if response.status == HTTPStatus.METHOD_NOT_ALLOWED:
        fields.append(f"Allow: {', '.join(METHODS)}")
    if response.status != HTTPStatus.NOT_MODIFIED:  # it has no body, and must not tell the length of another
        fields.append(f"Content-Length: {len(body)}")
    fields += [f"Date: {formatdate(usegmt=True)}", "X-Content-Type-Options: nosniff"]
    fields += ["Connection: close", *response.fields]
    start = f"HTTP/1.1 {response.status} {HTTPStatus(response.status).phrase}"
    head = "\r\n".join([start, *fields, "", ""]).encode("latin-1")
    return head if request.method == "HEAD" else head + body


def _unless_known(response: Response, request: Request) -> tuple[Response, list[str]]:
    """Return the response, or 304 to a client that knows it; and the fields that say what a cache may do with it.

    The tag is weak: it is that of the content, however it is coded.
    """
    if not response.tagged:
        return response, ["Cache-Control: no-store"]
    tag = f'W/"{blake2b(response.body, digest_size=12).hexdigest()}"'
    tags = {one.strip().removeprefix("W/") for one in request.known.split(",")}
    known = tag.removeprefix("W/") in tags or "*" in tags
    fields = [f"ETag: {tag}", "Cache-Control: no-cache"]
    return (response._replace(status=304, body=b"") if known else response), fields


def _accepts_gzip(value: str) -> bool:
    for coding in value.lower().replace(" ", "").split(","):
        name, _, weight = coding.partition(";q=")
        if name.strip() == "gzip":
            return weight.strip("0.") != "" or weight == ""
    return False


Route = Callable[[Request], Response]


class Router:
    """Routes by path; a path that ends in a slash (except "/") is for all paths below it. `slow` routes may wait for a
    disk. `on_error` gets what a route raised (the client gets 500 without details); it must not raise.
    """

    def __init__(
        self, routes: Mapping[str, Route], slow: Mapping[str, Route], on_error: Callable[[Exception], None]
    ) -> None:
        self._routes = {**routes, **slow}
        self._slow = frozenset(slow)
        self._on_error = on_error

    def is_slow(self, asked: Request | Response) -> bool:
        """Return whether the request is for a slow route."""
        return isinstance(asked, Request) and self._route_path(asked.path) in self._slow

    def answer(self, asked: Request | Response) -> bytes:
        """Return the bytes of the response to a request, or of a refusal."""
        if isinstance(asked, Response):
            return render(asked, Request("GET", ""))
        route = self._routes.get(self._route_path(asked.path))
        if route is None:
            return render(Response.problem(404), asked)
        if asked.method not in METHODS:
            return render(Response.problem(405), asked)
        try:
            return render(route(asked), asked)
        except Exception as error:  # noqa: BLE001 -- the boundary of the thread: an error of one page must not end all
            self._on_error(error)
            return render(Response.problem(500), asked)

    def _route_path(self, path: str) -> str:
        if path in self._routes:
            return path
        folder = path[: path.rfind("/") + 1]
        return folder if len(folder) > 1 else ""


#: Requests that wait at most.
MAX_WAITING = 32

Client = TypeVar("Client")


class BackgroundWorker(Generic[Client]):
    """Answers requests in a thread, one after another; `done` is called there when answers() has one."""

    def __init__(self, done: Callable[[], None], most: int = MAX_WAITING) -> None:
        self._done = done
        self._requests: Queue[tuple[Client, Callable[[], bytes]] | None] = Queue(most)
        self._answers: SimpleQueue[tuple[Client, bytes]] = SimpleQueue()
        self._thread = Thread(target=self._work, name="listener-pages", daemon=True)

    def start(self) -> None:
        """Start the thread."""
        self._thread.start()

    def submit(self, client: Client, work: Callable[[], bytes]) -> bool:
        """Queue `work`, which must not raise; return False if too many wait."""
        try:
            self._requests.put_nowait((client, work))
        except Full:
            return False
        return True

    def answers(self) -> Iterator[tuple[Client, bytes]]:
        """Yield the answers so far, each with its client."""
        while True:
            try:
                yield self._answers.get_nowait()
            except Empty:
                return

    def _work(self) -> None:
        for client, work in iter(self._requests.get, None):
            self._answers.put((client, work()))
            self._done()

    def stop(self, timeout: float) -> None:
        """Stop; wait at most `timeout` seconds for a request on a volume that hangs."""
        with self._requests.mutex:
            self._requests.queue = deque([None])
            self._requests.not_empty.notify()
        self._thread.join(timeout)
