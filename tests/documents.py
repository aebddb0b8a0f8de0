"""Parts of a document in Markdown: sections, tables, blocks and codes."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path


def read(path: Path) -> str:
    return path.read_text(encoding="utf-8")


def section(path: Path, heading: str) -> str:
    """The text between a heading and the next one of its level or above."""
    found = re.search(rf"^(#+) {re.escape(heading)}\n(.*?)(?=^#{{1,}} |\Z)", read(path), re.DOTALL | re.MULTILINE)
    assert found, f"{path.name} has no section '{heading}'"
    return found[2]


def blocks(path: Path, language: str) -> list[str]:
    return re.findall(rf"^ *```{language}\n(.*?)^ *```", read(path), re.DOTALL | re.MULTILINE)


def rows(text: str) -> Iterator[list[str]]:
    """The cells of each row of the tables in a text, without the heads."""
    for table in re.findall(r"(?:^ *\|.*\n)+", text, re.MULTILINE):
        for line in table.splitlines()[2:]:
            cells = re.split(r"(?<!\\)\|", line.strip().removeprefix("|").removesuffix("|"))
            yield [cell.strip().replace("\\|", "|") for cell in cells]


def codes(text: str) -> list[str]:
    return re.findall(r"`([^`\n]+)`", text)
