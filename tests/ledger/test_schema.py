"""The schema is a contract: docs/ledger.md tells every table and column, and its queries run."""

from __future__ import annotations

import contextlib
import re
import sqlite3
from pathlib import Path

import pytest

from listener.ledger import schema
from listener.ledger.connection import open_writer
from tests.conftest import PROJECT

TEXT = (PROJECT / "docs/ledger.md").read_text(encoding="utf-8")
QUERIES = [query for block in re.findall(r"```sql\n(.*?)```", TEXT, re.DOTALL) for query in block.split(";")]


def test_every_table_and_column_is_told(tmp_path: Path) -> None:
    told = {
        cells[0].strip(" `"): set(re.findall(r"`([A-Za-z_]+)`", re.sub(r"\([^)]*\)", "", cells[2])))
        for cells in (line.strip("|").split("|") for line in TEXT.splitlines() if line.startswith("| `"))
        if len(cells) == 3
    }
    with contextlib.closing(open_writer(str(tmp_path / "ledger"))) as connection:
        tables = [name for (name,) in connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'")]
        found = {
            name: {column for (column,) in connection.execute("SELECT name FROM pragma_table_xinfo(?)", (name,))}
            for name in tables
            if not name.startswith("sqlite_")
        }
    assert {name: told.get(name) for name in found} == found


def test_what_marks_the_file_is_told() -> None:
    assert f"`PRAGMA application_id` is {schema.APPLICATION}" in TEXT
    assert f"## The schema, version {schema.VERSION}" in TEXT


@pytest.mark.parametrize("query", [query for query in QUERIES if query.strip()])
def test_the_queries_run(tmp_path: Path, query: str) -> None:
    with contextlib.closing(open_writer(str(tmp_path / "ledger"))) as connection:
        if "COMMIT" in query:
            connection.execute("BEGIN")
        values = dict.fromkeys(re.findall(r":(\w+)", query), 1)
        assert connection.execute(query.replace("unixepoch()", "1000"), values).fetchall() == []


def test_ids_are_never_null(tmp_path: Path) -> None:
    with contextlib.closing(open_writer(str(tmp_path / "ledger"))) as connection:
        loose = connection.execute(
            "SELECT m.name, c.name FROM sqlite_master m JOIN pragma_table_info(m.name) c "
            "WHERE m.type = 'table' AND m.name NOT LIKE 'sqlite_%' AND NOT c.\"notnull\" AND NOT c.pk"
        ).fetchall()
    assert loose == []
    assert sqlite3.sqlite_version_info >= (3, 34)
