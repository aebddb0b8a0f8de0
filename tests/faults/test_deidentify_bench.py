"""The benchmark of deidentify: each way is measured, the others that are there beside it, and nothing is left."""

from __future__ import annotations

from pathlib import Path

import orjson
import pytest

from listener.benchmark import deidentifying
from tests.service_process import listener

pytestmark = [pytest.mark.real, pytest.mark.slow, pytest.mark.faults, pytest.mark.timeout(600)]


def test_cleaning_is_measured_beside_those_that_are_there(tmp_path: Path) -> None:
    words = ["--repeat=1", f"--dir={tmp_path}", "--files=40", "--size=16KiB", "--only=deidentify", "--json"]
    done = listener("bench", *words, seconds=500)
    assert done.status == 0, done.stderr
    (group,) = orjson.loads(done.stdout)["groups"]
    rows = {one["program"]: one for one in group["figures"]}
    assert list(rows) == [*deidentifying.WAYS, *(name for name, _ in deidentifying.peers())]
    assert rows["deidentify"]["ratio"] == 1
    assert rows["deidentify"]["files"] == 36
    for row in rows.values():
        assert row["mb_a_second"] > 0
        assert row["cpu_us"] > 0
    assert list(tmp_path.iterdir()) == []


def test_who_is_measured_is_found_by_the_first_line_of_a_program(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    python = tmp_path / "bin/python"
    package = tmp_path / "lib/python3.11/site-packages/deid"
    for folder in (python.parent, package):
        folder.mkdir(parents=True)
    (package / "__init__.py").touch()
    program = python.parent / "deid"
    program.write_text(f"#!{python}\n")
    program.chmod(0o755)
    monkeypatch.setenv("PATH", str(python.parent))
    assert [(name, command[0]) for name, command in deidentifying.peers()] == [("deid", str(python))]
