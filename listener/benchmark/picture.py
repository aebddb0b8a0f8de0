"""PURE. Figures as a picture in SVG: a bar for each program.

Costs are drawn on a logarithmic scale, since they lie far apart.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from html import escape
from typing import NamedTuple

from listener.benchmark.figures import Figure
from listener.benchmark.table import Group, number

_WIDTH, _LEFT, _RIGHT = 900, 250, 230
_BAR, _STEP, _HEAD, _FOOT = 18, 26, 46, 40
_FONT = 'font-family="system-ui, Helvetica, Arial, sans-serif"'
_SVG_NAMES = {"weight": "font-weight", "anchor": "text-anchor"}
_OURS, _OTHERS, _INK, _FAINT = "#0b6e6e", "#9aa5b1", "#1f2933", "#616e7c"


class _Bar(NamedTuple):
    name: str
    length: float
    text: str


def svg(groups: Sequence[Group], title: str, note: str) -> str:
    """Return the picture; `title` above it, `note` (machine and method) below."""
    body: list[str] = []
    top = 52
    for group in groups:
        body += _panel(group, top)
        top += _HEAD + _STEP * len(group.rows) + 12
    lines = note.split("; ", 1)
    height = top + _FOOT
    return "\n".join(
        (
            f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {_WIDTH} {height}" role="img" {_FONT}>',
            f"<title>{escape(title)}</title>",
            f'<rect width="{_WIDTH}" height="{height}" fill="#ffffff"/>',
            _text(24, 34, title, size=20, weight=600),
            *body,
            *(_text(24, top + 12 + 16 * row, line, size=12, fill=_FAINT) for row, line in enumerate(lines)),
            "</svg>\n",
        )
    )


def _panel(group: Group, top: int) -> Iterator[str]:
    figures = [row.figure for row in group.rows]
    received = any(figure.received_a_second for figure in figures)
    bars = [_received(figure) for figure in figures] if received else _costs(figures)
    most = max((bar.length for bar in bars), default=0) or 1
    what = "files a second that storescp receives" if received else "processor time a file, logarithmic"
    yield _text(24, top + 20, f"{group.title[0].upper()}{group.title[1:]}", size=15, weight=600)
    yield _text(_LEFT, top + 20, what, size=12, fill=_FAINT)
    for place, bar in enumerate(bars):
        at = top + _HEAD - 10 + place * _STEP
        width = max(2.0, bar.length / most * (_WIDTH - _LEFT - _RIGHT))
        fill = _OTHERS if _is_other(bar.name) else _OURS
        yield _text(_LEFT - 10, at + 13, bar.name, size=13, anchor="end")
        yield f'<rect x="{_LEFT}" y="{at}" width="{width:.1f}" height="{_BAR}" rx="2" fill="{fill}"/>'
        yield _text(_LEFT + width + 8, at + 13, bar.text, size=13)


def _is_other(name: str) -> bool:
    return any(word in name for word in ("alone", "-repack", "cp -r"))


def _costs(figures: Sequence[Figure]) -> list[_Bar]:
    """Return bars whose lengths grow with the logarithm; the shortest is that of half the least cost."""
    least = min((figure.cpu_us for figure in figures if figure.cpu_us > 0), default=1)
    return [_Bar(figure.program, math.log(max(figure.cpu_us, least) / least * 2), _cost(figure)) for figure in figures]


def _cost(figure: Figure) -> str:
    times = f" ({number(figure.ratio)} times)" if figure.ratio and abs(figure.ratio - 1) > 0.005 else ""
    return f"{_time(figure.cpu_us)}{times}"


def _time(us: float) -> str:
    return f"{us:,.0f} µs" if us < 10_000 else f"{us / 1000:,.0f} ms"


def _received(figure: Figure) -> _Bar:
    share = f" ({figure.share:.2f})" if figure.share is not None else ""
    lag = f", lag {figure.lag_p50_ms:,.3g} ms" if figure.lag_p50_ms is not None else ""
    rate = figure.received_a_second or 0
    done = f", done {number(figure.files_a_second)}/s" if figure.files_a_second < rate / 4 else ""
    return _Bar(figure.program, rate, f"{rate:,.0f}/s{share}{lag}{done}")


def _text(x: float, y: float, words: str, *, size: int, **more: object) -> str:
    """Return a text element; `more` are attributes that differ from the usual."""
    usual = {"fill": _INK, "font-weight": 400, "text-anchor": "start"}
    given = {_SVG_NAMES.get(name, name): value for name, value in more.items()}
    attributes = " ".join(f'{name}="{value}"' for name, value in (usual | given).items())
    return f'<text x="{x:.1f}" y="{y:.1f}" font-size="{size}" {attributes}>{escape(words)}</text>'
