"""Studies and their series as commands print them: tables for people; JSON, comma and tab separated for programs.

They show patients: whoever can read the ledger may see them.
"""

from __future__ import annotations

import argparse
import shutil
import sys
from collections.abc import Mapping, Sequence
from typing import Any

from listener.commands._table import OVERVIEW, columns_of, overview, table, write_shaped
from listener.ledger.reader import Reader
from listener.ledger.rows import StudyRow, shown, shown_names
from listener.parse import whole
from listener.status.formatting import count, day, moment, plain

#: The columns of a series.
SERIES = (*OVERVIEW[:-1], "number", "description", OVERVIEW[-1])

_HEADS = ("study date", "patient", "PatientID", "description", "modality", "series", "instances", "arrived (UTC)")


def add_limit(parser: argparse.ArgumentParser, default: int) -> None:
    """Add --limit."""
    read = whole(0, 10**9)

    def number(text: str) -> int:
        try:
            return read(text)
        except ValueError as error:
            raise argparse.ArgumentTypeError(f"'{plain(text[:40])}' {error}") from None

    text = f"the newest N; 0: all (default: {default})"
    parser.add_argument("--limit", type=number, default=default, metavar="N", help=text)


def write_studies(found: Sequence[StudyRow], data_dir: str, shape: str) -> None:
    """Print studies, whose folders are in `data_dir`."""
    rows = [shown(row, True, data_dir) for row in found]
    if shape:
        write_shaped(shown_names(StudyRow, True), rows, shape)
    else:
        sys.stdout.write(rendered(rows, terminal_width()))


def terminal_width() -> int:
    """Return how many columns the terminal on standard output has; 0 if there is none."""
    return shutil.get_terminal_size().columns if sys.stdout.isatty() else 0


def rendered(rows: Sequence[Mapping[str, Any]], width: int = 0) -> str:
    """Return studies as a table. On a terminal so many columns wide, a folder that does not fit has a line of its own,
    whole, so that it can be copied.
    """
    cells = [_cells(row) for row in rows]
    folders = [plain(row["folder"]) if not row["pruned"] else f"(removed {row['pruned'][:10]})" for row in rows]
    whole = table((*_HEADS, "folder"), [[*line, folder] for line, folder in zip(cells, folders, strict=True)])
    if not width or all(columns_of(line) <= width for line in whole.splitlines()):
        return whole
    head, *lines = table(_HEADS, cells, width).splitlines(keepends=True)
    return head + "".join(f"{line}  {folder}\n" for line, folder in zip(lines, folders, strict=True))


def _cells(row: Mapping[str, Any]) -> list[str]:
    return [
        day(row["StudyDate"]),
        row["PatientName"],
        row["PatientID"],
        row["StudyDescription"],
        ",".join(row["ModalitiesInStudy"]),
        f"{row['complete']}/{row['series']}{' known' * bool(row['acknowledged'])}",
        count(row["instances"]),
        moment(row["last"])[:16],
    ]


def series_table(rows: Sequence[Mapping[str, Any]], width: int = 0) -> str:
    """Return series as a table, whose last column, the UID, is whole in any width."""
    cells = []
    for row in rows:
        *about, uid = overview(row)
        cells.append([*about, row["SeriesNumber"], row["SeriesDescription"], uid])
    return table(SERIES, cells, width, keeps=len(SERIES) - 1)


def warn_of_undescribed(reader: Reader) -> None:
    """Say on standard error if series cannot be found yet by what their headers say."""
    number = reader.undescribed()
    if number:
        series = "a series is" if number == 1 else f"{count(number)} series are"
        sys.stderr.write(f"{series} not read yet: their patients are not known until the service has done it\n")
