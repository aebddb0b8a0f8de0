"""`listener check`: findings with remedies; nothing is left behind."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path
from typing import Any

import orjson
import pytest

from listener import check, check_system, cli
from listener.check import NOTE, OK, PROBLEM, Finding
from listener.config import Config
from listener.owner import Owner
from tests.workbench import make_config, need_root, tmpfs

FOLDERS = ("incoming", "data", "log", "state")


def made(base: Path, **changes: Any) -> Config:
    config = make_config(base, **changes)
    for path in (*config.incoming, config.data, config.log, config.state):
        os.makedirs(path, exist_ok=True)
    return config


def about(config: Config, level: str) -> list[str]:
    return [f"{one.about}: {one.text}; {one.remedy}" for one in check.findings(config) if one.level == level]


def test_all_is_well(tmp_path: Path) -> None:
    config = made(tmp_path)
    found = list(check.findings(config))
    assert {one.level for one in found} <= {OK, NOTE}
    assert {one.about for one in found if one.level == OK} >= {"--incoming", "--data", "--log", "--state", "--layout"}
    assert any("by a link" in one.text for one in found)
    assert check.run(config, as_json=False) == 0


def test_nothing_is_made_and_nothing_is_left(tmp_path: Path) -> None:
    config = make_config(tmp_path)
    list(check.findings(config))
    assert list(tmp_path.iterdir()) == []
    config = made(tmp_path)
    list(check.findings(config))
    assert sorted(path.name for path in tmp_path.rglob("*")) == sorted(FOLDERS)


def test_every_problem_has_a_remedy(tmp_path: Path) -> None:
    (tmp_path / "data").touch()
    (tmp_path / "log").touch()
    config = make_config(tmp_path, log=str(tmp_path / "log/below"), min_free=2**62, image_template="%InstanceNumber")
    found = [one for one in check.findings(config) if one.level == PROBLEM]
    assert {one.about for one in found} >= {"--data", "--log", "--image-template", "--incoming"}
    assert all(one.remedy for one in found)


def test_a_directory_that_is_not_there_yet_is_a_note(tmp_path: Path) -> None:
    assert any("will be made" in text for text in about(make_config(tmp_path), NOTE))
    assert about(make_config(tmp_path), PROBLEM) == []


def test_too_little_space_is_a_problem_with_both_numbers(tmp_path: Path) -> None:
    problems = about(made(tmp_path, min_free=2**60), PROBLEM)
    assert len(problems) == 4
    assert "below --min-free 1073741824.00 GiB" in problems[0]


def test_an_owner_is_told(tmp_path: Path) -> None:
    config = made(tmp_path)
    owner = Owner(config.incoming)
    try:
        assert any("Another listener owns" in text for text in about(config, NOTE))
        assert about(config, PROBLEM) == []
    finally:
        owner.close()


def test_two_mounts_are_told_with_their_price(tmp_path: Path) -> None:
    with tmpfs(tmp_path / "data"):
        notes = about(made(tmp_path), NOTE)
    assert any("every byte is copied" in text and "mount one volume once" in text for text in notes)
    assert not any("renamed" in text for text in notes)


def test_a_claim_that_cannot_leave_incoming_is_told(tmp_path: Path) -> None:
    with tmpfs(tmp_path / "incoming"):
        notes = about(made(tmp_path), NOTE)
    assert any("claims will live in" in text and ".listener" in text for text in notes)


@pytest.mark.parametrize(("name", "other"), [("data", "log"), ("incoming", "data")])
@pytest.mark.parametrize("below", ["", "below"])
def test_directories_that_are_one_once_links_are_followed(
    name: str, other: str, below: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    made(tmp_path)
    (tmp_path / name).rmdir()
    (tmp_path / other / "below").mkdir()
    (tmp_path / name).symlink_to(tmp_path / other / below)
    assert cli.main(["check", *(f"--{one}={tmp_path / one}" for one in FOLDERS)]) == 2
    said = capsys.readouterr().err
    assert f"--{other}" in said
    assert f"--{name}" in said


@pytest.mark.parametrize(
    ("templates", "problem"),
    [
        ({}, False),
        ({"image_template": "%InstanceNumber"}, True),
        ({"image_template": "x", "series_template": "%SOPInstanceUID"}, False),
        ({"image_template": "%_md5|8_SOPInstanceUID"}, False),
    ],
)
def test_every_instance_must_have_a_path_of_its_own(templates: dict[str, str], problem: bool, tmp_path: Path) -> None:
    assert any("one path" in text for text in about(made(tmp_path, **templates), PROBLEM)) is problem


def test_somebody_else_s_directory(tmp_path: Path) -> None:
    need_root()
    with tempfile.TemporaryDirectory() as name:
        base = Path(name)
        config = made(base)
        base.chmod(0o755)
        os.setresuid(65534, 65534, 0)
        try:
            problems = about(config, PROBLEM)
        finally:
            os.setresuid(0, 0, 0)
    assert len(problems) == 4
    assert "uid 65534 cannot write" in problems[0]
    assert "run listener and storescp under one uid" in problems[0]


def test_polling_needs_no_inotify(tmp_path: Path) -> None:
    assert "--poll" not in {one.about for one in check.findings(made(tmp_path, poll=True))}


@pytest.mark.parametrize(("limits", "level"), [(("128", "8192", "16384"), OK), (("4", "8192", "1"), NOTE), ((), NOTE)])
def test_limits_of_inotify(
    limits: tuple[str, ...], level: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    proc = tmp_path / "proc"
    proc.mkdir()
    for name, number in zip(("max_user_instances", "max_user_watches", "max_queued_events"), limits, strict=False):
        (proc / name).write_text(number)
    monkeypatch.setattr(check_system, "_LIMITS", str(proc))
    (found,) = [one for one in check.findings(made(tmp_path / "base")) if one.about == "--poll"]
    assert found.level == level
    assert bool(found.remedy) is (level == NOTE)


def test_lines_for_people_and_for_programs(tmp_path: Path, capsysbinary: pytest.CaptureFixture[bytes]) -> None:
    made(tmp_path)
    command = ["check", "--min-free=0", *(f"--{name}={tmp_path / name}" for name in FOLDERS)]
    assert cli.main(command) == 0
    words = capsysbinary.readouterr().out.decode().splitlines()
    assert cli.main([*command, "--json"]) == 0
    lines = [orjson.loads(line) for line in capsysbinary.readouterr().out.splitlines()]
    assert len(words) == len(lines)
    for text, line in zip(words, lines, strict=True):
        finding = Finding(**line)
        assert text.split()[0] == finding.level
        assert finding.text in text


def test_a_problem_makes_the_status_one(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    made(tmp_path)
    command = ["check", *(f"--{name}={tmp_path / name}" for name in FOLDERS)]
    assert cli.main([*command, "--min-free=0", "--image-template=x"]) == 1
    assert "problem  --image-template: " in capsys.readouterr().out
