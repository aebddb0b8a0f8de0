"""Panels as SVG, from what Prometheus said: not Grafana's picture, but what would be seen in it."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

from tests.observing.dashboard import Panel
from tests.observing.graphs import Times, graph, heatmap
from tests.observing.prometheus import INTERVAL, Series
from tests.observing.session import Answer
from tests.observing.svg import CENTRED, NAMED, Box, box, text
from tests.observing.units import shown

#: Pixels: a column and a line of Grafana's grid, the head of a row, the gap between panels.
COLUMN, LINE, HEAD, GAP = 52, 30, 34, 8


def row(title: str, drawn: Sequence[tuple[Panel, list[Answer]]]) -> str:
    """The SVG of one row of the dashboard."""
    top = min(panel.json["gridPos"]["y"] for panel, _ in drawn)
    bottom = max(panel.json["gridPos"]["y"] + panel.json["gridPos"]["h"] for panel, _ in drawn)
    width, height = 24 * COLUMN, HEAD + (bottom - top) * LINE
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" font-family="sans-serif">',
        box((0, 0, width, height), "#f4f5f5"),
        text(GAP, 23, title, 17, more='font-weight="bold"'),
    ]
    times = _times(answer for _, answers in drawn for answer in answers)
    for panel, answers in drawn:
        place = panel.json["gridPos"]
        x, y = place["x"] * COLUMN + GAP / 2, HEAD + (place["y"] - top) * LINE
        parts += _panel(panel, answers, times, (x, y, place["w"] * COLUMN - GAP, place["h"] * LINE - GAP))
    return "\n".join([*parts, "</svg>", ""])


def _times(answers: Iterable[Answer]) -> Times:
    """From when to when a row tells."""
    moments = [at for answer in answers for _, points in answer.series for at, _ in points if not answer.target.instant]
    return (min(moments), max(moments) + INTERVAL) if moments else (0.0, 1.0)


def _panel(panel: Panel, answers: list[Answer], times: Times, area: Box) -> Iterator[str]:
    x, y, width, height = area
    yield box(area, "white", 'stroke="#ddd"')
    yield text(x + 8, y + 17, panel.title, 13, more='font-weight="bold"')
    inner = (x + 10, y + 26, width - 20, height - 34)
    named = [(label(one, labels), points) for one in answers for labels, points in one.series]
    if not any(one.has_numbers for one in answers):
        yield text(x + width / 2, y + height / 2 + 8, panel.defaults["noValue"], 13, fill="#888", more=CENTRED)
    elif panel.kind == "stat":
        yield from _stat(panel, named[0][1][-1][1], area)
    elif panel.kind == "table":
        yield from _table([series for one in answers for series in one.series], inner)
    elif panel.kind == "heatmap":
        yield from heatmap(panel, answers[0].series, times, inner)
    else:
        yield from graph(panel, named, times, inner)


def label(answer: Answer, labels: dict[str, str]) -> str:
    """The legend's words for a series."""
    words = answer.target.legend
    for name, value in labels.items():
        words = words.replace("{{" + name + "}}", value)
    return words


def _stat(panel: Panel, value: float, area: Box) -> Iterator[str]:
    x, y, width, height = area
    color = "blue"
    for step in panel.defaults["thresholds"]["steps"]:
        if step["value"] is None or value >= step["value"]:
            color = step["color"]
    words = shown(value, panel.defaults["unit"])
    for mapping in panel.defaults["mappings"]:
        words = mapping["options"].get(f"{value:g}", {"text": words})["text"]
    filled = panel.json["options"]["colorMode"] == "background"
    if filled:
        yield box((x, y + 24, width, height - 24), NAMED[color])
    yield text(x + width / 2, y + height / 2 + 22, words, 25, fill="white" if filled else NAMED[color], more=CENTRED)


def _table(series: Sequence[Series], area: Box) -> Iterator[str]:
    x, y, width, _ = area
    columns = sorted({name for labels, _ in series for name in labels} - {"__name__", "job"})
    lengths = [max(len(name), *(len(labels.get(name, "")) for labels, _ in series)) + 2 for name in columns]
    for place, name in enumerate(columns):
        left = x + width * sum(lengths[:place]) / sum(lengths)
        yield text(left, y + 10, name, 10, fill="#3274D9")
        for line, (labels, _) in enumerate(series[:7], 1):
            yield text(left, y + 10 + 14 * line, labels.get(name, ""), 10)
