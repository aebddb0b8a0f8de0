"""Graphs and heatmaps as SVG."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Sequence

from tests.observing.dashboard import Panel
from tests.observing.prometheus import INTERVAL, Series
from tests.observing.svg import NAMED, PALETTE, Box, box, text
from tests.observing.units import shown

Points = list[tuple[float, float]]
Named = tuple[str, Points]
#: Where a value is drawn: x, y, and the y that it stands upon.
Point = tuple[float, float, float]

#: The moments between which a row tells, in seconds since the epoch.
Times = tuple[float, float]


def graph(panel: Panel, named: Sequence[Named], times: Times, area: Box) -> Iterator[str]:
    """Lines, areas or bars with axes and a legend, in `area`."""
    x, y, width, height = area
    columns = 2 if width > 500 else 1
    legend = named[: 5 * columns]
    plot = (x + 58, y, width - 62, height - 20 - 13 * math.ceil(len(legend) / columns))
    custom, unit = panel.defaults["custom"], panel.defaults["unit"]
    stacks = custom["stacking"]["mode"] == "normal"
    drawn = stack(named) if stacks else [(points, {}) for _, points in named]
    points = [pair for pairs, _ in drawn for pair in pairs if math.isfinite(pair[1])]
    top = panel.defaults.get("max") or nice(max(value for _, value in points), unit)
    yield from _axes(times, top, plot, unit)
    colors = [_color(panel, name, number) for number, (name, _) in enumerate(named)]
    for (pairs, below), color in reversed(list(zip(drawn, colors, strict=True))):
        for piece in _unbroken(pairs):
            scaled = [_place(at, value, below.get(at, 0), (times, top, plot)) for at, value in piece]
            yield _bars(scaled, color) if custom["drawStyle"] == "bars" else _line(scaled, color, filled=stacks)
    for number, (name, pairs) in enumerate(legend):
        left, line = x + width / columns * (number % columns), plot[1] + plot[3] + 28 + 13 * (number // columns)
        values = [value for _, value in pairs if math.isfinite(value)]
        numbers = f"  last {shown(values[-1], unit)}, max {shown(max(values), unit)}" if values else ""
        yield box((left, line - 7, 12, 4), colors[number])
        yield text(left + 17, line, name.strip() + numbers, 10)


def _unbroken(points: Points) -> Iterator[Points]:
    """The stretches without a gap: Grafana draws no line over one."""
    piece: Points = []
    for at, value in points:
        if piece and (not math.isfinite(value) or at > piece[-1][0] + 1.5 * INTERVAL):
            yield piece
            piece = []
        if math.isfinite(value):
            piece.append((at, value))
    if piece:
        yield piece


def _axes(times: Times, top: float, area: Box, unit: str) -> Iterator[str]:
    x, y, width, height = area
    for part in range(5):
        at = y + height * (1 - part / 4)
        yield box((x, at, width, 1), "#eee")
        yield text(x - 5, at + 4, shown(top * part / 4, unit), 10, fill="#888", more='text-anchor="end"')
    span = times[1] - times[0]
    for part in range(4):
        yield text(x + width * part / 4, y + height + 13, f"{span * part / 4:.0f} s", 10, fill="#888")


def _color(panel: Panel, name: str, number: int) -> str:
    for override in panel.json["fieldConfig"]["overrides"]:
        if override["matcher"]["options"] == name:
            return NAMED[override["properties"][0]["value"]["fixedColor"]]
    return PALETTE[number % len(PALETTE)]


def stack(named: Iterable[Named]) -> list[tuple[Points, dict[float, float]]]:
    """Each series upon those before it, and what lies below it."""
    reached: dict[float, float] = {}
    stacked = []
    for _, points in named:
        below = dict(reached)
        for at, value in points:
            if math.isfinite(value):
                reached[at] = reached.get(at, 0) + value
        stacked.append(([(at, reached.get(at, math.nan)) for at, _ in points], below))
    return stacked


def nice(number: float, unit: str = "none") -> float:
    """A round number of the unit that is not less."""
    if number <= 0:
        return 1.0
    base, factors = (2.0, (1, 2)) if unit in ("bytes", "Bps") else (10.0, (1, 1.6, 2, 3.2, 4, 6, 8, 10))
    size = base ** math.floor(math.log(number, base))
    return next(size * factor for factor in factors if size * factor >= number * 0.999)


def _place(at: float, value: float, below: float, axes: tuple[Times, float, Box]) -> Point:
    times, top, (x, y, width, height) = axes
    share, base = (min(max(one / top, 0), 1) for one in (value, below))
    return x + width * (at - times[0]) / (times[1] - times[0]), y + height * (1 - share), y + height * (1 - base)


def _bars(scaled: Sequence[Point], color: str) -> str:
    return "".join(box((x, y, 5, base - y), color) for x, y, base in scaled if base > y)


def _line(scaled: Sequence[Point], color: str, *, filled: bool) -> str:
    upper = " ".join(f"{x:.1f},{y:.1f}" for x, y, _ in scaled)
    drawn = f'<polyline points="{upper}" stroke="{color}" stroke-width="1.6" fill="none"/>'
    if filled:
        lower = " ".join(f"{x:.1f},{base:.1f}" for x, _, base in scaled[::-1])
        drawn = f'<polygon points="{upper} {lower}" fill="{color}" fill-opacity="0.45"/>{drawn}'
    return drawn


def heatmap(panel: Panel, series: Sequence[Series], times: Times, area: Box) -> Iterator[str]:
    """How many observations fell into which bucket of a cumulative histogram at which time."""
    x, y, width, height = area
    bounds = sorted(series, key=lambda one: float(one[0]["le"]))
    plot = (x + 50, y, width - 54, height - 20)
    cell, line = plot[2] * INTERVAL / (times[1] - times[0]), plot[3] / len(bounds)
    below: dict[float, float] = {}
    cells = []
    for number, (labels, points) in enumerate(bounds):
        if number % 3 == 0:
            words = shown(float(labels["le"]), panel.json["options"]["yAxis"]["unit"])
            yield text(plot[0] - 5, plot[1] + plot[3] - line * number, words, 10, fill="#888", more='text-anchor="end"')
        for at, value in points:
            cells.append((at, number, value - below.get(at, 0)))
            below[at] = value
    most = max(count for _, _, count in cells) or 1
    for at, number, count in cells:
        if count > 1e-9:
            left = plot[0] + plot[2] * (at - times[0]) / (times[1] - times[0])
            shade = f'fill-opacity="{0.12 + 0.88 * (count / most) ** 0.5:.2f}"'
            yield box((left, plot[1] + plot[3] - line * (number + 1), cell - 0.5, line - 0.5), "#D9480F", shade)
