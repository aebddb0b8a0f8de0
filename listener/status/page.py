"""PURE. The status document as one self-contained page: no framework, no request but for itself, complete without
JavaScript. Texts from senders go through markup.py, which escapes everything.
"""

from __future__ import annotations

from base64 import b64encode
from collections.abc import Iterable, Mapping, Sequence
from hashlib import sha256
from typing import Any

from listener.status.document import STATES
from listener.status.formatting import NONE, brief, count, rate, share, size, span
from listener.status.history import Point
from listener.status.markup import Html, Line, chart, element, join, text


def in_flight(document: Mapping[str, Any]) -> Html:
    """Return the open series, the newest first, with bars where the number of instances is known."""
    rows = document["in_flight"]
    more = document["series"]["open"] - len(rows)
    note = element("p", f"and {count(more)} more", class_="note") if more > 0 else ""
    heads = ("Series", "Received", "Bytes", "Last", "Modality", "From")
    return join(_table("Series in flight", heads, map(_open, rows), "No series is in flight."), note)


def completed(document: Mapping[str, Any]) -> Html:
    """Return the last series that ended, the newest first."""
    heads = ("Series", "Result", "Instances", "Bytes", "Ended", "Modality", "From")
    return _table("Last completed series", heads, map(_ended, document["completed"]), "No series is complete yet.")


def _open(row: Mapping[str, Any]) -> list[object]:
    return [
        _uid(row),
        _received(row),
        size(row["bytes"]),
        _moment(row["last"]),
        brief(row["Modality"]),
        brief(row["sender"]),
    ]


def _ended(row: Mapping[str, Any]) -> list[object]:
    result = element("span", row["result"] or row["state"], class_=f"result {row['state']}")
    number = f"{count(row['instances'])} / {count(row['expected'])}" if row["expected"] else count(row["instances"])
    return [
        _uid(row),
        result,
        number,
        size(row["bytes"]),
        _moment(row["changed"]),
        brief(row["Modality"]),
        brief(row["sender"]),
    ]


def _uid(row: Mapping[str, Any]) -> Html:
    uid = row["SeriesInstanceUID"]
    again = element("small", f" generation {row['generation']}") if row["generation"] > 1 else ""
    return join(element("code", uid), again)


def _received(row: Mapping[str, Any]) -> object:
    instances, expected = row["instances"], row["expected"]
    if not expected:
        return f"{count(instances)}"
    label = f"{count(instances)} of {count(expected)}"
    bar = element("progress", value=min(instances, expected), max=expected, aria_label=label)
    return join(bar, " ", element("span", f"{label} ({share(instances, expected)})"))


def _moment(instant: str | None) -> object:
    return element("time", f"{instant[5:10]} {instant[11:19]}", datetime=instant) if instant else NONE


def set_aside(document: Mapping[str, Any]) -> Html:
    """Return files and bytes in set-aside, by reason."""
    reasons = (document["set_aside"] or {}).get("reasons", {})
    rows = ([reason, count(totals["files"]), size(totals["bytes"])] for reason, totals in reasons.items())
    return _table("Set aside", ("Reason", "Files", "Bytes"), rows, "Nothing is set aside.")


def held_up(document: Mapping[str, Any]) -> Html:
    """Return the places in the tree that cannot be used and for which files wait, those with most files first."""
    held = document["held_up"]
    heads = ("Place", "Error", "Reason", "Stage", "Files", "For", "Series")
    rows = (
        [
            place["place"],
            place["error"],
            place["reason"],
            place["stage"],
            count(place["files"]),
            span(place["seconds"]),
            element("code", place["SeriesInstanceUID"]),
        ]
        for place in held["shown"]
    )
    more = held["places"] - len(held["shown"])
    note = element("p", f"and {count(more)} more places", class_="note") if more > 0 else ""
    return join(_table("Files held up", heads, rows, "No file is held up."), note)


def volumes(document: Mapping[str, Any]) -> Html:
    """Return how full the volumes are."""
    rows = [[role, _full(volume), size(volume["available"])] for role, volume in document["volumes"].items()]
    return _table("Disk", ("Volume", "Used", "Free"), rows, "Not known.")


def _full(volume: Mapping[str, int]) -> object:
    whole, used = volume["size"], max(0, volume["size"] - volume["available"])
    if not whole:
        return NONE
    label = share(used, whole)
    bar = element("meter", label, value=used, max=whole, high=int(whole * 0.9), optimum=0, aria_label=label)
    return join(bar, " ", label)


def hooks(document: Mapping[str, Any]) -> Html:
    """Return the numbers of deliveries by hook, and the errors."""
    rows = (
        [name, count(deliveries["delivered"]), count(deliveries["pending"]), count(deliveries["failed"])]
        for name, deliveries in document["hooks"].items()
    )
    failing = {name: deliveries["error"] for name, deliveries in document["hooks"].items() if deliveries["error"]}
    errors = (element("p", f"{name}: {error}", class_="error") for name, error in failing.items())
    return join(_table("Hooks", ("To", "Delivered", "Waiting", "Given up"), rows, "None."), *errors)


def _table(name: str, heads: Iterable[str], rows: Iterable[Iterable[object]], empty: str) -> Html:
    made = [element("tr", *map(_cell, row)) for row in rows]
    if not made:
        return element("p", empty, class_="note")
    header = element("thead", element("tr", *(element("th", head, scope="col") for head in heads)))
    table = element("table", element("caption", name), header, element("tbody", *made))
    # Narrow screens move the table, not the page; a keyboard must get there too.
    return element("div", table, class_="wide", role="group", aria_label=name, tabindex=0)


def _cell(value: object) -> Html:
    shown = text(value)
    return element("td", shown or NONE)


class Page:
    """Renders documents; the policy lets only `style` and `script` run, which are part of the page."""

    def __init__(self, style: str, script: str) -> None:
        self._style, self._script = Html(style), Html(script)
        #: The Content-Security-Policy to send with it.
        self.policy = (
            f"default-src 'none'; style-src '{_digest(style)}'; script-src '{_digest(script)}'; connect-src 'self'; "
            "img-src data:; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
        )

    def render(self, document: Mapping[str, Any], points: Sequence[Point], now: float) -> bytes:
        """Return the page in UTF-8; `now` is on the clock of the points."""
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
    said = join("listener ", service["version"], ", started ", _time(service["started"]), "; as of ",
                    _time(document["time"]))  # fmt: skip
    return element("header", element("h1", "listener"), state, element("p", said, class_="said", id="said"))


def _time(instant: str | None) -> Html:
    """Return an instant, to the second for people and exact in `datetime`."""
    if not instant:
        return text(NONE)
    return element("time", f"{instant[:10]} {instant[11:19]} UTC", datetime=instant)


def _main(document: Mapping[str, Any], points: Sequence[Point], now: float) -> Html:
    return element(
        "main",
        _troubles(document),
        _section("Now", element("dl", *(_figure(*figure) for figure in _figures(document)), class_="figures")),
        _section("Last hour", element("div", *_charts(document, points, now), class_="charts")),
        _section("Files held up", held_up(document)) if (document["held_up"] or {}).get("files") else "",
        _section("Series in flight", in_flight(document)),
        _section("Last completed series", completed(document)),
        element("div", _section("Set aside", set_aside(document)), _section("Disk", volumes(document)),
                _section("Hooks", hooks(document)) if document["hooks"] else "", class_="columns"),
        id="main",
    )  # fmt: skip


def _section(name: str, *content: object) -> Html:
    key = name.lower().replace(" ", "-")
    return element("section", element("h2", name, id=key), *content, aria_labelledby=key)


def _troubles(document: Mapping[str, Any]) -> Html:
    """Return what needs attention; empty if nothing does."""
    bad = [check["text"] for check in document["service"]["checks"].values() if not check["ok"]]
    if not document["ledger"]["readable"]:
        bad.append(f"the ledger cannot be read: {document['ledger']['error']}")
    if not bad:
        return text("")
    return _section("Needs attention", element("ul", *(element("li", trouble) for trouble in bad), class_="troubles"))


def _figures(document: Mapping[str, Any]) -> list[tuple[str, str, str]]:
    """Return name, value and small print of each figure."""
    rates, lag, backlog = document["rates"] or {}, document["lag"] or {}, document["backlog"] or {}
    workers, series, totals = document["workers"] or {}, document["series"], document["set_aside"] or {}
    return [
        ("Files", f"{rate(rates.get('files_per_second', 0))} /s", f"{size(rates.get('bytes_per_second', 0))}/s"),
        ("Lag", span(lag.get("median_seconds")), f"95 %: {span(lag.get('p95_seconds'))}"),
        ("Backlog", count(backlog.get("files", 0)), f"oldest: {span(backlog.get('oldest_seconds'))}"),
        ("Workers", f"{workers.get('busy', 0)} of {workers.get('all', 0)}", "busy"),
        ("Series", f"{count(series['open'])} open",
         f"{count(series['complete'])} complete, {count(series['incomplete'])} incomplete"),
        ("Set aside", count(totals.get("files", 0)), size(totals.get("bytes", 0))),
    ]  # fmt: skip


def _figure(name: str, value: str, small: str) -> Html:
    return element("div", element("dt", name), element("dd", element("b", value), " ", element("small", small)))


def _charts(document: Mapping[str, Any], points: Sequence[Point], now: float) -> list[Html]:
    rates, lag, backlog = document["rates"] or {}, document["lag"] or {}, document["backlog"] or {}
    lines = (
        Line("Files a second", lambda point: point.files, rate, rate(rates.get("files_per_second", 0))),
        Line("Lag (95 %)", lambda point: point.lag, span, span(lag.get("p95_seconds"))),
        Line("Backlog", lambda point: float(point.backlog), lambda n: count(int(n)), count(backlog.get("files", 0))),
    )
    return [chart(line, points, now) for line in lines]


def _footer() -> Html:
    pages = ("/api/v1/status", "/api/v1/series", "/api/v1/openapi.json", "/metrics", "/readyz")
    return element("footer", element("p", *(join(element("a", path, href=path), " ") for path in pages)))
