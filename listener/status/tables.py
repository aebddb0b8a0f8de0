"""PURE. The tables of the status page: series, set-aside, volumes, deliveries."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from listener.status.markup import Html, element, text, together
from listener.status.readable import NONE, brief, count, share, size, span


def in_flight(document: Mapping[str, Any]) -> Html:
    """Open series, the newest first, with bars where somebody said how many instances there will be."""
    rows = document["in_flight"]
    more = document["series"]["open"] - len(rows)
    note = element("p", f"and {count(more)} more", class_="note") if more > 0 else ""
    heads = ("Series", "Received", "Bytes", "Last", "Modality", "From")
    return together(_table("Series in flight", heads, map(_open, rows), "No series is in flight."), note)


def completed(document: Mapping[str, Any]) -> Html:
    """The last series that ended, the newest first."""
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
    return together(element("code", uid), again)


def _received(row: Mapping[str, Any]) -> object:
    instances, expected = row["instances"], row["expected"]
    if not expected:
        return f"{count(instances)}"
    told = f"{count(instances)} of {count(expected)}"
    bar = element("progress", value=min(instances, expected), max=expected, aria_label=told)
    return together(bar, " ", element("span", f"{told} ({share(instances, expected)})"))


def _moment(instant: str | None) -> object:
    return element("time", f"{instant[5:10]} {instant[11:19]}", datetime=instant) if instant else NONE


def set_aside(document: Mapping[str, Any]) -> Html:
    """What lies in set-aside, by reason."""
    reasons = (document["set_aside"] or {}).get("reasons", {})
    rows = ([reason, count(one["files"]), size(one["bytes"])] for reason, one in reasons.items())
    return _table("Set aside", ("Reason", "Files", "Bytes"), rows, "Nothing is set aside.")


def held_up(document: Mapping[str, Any]) -> Html:
    """Files whose own place cannot be used, by place; those with most files."""
    found = document["held_up"]
    heads = ("Place", "Error", "Reason", "Stage", "Files", "For", "Series")
    rows = (
        [
            one["place"],
            one["error"],
            one["reason"],
            one["stage"],
            count(one["files"]),
            span(one["seconds"]),
            element("code", one["SeriesInstanceUID"]),
        ]
        for one in found["shown"]
    )
    more = found["places"] - len(found["shown"])
    note = element("p", f"and {count(more)} more places", class_="note") if more > 0 else ""
    return together(_table("Files held up", heads, rows, "No file is held up."), note)


def volumes(document: Mapping[str, Any]) -> Html:
    """How full the volumes are."""
    rows = [[role, _full(one), size(one["available"])] for role, one in document["volumes"].items()]
    return _table("Disk", ("Volume", "Used", "Free"), rows, "Not known.")


def _full(one: Mapping[str, int]) -> object:
    whole, used = one["size"], max(0, one["size"] - one["available"])
    if not whole:
        return NONE
    told = share(used, whole)
    bar = element("meter", told, value=used, max=whole, high=int(whole * 0.9), optimum=0, aria_label=told)
    return together(bar, " ", told)


def hooks(document: Mapping[str, Any]) -> Html:
    """What became of deliveries."""
    rows = (
        [name, count(one["delivered"]), count(one["pending"]), count(one["failed"])]
        for name, one in document["hooks"].items()
    )
    failing = {name: one["error"] for name, one in document["hooks"].items() if one["error"]}
    errors = (element("p", f"{name}: {error}", class_="error") for name, error in failing.items())
    return together(_table("Hooks", ("To", "Delivered", "Waiting", "Given up"), rows, "None."), *errors)


def _table(name: str, heads: Iterable[str], rows: Iterable[Iterable[object]], empty: str) -> Html:
    made = [element("tr", *map(_cell, row)) for row in rows]
    if not made:
        return element("p", empty, class_="note")
    head = element("thead", element("tr", *(element("th", one, scope="col") for one in heads)))
    table = element("table", element("caption", name), head, element("tbody", *made))
    # Narrow screens move the table, not the page; a keyboard must get there too.
    return element("div", table, class_="wide", role="group", aria_label=name, tabindex=0)


def _cell(value: object) -> Html:
    shown = text(value)
    return element("td", shown or NONE)
