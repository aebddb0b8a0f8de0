"""The pictures of docs/dashboard.md: one of each row, as SVG."""

from __future__ import annotations

from collections.abc import Iterable
from itertools import groupby
from pathlib import Path

from tests.observing import drawing
from tests.observing.dashboard import Panel
from tests.observing.session import Answer


def name(row: str) -> str:
    """The file name of a row's picture."""
    return row.lower().removesuffix("?").replace(" ", "-") + ".svg"


def draw(found: Iterable[tuple[Panel, list[Answer]]], folder: Path) -> list[Path]:
    """Draw each row into `folder`; the paths."""
    folder.mkdir(parents=True, exist_ok=True)
    drawn = []
    for row, group in groupby(found, lambda one: one[0].row):
        path = folder / name(row)
        path.write_text(drawing.row(row, list(group)), encoding="utf-8")
        drawn.append(path)
    return drawn
