"""`listener batches` and `listener retry --batch`: what a person sees of batches, and gives back."""

from __future__ import annotations

import contextlib
from pathlib import Path

import orjson
import pytest

from listener import cli
from listener.ledger import batches
from listener.ledger.batches import Account, BatchKey, FileError, SeriesShare
from listener.ledger.connection import open_writer, path_of, transaction

NOW = 1_790_000_000 * 10**9


@pytest.fixture
def state(tmp_path: Path) -> Path:
    """A ledger with a batch in each state; the folder of the one that is done had an error, and is refused."""
    root = tmp_path / "batches"
    root.mkdir()
    folder = tmp_path / "state"
    folder.mkdir()

    def key(name: str) -> BatchKey:
        return BatchKey(str(root), name.encode())

    with contextlib.closing(open_writer(path_of(str(folder)))) as connection, transaction(connection):
        connection.execute("INSERT INTO series (SeriesInstanceUID, StudyInstanceUID) VALUES ('1.2', '1')")
        batches.see(connection, key("A1.tmp"), NOW)
        batches.queue(connection, key("A2"), NOW)
        batches.start(connection, key("A3"), NOW)
        errors = [FileError("sub/PATIENT.txt", "not-dicom", "it is none")]
        batches.end_files(connection, key("A4"), Account(3, [SeriesShare(1, 2, 2000)], errors), NOW + 10**9)
        batches.end_files(connection, key("77"), Account(0, [], []), NOW)
        connection.execute("UPDATE series SET state = 'complete'")
        assert {state.state for state in batches.end_due(connection, NOW + 3 * 10**9)} == {"done", "empty"}
    (root / "A4.err").mkdir()
    return folder


def shown(state: Path, capsys: pytest.CaptureFixture[str], *words: str) -> str:
    assert cli.main(["batches", "--state", str(state), *words]) == 0
    return capsys.readouterr().out


def test_the_newest_come_first_without_names(state: Path, capsys: pytest.CaptureFixture[str]) -> None:
    text = shown(state, capsys)
    assert [line.split()[:2] for line in text.splitlines()[1:]] == [
        ["5", "empty"],
        ["4", "done"],
        ["3", "processing"],
        ["2", "queue"],
        ["1", "new"],
    ]
    assert "A4" not in text
    assert "A4" in shown(state, capsys, "--phi")


def test_some_are_chosen(state: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for words, numbers in {("--only", "queue"): [2], ("--errors",): [4], ("--limit", "2"): [5, 4]}.items():
        found = [orjson.loads(line) for line in shown(state, capsys, "--json", *words).splitlines()]
        assert [one["batch"] for one in found] == numbers


def test_one_is_shown_with_its_series_and_errors(state: Path, capsys: pytest.CaptureFixture[str]) -> None:
    text = shown(state, capsys, "4")
    assert "1.2" in text
    assert "not-dicom" in text
    assert "sub/" not in text
    one = orjson.loads(shown(state, capsys, "4", "--json", "--phi"))
    assert (one["name"], one["instances"], one["files"], one["has_error"]) == ("A4", 2, 3, True)
    assert [error["file"] for error in one["all_errors"]] == ["sub/PATIENT.txt"]
    assert one["started"] < one["finished"]


@pytest.mark.parametrize(("word", "status"), [("99", 1), ("A4", 2), ("-1", 2), ("9" * 30, 2)])
def test_what_is_no_batch(state: Path, capsys: pytest.CaptureFixture[str], word: str, status: int) -> None:
    with contextlib.suppress(SystemExit):
        assert cli.main(["batches", "--state", str(state), word]) == status
    assert capsys.readouterr().err


def retry(state: Path, *words: str) -> int:
    return cli.main(["retry", "--state", str(state), *words])


@pytest.mark.parametrize("name", ["A4", "4"])
def test_a_refused_folder_gets_its_name_back(state: Path, capsys: pytest.CaptureFixture[str], name: str) -> None:
    root = state.parent / "batches"
    (root / "A4.2.err").mkdir()
    assert retry(state, "--batch", name, "--dry-run") == 0
    assert not (root / "A4").exists()
    assert retry(state, "--batch", name, "--json") == 0
    assert orjson.loads(capsys.readouterr().out.splitlines()[-1])["result"] == "back"
    assert (root / "A4").is_dir()
    assert (root / "A4.err").is_dir(), "the one that was renamed last"
    assert retry(state, "--batch", name) == 1
    assert "there already" in capsys.readouterr().out


@pytest.mark.parametrize("name", ["nobody", "99", "A2", "77"])
def test_what_has_no_refused_folder_is_told(state: Path, capsys: pytest.CaptureFixture[str], name: str) -> None:
    assert retry(state, "--batch", name) == 1
    assert capsys.readouterr().out.startswith("failed")


def test_folders_and_set_aside_files_are_two_things(state: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert retry(state, "--batch", "A4", "--all") == 2
    assert "--batch" in capsys.readouterr().err
