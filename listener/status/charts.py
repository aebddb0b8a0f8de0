"""PURE. The last hour as small drawings: one line each, with its scale in words, for eyes and for screen readers."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import NamedTuple

from listener.status.history import SLOT, Point
from listener.status.markup import Html, element

HOUR = 3600.0

_WIDTH, _HEIGHT, _TOP = 360.0, 80.0, 4.0

#: Two points further apart than this are not joined.
_GAP = 3 * SLOT


class Line(NamedTuple):
    """What one chart shows: its name, the value of a point (None: nothing to show), how a value reads, and how it
    stands now.
    """

    name: str
    value: Callable[[Point], float | None]
    shown: Callable[[float], str]
    now: str


def chart(line: Line, points: Sequence[Point], now: float) -> Html:
    """A figure; `now` on the clock of the points."""
    found = [(now - point.at, value) for point in points if (value := line.value(point)) is not None]
    found = [(ago, value) for ago, value in found if 0 <= ago <= HOUR]
    most = max((value for _, value in found), default=0.0)
    told = f"{line.name}: now {line.now}, at most {line.shown(most)} in the last hour"
    drawn = [_path(run, most or 1.0) for run in _runs(found)]
    base = element("line", x1=0, x2=_WIDTH, y1=_HEIGHT, y2=_HEIGHT, class_="base")
    picture = element(
        "svg", base, *drawn, viewBox=f"0 0 {_WIDTH:g} {_HEIGHT:g}", preserveAspectRatio="none", role="img",
        aria_label=told,
    )  # fmt: skip
    caption = element("figcaption", element("b", line.name), " ", element("span", line.now))
    scale = element("p", element("span", "1 h ago"), element("span", f"most: {line.shown(most)}"),
                    element("span", "now"), class_="scale", aria_hidden="true")  # fmt: skip
    return element("figure", caption, picture, scale)


def _runs(found: Iterable[tuple[float, float]]) -> list[list[tuple[float, float]]]:
    """Points that are joined; a service that said nothing for a while leaves a gap."""
    runs: list[list[tuple[float, float]]] = []
    for ago, value in found:
        if not runs or runs[-1][-1][0] - ago > _GAP:
            runs.append([])
        runs[-1].append((ago, value))
    return runs


def _path(run: Sequence[tuple[float, float]], most: float) -> Html:
    """A line, and the area below it. One point alone is as wide as its slot."""
    if len(run) == 1:
        run = [(run[0][0] + SLOT, run[0][1]), *run]
    places = [(_WIDTH * (1 - ago / HOUR), _HEIGHT - (_HEIGHT - _TOP) * value / most) for ago, value in run]
    line = " ".join(f"{x:.1f},{y:.1f}" for x, y in places)
    area = f"{places[0][0]:.1f},{_HEIGHT:g} {line} {places[-1][0]:.1f},{_HEIGHT:g}"
    return Html(element("polygon", points=area, class_="area") + element("polyline", points=line, class_="line"))
