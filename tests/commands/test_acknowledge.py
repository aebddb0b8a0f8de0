"""`listener acknowledge`: what a person knows of needs no attention, until it changes."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import orjson
import pytest

from listener import cli
from listener.ledger.acknowledgements import acknowledge
from listener.ledger.connection import open_writer, path_of, transaction
from listener.ledger.reader import reading
from listener.ledger.rows import StudyRow
from listener.status import ledger_view
from listener.status.attention import findings
from listener.status.document import document
from tests.ledger_world import World

#: Series of two instances each that were promised three, of a study each; and one that is complete.
LACKING, WHOLE = (0, 1), 2


@pytest.fixture
def lacking(tmp_path: Path) -> Iterator[World]:
    """Two studies are incomplete, one is complete."""
    made = World(tmp_path, study_quiet=0.0)
    made.tick()
    for series in LACKING:
        made.promise(series, 3)
        made.came(series, 1, 2, study=series)
    made.came(WHOLE, 1, study=WHOLE)
    made.advance(101)
    made.tick()
    yield made
    made.close()


def ask(world: World, *words: str) -> int:
    return cli.main(["acknowledge", f"--state={world.config.state}", *words])


def studies(world: World) -> dict[str, StudyRow]:
    with reading(world.config.state) as reader:
        return {row.StudyInstanceUID: row for row in reader.studies()}


def known(world: World) -> list[int]:
    rows = studies(world)
    return [number for number in (*LACKING, WHOLE) if rows[world.study(number)].acknowledged_ns]


def attention(world: World) -> list[str]:
    view = ledger_view.read(world.config.state)
    return [finding.what for finding in findings(document(None, None, view, world.wall)) if "lack" in finding.what]


def test_who_said_it_is_put_down_and_nothing_needs_attention_any_more(
    lacking: World, capsys: pytest.CaptureFixture[str]
) -> None:
    assert attention(lacking) == ["2 studies lack instances that were promised"]
    assert ask(lacking, lacking.study(0)) == 0
    shown = capsys.readouterr()
    assert lacking.study(0) in shown.out
    assert shown.err == "1 study known; --undo takes it back\n"
    assert attention(lacking) == ["1 study lacks instances that were promised"]
    assert ask(lacking, "--all") == 0
    assert attention(lacking) == []
    assert known(lacking) == [0, 1]
    row = studies(lacking)[lacking.study(0)]
    assert (row.state, bool(row.acknowledged_by)) == ("incomplete", True), "it is what it was"
    lacking.tick()
    assert lacking.clerk.acknowledged == 2


def test_it_can_be_taken_back(lacking: World, capsys: pytest.CaptureFixture[str]) -> None:
    ask(lacking, "--all")
    assert ask(lacking, "--undo", lacking.study(1)) == 0
    assert known(lacking) == [0]
    assert ask(lacking, "--undo", "--all") == 0
    assert known(lacking) == []
    assert ask(lacking, "--undo", "--all") == 0
    assert capsys.readouterr().err.endswith("no such study is acknowledged\n")


@pytest.mark.parametrize("words", [["--all", "--dry-run"], ["--undo", "--all", "--dry-run"]])
def test_a_dry_run_says_what_would_be_and_changes_nothing(
    lacking: World, capsys: pytest.CaptureFixture[str], words: list[str]
) -> None:
    if "--undo" in words:
        ask(lacking, "--all")
    before = known(lacking)
    capsys.readouterr()
    assert ask(lacking, *words, "--json") == 0
    told: list[dict[str, Any]] = [orjson.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert {one["StudyInstanceUID"] for one in told} == {lacking.study(number) for number in LACKING}
    assert not any(one["done"] for one in told)
    assert known(lacking) == before


CHOSEN = {
    "a sender": (["--sender", "SCANNER"], []),
    "a sender's beginning": (["--sender", "SEND*"], [0, 1]),
    "a time": (["--arrived", "2023-11"], [0, 1]),
    "another time": (["--arrived", "2020"], []),
}


@pytest.mark.parametrize(("words", "expected"), CHOSEN.values(), ids=CHOSEN)
def test_some_are_chosen_as_find_chooses(lacking: World, words: list[str], expected: list[int]) -> None:
    assert ask(lacking, *words) == 0
    assert known(lacking) == expected


def test_what_is_complete_or_unknown_is_named(lacking: World, capsys: pytest.CaptureFixture[str]) -> None:
    assert ask(lacking, lacking.study(WHOLE), "1.2.3") == 1
    said = capsys.readouterr().err
    assert f"study {lacking.study(WHOLE)} is complete" in said
    assert "study 1.2.3 is not known to the ledger" in said
    assert known(lacking) == []


@pytest.mark.parametrize(
    "words", [[], ["--undo"], ["--all", "1.2"], ["--arrived", "soon"], ["--all", "--yes", "--dry-run"]]
)
def test_what_cannot_be_meant_is_refused(lacking: World, words: list[str]) -> None:
    assert ask(lacking, *words) == 2
    assert known(lacking) == []


def test_a_series_that_begins_again_is_news(lacking: World) -> None:
    """Also where it then lacks as much as before."""
    ask(lacking, "--all")
    lacking.promise(0, 9)
    lacking.came(0, 3, study=0)
    lacking.tick()
    assert studies(lacking)[lacking.study(0)].state == "open"
    assert known(lacking) == [1]
    lacking.advance(101)
    lacking.tick()
    assert studies(lacking)[lacking.study(0)].state == "incomplete"
    assert known(lacking) == [1]


def test_another_series_of_the_study_is_news_if_it_opens(lacking: World) -> None:
    ask(lacking, "--all")
    lacking.came(7, 1, study=1)
    assert known(lacking) == [0]


def test_what_changed_since_it_was_looked_at_is_not_acknowledged(lacking: World) -> None:
    before = list(studies(lacking).values())
    lacking.came(0, 3, study=0)
    lacking.advance(101)
    lacking.tick()
    connection = open_writer(path_of(lacking.config.state))
    with transaction(connection):
        done = acknowledge(connection, before, lacking.wall, "somebody")
    connection.close()
    assert [row.StudyInstanceUID for row in done] == [lacking.study(1)]
