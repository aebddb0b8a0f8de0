"""Routes of the status page, from the service's snapshot and the ledger; those of the API are in api.py.

They read the ledger, so they are slow routes (see telemetry.server). Requests for a page within a second get the same
one: ten viewers cost as much as one.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from functools import cached_property
from typing import TYPE_CHECKING, Any, NamedTuple
from urllib.parse import urlencode

from listener.errors import SETTLING, LedgerFault
from listener.ledger.finding import Search
from listener.ledger.listing import Page
from listener.ledger.reader import Reader, reading
from listener.ledger.rows import shown
from listener.status import ledger_view
from listener.status.api import Api, package_file
from listener.status.charts import charts, figures
from listener.status.document import Snapshot, document
from listener.status.history import History
from listener.status.preview import NoPreview, Previews, program
from listener.status.queries import cursor, parse_query
from listener.telemetry.http_messages import Request, Response, Route
from listener.uids import is_uid

if TYPE_CHECKING:
    from listener.status.page import Pages

#: Seconds for which an answer is reused, and how many are kept.
_FRESH = 1.0
_KEPT = 64

#: Studies on the first page, on that of all, series of a study, and groups of set-aside files.
_FEW, _MANY = 10, 50


class Shows(NamedTuple):
    """What pages and API show: with `phi` patients, search and images of the files below `data_dir`."""

    phi: bool = False
    data_dir: str = ""


class StatusRoutes:
    """The routes. `live` returns the last snapshot of the service; `history` has the points of the charts."""

    def __init__(
        self, state_dir: str, live: Callable[[], Snapshot], history: History, shows: Shows | None = None
    ) -> None:
        self._state_dir = state_dir
        self._live = live
        self._history = history
        self._phi, self._data_dir = shows or Shows()
        self._api = Api(state_dir, phi=self._phi)
        self._made = -_FRESH
        self._document: dict[str, Any] = {}
        self._answers: dict[str, Response] = {}

    def routes(self) -> dict[str, Route]:
        """Return the routes, which may wait for a disk, by path."""
        return {
            "/": self._page(self._overview),
            "/studies": self._page(self._studies),
            "/studies/": self._page(self._study),
            "/series/": self._page(self._series),
            "/set-aside": self._page(self._set_aside),
            "/hooks": self._page(self._hooks),
            "/api/v1/status": self._status,
            **self._api.routes(),
            **({"/preview/": self._preview} if self._phi else {}),
        }

    def _now(self) -> dict[str, Any]:
        now = time.monotonic()
        if now - self._made >= _FRESH:
            looked = ledger_view.read(self._state_dir)
            self._document = document(self._live(), None, looked, time.time_ns())
            self._answers.clear()
            self._made = now
        return self._document

    def _status(self, _request: Request) -> Response:
        return Response.json(200, self._now())._replace(tagged=True)

    @cached_property
    def _pages(self) -> Pages:
        from listener.status.page import Pages  # Jinja2 costs some 30 ms and 5 MB: only who is looked at pays

        return Pages(package_file, docs=_docs_address(), phi=self._phi)

    @cached_property
    def _previews(self) -> Previews:
        return Previews(self._state_dir)

    def _page(self, make: Callable[[Request], Response]) -> Route:
        """Return a route that makes a page at most once a second."""

        def route(request: Request) -> Response:
            self._now()
            key = f"{request.path}?{request.query}"
            if key not in self._answers:
                if len(self._answers) >= _KEPT:
                    self._answers.clear()
                self._answers[key] = make(request)
            return self._answers[key]

        return route

    def _rendered(self, status: int, name: str, request: Request, **more: Any) -> Response:
        pages = self._pages
        here = request.path if request.path.count("/") == 1 else ""
        body = pages.render(name, self._document, here, **more)
        fields = (f"Content-Security-Policy: {pages.policy}", "Referrer-Policy: no-referrer")
        return Response(status, "text/html; charset=utf-8", body, fields, tagged=status == 200 and not self._phi)

    def _missing(self, status: int, request: Request, why: str) -> Response:
        return self._rendered(status, "missing", request, why=why)

    def _asked(self, request: Request, look: Callable[[Reader], Response]) -> Response:
        """Return what `look` makes of the ledger, or the page that says why it cannot be read."""
        try:
            with reading(self._state_dir) as reader:
                return look(reader)
        except LedgerFault as fault:
            return self._missing(503, request, str(fault))

    def _overview(self, request: Request) -> Response:
        now = time.monotonic()
        told = {"charts": charts(self._document, self._history.points, now), "figures": figures(self._document)}
        try:
            with reading(self._state_dir) as reader:
                rows = [shown(row, self._phi) for row in reader.studies_page(Page(limit=_FEW))]
                more = reader.study_count() - len(rows)
        except LedgerFault:  # What needs attention says so.
            rows, more = [], 0
        return self._rendered(200, "overview", request, rows=rows, more=more, **told)

    def _studies(self, request: Request) -> Response:
        searched = ("name", "patient", "accession") if self._phi else ()
        try:
            given = parse_query(request.query, ("state", "after", *searched))
        except ValueError as error:
            return self._missing(400, request, str(error))
        asked = {name: given[name] for name in searched}

        def look(reader: Reader) -> Response:
            if any(asked.values()):
                rows = reader.find(Search(state=given["state"], limit=_MANY, **asked))
            else:
                rows = reader.studies_page(Page(given["state"], limit=_MANY, after=given["after"]))
            follows = {"state": given["state"], "after": cursor(rows[-1].last_ns, rows[-1].id)} if rows else {}
            more = len(rows) == _MANY and not any(asked.values())
            told = {"rows": [shown(row, self._phi) for row in rows], "state": given["state"], "asked": asked}
            next_link = f"/studies?{urlencode(follows)}" if more else ""
            return self._rendered(200, "studies", request, after="after" in request.query, next=next_link, **told)

        return self._asked(request, look)

    def _study(self, request: Request) -> Response:
        def look(reader: Reader) -> Response:
            uid = request.path.rpartition("/")[2]
            row = reader.study(uid) if is_uid(uid) else None
            if row is None:
                return self._missing(404, request, "The ledger does not know this study")
            series = reader.series_of(row)
            told = {"rows": [shown(one, self._phi) for one in series[:_MANY]], "more": len(series) - _MANY}
            groups = ledger_view.set_aside_groups(reader, study=uid, limit=_MANY)
            return self._rendered(200, "study", request, study=shown(row, self._phi), groups=groups, **told)

        return self._asked(request, look)

    def _series(self, request: Request) -> Response:
        def look(reader: Reader) -> Response:
            uid = request.path.rpartition("/")[2]
            found = ledger_view.series_details(reader, uid, self._phi) if is_uid(uid) else []
            if not found:
                return self._missing(404, request, "The ledger does not know this series")
            return self._rendered(200, "series", request, found=found, preview=self._phi, drawn=bool(program()))

        return self._asked(request, look)

    def _preview(self, request: Request) -> Response:
        """Answer with the middle image of a series, or with why there is none."""
        uid = request.path.rpartition("/")[2]
        try:
            with reading(self._state_dir) as reader:
                path = reader.middle_file(uid) if is_uid(uid) else ""
            if path:
                return Response(200, "image/png", self._previews.of(os.path.join(self._data_dir, path)))
            return Response.problem(404, "the ledger knows no file of this series")
        except (LedgerFault, NoPreview) as why:
            return Response.problem(404, str(why))

    def _set_aside(self, request: Request) -> Response:
        def look(reader: Reader) -> Response:
            groups = ledger_view.set_aside_groups(reader, limit=_MANY + 1)
            remedies = {group["reason"]: group["remedy"] for group in groups}
            told = {"groups": groups[:_MANY], "more": len(groups) > _MANY, "remedies": remedies, "settling": SETTLING}
            return self._rendered(200, "set_aside", request, **told)

        return self._asked(request, look)

    def _hooks(self, request: Request) -> Response:
        return self._asked(
            request, lambda reader: self._rendered(200, "hooks", request, hooks=ledger_view.hooks(reader))
        )


def _docs_address() -> str:
    """Return the address of the documentation in the project's metadata, "" if it names none."""
    from importlib import metadata

    try:
        urls = metadata.metadata("dicom-listener").get_all("Project-URL") or []
    except metadata.PackageNotFoundError:  # run from a checkout that was not installed
        return ""
    named = {name.strip().lower(): url.strip() for name, _, url in (line.partition(",") for line in urls)}
    return str(named.get("documentation", "")).rstrip("/")
