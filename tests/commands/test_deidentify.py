"""`listener deidentify`: what it says, and that it touches nothing."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from listener import cli
from tests.deidentify import planting


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "in.dcm"
    path.write_bytes(planting.file_of(planting.instance(2), planting.EXPLICIT))
    return path


def test_explain_names_action_and_rule_and_no_patient(file: Path, capsys: pytest.CaptureFixture[str]) -> None:
    before = file.read_bytes()
    assert cli.main(["deidentify", "explain", str(file)]) == 0
    out = capsys.readouterr().out
    assert "(0010,0010)" in out
    assert "pseudonym" in out
    assert "(5200,9229).(0020,9116).(0010,0020)" in out
    assert planting.found_in(out.encode()) == []
    assert file.read_bytes() == before
    assert sorted(path.name for path in file.parent.iterdir()) == ["in.dcm"]


def test_explain_shows_values_with_phi(file: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["deidentify", "explain", str(file), "--phi", "--json", "--option", "clean-descriptors"]) == 0
    rows = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    described = next(row for row in rows if row["tag"] == "(0008,103E)")
    assert described["action"] == "clean, else remove"
    assert described["rule"] == "clean-descriptors"
    assert described["value"] == planting.PLANT


def test_a_file_that_is_not_understood_is_told(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "text").write_text("no DICOM")
    assert cli.main(["deidentify", "explain", str(tmp_path / "text"), str(tmp_path / "none")]) == 1
    err = capsys.readouterr().err
    assert "nothing of it passes" in err
    assert "No such file" in err


def test_new_key(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "key"
    assert cli.main(["deidentify", "new-key", str(path)]) == 0
    assert path.stat().st_mode & 0o777 == 0o600
    assert cli.main(["deidentify", "new-key", str(path)]) == 2
    assert "cannot be made" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["explian", "x"], "did you mean explain"),
        (["explain"], "give explain FILE..."),
        (["new-key", "a", "b"], "give new-key FILE"),
        (["explain", "x", "--option", "retain-dates"], "is not known"),
        (["explain", "x", "--option", "retain-full-dates", "--option", "retain-modified-dates"], "contradict"),
    ],
)
def test_a_wrong_command_line(words: list[str], told: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["deidentify", *words]) == 2
    assert told in capsys.readouterr().err
