"""Routes of the status page, from the service's snapshot and the ledger; those of the API are in api.py.

They read the ledger, so they are slow routes (see telemetry.server).
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from functools import cached_property
from typing import Any, NamedTuple
from urllib.parse import urlencode

from listener.errors import LedgerFault
from listener.ledger.finding import Search
from listener.ledger.listing import Page
from listener.ledger.reader import Reader, reading
from listener.ledger.rows import shown
from listener.reasons import SETTLING
from listener.status import ledger_view
from listener.status.api import Api
from listener.status.charts import charts, figures
from listener.status.document import Snapshot, document
from listener.status.history import History
from listener.status.preview import NoPreview, Previews, program
from listener.status.queries import PARAMETERS, cursor, number_of, parse_query
from listener.status.rendering import Rendering
from listener.status.site import COLLECTION
from listener.telemetry.http_messages import Request, Response, Route
from listener.uids import is_uid

#: Studies on the first page, on that of all, series of a study, and groups of set-aside files.
_FEW, _MANY = 10, 50

#: What studies are searched by on a page that shows patients.
_SEARCHED = ("name", "patient", "accession", "dates", "modality")


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
        self._pages = Rendering(COLLECTION, self._look, phi=self._phi)

    def routes(self) -> dict[str, Route]:
        """Return the routes, which may wait for a disk, by path."""
        return {
            "/": self._pages.route(self._overview),
            "/studies": self._pages.route(self._studies),
            "/studies/": self._pages.route(self._study),
            "/series/": self._pages.route(self._series),
            "/set-aside": self._pages.route(self._set_aside),
            "/hooks": self._pages.route(self._hooks),
            "/batches": self._pages.route(self._batches),
            "/batches/": self._pages.route(self._batch),
            "/api/v1/status": self._pages.json,
            **self._api.routes(),
            **({"/preview/": self._preview} if self._phi else {}),
        }

    def _look(self) -> dict[str, Any]:
        return document(self._live(), None, ledger_view.read(self._state_dir), time.time_ns())

    @cached_property
    def _previews(self) -> Previews:
        return Previews(self._state_dir)

    def _asked(self, request: Request, look: Callable[[Reader], Response]) -> Response:
        """Return what `look` makes of the ledger, or the page that says why it cannot be read."""
        try:
            with reading(self._state_dir) as reader:
                return look(reader)
        except LedgerFault as fault:
            return self._pages.missing(503, request, str(fault))

    def _overview(self, request: Request) -> Response:
        now = time.monotonic()
        told = {
            "charts": charts(self._pages.document(), self._history.points, now),
            "figures": figures(self._pages.document()),
        }
        try:
            with reading(self._state_dir) as reader:
                rows = [shown(row, self._phi) for row in reader.studies_page(Page(limit=_FEW))]
                more = reader.study_count() - len(rows)
        except LedgerFault:  # What needs attention says so.
            rows, more = [], 0
        return self._pages.page(200, "overview", request, rows=rows, more=more, **told)

    def _studies(self, request: Request) -> Response:
        searched = _SEARCHED if self._phi else ()
        try:
            given = parse_query(request.query, ("state", "after", *searched))
        except ValueError as error:
            return self._pages.missing(400, request, str(error))
        asked = {name: given[name] for name in searched}
        searches = any(given[name] != PARAMETERS[name].default for name in searched)

        def look(reader: Reader) -> Response:
            if searches:
                rows = reader.find(Search(state=given["state"], limit=_MANY, **asked))
            else:
                rows = reader.studies_page(Page(given["state"], limit=_MANY, after=given["after"]))
            follows = {"state": given["state"], "after": cursor(rows[-1].last_ns, rows[-1].id)} if rows else {}
            more = len(rows) == _MANY and not searches
            told = {"rows": [shown(row, self._phi) for row in rows], "state": given["state"], "asked": asked}
            next_link = f"/studies?{urlencode(follows)}" if more else ""
            return self._pages.page(200, "studies", request, after="after" in request.query, next=next_link, **told)

        return self._asked(request, look)

    def _study(self, request: Request) -> Response:
        def look(reader: Reader) -> Response:
            uid = request.path.rpartition("/")[2]
            row = reader.study(uid) if is_uid(uid) else None
            if row is None:
                return self._pages.missing(404, request, "The ledger does not know this study")
            series = reader.series_of(row)
            told = {"rows": [shown(one, self._phi) for one in series[:_MANY]], "more": len(series) - _MANY}
            groups = ledger_view.set_aside_groups(reader, study=uid, limit=_MANY)
            return self._pages.page(200, "study", request, study=shown(row, self._phi), groups=groups, **told)

        return self._asked(request, look)

    def _series(self, request: Request) -> Response:
        def look(reader: Reader) -> Response:
            uid = request.path.rpartition("/")[2]
            found = ledger_view.series_details(reader, uid, self._phi) if is_uid(uid) else []
            if not found:
                return self._pages.missing(404, request, "The ledger does not know this series")
            return self._pages.page(200, "series", request, found=found, preview=self._phi, drawn=bool(program()))

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
            return self._pages.page(200, "set_aside", request, **told)

        return self._asked(request, look)

    def _batches(self, request: Request) -> Response:
        try:
            given = parse_query(request.query, ("before",))
        except ValueError as error:
            return self._pages.missing(400, request, str(error))

        def look(reader: Reader) -> Response:
            found = reader.batches_page(limit=_MANY, before=given["before"])
            next_link = f"/batches?before={found[-1].id}" if len(found) == _MANY else ""
            rows = [ledger_view.batch(row, self._phi) for row in found]
            return self._pages.page(200, "batches", request, rows=rows, next=next_link)

        return self._asked(request, look)

    def _batch(self, request: Request) -> Response:
        def look(reader: Reader) -> Response:
            one = ledger_view.batch_details(reader, number_of(request.path), self._phi)
            if one is None:
                return self._pages.missing(404, request, "The ledger does not know this batch")
            return self._pages.page(200, "batch", request, one=one, most=_MANY)

        return self._asked(request, look)

    def _hooks(self, request: Request) -> Response:
        return self._asked(
            request, lambda reader: self._pages.page(200, "hooks", request, hooks=ledger_view.hooks(reader))
        )
