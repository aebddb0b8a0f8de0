""".ci/common: what is kept outside of the checkout belongs to the scripts that made it; fetching is tried thrice."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest

from tests.conftest import PROJECT


def shell(cache: Path, script: str) -> subprocess.CompletedProcess[str]:
    """A script of sh with .ci/common, whose cache is below `cache`, and whose pauses are none."""
    return subprocess.run(
        ["sh", "-c", f'sleep() {{ :; }}; . "$1/.ci/common"; {script}', "sh", PROJECT],
        env={**os.environ, "XDG_CACHE_HOME": str(cache)},
        cwd=cache,
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )


def cached(cache: Path, versions: str) -> Path:
    done = shell(cache, f"cached tools '{versions}' scripts")
    assert done.returncode == 0, done.stderr
    return Path(done.stdout.strip())


@pytest.fixture
def scripts(tmp_path: Path) -> Path:
    (tmp_path / "scripts").mkdir()
    (tmp_path / "scripts/make").write_text("fetch helm")
    return tmp_path


def test_a_changed_script_and_another_version_have_a_directory_of_their_own(scripts: Path) -> None:
    first = cached(scripts, "1.0")
    assert first.is_dir()
    assert first.parent == scripts / "dicom-listener"
    assert cached(scripts, "1.0") == first
    assert cached(scripts, "1.1") != first
    (scripts / "scripts/make").write_text("fetch helm --format=tar")
    assert cached(scripts, "1.0") != first
    (scripts / "scripts/make").write_text("fetch helm")
    assert cached(scripts, "1.0") == first


def test_what_nobody_has_asked_for_in_two_weeks_goes(scripts: Path) -> None:
    old, recent = cached(scripts, "1.0"), cached(scripts, "1.1")
    (old / "made").write_text("")
    lock = old.parent / "tools.lock"
    lock.write_text("")
    for path in (old, lock):
        os.utime(path, (0, 0))
    now = cached(scripts, "1.2")
    assert sorted(old.parent.iterdir()) == sorted([recent, now, lock])


@pytest.mark.parametrize(("works_at", "status", "tries"), [(1, 0, 1), (3, 0, 3), (9, 7, 3)])
def test_a_command_is_tried_three_times(tmp_path: Path, works_at: int, status: int, tries: int) -> None:
    command = f"count=0; fetch() {{ count=$((count + 1)); [ $count -ge {works_at} ] || return 7; }}"
    done = shell(tmp_path, f"{command}; thrice fetch; status=$?; echo $count; exit $status")
    assert (done.returncode, done.stdout.strip()) == (status, str(tries))
    assert done.stderr.count("fetch failed") == tries - 1
