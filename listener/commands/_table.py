"""Tables for people; JSON, tab- and comma-separated lines for programs. No value can move a cursor or break a line."""

from __future__ import annotations

import argparse
import csv
import io
import sys
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import orjson

from listener.status.formatting import moment, plain, size

#: The columns of a series.
OVERVIEW = ("last arrival (UTC)", "state", "instances", "size", "errors", "modality", "sender", "series")

#: With these a spreadsheet begins a formula.
_FORMULA = ("=", "+", "-", "@")

#: A column is not made narrower than this.
_NARROWEST = 6

#: The gap between two columns.
_GAP = "  "


def table(names: Sequence[str], rows: Iterable[Sequence[str]], most: int = 0, *, keeps: int = -1) -> str:
    """Return aligned columns below their names; the last one is not padded. With `most`, the widest ones are cut until
    a line has at most so many columns of a terminal, but not the one at index `keeps` (-1: none).
    """
    lines = [names, *([plain(cell) for cell in row] for row in rows)]
    widths = [max(columns_of(line[index]) for line in lines) for index in range(len(names))]
    if most:
        may = [index for index in range(len(names)) if index != keeps]
        room = most - len(_GAP) * (len(names) - 1) - (widths[keeps] if keeps >= 0 else 0)
        while sum(widths[index] for index in may) > room and max(widths[index] for index in may) > _NARROWEST:
            widths[max(may, key=widths.__getitem__)] -= 1
        lines = [[_shortened(cell, width) for cell, width in zip(line, widths, strict=True)] for line in lines]
    return "".join(
        _GAP.join(cell + " " * (width - columns_of(cell)) for cell, width in zip(line, widths, strict=True)).rstrip()
        + "\n"
        for line in lines
    )


def _shortened(text: str, most: int) -> str:
    if columns_of(text) <= most:
        return text
    while columns_of(text) > most - 1:
        text = text[:-1]
    return f"{text}\N{HORIZONTAL ELLIPSIS}"


def columns_of(text: str) -> int:
    """Return how many columns of a terminal a text takes: two for a wide character, none for one that combines."""
    if text.isascii():
        return len(text)
    from unicodedata import combining, east_asian_width

    return sum(0 if combining(one) else 2 if east_asian_width(one) in "WF" else 1 for one in text)


#: For programs: options of these names, of which one may be given.
SHAPES = ("csv", "tsv", "json")


def add_shape(parser: argparse.ArgumentParser, json: str) -> None:
    """Add the options of SHAPES; `json` is the help of --json."""
    shape = parser.add_mutually_exclusive_group()
    shape.add_argument("--csv", action="store_true", help="comma-separated values with a head, for spreadsheets")
    shape.add_argument("--tsv", action="store_true", help="tab-separated values with a head")
    shape.add_argument("--json", action="store_true", help=json)


def shape_of(given: argparse.Namespace) -> str:
    """Return one of SHAPES; "" for a table."""
    return next((name for name in SHAPES if getattr(given, name)), "")


def write_shaped(names: Sequence[str], rows: Iterable[Mapping[str, Any]], shape: str) -> None:
    """Print rows in one of SHAPES; `names` are those of their values, also where there is no row."""
    if shape == "json":
        write_json(rows)
        return
    line = commas if shape == "csv" else tabs
    sys.stdout.write(line(names))
    for row in rows:
        sys.stdout.write(line("\\".join(value) if isinstance(value, list) else value for value in row.values()))


def write_json(rows: Iterable[Mapping[str, Any]]) -> None:
    """Print each row as a line of JSON."""
    sys.stdout.buffer.writelines(orjson.dumps(row, option=orjson.OPT_APPEND_NEWLINE) for row in rows)
    sys.stdout.flush()


def tabs(values: Iterable[Any]) -> str:
    """Return one line of tab-separated values."""
    return "\t".join(plain(str(value)) for value in values) + "\n"


def commas(values: Iterable[Any]) -> str:
    """Return one line of comma-separated values (RFC 4180, ended by a line feed). A sender's text that a spreadsheet
    would take for a formula gets an apostrophe in front.
    """
    line = io.StringIO()
    cells = (value if isinstance(value, int | float) else plain(str(value)) for value in values)
    csv.writer(line, lineterminator="\n").writerow(
        f"'{cell}" if isinstance(cell, str) and cell.startswith(_FORMULA) else cell for cell in cells
    )
    return line.getvalue()


def overview(row: Mapping[str, Any]) -> list[str]:
    """Return a series in the columns of OVERVIEW; instances as 3/5 where a number is expected."""
    received = f"{row['instances']}/{row['expected']}" if row["expected"] else str(row["instances"])
    came = moment(row["last"])
    about = [row["Modality"], row["sender"], row["SeriesInstanceUID"]]
    return [came, row["state"], received, size(row["bytes"]), str(row["errors"]), *about]
