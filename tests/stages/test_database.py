"""The SQLite file of a stage."""

from __future__ import annotations

import contextlib
import sqlite3
import stat
from pathlib import Path

import pytest

from listener.errors import LedgerFault
from listener.stages.database import (
    Checkpointer,
    Schema,
    StageFault,
    StageMissing,
    open_reader,
    open_writer,
    transaction,
)
from tests.waiting import until

NOTES = Schema("notes", 0x1234, ("CREATE TABLE notes (text TEXT NOT NULL);",))
LATER = NOTES._replace(steps=(*NOTES.steps, "ALTER TABLE notes ADD COLUMN at_ns INTEGER NOT NULL DEFAULT 0;"))


def texts(state: Path, schema: Schema = NOTES) -> list[str]:
    with contextlib.closing(open_reader(str(state), schema)) as connection:
        return [text for (text,) in connection.execute("SELECT text FROM notes")]


def write(state: Path, text: str, schema: Schema = NOTES) -> None:
    with contextlib.closing(open_writer(str(state), schema)) as connection, transaction(connection):
        connection.execute("INSERT INTO notes (text) VALUES (?)", (text,))


def fail_after(connection: sqlite3.Connection, statement: str) -> None:
    connection.execute(statement)
    raise ZeroDivisionError


def test_what_was_written_is_read_by_others_and_only_the_owner_may(tmp_path: Path) -> None:
    write(tmp_path, "one")
    assert texts(tmp_path) == ["one"]
    path = Path(NOTES.path(str(tmp_path)))
    assert path == tmp_path / "notes" / "notes.sqlite"
    assert stat.S_IMODE(path.stat().st_mode) == 0o600


def test_an_older_file_becomes_a_newer_one_and_not_the_other_way(tmp_path: Path) -> None:
    write(tmp_path, "one")
    with pytest.raises(StageFault, match="older version"):
        texts(tmp_path, LATER)
    write(tmp_path, "two", LATER)
    assert texts(tmp_path, LATER) == ["one", "two"]
    with pytest.raises(StageFault, match="newer version"):
        write(tmp_path, "three")


def test_without_a_file_there_is_nothing_to_read(tmp_path: Path) -> None:
    with pytest.raises(StageMissing, match="notes"):
        texts(tmp_path)
    assert not list(tmp_path.iterdir())


def test_a_file_of_another_program_is_left_alone(tmp_path: Path) -> None:
    write(tmp_path, "one")
    with pytest.raises(StageFault, match="another program"):
        open_writer(str(tmp_path), NOTES._replace(application=1))
    Path(NOTES.path(str(tmp_path))).write_bytes(b"no database at all, but quite long: " * 100)
    with pytest.raises(StageFault):
        texts(tmp_path)


def test_its_faults_are_waited_for_as_those_of_the_ledger(tmp_path: Path) -> None:
    (tmp_path / "notes").touch()
    with pytest.raises(LedgerFault):
        open_writer(str(tmp_path), NOTES)


def test_a_transaction_that_fails_leaves_nothing(tmp_path: Path) -> None:
    write(tmp_path, "one")
    with contextlib.closing(open_writer(str(tmp_path), NOTES)) as connection:
        with pytest.raises(ZeroDivisionError), transaction(connection):
            fail_after(connection, "INSERT INTO notes (text) VALUES ('two')")
        with pytest.raises(StageFault, match="no such table"), transaction(connection):
            connection.execute("INSERT INTO others VALUES (1)")
    assert texts(tmp_path) == ["one"]


@pytest.mark.parametrize("most", [1 << 30, 1])
def test_the_log_is_written_back_beside_the_writer_and_does_not_grow_for_ever(most: int, tmp_path: Path) -> None:
    path = Path(NOTES.path(str(tmp_path)))
    log = path.with_name(f"{path.name}-wal")
    with contextlib.closing(open_writer(str(tmp_path), NOTES)) as connection:
        checkpointer = Checkpointer(connection, str(path), seconds=0.01, least=100_000, most=most)
        before = path.stat().st_size

        def written_back() -> bool:
            with transaction(connection):
                connection.execute("INSERT INTO notes (text) VALUES (?)", ("x" * 50_000,))
            return path.stat().st_size > before + 500_000

        until(written_back, 10)
        checkpointer.close()
        assert log.stat().st_size < path.stat().st_size
    assert not log.exists()
