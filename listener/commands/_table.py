"""PURE. Tables for people and tab-separated lines for programs. No value can move a cursor or break a line."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from listener.status.formatting import plain, size

#: The columns of a series.
OVERVIEW = ("last arrival (UTC)", "state", "instances", "size", "errors", "modality", "sender", "series")

#: The gap between two columns.
_GAP = "  "


def table(names: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """Return aligned columns below their names; the last one is not padded."""
    lines = [names, *([plain(cell) for cell in row] for row in rows)]
    widths = [max(len(line[index]) for line in lines) for index in range(len(names) - 1)]
    return "".join(
        _GAP.join([*(cell.ljust(width) for cell, width in zip(line, widths, strict=False)), line[-1]]).rstrip() + "\n"
        for line in lines
    )


def tabs(values: Iterable[Any]) -> str:
    """Return one line of tab-separated values."""
    return "\t".join(plain(str(value)) for value in values) + "\n"


def overview(row: Mapping[str, Any]) -> list[str]:
    """Return a series in the columns of OVERVIEW; instances as 3/5 where a number is expected."""
    received = f"{row['instances']}/{row['expected']}" if row["expected"] else str(row["instances"])
    came = row["last"][:19].replace("T", " ")
    about = [row["Modality"], row["sender"], row["SeriesInstanceUID"]]
    return [came, row["state"], received, size(row["bytes"]), str(row["errors"]), *about]
