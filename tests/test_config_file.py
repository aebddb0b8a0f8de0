"""Which file of options counts, whether it may be trusted, and what is told of variables that are no options."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from listener import config_file
from listener.config import options, variable
from listener.errors import ConfigError
from tests.service_process import Done, command, environment


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A home with a working directory in it, and an /etc of the test's own; nothing in any of them."""
    (tmp_path / "home/.config").mkdir(parents=True)
    (tmp_path / "home/work").mkdir()
    (tmp_path / "etc").mkdir()
    monkeypatch.chdir(tmp_path / "home/work")
    monkeypatch.setattr(config_file, "SYSTEM", str(tmp_path / "etc/listener.toml"))
    return tmp_path / "home"


def variables(home: Path, **more: str) -> dict[str, str]:
    return {"HOME": str(home), **more}


def write(path: Path, mode: int = 0o644) -> str:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("workers = 3\n")
    path.chmod(mode)
    return str(path)


def test_the_first_that_is_there_counts(home: Path) -> None:
    places = [home / "work/listener.toml", home / "xdg/listener.toml", home / "../etc/listener.toml"]
    names = [write(path.parent.resolve() / path.name) for path in places]
    given = variables(home, XDG_CONFIG_HOME=str(home / "xdg"))
    assert config_file.find("/named", {**given, "LISTENER_CONFIG": "/by/environment"}) == "/named"
    assert config_file.find(None, {**given, "LISTENER_CONFIG": "/by/environment"}) == "/by/environment"
    for name in names:
        assert config_file.find(None, given) == name
        Path(name).unlink()
    assert config_file.find(None, given) == ""


def test_the_user_s_is_in_config_unless_xdg_says_otherwise(home: Path) -> None:
    name = write(home / ".config/listener.toml")
    for more in ({}, {"XDG_CONFIG_HOME": ""}, {"XDG_CONFIG_HOME": "relative"}):
        assert config_file.find(None, variables(home, **more)) == name
    assert config_file.find(None, variables(home, XDG_CONFIG_HOME=str(home))) == ""
    assert config_file.find(None, {}) == ""


@pytest.mark.parametrize("where", ["work", ".config"])
@pytest.mark.parametrize(
    ("kind", "words"),
    [
        ("group", "others may write it"),
        ("everybody", "others may write it"),
        ("foreign", "belongs to user 4711"),
        ("foreign link", "belongs to user 4711"),
        ("open directory", "everybody may replace it"),
    ],
)
def test_what_somebody_else_could_have_written_is_refused(home: Path, where: str, kind: str, words: str) -> None:
    path = home / where / "listener.toml"
    name = write(path, {"group": 0o664, "everybody": 0o646}.get(kind, 0o644))
    if kind.startswith("foreign") and os.geteuid():
        pytest.skip("only root can give files away")
    if kind == "foreign":
        os.chown(path, 4711, 4711)
    elif kind == "foreign link":
        path.rename(home / "mine")
        path.symlink_to(home / "mine")
        os.lchown(path, 4711, 4711)
    elif kind == "open directory":
        path.parent.chmod(0o777)
    with pytest.raises(ConfigError, match=words) as caught:
        config_file.find(None, variables(home))
    assert "--config" in str(caught.value)
    # By name it may be used all the same.
    assert config_file.find(name, variables(home)) == name
    path.parent.chmod(0o755)


def test_one_s_own_in_a_directory_like_tmp_is_fine(home: Path) -> None:
    name = write(home / "work/listener.toml")
    (home / "work").chmod(0o1777)
    assert config_file.find(None, variables(home)) == name


def test_a_working_directory_that_was_removed(home: Path) -> None:
    (home / "work").rmdir()
    name = write(home / ".config/listener.toml")
    assert config_file.find(None, variables(home)) == name


def run(cwd: Path, *args: str, **more: str) -> Done:
    given = environment(**more)
    del given["LISTENER_CONFIG"]
    done = subprocess.run(command(*args), env=given, cwd=cwd, capture_output=True, timeout=120, check=False)
    return Done(done.returncode, done.stdout, done.stderr.decode())


def test_every_command_finds_it_and_check_and_status_name_it(home: Path, tmp_path: Path) -> None:
    path = home / "work/listener.toml"
    folders = {name: tmp_path / "dicom" / name for name in ("incoming", "data", "log", "state")}
    for folder in folders.values():
        folder.mkdir(parents=True)
    path.write_text("".join(f"{name} = '{folder}'\n" for name, folder in folders.items()) + "min-free = 0\n")
    checked = run(home / "work", "check")
    assert f"--config: options are read from '{path}'" in checked.stdout.decode()
    assert str(folders["data"]) in checked.stdout.decode()
    assert run(home / "work", "once").status == 0
    status = run(home / "work", "status")
    assert status.status == 0, status.stderr
    assert f"options are read from '{path}'" in status.stdout.decode()
    assert json.loads(run(home / "work", "status", "--json").stdout)["config"] == str(path)
    assert run(home / "work", "series").status == 0
    elsewhere = run(home, "check", HOME=str(tmp_path))
    assert "no file of options was found" in elsewhere.stdout.decode() or "/etc/listener.toml" in str(elsewhere.stdout)


# -- variables -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "name",
    [
        *map(variable, options()),
        "LISTENER_CONFIG",
        "LISTENER_REVISION",
        # What Kubernetes tells of Services called listener, listener-headless and listener-2.
        "LISTENER_SERVICE_HOST",
        "LISTENER_SERVICE_PORT",
        "LISTENER_SERVICE_PORT_DICOM",
        "LISTENER_PORT",
        "LISTENER_PORT_11112_TCP",
        "LISTENER_PORT_11112_TCP_ADDR",
        "LISTENER_PORT_11112_TCP_PROTO",
        "LISTENER_HEADLESS_SERVICE_HOST",
        "LISTENER_HEADLESS_SERVICE_PORT_HTTP",
        "LISTENER_2_PORT_9464_TCP_PORT",
        "PATH",
    ],
)
def test_what_is_an_option_or_none_of_ours_is_not_told(name: str) -> None:
    assert config_file.unknown_variables({name: "x"}) == []


@pytest.mark.parametrize(
    ("name", "meant"),
    [("LISTENER_MIN_FRE", "LISTENER_MIN_FREE"), ("LISTENER_WORKER", "LISTENER_WORKERS"), ("LISTENER_NONSENSE_X", "")],
)
def test_a_variable_that_does_nothing_is_told(name: str, meant: str) -> None:
    (line,) = config_file.unknown_variables({name: "secret value"})
    assert line.startswith(f"{name} is no option")
    assert (f"did you mean {meant}?" in line) is bool(meant)
    assert "secret" not in line


def test_it_is_told_by_the_program(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "listener", "check", "--state", str(tmp_path)],
        env=environment(LISTENER_MIN_FRE="5GiB"),
        capture_output=True,
        timeout=120,
        check=False,
    )
    assert b"LISTENER_MIN_FRE is no option and does nothing; did you mean LISTENER_MIN_FREE?" in done.stderr
