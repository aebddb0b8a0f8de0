"""A Reader that is kept: it sees what others write, and goes on with a ledger that was replaced."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path

import pytest

from listener.errors import LedgerFault
from listener.ledger import deliveries
from listener.ledger.connection import open_writer, path_of
from listener.ledger.kept_reader import KeptReader


@pytest.fixture
def kept(tmp_path: Path) -> Iterator[KeptReader]:
    with contextlib.closing(KeptReader(str(tmp_path))) as reader:
        yield reader


def register(state: Path, name: str) -> None:
    """Somebody else writes to the ledger."""
    with contextlib.closing(open_writer(path_of(str(state)))) as connection:
        deliveries.register(connection, name, 1)


def names(kept: KeptReader) -> list[str]:
    return [row.name for row in kept.ask(lambda reader: reader.consumers())]


def test_it_tells_once_that_somebody_wrote(tmp_path: Path, kept: KeptReader) -> None:
    register(tmp_path, "a")
    assert [kept.has_changed() for _ in range(2)] == [True, False]
    assert names(kept) == ["a"]
    register(tmp_path, "b")
    assert [kept.has_changed() for _ in range(2)] == [True, False]
    assert names(kept) == ["a", "b"]


def test_a_ledger_that_goes_and_one_that_comes(tmp_path: Path, kept: KeptReader) -> None:
    register(tmp_path, "a")
    assert kept.has_changed()
    for path in tmp_path.glob("ledger.sqlite*"):
        path.unlink()
    with pytest.raises(LedgerFault):
        kept.has_changed()
    with pytest.raises(LedgerFault):
        names(kept)
    register(tmp_path, "c")
    assert kept.has_changed()
    assert names(kept) == ["c"]
    for path in tmp_path.glob("ledger.sqlite*"):
        path.unlink()
    register(tmp_path, "d")
    assert names(kept) == ["d"], "it was replaced in between"
    assert kept.has_changed()


def test_a_question_that_fails_is_asked_of_a_new_connection(tmp_path: Path, kept: KeptReader) -> None:
    register(tmp_path, "a")
    assert kept.has_changed()
    with pytest.raises(ZeroDivisionError):
        kept.ask(lambda reader: 1 // 0 and reader)
    assert kept.has_changed()
    assert names(kept) == ["a"]
