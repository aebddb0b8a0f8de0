"""PURE. What HTTP asks and answers, as bytes: a request's head read, a response written. `web` moves the bytes."""

from __future__ import annotations

import gzip
from email.utils import formatdate
from http import HTTPStatus
from typing import Any, NamedTuple

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
