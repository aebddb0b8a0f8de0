"""HTTP requests and responses: parsing, rendering, routing, and a thread for routes that may wait for a disk."""

from __future__ import annotations

import gzip
import re
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
    the entity tags that it has already (If-None-Match). `host` and `authorization` are these fields, `forwarded`: a
    proxy says that it sent the request on, `keeps`: the client may send another one on the same connection. `visitor`
    is who looks, as telemetry.access names it; "" on routes that are open.
    """

    method: str
    path: str
    query: str = ""
    gzip: bool = False
    known: str = ""
    host: str = ""
    authorization: str = ""
    forwarded: bool = False
    keeps: bool = False
    visitor: str = ""


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


_END = re.compile(rb"\r?\n\r?\n")


def head_of(received: bytearray) -> tuple[bytes, bool]:
    """Return what was received up to and with the first empty line, and whether that is there."""
    end = _END.search(received)
    return bytes(received[: end.end()] if end else received), end is not None


#: RFC 9110, section 5.1, and RFC 9112, section 5: no space before the colon, and no line that goes on the one before.
#: Who reads these differently than a proxy before it would see other requests than the proxy let through.
_FIELD = re.compile(r"([!#$%&'*+.^_`|~0-9A-Za-z-]+):[ \t]*([^\0\r]*?)[ \t]*")

#: Fields that tell what the request is; given twice, two programs might follow two of them.
_ONCE = ("host", "authorization", "content-length", "transfer-encoding")

#: Fields with which a proxy says that it sent a request on.
_FORWARDED = ("forwarded", "x-forwarded-for", "x-forwarded-host", "x-forwarded-proto", "x-real-ip", "via")


def parse(head: bytes) -> Request | Response:
    """Return the request in a head (up to and with the empty line), or the response that refuses it."""
    lines = head.decode("latin-1").replace("\r\n", "\n").removesuffix("\n\n").split("\n")
    try:
        method, target, version = lines[0].split(" ")
    except ValueError:
        return Response.problem(400)
    fields = _fields(lines[1:])
    if not method.isalpha() or not version.startswith("HTTP/") or fields is None:
        return Response.problem(400)
    if version not in ("HTTP/1.0", "HTTP/1.1"):
        return Response.problem(505)
    host = fields.get("host", "")
    if target.startswith(("http://", "https://")):
        host, _, rest = target.partition("://")[2].partition("/")
        target = f"/{rest}"
    path, _, query = target.partition("?")
    wishes = {wish.strip().lower() for wish in fields.get("connection", "").split(",")}
    # A body is not read, so nothing that follows one can be told from it.
    has_body = "content-length" in fields or "transfer-encoding" in fields or b"\r\n\r\n" not in head
    stays = "keep-alive" in wishes if version == "HTTP/1.0" else "close" not in wishes
    return Request(
        method,
        path,
        query,
        gzip=_accepts_gzip(fields.get("accept-encoding", "")),
        known=fields.get("if-none-match", ""),
        host=host,
        authorization=fields.get("authorization", ""),
        forwarded=any(name in fields for name in _FORWARDED),
        keeps=stays and not has_body,
    )


def _fields(lines: list[str]) -> dict[str, str] | None:
    """Return header fields by lower-case name, those given again joined by commas; None if a line is none."""
    fields: dict[str, str] = {}
    for line in lines:
        match = _FIELD.fullmatch(line)
        name = match[1].lower() if match else ""
        if not match or (name in fields and name in _ONCE):
            return None
        fields[name] = f"{fields[name]},{match[2]}" if name in fields else match[2]
    return fields


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
    fields += [f"Connection: {'keep-alive' if request.keeps else 'close'}", *response.fields]
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
    fields = [f"ETag: {tag}", "Cache-Control: private, no-cache"]
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
