"""Page and API of route, on its own port: targets, routes, studies, dead letters, held results."""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Callable
from typing import Any

from listener.errors import LedgerFault
from listener.planning.names import instant
from listener.route import standing
from listener.route.attention import findings
from listener.route.returns import HELD
from listener.route.schema import ROUTE
from listener.route.standing import Standing
from listener.stages.database import StageMissing
from listener.status import snapshot
from listener.status.document import SCHEMA, state_of
from listener.status.rendering import Rendering
from listener.status.site import Site
from listener.telemetry.http_messages import Request, Response, Route
from listener.uids import is_uid

SITE = Site(
    "listener route",
    "listener.route",
    (("/", "Overview"), ("/studies", "Studies"), ("/held", "Held"), ("/dead", "Given up")),
    ("/api/v1/status", "/api/v1/studies", "/api/v1/held", "/api/v1/dead", "/metrics", "/readyz"),
)

#: Studies, dead letters and held results on the first page, and on their own.
_FEW, _MANY = 10, 200

#: What stands where nothing was ever routed.
_NOTHING: dict[str, Any] = {
    **dict.fromkeys(("pending", "dead", "unclaimed", "unanswered"), 0),
    **{name: [] for name in ("targets", "routes", "unclaimed_by")},
    "held": dict.fromkeys(HELD, 0),
}


def document(state_dir: str) -> dict[str, Any]:
    """Return how route stands in a collection: service, what needs attention, totals, targets, routes, the unclaimed.

    `error` says why its state cannot be read, "" that it can.
    """
    error, summary = "", _NOTHING
    try:
        summary = standing.read(state_dir, Standing.summary)
    except StageMissing:
        pass
    except LedgerFault as fault:
        error = str(fault)
    now_ns = time.time_ns()
    about = {"schema": SCHEMA, "time": instant(now_ns), "error": error, "service": _service(state_dir, now_ns)}
    found = {**about, "attention": [], **summary}
    return found | {"attention": [finding._asdict() for finding in findings(found)]}


def _service(state_dir: str, now_ns: int) -> dict[str, Any]:
    """Return what the service wrote of itself last."""
    try:
        live = snapshot.read(os.path.join(state_dir, ROUTE.stage)) or {}
    except OSError:
        live = {}
    return {
        "state": state_of(live or None, now_ns),
        "version": str(live.get("version", "")),
        "host": str(live.get("host", "")),
        "incoming": [],
        "started": live.get("started"),
        "seen": live.get("time"),
        "checks": live.get("checks", {}),
    }


class RoutePages:
    """The routes of page and API for the state directory of a collection."""

    def __init__(self, state_dir: str) -> None:
        self._state_dir = state_dir
        self._pages = Rendering(SITE, self._look)

    def routes(self) -> dict[str, Route]:
        """Return the routes, which may wait for a disk, by path."""
        page, api = self._pages.route, self._api
        return {
            "/": page(self._overview),
            "/studies": page(self._list("studies", lambda one: one.studies(_MANY))),
            "/studies/": page(self._study),
            "/held": page(self._list("held", lambda one: one.held(_MANY))),
            "/dead": page(self._list("dead", lambda one: one.dead(_MANY))),
            "/api/v1/status": self._pages.json,
            "/api/v1/studies": api(lambda one, _: {"studies": one.studies(_MANY)}),
            "/api/v1/studies/": api(lambda one, uid: one.study(uid) if is_uid(uid) else []),
            "/api/v1/held": api(lambda one, _: {"held": one.held(_MANY)}),
            "/api/v1/dead": api(lambda one, _: {"dead": one.dead(_MANY)}),
        }

    def _look(self) -> dict[str, Any]:
        return {**document(self._state_dir), "volumes": {}}

    def _overview(self, request: Request) -> Response:
        told: dict[str, Any] = {"studies": [], "held": [], "dead": []}
        with contextlib.suppress(LedgerFault):  # What needs attention says so.
            told = standing.read(
                self._state_dir,
                lambda one: {"studies": one.studies(_FEW), "held": one.held(_FEW), "dead": one.dead(_FEW)},
            )
        return self._pages.page(200, "route", request, **told)

    def _list(self, name: str, question: Callable[[Standing], list[dict[str, Any]]]) -> Callable[[Request], Response]:
        def make(request: Request) -> Response:
            return self._asked(
                request, question, lambda rows: self._pages.page(200, f"route_{name}", request, rows=rows)
            )

        return make

    def _study(self, request: Request) -> Response:
        uid = request.path.rpartition("/")[2]

        def show(found: list[dict[str, Any]]) -> Response:
            if not found:
                return self._pages.missing(404, request, "Route does not know this study")
            return self._pages.page(200, "route_study", request, found=found)

        return self._asked(request, lambda one: one.study(uid) if is_uid(uid) else [], show)

    def _asked(
        self, request: Request, question: Callable[[Standing], Any], show: Callable[[Any], Response]
    ) -> Response:
        """Return the page of an answer, or the one that says why there is none."""
        try:
            return show(standing.read(self._state_dir, question))
        except LedgerFault as fault:
            return self._pages.missing(503, request, str(fault))

    def _api(self, answer: Callable[[Standing, str], Any]) -> Route:
        def route(request: Request) -> Response:
            uid = request.path.rpartition("/")[2]
            try:
                found = standing.read(self._state_dir, lambda one: answer(one, uid))
            except LedgerFault as fault:
                return Response.problem(503, str(fault))
            if not found:
                return Response.problem(404, "route does not know this study")
            return Response.json(200, found)._replace(tagged=True)

        return route
