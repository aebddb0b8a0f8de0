"""As which user a command acts: what root makes, the service of another user could not use."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from listener import cli
from tests.workbench import need_root, without_powers

NAMES = ("incoming", "data", "log", "state")
USER = 12345


@pytest.fixture
def base() -> Iterator[Path]:
    """Directories of another user, on a way that he may go."""
    need_root()
    with tempfile.TemporaryDirectory() as folder:
        made = Path(folder)
        made.chmod(0o755)
        for name in NAMES:
            (made / name).mkdir()
            os.chown(made / name, USER, USER)
        yield made


def flags(base: Path, *names: str) -> list[str]:
    return [f"--{name}={base / name}" for name in names]


@pytest.mark.parametrize(
    ("words", "names"),
    [
        (["verify", "--repair"], ("data", "log", "state")),
        (["prune", "--set-aside=0", "--yes"], ("data", "log", "state")),
        (["retry", "--all"], ("incoming", "state")),
        (["expect", "1.2.3", "5"], ("state",)),
        (["acknowledge", "--all"], ("state",)),
    ],
)
def test_root_is_sent_to_the_user_of_the_service(
    base: Path, capsys: pytest.CaptureFixture[str], words: list[str], names: tuple[str, ...]
) -> None:
    assert cli.main([*words, *flags(base, *names)]) == 2
    assert f"belongs to uid {USER}" in (said := capsys.readouterr().err)
    assert f"sudo -u '#{USER}' listener" in said
    assert not [path for name in NAMES for path in (base / name).iterdir()], "nothing was made"


def test_a_service_of_root_s_is_mended_by_root(base: Path) -> None:
    (base / "state" / "id").write_text("x")
    (base / "log" / ".listener").mkdir()
    assert cli.main(["verify", "--repair", *flags(base, "data", "log", "state")]) == 0


@pytest.mark.real
@pytest.mark.parametrize(("verb", "status"), [("check", 1), ("run", 2)])
def test_what_another_user_made_all_the_same_is_named(tmp_path: Path, verb: str, status: int) -> None:
    """The other way round, and without root's powers over files."""
    need_root()
    own = tmp_path / "log" / ".listener"
    own.mkdir(parents=True)
    os.chown(own, USER, USER)
    with without_powers() as through:
        words = [verb, "--config=/dev/null", "--http=off", *flags(tmp_path, *NAMES)]
        for name in NAMES:
            (tmp_path / name).mkdir(exist_ok=True)
        command = [*through, sys.executable, "-m", "listener", *words]
        done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == status, done.stderr
    assert f"write in '{own}'" in done.stdout + done.stderr
