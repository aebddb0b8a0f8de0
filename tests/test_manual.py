"""Manual pages and completions: made of the parser, whole, and taken by the programs that read them."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import zipfile
from functools import cache
from pathlib import Path
from types import ModuleType

import pytest

from listener import arguments
from tests.conftest import PROJECT, script

SHARE = PROJECT / "docs/installed/share"
PARSERS = arguments.commands_of(arguments.parser())
PAGES = {"": "listener", **{name: f"listener-{name}" for name in PARSERS}}


@cache
def manual() -> ModuleType:
    return script("manual")


def need(program: str) -> str:
    path = shutil.which(program)
    if path is None:
        pytest.skip(f"{program} is not installed")
    return path


def page(name: str) -> Path:
    return SHARE / f"man/man1/{PAGES[name]}.1"


def test_what_make_docs_writes_is_up_to_date() -> None:
    made = manual().files()
    there = {str(path.relative_to(SHARE)): path.read_text("utf-8") for path in SHARE.rglob("*") if path.is_file()}
    assert sorted(there) == sorted(made)
    assert [path for path, text in made.items() if there[path] != text] == [], "run `make docs`"
    assert len(made) == len(PARSERS) + 4


@pytest.mark.parametrize("name", PAGES)
def test_mandoc_finds_nothing(name: str) -> None:
    """But that a page has no date, which would be the day of the last `make docs`."""
    lint = [need("mandoc"), "-Tlint", "-Wwarning", str(page(name))]
    said = subprocess.run(lint, capture_output=True, text=True, check=False, timeout=120).stdout
    assert [line for line in said.splitlines() if "missing date" not in line] == []


@pytest.mark.parametrize("name", PARSERS)
def test_a_page_as_man_shows_it_has_every_flag_and_every_status(name: str) -> None:
    done = subprocess.run(
        [need("man"), "--warnings=all", "-l", str(page(name))],
        env={**os.environ, "MANWIDTH": "100", "LC_ALL": "C.UTF-8", "MAN_KEEP_FORMATTING": ""},
        capture_output=True,
        text=True,
        check=True,
        timeout=120,
    )
    assert done.stderr == ""
    told = re.sub(r".\x08", "", done.stdout).replace("\u2010", "-")
    for action in PARSERS[name]._actions:
        for spelled in action.option_strings:
            assert re.search(rf"^ .*{spelled}\b", told, re.MULTILINE), spelled
    assert "EXIT STATUS" in told
    assert re.search(r"^       0 +\S", told, re.MULTILINE)
    assert max(map(len, told.splitlines())) <= 100


def test_signs_are_shown_as_they_are() -> None:
    text = "\\-'^~`.x"
    page_ = f".TH X 1\n.SH NAME\nx \\- y\n.PP\n{manual()._roff(text)}\n"
    shown = [need("mandoc"), "-Tutf8"]
    assert text in subprocess.run(shown, input=page_, capture_output=True, text=True, check=True, timeout=120).stdout


def test_the_examples_are_command_lines() -> None:
    for name, examples in manual().EXAMPLES.items():
        for line, _ in examples:
            program, given, *rest = line.split()
            assert (program, given) == ("listener", name)
            arguments.parser([given]).parse_args([given, *rest])


def completed(*words: str) -> list[str]:
    """What bash offers for the last word."""
    line = " ".join(f"'{word}'" for word in words)
    text = f"source '{SHARE}/bash-completion/completions/listener'; COMP_WORDS=({line}); COMP_CWORD={len(words) - 1}; "
    text += (
        'function=$(complete -p listener | sed "s/.*-F *//; s/ .*//"); "$function"; printf "%s\\n" "${COMPREPLY[@]}"'
    )
    done = subprocess.run(
        [need("bash"), "--norc", "-c", text], capture_output=True, text=True, check=True, timeout=120, cwd=PROJECT
    )
    return sorted(done.stdout.split())


@pytest.mark.parametrize(
    ("words", "offered"),
    [
        (("listener", "re"), ["repack", "report", "retry"]),
        (("listener", "set-aside", "--s"), ["--sender", "--state", "--study"]),
        (("listener", "run", "--layout", "p"), ["px", "px311"]),
        (("listener", "retry", "--reason", "in"), ["incomplete", "internal"]),
        (("listener", "report", "--by", "m"), ["modality", "month"]),
        (("listener", "check", "--config", "req"), ["requirements.lock"]),
        (("listener", "check", "--state", "list"), ["listener"]),
    ],
)
def test_bash_completes(words: tuple[str, ...], offered: list[str]) -> None:
    assert completed(*words) == offered


@pytest.mark.parametrize(
    ("shell", "flag", "path"),
    [
        ("bash", "-n", "bash-completion/completions/listener"),
        ("zsh", "-n", "zsh/site-functions/_listener"),
        ("fish", "--no-execute", "fish/vendor_completions.d/listener.fish"),
    ],
)
def test_a_shell_can_read_its_completions(shell: str, flag: str, path: str) -> None:
    done = subprocess.run(
        [need(shell), flag, str(SHARE / path)], capture_output=True, text=True, check=False, timeout=120
    )
    assert (done.returncode, done.stderr) == (0, "")


def test_a_wheel_brings_them(tmp_path: Path) -> None:
    code = f"import flit_core.buildapi as b; print(b.build_wheel({str(tmp_path)!r}))"
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=PROJECT, capture_output=True, text=True, check=True, timeout=120
    )
    with zipfile.ZipFile(tmp_path / done.stdout.split()[-1]) as wheel:
        brought = {name.partition(".data/data/share/")[2] for name in wheel.namelist()} - {""}
    assert brought == {str(path.relative_to(SHARE)) for path in SHARE.rglob("*") if path.is_file()}
