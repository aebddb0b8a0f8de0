"""The command line: statuses, help, what is imported, and the three spellings of repack."""

from __future__ import annotations

import os
import re
import resource
import statistics
import subprocess
import sys
from functools import partial
from pathlib import Path
from typing import Any

import orjson
import pytest

import listener
from listener import cli
from listener import config as configuration
from listener.service.lock import IncomingLock
from tests.contract import CONTRACT
from tests.instances import instance, save, write_instance
from tests.workbench import contents, directory_options

COMMANDS = ("run", "once", "repack", "plan", "check")

#: Options of each command as the contract has them: every option belongs to every command that needs it.
EVERYWHERE = {"--config", "--data", "--log", "--state", "--layout", "--log-level", "--help"}
TEMPLATES = {f"--{level}-template" for level in ("root", "study", "series", "image")}
SERVICE_ONLY = {"--http", "--token-file", "--http-cert", "--http-key", "--http-client-ca"}
SERVICE_ONLY |= {
    "--rescan",
    "--poll",
    "--standby",
    "--ready-backlog",
    "--page",
    "--drain",
    "--watch-sender",
    "--retry-start",
}
OWN = {
    "run": set(CONTRACT),
    "once": set(CONTRACT) - SERVICE_ONLY,
    "repack": {"--on-conflict", "--file-mode", "--dir-mode", "--fsync", "--phi", "--cleanup", "--log-ndjson"},
    "plan": {"--json"},
    "check": set(CONTRACT) | {"--json"},
}

#: What a help that answers at once must not import.
HEAVY = ("pydicom", "watchdog", "prometheus_client", "tenacity", "jinja2", "numpy", "asyncio")


def listen(*arguments: str, **options: Any) -> subprocess.CompletedProcess[str]:
    """The program in a process of its own."""
    command = [sys.executable, "-m", "listener", *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=False, timeout=120, **options)


def status(*arguments: str) -> int:
    """The exit status, in this process."""
    try:
        return cli.main(arguments)
    except SystemExit as leaving:  # argparse leaves like this
        return int(leaving.code or 0)


def helped(capsys: pytest.CaptureFixture[str], *arguments: str) -> str:
    assert status(*arguments) == 0
    return capsys.readouterr().out


def test_version(capsys: pytest.CaptureFixture[str]) -> None:
    assert helped(capsys, "--version") == f"listener {listener.__version__}\n"


def test_help_names_every_command(capsys: pytest.CaptureFixture[str]) -> None:
    text = helped(capsys, "--help")
    assert all(re.search(rf"^    {command} ", text, re.MULTILINE) for command in COMMANDS)


def test_no_command_prints_help_and_fails(capsys: pytest.CaptureFixture[str]) -> None:
    assert status() == 2
    said = capsys.readouterr()
    assert "usage: listener" in said.out + said.err


@pytest.mark.parametrize("arguments", [("fly",), ("--fly",), ("run", "--fly"), ("run", "--workers"), ("plan",)])
def test_what_is_not_understood_ends_with_two(arguments: tuple[str, ...], capsys: pytest.CaptureFixture[str]) -> None:
    assert status(*arguments) == 2
    assert "usage: listener" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "hint"),
    [
        (("rnu",), "did you mean run?"),
        (("run", "--min-fre", "5"), "did you mean --min-free?"),
        (("run", "--min-fre=5"), "did you mean --min-free?"),
        (("retry", "--dryrun"), "did you mean --dry-run?"),
        (("repack", "--rootTemplate", "x"), "did you mean --root-template?"),
        (("status", "--workers", "3"), "--workers belongs to bench, check, once, run"),
        (("hooks", "redelivr", "webhook"), "did you mean redeliver?"),
        (("run", "--quite-something-else"), ""),
    ],
)
def test_what_was_probably_meant_is_said(
    arguments: tuple[str, ...], hint: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert status(*arguments) == 2
    told = capsys.readouterr().err
    assert hint in told
    assert ("did you mean" in told) is ("did you mean" in hint)


def option_texts(text: str) -> dict[str, str]:
    """Help text by option, each in one line."""
    body = text.partition("\noptions:\n")[2].partition("\n\n")[0]
    found: dict[str, str] = {}
    for block in re.split(r"\n(?=  -)", "\n" + body):
        flat = " ".join(block.split())
        for spelled in re.findall(r"--[A-Za-z][A-Za-z-]*", flat.partition("  ")[0]):
            found.setdefault(spelled, flat)
    return found


@pytest.mark.parametrize("command", COMMANDS)
def test_every_option_shows_default_and_unit(command: str, capsys: pytest.CaptureFixture[str]) -> None:
    told = option_texts(helped(capsys, command, "--help"))
    for name, row in configuration.options().items():
        if command in row.commands:
            default, unit = CONTRACT[configuration.flag(name)]
            assert f"(default: {f'{default} {unit}'.strip()})" in told[configuration.flag(name)]


@pytest.mark.parametrize("command", COMMANDS)
def test_options_belong_to_the_commands_that_need_them(command: str, capsys: pytest.CaptureFixture[str]) -> None:
    told = set(option_texts(helped(capsys, command, "--help")))
    assert told >= OWN[command] | EVERYWHERE | TEMPLATES
    if command in ("plan", "once"):
        assert "--http" not in told


@pytest.mark.parametrize("command", COMMANDS)
def test_help_tells_the_exit_statuses(command: str, capsys: pytest.CaptureFixture[str]) -> None:
    text = " ".join(helped(capsys, command, "--help").split())
    assert re.search(r"exit status", text)
    if command != "repack":
        assert re.search(r"exit status: 0 .*; 1 ", text)


def test_abbreviations_are_refused(capsys: pytest.CaptureFixture[str]) -> None:
    """`--work 2` would change its meaning with the next option that begins so."""
    assert status("run", "--work", "2") == 2
    capsys.readouterr()


@pytest.mark.parametrize("command", ["run", "once", "check", "plan", "repack"])
def test_a_wrong_configuration_is_told_all_at_once_before_anything_is_touched(
    command: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("LISTENER_MAX_DEPTH", "many")
    (tmp_path / "t.toml").write_text("layuot = 'px'")
    named = ["x"] if command in ("plan", "repack") else []
    assert status(command, "--layout", "py", "--log-level=loud", "--config", "t.toml", *named) == 2
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 4
    assert all(line.startswith("listener: ") for line in lines)
    for word in ("--layout: 'py'", "--log-level: 'loud'", "LISTENER_MAX_DEPTH: 'many'", "did you mean 'layout'?"):
        assert any(word in line for line in lines), word
    assert os.listdir(tmp_path) == ["t.toml"]


def test_a_directory_that_cannot_be_made_is_a_wrong_configuration(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "data").touch()
    assert status("once", *directory_options(tmp_path, "incoming", "data", "log", "state")) == 2
    assert "--data" in capsys.readouterr().err


def test_a_second_owner_ends_with_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("listener.oneshot.once.IncomingLock", partial(IncomingLock, patience=0))
    (tmp_path / "incoming").mkdir()
    owner = IncomingLock((str(tmp_path / "incoming"),))
    try:
        assert status("once", *directory_options(tmp_path, "incoming", "data", "log", "state")) == 1
    finally:
        owner.close()
    assert "Another listener owns this incoming directory" in capsys.readouterr().err


def imported(*arguments: str) -> set[str]:
    """Names of the modules that a command imports before it leaves."""
    code = (
        "import sys\nfrom listener import cli\n"
        f"try:\n    cli.main({list(arguments)!r})\nexcept SystemExit:\n    pass\n"
        "sys.stderr.write('\\n'.join(sys.modules))"
    )
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=120)
    return set(run.stderr.split())


def test_help_imports_nothing_heavy() -> None:
    names = imported("run", "--help")
    assert "listener.cli" in names
    assert [name for name in names if name.split(".")[0] in HEAVY] == []
    assert len(names) < 200


def test_a_wrong_option_and_plan_are_told_without_pydicom(tmp_path: Path) -> None:
    path = write_instance(tmp_path / "one")
    for arguments in (["run", "--layout=py"], ["plan", *directory_options(tmp_path), str(path)]):
        assert not {"pydicom", "watchdog", "prometheus_client"} & imported(*arguments), arguments


def test_help_answers_within_a_small_multiple_of_a_bare_interpreter() -> None:
    """A budget, not a benchmark: imports that creep in are found. Processor time, so that others do not matter."""

    def used() -> float:
        spent = resource.getrusage(resource.RUSAGE_CHILDREN)
        return spent.ru_utime + spent.ru_stime

    def median(*arguments: str) -> float:
        times = []
        for _ in range(5):
            begun = used()
            subprocess.run([sys.executable, *arguments], stdout=subprocess.DEVNULL, check=True)
            times.append(used() - begun)
        return statistics.median(times)

    assert median("-m", "listener", "--help") < 10 * median("-c", "pass")


# -- repack -----------------------------------------------------------------------------------------------------------


def spelled(spelling: str, folder: Path, *more: str) -> list[str]:
    """The same request: the file `one` of the folder `in`, by each program's own words."""
    data, log, source = str(folder / "data"), str(folder / "log"), folder / "in"
    return {
        "own": ["repack", f"--data={data}", f"--log={log}", str(source / "one"), *more],
        "rx": [
            *("repack", "--xcrdir", str(source), "--xcrfile", "one", "--datadir", data, "--logdir", log),
            *("--verbosity", "1", "--log-ndjson", *more),
        ],
        "px": [
            *("repack", "--xcrdir", str(source), "--parseAllFilesWithSubStr", "on,dcm", "--datadir", data),
            *("--logdir", log, "--verbosity", "0", *more),
        ],
        "px, one file": ["repack", "-p", str(source), "-f", "one", "-d", data, "-l", log, "-v", "0", *more],
        "px, its path": ["repack", "--xcrdirfile", str(source / "one"), "-d", data, "-l", log, *more],
    }[spelling]


SPELLINGS = ("own", "rx", "px", "px, one file", "px, its path")


def sources(folder: Path) -> Path:
    (folder / "in").mkdir()
    write_instance(folder / "in/one", number=1)
    write_instance(folder / "in/two", number=2)
    return folder / "in"


@pytest.mark.parametrize("spelling", SPELLINGS)
def test_the_spellings_of_repack_copy(spelling: str, tmp_path: Path, capfdbinary: pytest.CaptureFixture[bytes]) -> None:
    source = sources(tmp_path)
    assert status(*spelled(spelling, tmp_path)) == 0
    assert sorted(os.listdir(source)) == ["one", "two"]
    assert list(contents(tmp_path / "data").values()) == [(source / "one").read_bytes()]
    assert len(contents(tmp_path / "log")) == 6
    lines = capfdbinary.readouterr().out.splitlines()
    # px-repack with --verbosity 0 prints nothing; rx-repack's --log-ndjson and our own spelling print an event a file.
    assert [orjson.loads(line)["event"] for line in lines] == ([] if spelling.startswith("px") else ["published"])
    assert not (tmp_path / "dicom").exists()


@pytest.mark.parametrize("spelling", SPELLINGS)
def test_the_spellings_of_repack_move(spelling: str, tmp_path: Path, capfdbinary: pytest.CaptureFixture[bytes]) -> None:
    source = sources(tmp_path)
    before = (source / "one").read_bytes()
    assert status(*spelled(spelling, tmp_path, "--cleanup")) == 0
    assert os.listdir(source) == ["two"]
    assert list(contents(tmp_path / "data").values()) == [before]


def test_px_templates(tmp_path: Path, capfdbinary: pytest.CaptureFixture[bytes]) -> None:
    sources(tmp_path)
    templates = ["--rootDirTemplate=%PatientID", "--studyDirTemplate=s", "--seriesDirTemplate=e"]
    assert status(*spelled("px", tmp_path, *templates, "--imageTemplate=%InstanceNumber.dcm")) == 0
    assert list(contents(tmp_path / "data")) == ["P0000/s/e/1.dcm"]


def test_with_phi_a_line_tells_where(tmp_path: Path, capfdbinary: pytest.CaptureFixture[bytes]) -> None:
    source = sources(tmp_path)
    assert status(*spelled("rx", tmp_path, "--phi")) == 0
    event = orjson.loads(capfdbinary.readouterr().out)
    assert event["src"] == str(source / "one")
    assert os.path.exists(event["dst"])
    assert event["PatientID"] == "P0000"


def test_a_file_that_fails_stays_and_the_status_is_one(
    tmp_path: Path, capfdbinary: pytest.CaptureFixture[bytes]
) -> None:
    source = sources(tmp_path)
    (source / "text").write_text("no DICOM at all " * 20)
    assert status("repack", *directory_options(tmp_path, "data", "log"), "--cleanup", str(source)) == 1
    assert os.listdir(source) == ["text"]
    assert len(contents(tmp_path / "data")) == 2
    said = capfdbinary.readouterr()
    assert [orjson.loads(line).get("reason") for line in said.out.splitlines()].count("not-dicom") == 1
    assert b"not-dicom: 1" in said.err


@pytest.mark.parametrize("given", [("absent",), ("--xcrdir", ".", "--xcrfile", "absent")])
def test_a_file_that_is_not_there(given: tuple[str, ...], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert status("repack", *directory_options(tmp_path, "data", "log"), *given) == 1


def test_nothing_to_repack_is_a_wrong_configuration(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert status("repack", *directory_options(tmp_path, "data", "log")) == 2
    assert "nothing to repack" in capsys.readouterr().err
    assert os.listdir(tmp_path) == []


def test_conflicts_are_kept_side_by_side_unless_a_state_directory_is_given(
    tmp_path: Path, capfdbinary: pytest.CaptureFixture[bytes]
) -> None:
    (tmp_path / "in").mkdir()
    save(instance(), tmp_path / "in/a")
    save(instance(StudyTime="235959"), tmp_path / "in/b")
    for more, count in (([], 2), ([f"--state={tmp_path / 'state'}"], 1)):
        data = tmp_path / f"data{count}"
        log = tmp_path / f"log{count}"
        assert status("repack", f"--data={data}", f"--log={log}", *more, str(tmp_path / "in")) == 0
        assert len(contents(data)) == count
    assert len(contents(tmp_path / "state/set-aside/superseded")) >= 2


def test_the_program_in_a_process_of_its_own(tmp_path: Path) -> None:
    source = sources(tmp_path)
    run = listen("repack", *directory_options(tmp_path, "data", "log"), str(source))
    assert (run.returncode, len(run.stdout.splitlines()), run.stderr) == (0, 2, "")
    run = listen("plan", *directory_options(tmp_path), str(source / "one"))
    assert run.returncode == 0
    assert "  -> " in run.stdout
