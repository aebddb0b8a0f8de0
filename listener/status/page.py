"""PURE. Pages from templates: self-contained, no request but for themselves, complete without JavaScript.

Every value is escaped, and a name that a template misspells is an error. This module imports Jinja2, and is imported
when somebody first looks at a page.
"""

from __future__ import annotations

from base64 import b64encode
from collections.abc import Callable, Mapping
from datetime import datetime
from hashlib import sha256
from typing import Any, NamedTuple

from jinja2 import Environment, FunctionLoader, StrictUndefined
from markupsafe import Markup

from listener.status.attention import anchor, volumes_of
from listener.status.document import STATES
from listener.status.formatting import NONE, brief, count, day, moment, plain, share, size, span
from listener.status.site import COLLECTION, Site


class Badge(NamedTuple):
    """How the service is in a word, and the class of its colour."""

    kind: str
    text: str


def badge(document: Mapping[str, Any]) -> Badge:
    """Return the badge of a status document: it is green only where nothing needs attention."""
    state = document["service"]["state"]
    if state == "ready" and document["attention"]:
        return Badge("attention", "needs attention")
    return Badge(state, STATES[state])


class Pages:
    """Renders templates, whose sources `source` returns by name; the policy lets only `style` and `script` run, which
    are part of each page. `docs` is the address of the documentation, "" if there is none. With `phi` pages may show
    images of ours and have a form.
    """

    def __init__(
        self, source: Callable[[str], str], site: Site = COLLECTION, *, docs: str = "", phi: bool = False
    ) -> None:
        style, script = source("page.css"), source("page.js")
        images, forms = ("'self' data:", "'self'") if phi else ("data:", "'none'")
        #: The Content-Security-Policy to send with every page.
        self.policy = (
            f"default-src 'none'; style-src '{_digest(style)}'; script-src '{_digest(script)}'; connect-src 'self'; "
            f"img-src {images}; base-uri 'none'; form-action {forms}; frame-ancestors 'none'"
        )
        self._environment = Environment(
            loader=FunctionLoader(lambda name: source(f"templates/{name}")),
            autoescape=True,
            undefined=StrictUndefined,
            finalize=_final,
            trim_blocks=True,
            lstrip_blocks=True,
        )
        self._environment.filters.update(
            ago=_ago, anchor=anchor, brief=_brief, count=count, day=_day, share=share, size=size, span=span, utc=_utc
        )
        parts = {"style": Markup(style), "script": Markup(script)}  # noqa: S704
        self._environment.globals.update(**parts, docs=docs, phi=phi, site=site)

    def render(self, name: str, document: Mapping[str, Any], here: str, **more: Any) -> bytes:
        """Return the page of a template in UTF-8; `here` is its path, `more` what it alone shows."""
        shown = {
            "status": document,
            "service": document["service"],
            "badge": badge(document),
            "volumes": volumes_of(document),
            "now": datetime.fromisoformat(document["time"]),
            "here": here,
        }
        return self._environment.get_template(f"{name}.html").render(shown, **more).encode()


def _digest(part: str) -> str:
    return f"sha256-{b64encode(sha256(part.encode()).digest()).decode()}"


def _final(value: object) -> object:
    """Return what is shown of a value: text without characters that turn or hide others, a dash for None."""
    if isinstance(value, Markup):
        return value
    return NONE if value is None else plain(str(value))


def _brief(text: str, most: int = 16) -> str:
    return brief(text, most) or NONE


def _day(date: str) -> str:
    return _brief(day(date))


def _utc(instant: str | None) -> str:
    return f"{moment(instant)} UTC" if instant else NONE


def _ago(instant: str, now: datetime) -> str:
    """Return how long ago an instant was; a clock that was set back makes it now."""
    return f"{span(max(0.0, (now - datetime.fromisoformat(instant)).total_seconds()), whole=True)} ago"
