"""PURE. Charts of the last hour, as numbers that a template draws."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, NamedTuple

from listener.status.formatting import count, rate, size, span
from listener.status.history import SLOT, SLOTS, Point

HOUR = SLOT * SLOTS

_WIDTH, _HEIGHT, _TOP = 360.0, 80.0, 4.0

#: Two points further apart than this are not joined, in seconds.
_GAP = 3 * SLOT

#: Points a drawn one stands for: the highest of them.
_THINNED = 2

#: Seconds of a stretch that says its highest value under the pointer.
_STRETCH = 120.0


class Run(NamedTuple):
    """Points that are joined: a line and the area below it, as SVG has them."""

    line: str
    area: str


class Slot(NamedTuple):
    """A stretch of time with the text of its highest value."""

    x: float
    width: float
    text: str


class Chart(NamedTuple):
    """A chart: `now` is the text of the current value, `label` says all in words, `marks` are the values of the lines
    of `grid`, both from above.
    """

    name: str
    now: str
    label: str
    marks: tuple[str, ...]
    grid: tuple[float, ...]
    runs: tuple[Run, ...]
    slots: tuple[Slot, ...]
    width: float = _WIDTH
    height: float = _HEIGHT


class _Line(NamedTuple):
    name: str
    value: Callable[[Point], float | None]
    shown: Callable[[float], str]
    now: str
    least: float = 0.0  # top of the axis


def charts(document: Mapping[str, Any], points: Sequence[Point], now: float) -> list[Chart]:
    """Return the charts of rates, lag and backlog; `now` is on the clock of the points."""
    rates, lag, backlog = document["rates"] or {}, document["lag"] or {}, document["backlog"] or {}
    lines = (
        _Line("Files a second", lambda point: point.files, rate, rate(rates.get("files_per_second", 0))),
        _Line("Lag (95 %)", lambda point: point.lag, span, span(lag.get("p95_seconds"))),
        _Line(
            "Backlog", lambda point: float(point.backlog), lambda n: count(int(n)), count(backlog.get("files", 0)), 2
        ),
    )
    return [_chart(line, points, now) for line in lines]


def figures(document: Mapping[str, Any]) -> list[tuple[str, str, str]]:
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


def _chart(line: _Line, points: Sequence[Point], now: float) -> Chart:
    drawable = [(now - point.at, value) for point in points if (value := line.value(point)) is not None]
    drawable = [(ago, value) for ago, value in drawable if 0 <= ago <= HOUR]
    most = max((value for _, value in drawable), default=0.0)
    top = max(_ceiling(most), line.least)
    return Chart(
        line.name,
        line.now,
        f"{line.name}: now {line.now}, at most {line.shown(most)} in the last hour",
        tuple(line.shown(value) for value in (top, top / 2, 0.0)),
        tuple(_y(value, top) for value in (top, top / 2, 0.0)),
        tuple(_run(run, top) for run in _runs(drawable)),
        tuple(_slots(drawable, line.shown)),
    )


def _ceiling(most: float) -> float:
    """Return the next of 1, 2, 4, 6 or 10 and their multiples by powers of ten: halves of them are round too."""
    power = 1e-3
    while power * 10 < most:
        power *= 10
    return next((step * power for step in (1, 2, 4, 6, 10) if step * power >= most), most) if most else 1.0


def _y(value: float, top: float) -> float:
    return round(_HEIGHT - (_HEIGHT - _TOP) * value / top, 1)


def _runs(drawable: Iterable[tuple[float, float]]) -> list[list[tuple[float, float]]]:
    """Return runs of points that are joined; a time without points leaves a gap."""
    runs: list[list[tuple[float, float]]] = []
    for ago, value in drawable:
        if not runs or runs[-1][-1][0] - ago > _GAP:
            runs.append([])
        runs[-1].append((ago, value))
    return runs


def _run(run: Sequence[tuple[float, float]], top: float) -> Run:
    """Return a line and the area below it. A single point is as wide as its slot."""
    if len(run) == 1:
        run = [(run[0][0] + SLOT, run[0][1]), *run]
    else:
        thinned = [max(run[at : at + _THINNED], key=lambda point: point[1]) for at in range(0, len(run), _THINNED)]
        run = [*([run[0]] if thinned[0] != run[0] else []), *thinned, *([run[-1]] if thinned[-1] != run[-1] else [])]
    places = [(_x(ago), _y(value, top)) for ago, value in run]
    line = " ".join(f"{x:g},{y:g}" for x, y in places)
    return Run(line, f"{places[0][0]:g},{_HEIGHT:g} {line} {places[-1][0]:g},{_HEIGHT:g}")


def _x(ago: float) -> float:
    return round(_WIDTH * (1 - min(ago, HOUR) / HOUR), 1)


def _slots(drawable: Sequence[tuple[float, float]], shown: Callable[[float], str]) -> Iterable[Slot]:
    for number in range(int(HOUR / _STRETCH)):
        begun, ended = HOUR - number * _STRETCH, HOUR - (number + 1) * _STRETCH
        values = [value for ago, value in drawable if ended <= ago < begun]
        if values:
            when = f"{begun / 60:.0f} to {ended / 60:.0f} min ago"
            yield Slot(_x(begun), round(_x(ended) - _x(begun), 1), f"{when}: at most {shown(max(values))}")
