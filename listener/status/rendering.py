"""What all routes of pages share: a document that is looked up at most once a second, and pages made of it, as often.

Ten viewers cost as much as one. Jinja2 is imported when somebody first looks at a page.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from functools import cached_property
from importlib import resources
from typing import TYPE_CHECKING, Any

from listener.status.site import Site
from listener.telemetry.http_messages import Request, Response, Route

if TYPE_CHECKING:
    from listener.status.page import Pages

#: Seconds for which an answer is reused, and how many are kept.
_FRESH = 1.0
_KEPT = 64


class Rendering:
    """Makes pages of a site; `look` returns what stands in all of them (see Pages.render). With `phi` they show
    patients, and are kept by no cache.
    """

    def __init__(self, site: Site, look: Callable[[], dict[str, Any]], *, phi: bool = False) -> None:
        self._site, self._look, self._phi = site, look, phi
        self._made = -_FRESH
        self._document: dict[str, Any] = {}
        self._answers: dict[str, Response] = {}

    def document(self) -> dict[str, Any]:
        """Return what stands in all pages, at most a second old."""
        now = time.monotonic()
        if now - self._made >= _FRESH:
            self._document = self._look()
            self._answers.clear()
            self._made = now
        return self._document

    def route(self, make: Callable[[Request], Response]) -> Route:
        """Return a route that makes a page at most once a second."""

        def route(request: Request) -> Response:
            self.document()
            key = f"{request.path}?{request.query}"
            if key not in self._answers:
                if len(self._answers) >= _KEPT:
                    self._answers.clear()
                self._answers[key] = make(request)
            return self._answers[key]

        return route

    def json(self, _request: Request) -> Response:
        """Answer with the document; a route."""
        return Response.json(200, self.document())._replace(tagged=True)

    def page(self, status: int, name: str, request: Request, **more: Any) -> Response:
        """Return the page of a template."""
        pages = self._pages
        here = request.path if request.path.count("/") == 1 else ""
        body = pages.render(name, self._document, here, **more)
        fields = (f"Content-Security-Policy: {pages.policy}", "Referrer-Policy: no-referrer")
        return Response(status, "text/html; charset=utf-8", body, fields, tagged=status == 200 and not self._phi)

    def missing(self, status: int, request: Request, why: str) -> Response:
        """Return the page that says why there is none."""
        return self.page(status, "missing", request, why=why)

    @cached_property
    def _pages(self) -> Pages:
        from listener.status.page import Pages  # Jinja2 costs some 30 ms and 5 MB: only who is looked at pays

        return Pages(self._source, self._site, docs=_docs_address(), phi=self._phi)

    def _source(self, name: str) -> str:
        """Return the text of a file of the site's package, or of this one."""
        for package in (self._site.package, __package__):
            file = resources.files(package).joinpath(name)
            if file.is_file():
                return file.read_text(encoding="utf-8")
        raise FileNotFoundError(name)


def _docs_address() -> str:
    """Return the address of the documentation in the project's metadata, "" if it names none."""
    from importlib import metadata

    try:
        urls = metadata.metadata("dicom-listener").get_all("Project-URL") or []
    except metadata.PackageNotFoundError:  # run from a checkout that was not installed
        return ""
    named = {name.strip().lower(): url.strip() for name, _, url in (line.partition(",") for line in urls)}
    return str(named.get("documentation", "")).rstrip("/")
