"""The routes of the API: series, studies, set-aside, hooks and sums of the ledger, as ledger_view shows them."""

from __future__ import annotations

from collections.abc import Callable
from importlib import resources
from typing import Any, TypeVar

from listener.errors import LedgerFault
from listener.ledger import accounts
from listener.ledger.listing import Page
from listener.ledger.reader import Reader, reading
from listener.ledger.rows import SeriesRow, StudyRow, shown
from listener.status import ledger_view
from listener.status.queries import cursor, number_of, parse_query
from listener.telemetry.http_messages import Request, Response, Route
from listener.uids import is_uid

Given = TypeVar("Given")
Answer = Callable[[Reader, dict[str, Any]], Any]


class Api:
    """The routes of a ledger in a state directory. With `phi` they show patients."""

    def __init__(self, state_dir: str, *, phi: bool = False) -> None:
        self._state_dir = state_dir
        self._phi = phi

    def routes(self) -> dict[str, Route]:
        """Return the routes, which may wait for a disk, by path."""
        of_series = ("StudyInstanceUID", "state", "modality", "sender", "since", "limit", "after")
        return {
            "/api/v1/series": self._asked(self._list, of_series),
            "/api/v1/series/": self._one(self._series, "series"),
            "/api/v1/studies": self._asked(self._studies, of_series),
            "/api/v1/studies/": self._one(self._study, "study"),
            "/api/v1/set-aside": self._asked(self._set_aside, ("reason", "sender", "StudyInstanceUID", "limit")),
            "/api/v1/batches": self._asked(self._batches, ("status", "errors", "limit", "before")),
            "/api/v1/batches/": self._batch,
            "/api/v1/hooks": self._asked(self._hooks, ()),
            "/api/v1/report": self._asked(self._report, ("by", "since", "until")),
            "/api/v1/openapi.json": self._openapi,
        }

    def _asked(self, answer: Answer, names: tuple[str, ...]) -> Route:
        """Return a route that reads these parameters, and answers from the ledger."""

        def route(request: Request) -> Response:
            try:
                values = parse_query(request.query, names)
            except ValueError as error:
                return Response.problem(400, str(error))
            return self._read(answer, values)

        return route

    def _one(self, answer: Callable[[Reader, str], Any], what: str) -> Route:
        """Return a route that answers for the UID at the end of its path."""

        def route(request: Request) -> Response:
            uid = request.path.rpartition("/")[2]
            if not is_uid(uid):
                return Response.problem(404, "this is no UID")
            return self._read(answer, uid, f"the ledger does not know this {what}")

        return route

    def _read(self, answer: Callable[[Reader, Given], Any], given: Given, missing: str = "") -> Response:
        """Return an answer from the ledger as JSON; 404 where it is nothing and `missing` says what that means."""
        try:
            with reading(self._state_dir) as reader:
                value = answer(reader, given)
        except LedgerFault as fault:
            return Response.problem(503, str(fault))
        if missing and not value:
            return Response.problem(404, missing)
        # What shows patients is kept by no cache.
        return Response.json(200, value)._replace(tagged=not self._phi)

    def _list(self, reader: Reader, given: dict[str, Any]) -> Any:
        rows = reader.series_page(_page(given))
        return {"series": [shown(row, self._phi) for row in rows], "next": _next(rows, given["limit"])}

    def _series(self, reader: Reader, uid: str) -> Any:
        found = ledger_view.series_details(reader, uid, self._phi)
        # Two studies may share a series UID.
        return {**found[0], "elsewhere": found[1:]} if found else None

    def _studies(self, reader: Reader, given: dict[str, Any]) -> Any:
        rows = reader.studies_page(_page(given))
        return {"studies": [shown(row, self._phi) for row in rows], "next": _next(rows, given["limit"])}

    def _study(self, reader: Reader, uid: str) -> Any:
        return ledger_view.study_details(reader, uid, self._phi)

    def _set_aside(self, reader: Reader, given: dict[str, Any]) -> Any:
        reasons = [given["reason"]] if given["reason"] else ledger_view.TROUBLES
        asked = (given["sender"], given["StudyInstanceUID"], given["limit"])
        return {"set_aside": ledger_view.set_aside_groups(reader, reasons, *asked)}

    def _batches(self, reader: Reader, given: dict[str, Any]) -> Any:
        rows = reader.batches_page(given["status"], given["errors"], given["limit"], given["before"])
        more = str(rows[-1].id) if len(rows) == given["limit"] else None
        return {"batches": [ledger_view.batch(row, self._phi) for row in rows], "next": more}

    def _batch(self, request: Request) -> Response:
        number = number_of(request.path)
        if not number:
            return Response.problem(404, "this is no batch's number")
        return self._read(self._batch_of, number, "the ledger does not know this batch")

    def _batch_of(self, reader: Reader, number: int) -> Any:
        return ledger_view.batch_details(reader, number, self._phi)

    def _hooks(self, reader: Reader, _: dict[str, Any]) -> Any:
        return {"hooks": ledger_view.hooks(reader)}

    def _report(self, reader: Reader, given: dict[str, Any]) -> Any:
        return {"report": accounts.sums(reader, given["since"], given["until"], given["by"], self._phi)}

    def _openapi(self, _request: Request) -> Response:
        return Response(200, "application/json", package_file("openapi.json").encode(), tagged=True)


def _page(given: dict[str, Any]) -> Page:
    narrowed = {name: given[name] for name in ("state", "modality", "sender", "limit", "after")}
    return Page(study=given["StudyInstanceUID"], since_ns=given["since"], **narrowed)


def _next(rows: list[SeriesRow] | list[StudyRow], limit: int) -> str | None:
    return cursor(rows[-1].last_ns, rows[-1].id) if len(rows) == limit else None


def package_file(name: str) -> str:
    """Return the text of a file of this package."""
    return resources.files("listener.status").joinpath(name).read_text(encoding="utf-8")
