"""DICOMweb as one ASGI function: who may ask, what is asked, and how an answer is sent."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from typing import Any, NamedTuple
from urllib.parse import parse_qsl, unquote

from listener.diagnostics import log
from listener.errors import LedgerFault
from listener.frames.errors import FramesFault
from listener.reasons import internal
from listener.serve import forwarded
from listener.serve.answers import Answer, Fields, Part, refusal
from listener.serve.faults import (
    BadRequest,
    Busy,
    NotAcceptable,
    NotAllowed,
    NotFound,
    Refused,
    TooMany,
    Unauthorized,
)
from listener.serve.figures import Told
from listener.serve.forwarded import Networks
from listener.serve.guard import MOST_OF_A_PEER
from listener.serve.resources import RENDERED, SEARCH, THUMBNAIL, Resource, resource
from listener.serve.retrieve import Retriever, Wanted
from listener.serve.search import Searcher
from listener.serve.viewer import Viewer
from listener.telemetry.access import Access, Peer
from listener.telemetry.http_messages import Request

Scope = Mapping[str, Any]
Receive = Callable[[], Awaitable[Any]]
Send = Callable[[dict[str, Any]], Awaitable[None]]

#: Bytes that are handed on at a time.
_PIECE = 256 * 1024

_METHODS = ("GET", "HEAD", "OPTIONS")
_EXPOSED = "Accept-Ranges, Content-Encoding, Content-Length, Content-Range, ETag, Warning, WWW-Authenticate"


class Rules(NamedTuple):
    """What the application follows of the options."""

    prefix: str
    cors: tuple[str, ...] = ()
    max_frames: int = 1000
    max_age: int = 0
    open_to_all: bool = False
    proxies: tuple[str, ...] = ()


class Application:
    """The ASGI function. `tell` is called once an answer has ended."""

    def __init__(
        self,
        rules: Rules,
        retriever: Retriever,
        searcher: Searcher,
        access: Access,
        viewer: Viewer | None,
        tell: Callable[[Told], None],
    ) -> None:
        self._rules, self._retriever, self._searcher = rules, retriever, searcher
        self._access, self._viewer, self._tell = access, viewer, tell
        self._proxies = Networks(rules.proxies)
        #: Answers that are being made or sent, by address where a proxy is in front.
        self._running: Counter[str] = Counter()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        if scope["type"] != "http":
            return
        begin = time.monotonic()
        fields = {name.decode("latin-1"): value.decode("latin-1") for name, value in scope["headers"]}
        found: list[Resource] = []
        client, address = "", self._address(scope, fields)
        self._running[address] += 1
        try:
            self._limit(address)
            client = self._client(scope, fields, address)
            answer = await self._answer(scope, fields, found)
        except Refused as fault:
            answer = refusal(fault)
        except LedgerFault as fault:
            answer = refusal(Busy(f"the ledger cannot be read: {fault}"))
        except FramesFault as fault:
            answer = refusal(
                Busy(str(fault)) if fault.reason == "changed" else NotAcceptable(f"{fault.reason}: {fault}")
            )
        except Exception as error:  # noqa: BLE001 - a defect is this answer's alone
            log.error("a request could not be answered: %s", internal(error))
            answer = refusal(Refused("a defect: see the log"))._replace(status=500)
        sent = 0
        try:
            sent = await self._send(scope, fields, answer, send)
        except Exception as error:  # What was sent of the answer cannot be taken back.
            log.warning("an answer was cut off: %s", internal(error))
            raise
        finally:
            self._running[address] -= 1
            if not self._running[address]:
                del self._running[address]
            kind = found[0].kind if found else "other"
            study = found[0].uids[0] if found and found[0].uids else ""
            seconds = time.monotonic() - begin
            self._tell(Told(kind, answer.status, sent, answer.frames, seconds, client, study))

    def _address(self, scope: Scope, fields: Mapping[str, str]) -> str:
        """Return the address that a request comes from; "" where it is not known, as on a Unix socket."""
        peer = scope["client"][0] if scope.get("client") else ""
        return forwarded.client(peer, fields.get("x-forwarded-for", ""), self._proxies)

    def _limit(self, address: str) -> None:
        """Raise TooMany where an address behind a proxy has too many requests at once: a peer's connections are
        limited, but a proxy's are not.
        """
        if self._proxies and address not in self._proxies and self._running[address] > MOST_OF_A_PEER:
            raise TooMany

    def _client(self, scope: Scope, fields: Mapping[str, str], address: str) -> str:
        """Return who asks. Raises Unauthorized, which says what is wanted."""
        if self._rules.open_to_all or scope["method"] == "OPTIONS":
            return ""
        peer = scope["client"][0] if scope.get("client") else ""
        is_forwarded = any(name in fields for name in ("forwarded", "x-forwarded-for")) and peer not in self._proxies
        asked = Request(
            scope["method"],
            scope["path"],
            authorization=fields.get("authorization", ""),
            host=fields.get("host", ""),
            forwarded=is_forwarded,
        )
        visitor = self._access.visitor(asked, Peer(address))
        if not visitor:
            raise Unauthorized("", (("www-authenticate", 'Bearer realm="listener"'),))
        return visitor.partition(" ")[2]

    async def _answer(self, scope: Scope, fields: Mapping[str, str], found: list[Resource]) -> Answer:
        method, path = scope["method"], scope["raw_path"].decode("latin-1").partition("?")[0]
        if method not in _METHODS:
            raise NotAllowed("", (("allow", ", ".join(_METHODS)),))
        if method == "OPTIONS":
            return self._preflight(fields)
        prefix = self._rules.prefix
        if not path.startswith(f"{prefix}/"):
            if self._viewer:
                return await self._viewer.answer(path, fields.get("if-none-match", ""))
            raise NotFound
        asked = resource(_plain(path.removeprefix(prefix)), self._rules.max_frames)
        found.append(asked)
        pairs = _pairs(scope["query_string"])
        if asked.kind == SEARCH:
            return await self._searcher.answer(asked, pairs)
        unknown = [key for key, _ in pairs if key.lower() not in ("accept", "charset")]
        if unknown and asked.kind not in (RENDERED, THUMBNAIL):
            raise BadRequest("the query of a retrieval has 'accept' alone")
        wanted = Wanted(
            dict(pairs).get("accept") or fields.get("accept", ""),
            fields.get("range", ""),
            fields.get("if-none-match", ""),
            fields.get("accept-encoding", ""),
            fields.get("if-range", ""),
            tuple(pairs),
        )
        answer = await self._retriever.answer(asked, wanted)
        age = self._rules.max_age
        cache = f"private, max-age={age}" if age else "private, no-cache"
        return answer._replace(fields=[*answer.fields, ("cache-control", cache)])

    def _preflight(self, fields: Mapping[str, str]) -> Answer:
        allowed: Fields = [("allow", ", ".join(_METHODS))]
        if self._is_allowed(fields.get("origin", "")):
            asked = fields.get("access-control-request-headers", "accept, authorization")
            names = ", ".join(name for name in map(str.strip, asked.split(",")) if name.replace("-", "").isalnum())
            allowed += [
                ("access-control-allow-methods", ", ".join(_METHODS)),
                ("access-control-allow-headers", names),
                ("access-control-max-age", "600"),
            ]
        return Answer(204, allowed)

    def _is_allowed(self, origin: str) -> bool:
        return bool(origin) and (origin in self._rules.cors or "*" in self._rules.cors)

    async def _send(self, scope: Scope, fields: Mapping[str, str], answer: Answer, send: Send) -> int:
        """Send an answer; return the bytes of the body. A failure within the body ends the connection."""
        head = [*answer.fields]
        if answer.status not in (204, 304):
            head.append(("content-length", str(answer.length)))
        origin = fields.get("origin", "")
        if self._is_allowed(origin):
            head += [
                ("access-control-allow-origin", origin),
                ("access-control-expose-headers", _EXPOSED),
                ("vary", "origin"),
            ]
        encoded = [(name.encode("latin-1"), value.encode("latin-1")) for name, value in head]
        await send({"type": "http.response.start", "status": answer.status, "headers": encoded})
        if scope["method"] == "HEAD":
            await send({"type": "http.response.body", "body": b""})
            return 0
        return await _send_parts(answer, send, scope["state"]["is_gone"])


async def _send_parts(answer: Answer, send: Send, is_gone: Callable[[], bool]) -> int:
    """Send the parts of a body, small ones together, and its end; return its bytes. Nothing more is read for a client
    that is gone.
    """
    if len(answer.parts) == 1 and not answer.parts[0].read:
        await send({"type": "http.response.body", "body": answer.parts[0].data})
        return answer.parts[0].length
    sent, pending = 0, bytearray()
    async for piece in _pieces(answer.parts):
        pending += piece
        if len(pending) >= _PIECE:
            sent += len(pending)
            await send({"type": "http.response.body", "body": bytes(pending), "more_body": True})
            pending.clear()
            if is_gone():
                return sent
    await send({"type": "http.response.body", "body": bytes(pending)})
    return sent + len(pending)


async def _pieces(parts: Sequence[Part]) -> AsyncIterator[bytes]:
    for part in parts:
        if not part.read:
            yield part.data
            continue
        async for piece in part.read():
            yield piece


def _plain(path: str) -> str:
    """Return a path without escapes. Raises BadRequest for what no path of DICOMweb has."""
    text = unquote(path) if "%" in path else path
    if not text.isascii() or not text.isprintable() or len(text) > 64 * 1024:
        raise BadRequest("the path has characters that no resource has")
    return text


def _pairs(query: bytes) -> Sequence[tuple[str, str]]:
    try:
        return parse_qsl(query.decode("ascii"), keep_blank_values=True, errors="strict", max_num_fields=1000)
    except ValueError:
        raise BadRequest("the query is not UTF-8, or has more than 1000 fields") from None
