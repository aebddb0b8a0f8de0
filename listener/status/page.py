"""PURE. The status document as one self-contained page: no framework, no request but for itself, whole without
JavaScript. What a sender chose goes through markup.py, which escapes everything.
"""

from __future__ import annotations

from base64 import b64encode
from collections.abc import Mapping, Sequence
from hashlib import sha256
from typing import Any

from listener.status import tables
from listener.status.charts import Line, chart
from listener.status.document import STATES
from listener.status.history import Point
from listener.status.markup import Html, element, text, together
from listener.status.readable import NONE, count, rate, size, span


class Page:
    """Renders documents; `style` and `script` are the page's own, and the only ones that its policy lets run."""

    def __init__(self, style: str, script: str) -> None:
        self._style, self._script = Html(style), Html(script)
        #: The Content-Security-Policy to send with it.
        self.policy = (
            f"default-src 'none'; style-src '{_digest(style)}'; script-src '{_digest(script)}'; connect-src 'self'; "
            "img-src data:; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
        )

    def render(self, document: Mapping[str, Any], points: Sequence[Point], now: float) -> bytes:
        """The page in UTF-8; `now` on the clock of the points."""
        state = STATES[document["service"]["state"]]
        head = element(
            "head",
            element("meta", charset="utf-8"),
            element("meta", name="viewport", content="width=device-width, initial-scale=1"),
            element("meta", name="color-scheme", content="light dark"),
            element("title", f"listener: {state}"),
            element("link", rel="icon", href="data:,"),
            element("style", self._style),
        )
        body = element("body", _header(document), _main(document, points, now), _footer(),
                       element("script", self._script))  # fmt: skip
        return f"<!doctype html>\n{element('html', head, body, lang='en')}\n".encode()


def _digest(part: str) -> str:
    return f"sha256-{b64encode(sha256(part.encode()).digest()).decode()}"


def _header(document: Mapping[str, Any]) -> Html:
    service = document["service"]
    state = element("p", STATES[service["state"]], id="state", role="status", class_=f"state {service['state']}")
    said = together("listener ", service["version"], ", started ", _time(service["started"]), "; as of ",
                    _time(document["time"]))  # fmt: skip
    return element("header", element("h1", "listener"), state, element("p", said, class_="said", id="said"))


def _time(instant: str | None) -> Html:
    """An instant as people read it, exact for programs."""
    if not instant:
        return text(NONE)
    return element("time", f"{instant[:10]} {instant[11:19]} UTC", datetime=instant)


def _main(document: Mapping[str, Any], points: Sequence[Point], now: float) -> Html:
    return element(
        "main",
        _troubles(document),
        _section("Now", element("dl", *(_figure(*one) for one in _figures(document)), class_="figures")),
        _section("Last hour", element("div", *_charts(document, points, now), class_="charts")),
        _section("Files held up", tables.held_up(document)) if (document["held_up"] or {}).get("files") else "",
        _section("Series in flight", tables.in_flight(document)),
        _section("Last completed series", tables.completed(document)),
        element("div", _section("Set aside", tables.set_aside(document)), _section("Disk", tables.volumes(document)),
                _section("Hooks", tables.hooks(document)) if document["hooks"] else "", class_="columns"),
        id="main",
    )  # fmt: skip


def _section(name: str, *content: object) -> Html:
    key = name.lower().replace(" ", "-")
    return element("section", element("h2", name, id=key), *content, aria_labelledby=key)


def _troubles(document: Mapping[str, Any]) -> Html:
    """What is not as it should be, first."""
    bad = [check["text"] for check in document["service"]["checks"].values() if not check["ok"]]
    if not document["ledger"]["readable"]:
        bad.append(f"the ledger cannot be read: {document['ledger']['error']}")
    if not bad:
        return text("")
    return _section("Needs attention", element("ul", *(element("li", one) for one in bad), class_="troubles"))


def _figures(document: Mapping[str, Any]) -> list[tuple[str, str, str]]:
    """Name, value and the small print of each figure."""
    rates, lag, backlog = document["rates"] or {}, document["lag"] or {}, document["backlog"] or {}
    workers, series, lying = document["workers"] or {}, document["series"], document["set_aside"] or {}
    return [
        ("Files", f"{rate(rates.get('files_per_second', 0))} /s", f"{size(rates.get('bytes_per_second', 0))}/s"),
        ("Lag", span(lag.get("median_seconds")), f"95 %: {span(lag.get('p95_seconds'))}"),
        ("Backlog", count(backlog.get("files", 0)), f"oldest: {span(backlog.get('oldest_seconds'))}"),
        ("Workers", f"{workers.get('busy', 0)} of {workers.get('all', 0)}", "busy"),
        ("Series", f"{count(series['open'])} open",
         f"{count(series['complete'])} complete, {count(series['incomplete'])} incomplete"),
        ("Set aside", count(lying.get("files", 0)), size(lying.get("bytes", 0))),
    ]  # fmt: skip


def _figure(name: str, value: str, small: str) -> Html:
    return element("div", element("dt", name), element("dd", element("b", value), " ", element("small", small)))


def _charts(document: Mapping[str, Any], points: Sequence[Point], now: float) -> list[Html]:
    rates, lag, backlog = document["rates"] or {}, document["lag"] or {}, document["backlog"] or {}
    lines = (
        Line("Files a second", lambda one: one.files, rate, rate(rates.get("files_per_second", 0))),
        Line("Lag (95 %)", lambda one: one.lag, span, span(lag.get("p95_seconds"))),
        Line("Backlog", lambda one: float(one.backlog), lambda n: count(int(n)), count(backlog.get("files", 0))),
    )
    return [chart(line, points, now) for line in lines]


def _footer() -> Html:
    pages = ("/api/v1/status", "/api/v1/series", "/api/v1/openapi.json", "/metrics", "/readyz")
    return element("footer", element("p", *(together(element("a", one, href=one), " ") for one in pages)))
