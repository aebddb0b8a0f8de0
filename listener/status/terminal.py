"""PURE. The status document as a table for people on a terminal."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from textwrap import wrap
from typing import Any

from listener.status.document import RUNNING, STATES
from listener.status.formatting import brief, count, moment, plain, rate, share, size, span

#: Characters of a bar, and how many of the series that ended are shown.
_BAR, _ENDED = 20, 10

#: On a screen: characters of a UID that are shown at least, and columns that are left out before fewer are.
_LEAST_UID, _SPARE = 24, ("size", "modality")

#: Columns whose cells stand at the right.
_RIGHT = ("instances", "size")

_GAP = "  "


def render(document: Mapping[str, Any], columns: int = 0) -> str:
    """Return the document as lines of text: with whole UIDs, or no line longer than `columns`."""
    parts = [[_headline(document, columns), *_troubles(document, columns)], list(_now(document)), _beside(document)]
    parts += [_in_flight(document, columns), _completed(document, columns)]
    lines = "\n\n".join("\n".join(lines) for lines in parts if lines).splitlines()
    return "".join(f"{_cut(line, columns)}\n" for line in lines)


def _cut(line: str, columns: int) -> str:
    return line if not columns or len(line) <= columns else f"{line[: columns - 1]}\N{HORIZONTAL ELLIPSIS}"


def _headline(document: Mapping[str, Any], columns: int) -> str:
    service = document["service"]
    left = f"listener {service['version']}".strip() + f": {STATES[service['state']]}"
    if service["state"] in RUNNING:
        left += f", since {_moment(service['started'])}"
    elif service["seen"]:
        left += f" (last word {_moment(service['seen'])})"
    clock = f"{_moment(document['time'])} UTC"
    if not columns:
        return f"{left}; now {clock}"
    room = columns - len(clock) - len(_GAP)
    return f"{_cut(left, room):<{room}}{_GAP}{clock}"


def _troubles(document: Mapping[str, Any], columns: int) -> list[str]:
    marks = {"problem": "!", "warning": "-"}
    lines = [
        f"  {marks[one['severity']]} {plain(one['what'])}: {plain(one['remedy'])} (runbook: {one['runbook']})"
        for one in document["attention"]
    ]
    return [part for line in lines for part in wrap(line, columns, subsequent_indent="    ")] if columns else lines


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
    batches = document.get("batches") or {}
    if any(batches.values()):
        told = [f"{count(batches[name])} {name}" for name in ("new", "queue", "done", "empty")]
        told.append(f"{count(batches['with_error'])} with an error")
        yield _row("batches", f"{count(batches['processing'])} at work", ", ".join(told))


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
    lines += [
        _row(f"stage {name}", STATES[stage["state"]], "")
        for name, stage in document["stages"].items()
        if name not in document["hooks"]
    ]
    for name, values in document["hooks"].items():
        stage = document["stages"].get(name)
        waiting = f"{count(values['pending'])} waiting, {count(values['failed'])} given up"
        kind = f"stage {name}" if stage else f"hook {name}"
        small = (
            ", ".join(filter(None, (STATES[stage["state"]], waiting, plain(stage.get("note", "")))))
            if stage
            else waiting
        )
        lines.append(_row(kind, f"{count(values['delivered'])} told", f"{small}  {plain(values['error'])}".rstrip()))
    return lines


def _in_flight(document: Mapping[str, Any], columns: int) -> list[str]:
    rows = document["in_flight"]
    if not rows:
        return ["no series is in flight"]
    more = document["series"]["open"] - len(rows)
    heads = ("in flight", "instances", "modality", "size", "sender", "series")
    lines = _table(
        heads, [[_bar(row, columns), _received(row, " of "), *_about(row, columns)] for row in rows], columns
    )
    return [*lines, *([f"and {count(more)} more"] if more > 0 else [])]


def _completed(document: Mapping[str, Any], columns: int) -> list[str]:
    rows: Sequence[Mapping[str, Any]] = document["completed"][:_ENDED]
    heads = ("completed (UTC)", "result", "instances", "modality", "size", "sender", "series")
    cells = [
        [_moment(row["changed"]), row["result"] or row["state"], _received(row, "/"), *_about(row, columns)]
        for row in rows
    ]
    return _table(heads, cells, columns) if rows else []


def _table(heads: Sequence[str], rows: Sequence[Sequence[str]], columns: int) -> list[str]:
    """Return aligned lines below their heads. With `columns` the last cell, a UID, loses its beginning where it is too
    long, and columns of _SPARE are left out before it gets too short.
    """
    lines, spare = [list(heads), *map(list, rows)], list(_SPARE)
    while True:
        widths = [max(map(len, cells)) for cells in zip(*lines, strict=True)]
        room = columns - sum(widths[:-1]) - len(_GAP) * (len(widths) - 1)
        if not columns or not spare or room >= min(_LEAST_UID, widths[-1]):
            break
        leaving = lines[0].index(spare.pop(0))
        for line in lines:
            del line[leaving]
    rights = [head in _RIGHT for head in lines[0]]
    return [
        _GAP.join(
            [
                *(
                    cell.rjust(width) if right else cell.ljust(width)
                    for cell, width, right in zip(line[:-1], widths, rights, strict=False)
                ),
                line[-1] if not columns or len(line[-1]) <= room else f"\N{HORIZONTAL ELLIPSIS}{line[-1][1 - room :]}",
            ]
        )
        for line in lines
    ]


def _bar(row: Mapping[str, Any], columns: int) -> str:
    """Return a bar of the instances that came, empty where it is not known how many will; half as long on a screen."""
    if not row["expected"]:
        return ""
    length = _BAR // 2 if columns else _BAR
    full = int(length * min(row["instances"], row["expected"]) // row["expected"])
    return "#" * full + "." * (length - full)


def _received(row: Mapping[str, Any], of: str) -> str:
    return count(row["instances"]) + (f"{of}{count(row['expected'])}" if row["expected"] else "")


def _about(row: Mapping[str, Any], columns: int) -> list[str]:
    again = f" (generation {row['generation']})" if row["generation"] > 1 and not columns else ""
    sender = f"{plain(brief(row['sender']))}{again}"
    return [plain(brief(row["Modality"])), size(row["bytes"]), sender, plain(row["SeriesInstanceUID"])]


def _moment(instant: str | None) -> str:
    return moment(instant) if instant else "-"
