from __future__ import annotations

import argparse
import os
from dataclasses import dataclass
from pathlib import Path

import pytest

from listener import config_file, parse, settings
from listener.config import STAGES, row
from listener.errors import ConfigError
from listener.stages import options


@dataclass(frozen=True)
class Options:
    http: str = row("127.0.0.1:9465", parse.address, "ADDR:PORT", "metrics, health and page")
    busy: float = row(600.0, parse.seconds(0), "SECONDS", "how long a study is live", unit="s")
    quick: bool = row(False, parse.boolean, "", "do not wait")
    names: tuple[str, ...] = row((), parse.ae_title, "AET", "whom", several=True, shown="none")


def load(words: list[str], environment: dict[str, str] | None = None, file: Path | None = None) -> Options:
    parser = argparse.ArgumentParser(exit_on_error=False)
    parser.add_argument("--config")
    options.add_flags(parser, Options)
    given = parser.parse_args([*words, *(["--config", str(file)] if file else [])])
    return options.load(Options, "route", given, environment or {})


def test_flag_before_variable_before_table_before_default(tmp_path: Path) -> None:
    file = tmp_path / "listener.toml"
    file.write_text('http = "off"\n[route]\nbusy = 5\nquick = true\nnames = ["A", "B"]\n')
    assert load([]) == Options()
    assert load([], file=file) == Options(busy=5.0, quick=True, names=("A", "B"))
    environment = {"LISTENER_ROUTE_BUSY": "6", "LISTENER_ROUTE_NAMES": os.pathsep.join("CD"), "LISTENER_HTTP": "off"}
    assert load([], environment, file) == Options(busy=6.0, quick=True, names=("C", "D"))
    assert load(["--busy", "7", "--names=E", "--http", "off"], environment, file) == Options("off", 7.0, True, ("E",))


def test_all_problems_are_told_at_once(tmp_path: Path) -> None:
    file = tmp_path / "listener.toml"
    file.write_text('[route]\nbusi = 5\nquick = ["yes"]\nbusy = "long"\n')
    with pytest.raises(ConfigError) as caught:
        load(["--http", "nowhere"], {"LISTENER_ROUTE_NAMES": "x" * 17}, file)
    problems = "\n".join(sorted(caught.value.problems))
    assert f"{file}: [route]: unknown key 'busi'; did you mean 'busy'?" in problems
    assert f"{file}: [route]: quick: ['yes'] has the wrong shape; give one value" in problems
    assert f"{file}: [route] busy: 'long' " in problems
    assert "--http: 'nowhere' " in problems
    assert "LISTENER_ROUTE_NAMES: 'xxxxxxxxxxxxxxxxx' " in problems
    file.write_text("route = 5\n")
    with pytest.raises(ConfigError, match=r"give a table \[route\]"):
        load([], file=file)


def test_one_file_and_one_environment_are_for_all_commands(tmp_path: Path) -> None:
    file = tmp_path / "listener.toml"
    file.write_text('workers = 3\n[route]\nbusy = 5\n[serve]\nwhat = "ever"\n')
    assert settings.load({}, {}, "run", str(file)).workers == 3
    assert load([], file=file).busy == 5
    for stage in STAGES:
        assert config_file.unknown_variables({f"LISTENER_{stage.upper()}_BUSY": "1"}) == []
    assert config_file.unknown_variables({"LISTENER_ROUTER_BUSY": "1"}) != []
    file.write_text('route = "no table"\n[rout]\nbusy = 5\n')
    with pytest.raises(ConfigError) as caught:
        settings.load({}, {}, "run", str(file))
    assert sorted(problem.partition(";")[0] for problem in caught.value.problems) == [
        f"{file}: unknown key 'rout'",
        f"{file}: unknown key 'route'",
    ]


def test_help_tells_default_and_unit(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        load(["--help"])
    text = " ".join(capsys.readouterr().out.split())
    assert "--busy SECONDS how long a study is live (default: 600 s)" in text
    assert "--names AET whom (default: none)" in text
    assert "--quick do not wait (default: off)" in text
