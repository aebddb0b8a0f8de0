"""The verbs of the command line: found by name, whole, and none imported for another."""

from __future__ import annotations

import importlib
import inspect
import subprocess
import sys
from pathlib import Path

import pytest

from listener import arguments, commands, verbs

FOLDER = Path(commands.__file__).parent
NAMES = sorted(path.stem.replace("_", "-") for path in FOLDER.glob("[!_]*.py"))

#: What each must have, with its parameters.
PARTS = {"add_options": 1, "acts": 1, "run": 2}


def imported(*words: str) -> set[str]:
    """Modules below `listener` that are there when the words are parsed."""
    code = f"import sys; from listener import arguments; arguments.parser({list(words)!r}).parse_args({list(words)!r})"
    code += "; print('\\n'.join(name for name in sys.modules if name.startswith('listener.')))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=120)
    return set(done.stdout.split())


def test_every_module_is_a_verb_and_those_that_take_files_in_come_first() -> None:
    names = verbs.names()
    assert sorted(names) == NAMES
    assert names[:3] == ("run", "once", "repack")
    assert list(names[3:]) == sorted(names[3:])


def test_a_new_module_is_a_verb_and_one_with_an_underscore_is_none(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "fly.py").touch()
    (tmp_path / "_wing.py").touch()
    monkeypatch.setattr(commands, "__path__", [*commands.__path__, str(tmp_path)])
    assert set(verbs.names()) - set(NAMES) == {"fly"}


@pytest.mark.parametrize("name", NAMES)
def test_a_verb_is_whole(name: str) -> None:
    module = importlib.import_module(f"{commands.__name__}.{name.replace('-', '_')}")
    for part, count in PARTS.items():
        assert len(inspect.signature(getattr(module, part)).parameters) == count, part
    assert "xit status" in module.EPILOG
    text = verbs.summary(name)
    assert text == (module.__doc__ or "").splitlines()[0]
    assert text[0].isupper()
    assert text[-1] == "."


@pytest.mark.parametrize("words", [("run",), ("once",), ("repack", "x"), ("run", "--workers", "2")])
def test_a_verb_is_parsed_without_the_others(words: tuple[str, ...]) -> None:
    there = {name.split(".")[2] for name in imported(*words) if name.startswith("listener.commands.")}
    assert there == {words[0]}


def test_what_run_and_once_do_not_need_is_not_imported() -> None:
    others = ("benchmark", "checks", "disk", "network", "oneshot", "repacking", "service", "stages", "verification")
    for word in ("run", "once", "repack"):
        assert {name for name in imported(word) if name.split(".")[1] in others} == set(), word


def test_the_overview_imports_no_verb() -> None:
    code = "import sys; from listener import arguments; arguments.parser(['--help']).format_help()"
    code += "; print([name for name in sys.modules if name.startswith('listener.commands.')])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=120)
    assert done.stdout.strip() == "[]"


def test_without_words_every_verb_has_its_options() -> None:
    text = arguments.parser().format_help()
    assert all(f"    {name} " in text for name in NAMES), "argparse breaks the line behind a long name"
    given = arguments.parser().parse_args(["retry", "--dry-run", "--config", "x"])
    assert (given.command, given.dry_run, given.config) == ("retry", True, "x")
