"""Routes of the status page and its API, from the service's snapshot and the ledger.

They read the ledger, so they are slow routes (see telemetry.server). Requests within a second get the same document:
ten viewers cost as much as one.
"""

from __future__ import annotations

import re
import time
from collections.abc import Callable
from functools import cached_property
from importlib import resources
from typing import Any
from urllib.parse import parse_qs

from listener.errors import LedgerFault
from listener.ledger.reader import Reader, reading
from listener.ledger.rows import SeriesRow, shown
from listener.planning.names import instant
from listener.status import ledger_view
from listener.status.document import Snapshot, document
from listener.status.history import History
from listener.status.page import Page
from listener.telemetry.http_messages import Request, Response, Route
from listener.uids import is_uid

#: Seconds for which an answer is reused.
_FRESH = 1.0

#: Series in one answer of /api/v1/series: by default, and at most.
_LIMIT, _MOST = 100, 1000

#: Digits of `limit` in a query, at most.
_DIGITS = 9

_LAST = 2**63 - 1

_CURSOR = re.compile(r"(\d{1,19})-(\d{1,19})")


class StatusRoutes:
    """The routes. `live` returns the last snapshot of the service; `history` has the points of the charts."""

    def __init__(self, state_dir: str, live: Callable[[], Snapshot], history: History) -> None:
        self._state_dir = state_dir
        self._live = live
        self._history = history
        self._made = -_FRESH
        self._document: dict[str, Any] = {}
        self._html = (-_FRESH, b"")

    def routes(self) -> dict[str, Route]:
        """Return the routes, which may wait for a disk, by path."""
        return {
            "/": self._page,
            "/api/v1/status": self._status,
            "/api/v1/series": self._list,
            "/api/v1/series/": self._series,
            "/api/v1/openapi.json": self._openapi,
        }

    def _now(self) -> dict[str, Any]:
        now = time.monotonic()
        if now - self._made >= _FRESH:
            looked = ledger_view.read(self._state_dir)
            self._document = document(self._live(), None, looked, time.time_ns())
            self._made = now
        return self._document

    def _status(self, _request: Request) -> Response:
        return _answer(self._now())

    def _page(self, _request: Request) -> Response:
        page, status = self._renderer, self._now()
        if self._html[0] != self._made:
            self._html = (self._made, page.render(status, self._history.points, time.monotonic()))
        policy = f"Content-Security-Policy: {page.policy}"
        return Response(200, "text/html; charset=utf-8", self._html[1], (policy,))

    @cached_property
    def _renderer(self) -> Page:
        return Page(page_file("page.css"), page_file("page.js"))

    def _openapi(self, _request: Request) -> Response:
        return Response(200, "application/json", page_file("openapi.json").encode())

    # -- series ----------------------------------------------------------------------------------------------------

    def _list(self, request: Request) -> Response:
        try:
            state, limit, after = parse_query(request.query)
        except ValueError as error:
            return Response.problem(400, str(error))
        try:
            with reading(self._state_dir) as reader:
                rows = reader.listed(state, after, limit)
        except LedgerFault as fault:
            return Response.problem(503, str(fault))
        following = f"{rows[-1].last_ns}-{rows[-1].id}" if len(rows) == limit else None
        return _answer({"series": [shown(row, phi=False) for row in rows], "next": following})

    def _series(self, request: Request) -> Response:
        uid = request.path.rpartition("/")[2]
        if not is_uid(uid):
            return Response.problem(404, "this is no UID")
        try:
            with reading(self._state_dir) as reader:
                details = [detail(reader, row) for row in reader.all_of(uid)]
        except LedgerFault as fault:
            return Response.problem(503, str(fault))
        if not details:
            return Response.problem(404, "the ledger does not know this series")
        # Two studies may share a series UID.
        return _answer({**details[0], "elsewhere": details[1:]})


def page_file(name: str) -> str:
    """Return the text of a file of this package."""
    return resources.files("listener.status").joinpath(name).read_text(encoding="utf-8")


def parse_query(query: str) -> tuple[str, int, tuple[int, int]]:
    """Return state ("": any), limit and cursor of a query. Raises ValueError that says what to give."""
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
    """Return a series with its history and deliveries, as the API shows it."""
    key = (row.SeriesInstanceUID, row.StudyInstanceUID)
    return {
        "series": shown(row, phi=False),
        "history": [change(record) for record in reader.history(*key)],
        "deliveries": [delivery(record) for record in reader.deliveries_of(*key)],
        "elsewhere": [],
    }


def change(row: Any) -> dict[str, Any]:
    """Return a change of a series' state, as the API shows it."""
    return {
        "generation": row.generation,
        "time": instant(row.at_ns),
        "state": row.state,
        "result": row.result,
        "instances": row.instances,
        "bytes": row.bytes,
        "expected": row.expected,
    }


def delivery(row: Any) -> dict[str, Any]:
    """Return a delivery, as the API shows it."""
    return {
        "to": row.consumer,
        "event": row.event,
        "generation": row.generation,
        "state": row.state,
        "attempts": row.attempts,
        "made": instant(row.made_ns),
        "next": instant(row.next_ns) if row.next_ns and row.state == "pending" else None,
        "settled": instant(row.settled_ns) if row.settled_ns else None,
        "error": row.error,
    }


def _answer(value: Any) -> Response:
    return Response.json(200, value)._replace(tagged=True)
