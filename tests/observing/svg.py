"""Boxes and texts of an SVG, and its colours."""

from __future__ import annotations

from html import escape

PALETTE = ("#7EB26D", "#EAB839", "#1F9BB5", "#EF843C", "#E24D42", "#1F78C1", "#BA43A9", "#705DA0")
#: Grafana's names of colours.
NAMED = {
    "green": "#56A64B", "blue": "#3274D9", "red": "#E02F44", "orange": "#FF780A", "yellow": "#E0B400",
    "dark-red": "#AD0317", "text": "#777777", "transparent": "none",
}  # fmt: skip

#: A box to draw in: left, top, width, height.
Box = tuple[float, float, float, float]

CENTRED = 'text-anchor="middle"'


def box(area: Box, fill: str, more: str = "") -> str:
    """A filled box; `more` are further attributes."""
    x, y, width, height = area
    place = f'x="{x:.1f}" y="{y:.1f}" width="{max(width, 0):.1f}" height="{max(height, 0):.1f}"'
    return f'<rect {place} fill="{fill}" {more}/>'


def text(x: float, y: float, words: str, size: int = 12, *, fill: str = "#333", more: str = "") -> str:
    """Words that begin at x (or as `more` says) and stand upon y."""
    return f'<text x="{x:.1f}" y="{y:.1f}" font-size="{size}" fill="{fill}" {more}>{escape(words)}</text>'
