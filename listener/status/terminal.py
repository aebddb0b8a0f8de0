"""PURE. The status document as a table for people on a terminal."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from listener.status.document import RUNNING, STATES
from listener.status.formatting import brief, count, plain, rate, share, size, span

#: Characters of a bar, and how many of the series that ended are shown.
_BAR, _ENDED = 20, 10


def render(document: Mapping[str, Any]) -> str:
    """Return the document as lines of text, with whole UIDs."""
    parts = [[_headline(document), *_troubles(document)], list(_now(document)), _beside(document)]
    parts += [_in_flight(document), _completed(document)]
    return "\n\n".join("\n".join(lines) for lines in parts if lines) + "\n"


def _headline(document: Mapping[str, Any]) -> str:
    service = document["service"]
    name = f"listener {service['version']}".strip()
    state = STATES[service["state"]]
    if service["state"] in RUNNING:
        return f"{name}: {state}, since {_moment(service['started'])}"
    return f"{name}: {state}" + (f" (last word {_moment(service['seen'])})" if service["seen"] else "")


def _troubles(document: Mapping[str, Any]) -> list[str]:
    marks = {"problem": "!", "warning": "-"}
    return [
        f"  {marks[one['severity']]} {plain(one['what'])}: {plain(one['remedy'])} (runbook: {one['runbook']})"
        for one in document["attention"]
    ]


def _now(document: Mapping[str, Any]) -> Iterator[str]:
    if document["service"]["state"] in RUNNING:
        rates, lag, backlog, workers = (document[name] for name in ("rates", "lag", "backlog", "workers"))
        yield _row("files", f"{rate(rates['files_per_second'])} /s", f"{size(rates['bytes_per_second'])}/s")
        yield _row("lag", span(lag["median_seconds"]), f"95 %: {span(lag['p95_seconds'])}")
        yield _row("backlog", count(backlog["files"]), f"oldest: {span(backlog['oldest_seconds'])}")
        yield from _held_up(document["held_up"])
        yield _row("workers", f"{workers['busy']} of {workers['all']}", "busy")
    series = document["series"]
    counts = (f"{count(series[name])} {name}" for name in ("complete", "incomplete"))
    yield _row("series", f"{count(series['open'])} open", ", ".join(counts))


def _held_up(held: Mapping[str, Any] | None) -> Iterator[str]:
    """Yield rows of held-up files; none from an older service, whose snapshot lacks them."""
    if not held or not held["files"]:
        return
    yield _row("held up", count(held["files"]), f"in {count(held['places'])} places")
    for group in held["shown"]:
        where = f"{group['place']}: {group['error']}, for {span(group['seconds'])}"
        yield _row(
            f"  {group['reason']}", count(group["files"]), plain(f"{where}  {group['SeriesInstanceUID']}".rstrip())
        )


def _row(name: str, value: str, small: str) -> str:
    return f"{name:<14}{value:>12}  {small}"


def _beside(document: Mapping[str, Any]) -> list[str]:
    totals = document["set_aside"]
    lines = []
    if totals:
        lines.append(_row("set aside", count(totals["files"]), size(totals["bytes"])))
        lines += [
            _row(f"  {reason}", count(values["files"]), size(values["bytes"]))
            for reason, values in totals["reasons"].items()
        ]
    for role, values in document["volumes"].items():
        used = share(max(0, values["size"] - values["available"]), values["size"])
        lines.append(_row(f"disk {role}", f"{used} used", f"{size(values['available'])} free"))
    for name, values in document["hooks"].items():
        waiting = f"{count(values['pending'])} waiting, {count(values['failed'])} given up"
        lines.append(_row(name, f"{count(values['delivered'])} told", f"{waiting}  {plain(values['error'])}".rstrip()))
    return lines


def _in_flight(document: Mapping[str, Any]) -> list[str]:
    rows = document["in_flight"]
    if not rows:
        return ["no series is in flight"]
    more = document["series"]["open"] - len(rows)
    lines = [f"{_uid(row)}  {_received(row)}  {_beside_uid(row)}" for row in rows]
    return ["in flight", *lines, *([f"and {count(more)} more"] if more > 0 else [])]


def _completed(document: Mapping[str, Any]) -> list[str]:
    rows: Sequence[Mapping[str, Any]] = document["completed"][:_ENDED]
    lines = [f"{_uid(row)}  {_ended(row)}  {_beside_uid(row)}" for row in rows]
    return [f"last {len(rows)} completed", *lines] if rows else []


def _uid(row: Mapping[str, Any]) -> str:
    return f"{plain(row['SeriesInstanceUID']):<64}"


def _received(row: Mapping[str, Any]) -> str:
    instances, expected = row["instances"], row["expected"]
    if not expected:
        return f"{count(instances):>{_BAR + 16}}"
    full = _BAR * min(instances, expected) // expected
    return f"{'#' * full}{'.' * (_BAR - full)} {f'{count(instances)} of {count(expected)}':>15}"


def _ended(row: Mapping[str, Any]) -> str:
    number = f"{count(row['instances'])}/{count(row['expected'])}" if row["expected"] else count(row["instances"])
    return f"{row['result'] or row['state']:<10} {number:>11} {_moment(row['changed']):>14}"


def _beside_uid(row: Mapping[str, Any]) -> str:
    again = f" (generation {row['generation']})" if row["generation"] > 1 else ""
    return f"{plain(brief(row['Modality'])):<4} {size(row['bytes']):>8}  {plain(brief(row['sender']))}{again}".rstrip()


def _moment(instant: str | None) -> str:
    return f"{instant[5:10]} {instant[11:19]}" if instant else "-"
