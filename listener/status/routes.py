"""The status page and its API, for the HTTP port: what is asked, made from the word of the service and the ledger.

These routes read the ledger, so they are slow ones (see telemetry.web). Everybody who asks within a second gets the
same document: ten viewers cost what one does.
"""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Mapping
from functools import cached_property
from importlib import resources
from typing import Any
from urllib.parse import parse_qs

from listener.errors import LedgerFault
from listener.ledger.reader import Reader, reading
from listener.ledger.rows import SeriesRow, shown
from listener.planning.names import instant
from listener.status import ledger_view
from listener.status.document import Live, document
from listener.status.history import History
from listener.status.page import Page
from listener.telemetry.http_messages import Request, Response, Route

#: How old an answer may be, in seconds.
_FRESH = 1.0

#: Series in one answer of /api/v1/series: unless told, and at most.
_LIMIT, _MOST = 100, 1000

#: Digits of a number in a query, at most.
_DIGITS = 9

_LAST = 2**63 - 1

_UID = re.compile(r"[0-9.]{1,64}")
_CURSOR = re.compile(r"(\d{1,19})-(\d{1,19})")


class Serving:
    """The routes. `live` gives the last word of the service; `history` what the charts show."""

    def __init__(self, state: str, live: Callable[[], Live], history: History) -> None:
        self._state = state
        self._live = live
        self._history = history
        self._made = -_FRESH
        self._document: dict[str, Any] = {}
        self._html = (-_FRESH, b"")

    def routes(self) -> dict[str, Route]:
        """The routes that may wait for a disk."""
        return {
            "/": self._page,
            "/api/v1/status": self._status,
            "/api/v1/series": self._list,
            "/api/v1/series/": self._one,
            "/api/v1/openapi.json": self._openapi,
        }

    def _now(self) -> dict[str, Any]:
        now = time.monotonic()
        if now - self._made >= _FRESH:
            looked = ledger_view.look(self._state)
            self._document = document(self._live(), None, looked, time.time_ns())
            self._made = now
        return self._document

    def _status(self, _request: Request) -> Response:
        return Response.json(200, self._now())

    def _page(self, _request: Request) -> Response:
        page, found = self._renderer, self._now()
        if self._html[0] != self._made:
            self._html = (self._made, page.render(found, self._history.points, time.monotonic()))
        policy = f"Content-Security-Policy: {page.policy}"
        return Response(200, "text/html; charset=utf-8", self._html[1], (policy,))

    @cached_property
    def _renderer(self) -> Page:
        return Page(part("page.css"), part("page.js"))

    def _openapi(self, _request: Request) -> Response:
        return Response(200, "application/json", part("openapi.json").encode())

    # -- series ----------------------------------------------------------------------------------------------------

    def _list(self, request: Request) -> Response:
        try:
            state, limit, after = asked_for(request.query)
        except ValueError as error:
            return _no(400, str(error))
        try:
            with reading(self._state) as reader:
                rows = reader.listed(state, after, limit)
        except LedgerFault as fault:
            return _no(503, str(fault))
        following = f"{rows[-1].last_ns}-{rows[-1].id}" if len(rows) == limit else None
        return Response.json(200, {"series": [shown(row, phi=False) for row in rows], "next": following})

    def _one(self, request: Request) -> Response:
        uid = request.path.rpartition("/")[2]
        if not _UID.fullmatch(uid):
            return _no(404, "this is no UID")
        try:
            with reading(self._state) as reader:
                found = [detail(reader, row) for row in reader.all_of(uid)]
        except LedgerFault as fault:
            return _no(503, str(fault))
        if not found:
            return _no(404, "the ledger does not know this series")
        # Two studies may have one series UID.
        return Response.json(200, {**found[0], "elsewhere": found[1:]})


def part(name: str) -> str:
    """A file of the page."""
    return resources.files("listener.status").joinpath(name).read_text(encoding="utf-8")


def asked_for(query: str) -> tuple[str, int, tuple[int, int]]:
    """State ("" any), limit and cursor of a query; ValueError says what is wrong."""
    given = {key: values[-1] for key, values in parse_qs(query, keep_blank_values=True).items()}
    unknown = given.keys() - {"state", "limit", "after"}
    if unknown:
        raise ValueError("unknown parameter; there are state, limit and after")
    state, limit, after = (
        given.get("state", ""),
        given.get("limit", str(_LIMIT)),
        given.get("after", f"{_LAST}-{_LAST}"),
    )
    if state not in ("", "open", "complete", "incomplete"):
        raise ValueError("state: give open, complete or incomplete")
    if not (limit.isascii() and limit.isdigit() and len(limit) <= _DIGITS and 1 <= int(limit) <= _MOST):
        raise ValueError(f"limit: give a whole number from 1 to {_MOST}")
    cursor = _CURSOR.fullmatch(after)
    if not cursor or max(int(cursor[1]), int(cursor[2])) > _LAST:
        raise ValueError("after: give what 'next' of the answer before said")
    return state, int(limit), (int(cursor[1]), int(cursor[2]))


def detail(reader: Reader, row: SeriesRow) -> dict[str, Any]:
    """A series with its history and deliveries, as the API shows it."""
    key = (row.SeriesInstanceUID, row.StudyInstanceUID)
    return {
        "series": shown(row, phi=False),
        "history": [change(one) for one in reader.history(*key)],
        "deliveries": [delivery(one) for one in reader.deliveries_of(*key)],
        "elsewhere": [],
    }


def change(one: Any) -> dict[str, Any]:
    """A change of a series' state, as the API shows it."""
    return {
        "generation": one.generation,
        "time": instant(one.at_ns),
        "state": one.state,
        "result": one.result,
        "instances": one.instances,
        "bytes": one.bytes,
        "expected": one.expected,
    }


def delivery(one: Any) -> dict[str, Any]:
    """What became of a delivery, as the API shows it."""
    return {
        "to": one.consumer,
        "event": one.event,
        "generation": one.generation,
        "state": one.state,
        "attempts": one.attempts,
        "made": instant(one.made_ns),
        "next": instant(one.next_ns) if one.next_ns and one.state == "pending" else None,
        "settled": instant(one.settled_ns) if one.settled_ns else None,
        "error": one.error,
    }


def _no(status: int, why: str) -> Response:
    answer: Mapping[str, Any] = {"status": status, "error": why}
    return Response.json(status, answer)
