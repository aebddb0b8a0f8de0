"""The benchmark measures what was really done, and nothing else."""

from __future__ import annotations

from pathlib import Path

import orjson
import pytest

from tests.service_process import listener

pytestmark = pytest.mark.real


def test_it_measures_both_levels_and_cleans_up(tmp_path: Path) -> None:
    done = listener("bench", "--files=40", "--kib=1", "--repeat=1", f"--dir={tmp_path}", "--json")
    assert done.status == 0, done.stderr
    figures = {one["program"]: one for one in orjson.loads(done.stdout)}
    assert {"listener once --fsync none", "listener once --fsync batch"} <= figures.keys()
    assert figures["listener once --fsync none"]["ratio"] == 1
    assert all(one["files_a_second"] > 0 for one in figures.values())
    assert not list(tmp_path.iterdir())


def test_a_program_that_did_not_do_its_work_has_no_figure(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    lazy = tmp_path / "bin" / "px-repack"
    lazy.parent.mkdir()
    lazy.write_text("#!/bin/sh\n")
    lazy.chmod(0o755)
    monkeypatch.setenv("PATH", str(lazy.parent), prepend=":")
    done = listener("bench", "--files=8", "--kib=1", "--repeat=1", f"--dir={tmp_path}")
    assert done.status == 1
    assert "0 instances and 0 documents came out" in done.stderr
