"""Write listener/deidentify/table.tsv anew from PS3.15 Table E.1-1.

`python docs/deidentify_table.py FILE`: tab-separated columns: tag (gggg,eeee), keyword, basic, and one for each option,
in the order of the standard.
"""

# ruff: noqa: INP001 - a script beside what it writes, no package

from __future__ import annotations

import csv
import sys
from pathlib import Path

TABLE = Path(__file__).parent.parent / "listener/deidentify/table.tsv"

_HEAD = """\
# Table E.1-1 of DICOM PS3.15, edition 2026c. Written by docs/deidentify_table.py; rows for groups (curves, overlays,
# private elements) are rules of profile.py. Columns: tag, action of the Basic Profile, and the ten options in the order
# of profile.OPTIONS, a letter each: K keep, C clean, - nothing (also where the source does not tell).
"""


def lines(source: Path) -> list[str]:
    """Return the rows of the table, by tag."""
    with source.open(encoding="utf-8", newline="") as file:
        _, *rows = csv.reader(file, delimiter="\t")
    found = []
    for tag, _, basic, *options in rows:
        digits = tag.replace(",", "")
        if len(digits) == 8 and "X" not in digits:
            found.append(f"{digits}\t{basic}\t{''.join(mark if mark in ('K', 'C') else '-' for mark in options)}\n")
    return sorted(found)


if __name__ == "__main__":
    TABLE.write_text(_HEAD + "".join(lines(Path(sys.argv[1]))), encoding="utf-8")
