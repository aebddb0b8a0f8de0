"""PURE. HTML and SVG from elements, and charts of the last hour; every text is escaped."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from html import escape
from typing import NamedTuple

from listener.status.formatting import plain
from listener.status.history import SLOT, Point

#: Elements that have no content and no end.
_VOID = frozenset({"meta", "link", "br"})


class Html(str):
    """Markup made by element() or a constant of this package; every other str is text."""

    __slots__ = ()


def text(value: object) -> Html:
    """Return any value as escaped text; unprintable characters are replaced."""
    return value if isinstance(value, Html) else Html(escape(plain(str(value))))


def join(*parts: object) -> Html:
    """Return parts one after another."""
    return Html("".join(map(text, parts)))


def element(name: str, /, *children: object, **attributes: object) -> Html:
    """Return an element. An underscore in an attribute's name is a hyphen, one at its end is dropped (`class_`); None
    and False leave the attribute out, True gives it no value.
    """
    given = ((key, value) for key, value in attributes.items() if not (value is None or value is False))
    shown = "".join(_attribute(key, value) for key, value in given)
    if name in _VOID:
        return Html(f"<{name}{shown}>")
    return Html(f"<{name}{shown}>{join(*children)}</{name}>")


def _attribute(key: str, value: object) -> str:
    name = key.rstrip("_").replace("_", "-")
    return f" {name}" if value is True else f' {name}="{escape(plain(str(value)))}"'


HOUR = 3600.0

_WIDTH, _HEIGHT, _TOP = 360.0, 80.0, 4.0

#: Two points further apart than this are not joined.
_GAP = 3 * SLOT


class Line(NamedTuple):
    """A chart's line: its name, the value of a point (None: none), the text of a value, and the text of the current
    one.
    """

    name: str
    value: Callable[[Point], float | None]
    shown: Callable[[float], str]
    now: str


def chart(line: Line, points: Sequence[Point], now: float) -> Html:
    """Return a chart as a figure; `now` is on the clock of the points."""
    drawable = [(now - point.at, value) for point in points if (value := line.value(point)) is not None]
    drawable = [(ago, value) for ago, value in drawable if 0 <= ago <= HOUR]
    most = max((value for _, value in drawable), default=0.0)
    label = f"{line.name}: now {line.now}, at most {line.shown(most)} in the last hour"
    drawn = [_path(run, most or 1.0) for run in _runs(drawable)]
    base = element("line", x1=0, x2=_WIDTH, y1=_HEIGHT, y2=_HEIGHT, class_="base")
    picture = element(
        "svg", base, *drawn, viewBox=f"0 0 {_WIDTH:g} {_HEIGHT:g}", preserveAspectRatio="none", role="img",
        aria_label=label,
    )  # fmt: skip
    caption = element("figcaption", element("b", line.name), " ", element("span", line.now))
    scale = element("p", element("span", "1 h ago"), element("span", f"most: {line.shown(most)}"),
                    element("span", "now"), class_="scale", aria_hidden="true")  # fmt: skip
    return element("figure", caption, picture, scale)


def _runs(drawable: Iterable[tuple[float, float]]) -> list[list[tuple[float, float]]]:
    """Return runs of points that are joined; a time without points leaves a gap."""
    runs: list[list[tuple[float, float]]] = []
    for ago, value in drawable:
        if not runs or runs[-1][-1][0] - ago > _GAP:
            runs.append([])
        runs[-1].append((ago, value))
    return runs


def _path(run: Sequence[tuple[float, float]], most: float) -> Html:
    """Return a line and the area below it. A single point is as wide as its slot."""
    if len(run) == 1:
        run = [(run[0][0] + SLOT, run[0][1]), *run]
    places = [(_WIDTH * (1 - ago / HOUR), _HEIGHT - (_HEIGHT - _TOP) * value / most) for ago, value in run]
    line = " ".join(f"{x:.1f},{y:.1f}" for x, y in places)
    area = f"{places[0][0]:.1f},{_HEIGHT:g} {line} {places[-1][0]:.1f},{_HEIGHT:g}"
    return Html(element("polygon", points=area, class_="area") + element("polyline", points=line, class_="line"))
