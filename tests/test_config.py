"""One Config from flags, environment, file and defaults; every problem told at once, and nothing touched before."""

from __future__ import annotations

import builtins
import io
import os
from collections.abc import Mapping
from dataclasses import FrozenInstanceError, fields
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from listener import settings
from listener.config import MOST_SENDERS, Config, defaults, flag, options, variable
from listener.cpu import available_processors
from listener.errors import ConfigError
from tests.conftest import PROJECT
from tests.contract import CONTRACT

#: For every field: four texts that can be told apart once parsed, as flag, environment, file and a bad one.
SAMPLES: dict[str, tuple[str, str, str, str]] = {
    "incoming": ("/flag/in", "/env/in", "/file/in", ""),
    "data": ("/flag/data", "/env/data", "/file/data", " "),
    "log": ("/flag/log", "/env/log", "/file/log", " "),
    "state": ("/flag/state", "/env/state", "/file/state", " "),
    "workers": ("3", "4", "5", "none"),
    "http": ("127.0.0.1:1", "127.0.0.1:2", "127.0.0.1:3", "port"),
    "token_file": ("/flag/tokens", "/env/tokens", "/file/tokens", " "),
    "http_cert": ("/flag/cert", "/env/cert", "/file/cert", " "),
    "http_key": ("/flag/key", "/env/key", "/file/key", " "),
    "http_client_ca": ("/flag/ca", "/env/ca", "/file/ca", " "),
    "layout": ("px", "px311", "oxidicom", "py"),
    "root_template": ("%PatientID", "%PatientName", "%PatientSex", "/"),
    "study_template": ("%StudyDate", "%StudyTime", "%StudyID", "%Nothing"),
    "series_template": ("%Modality", "%SeriesNumber", "%SeriesDate", "//"),
    "image_template": ("%SOPInstanceUID", "a%SOPInstanceUID", "b%SOPInstanceUID", "%"),
    "on_conflict": ("keep-both", "set-aside", "replace", "panic"),
    "keep_source": ("true", "off", "true", "perhaps"),
    "series_quiet": ("3", "CT=4", "5", "ct=1"),
    "series_timeout": ("3", "4", "5", "-1"),
    "study_quiet": ("3", "4", "0", "-1"),
    "batches": ("/b1", "/b2", "/b3", " "),
    "batch_source": ("remove", "keep", "remove", "lose"),
    "batch_quiet": ("3", "4", "5", "-1"),
    "batches_at_once": ("3", "4", "0", "-1"),
    "settle": ("3", "4", "5", "-1"),
    "rescan": ("3", "4", "5", "0"),
    "poll": ("true", "off", "true", "perhaps"),
    "standby": ("true", "off", "true", "perhaps"),
    "deadline": ("3", "4", "5", "soon"),
    "give_up": ("3", "4", "5", "-1"),
    "max_header": ("2KiB", "3KiB", "4KiB", "5 parsecs"),
    "max_depth": ("3", "4", "5", "0"),
    "ready_backlog": ("3", "4", "5", "0"),
    "file_mode": ("0600", "0640", "0644", "999"),
    "dir_mode": ("0700", "0750", "0711", "999"),
    "fsync": ("each", "none", "batch", "sometimes"),
    "min_free": ("1k", "2k", "3k", "-1"),
    "page": ("off", "on", "off", "perhaps"),
    "on_series_complete": ("http://flag/", "http://environment/", "http://file/", "somewhere"),
    "on_series_complete_exec": ("flag", "environment", "file", "a \\"),
    "on_study_complete": ("http://flag/", "http://environment/", "http://file/", "somewhere"),
    "on_study_complete_exec": ("flag", "environment", "file", "a \\"),
    "hook_secret_file": (f"{PROJECT}/README.md", f"{PROJECT}/LICENSE", f"{PROJECT}/CHANGELOG.md", " "),
    "phi": ("true", "off", "true", "perhaps"),
    "watch_sender": ("CT 1", "MR1", "US_1", "seventeen letters"),
    "events": ("series", "off", "all", "some"),
    "drain": ("3", "4", "5", "-1"),
    "retry_start": ("3", "4", "5", "-1"),
    "log_level": ("debug", "warning", "error", "loud"),
}


#: Files that `run` reads before it begins; what is wrong with them is told by tests of their own.
READ_BY_RUN = ("token_file", "http_cert", "http_key", "http_client_ca")


class Sources(NamedTuple):
    """What one field is given, by source."""

    flags: Mapping[str, list[str]]
    environment: Mapping[str, str]
    file: str


def load(sources: Sources, folder: Path, command: str = "run") -> Config:
    path = folder / "listener.toml"
    path.write_text(sources.file, encoding="utf-8")
    return settings.load(sources.flags, sources.environment, command, str(path))


def problems(sources: Sources, folder: Path, command: str = "run") -> list[str]:
    with pytest.raises(ConfigError) as caught:
        load(sources, folder, command)
    assert caught.value.exit_code == 2
    return caught.value.problems


def quoted(text: str) -> str:
    return "'" + text + "'"


def parsed(name: str, text: str) -> Any:
    value = options()[name].parse(text)
    return (value,) if options()[name].several else value


def test_every_field_has_samples_and_a_row_of_the_contract() -> None:
    names = [one.name for one in fields(Config) if one.metadata]
    assert set(SAMPLES) == set(names)
    assert {flag(name) for name in names} == set(CONTRACT)


@pytest.mark.parametrize("name", SAMPLES)
def test_a_default_is_the_contract_s(name: str) -> None:
    row = options()[name]
    text, unit = CONTRACT[flag(name)]
    assert row.unit == unit
    default = defaults()[name]
    if row.shown:
        assert row.shown == text
        if text[0].isdigit():  # what is shown is what is meant
            assert parsed(name, text) == default
    elif row.is_switch:
        assert (text, default) == ("off", False)
    else:
        assert parsed(name, text) == (tuple(map(row.parse, default)) if row.several else row.parse(str(default)))


def test_without_anything_given_directories_are_the_defaults_made_absolute(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    config = settings.load({}, {})
    base = tmp_path / "dicom"
    assert config.incoming == (str(base / "incoming"),)
    assert (config.data, config.log, config.state) == tuple(str(base / one) for one in ("data", "log", "state"))
    assert config.workers == available_processors()
    assert config.file_mode is None
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("name", SAMPLES)
def test_precedence_is_flag_environment_file_default(name: str, tmp_path: Path) -> None:
    by_flag, by_environment, by_file, _ = SAMPLES[name]
    command = "once" if name in READ_BY_RUN else "run"
    flags, environment = {name: [by_flag]}, {variable(name): by_environment}
    file = f"{name.replace('_', '-')} = {quoted(by_file)}\n"
    assert getattr(load(Sources(flags, environment, file), tmp_path, command), name) == parsed(name, by_flag)
    assert getattr(load(Sources({}, environment, file), tmp_path, command), name) == parsed(name, by_environment)
    assert getattr(load(Sources({}, {}, file), tmp_path, command), name) == parsed(name, by_file)
    assert getattr(load(Sources({name: [by_flag]}, {}, ""), tmp_path, command), name) == parsed(name, by_flag)


@pytest.mark.parametrize("name", SAMPLES)
def test_an_empty_variable_is_none_and_a_flag_that_is_not_given_too(name: str, tmp_path: Path) -> None:
    sources = Sources({name: None}, {variable(name): ""}, "")  # type: ignore[dict-item]
    assert load(sources, tmp_path) == load(Sources({}, {}, ""), tmp_path)


@pytest.mark.parametrize("name", SAMPLES)
@pytest.mark.parametrize("source", ["flag", "environment", "file"])
def test_a_bad_value_gives_one_line_naming_where_what_and_what_to_do(name: str, source: str, tmp_path: Path) -> None:
    bad = SAMPLES[name][3]
    if source == "environment" and not bad:
        bad = "/x" + os.pathsep
    key = name.replace("_", "-")
    where, given = {
        "flag": (flag(name), Sources({name: [bad]}, {}, "")),
        "environment": (variable(name), Sources({}, {variable(name): bad}, "")),
        "file": (f"{tmp_path}/listener.toml: {key}", Sources({}, {}, f"{key} = {quoted(bad)}")),
    }[source]
    (line,) = problems(given, tmp_path)
    assert line.startswith(f"{where}: ")
    assert repr(bad.removeprefix("/x:")) in line
    assert "\n" not in line
    assert ";" in line or "is not a template" in line


def test_all_problems_are_told_at_once(tmp_path: Path) -> None:
    flags = {name: [bad] for name, (_, _, _, bad) in SAMPLES.items()}
    found = problems(Sources(flags, {}, "wrkers = 3\nnonsense-words = 1\n"), tmp_path)
    assert len(found) == len(SAMPLES) + 2
    for name in SAMPLES:
        assert [line for line in found if line.startswith(f"{flag(name)}: ")]
    assert [line for line in found if "unknown key 'wrkers'; did you mean 'workers'?" in line]
    assert [line for line in found if "unknown key 'nonsense-words'; see 'listener run --help'" in line]


def test_several_incoming_directories(tmp_path: Path) -> None:
    three = ("/in/a", "/in/b", "/in/c")
    by_flag = Sources({"incoming": list(three)}, {}, "")
    by_environment = Sources({}, {"LISTENER_INCOMING": os.pathsep.join(three)}, "")
    by_file = Sources({}, {}, f"incoming = {list(three)!r}")
    assert [load(one, tmp_path).incoming for one in (by_flag, by_environment, by_file)] == [three] * 3
    assert load(Sources({}, {}, "incoming = '/in/one:two'"), tmp_path).incoming == ("/in/one:two",)


def test_the_last_of_a_repeated_flag_counts(tmp_path: Path) -> None:
    config = load(Sources({"data": ["/first", "/last"], "workers": ["2", "7"]}, {}, ""), tmp_path)
    assert (config.data, config.workers) == ("/last", 7)


TOML = [
    ("keep-source = true", "keep_source", True),
    ("keep_source = true", "keep_source", True),
    ("keep-source = false", "keep_source", False),
    ("keep-source = 'on'", "keep_source", True),
    ("workers = 3", "workers", 3),
    ("settle = 0.5", "settle", 0.5),
    ("settle = 3", "settle", 3.0),
    ("max-header = 4096", "max_header", 4096),
    ("max_header = '1MiB'", "max_header", 2**20),
    ("dir-mode = '0750'", "dir_mode", 0o750),
    ("incoming = '/in/a'", "incoming", ("/in/a",)),
    ("incoming = ['/in/a']", "incoming", ("/in/a",)),
    ("http = 'off'", "http", "off"),
]


@pytest.mark.parametrize(("line", "name", "value"), TOML)
def test_keys_and_values_of_the_file(line: str, name: str, value: Any, tmp_path: Path) -> None:
    assert getattr(load(Sources({}, {}, line), tmp_path), name) == value


BAD_TOML = [
    ("workers = 2.5", "workers: '2.5' is not a whole number"),
    ("workers = true", "workers: 'true' is not a whole number"),
    ("settle = 'soon'", "settle: 'soon' is not a number"),
    ("[workers]\nn = 1", "workers: "),
    ("workers = [2, 3]", "workers: "),
    ("workers = []", "workers: "),
    ("data = []", "data: "),
    ("layout = []", "layout: "),
    ("incoming = []", "incoming: "),
    ("incoming = ['/in/a', '']", "incoming: '' is empty"),
    ("workers = ", "is not TOML"),
    ("workers 3", "is not TOML"),
]


@pytest.mark.parametrize(("text", "said"), BAD_TOML)
def test_what_a_file_cannot_say(text: str, said: str, tmp_path: Path) -> None:
    (line,) = problems(Sources({}, {}, text), tmp_path)
    assert line.startswith(f"{tmp_path}/listener.toml: {said}") or said in line
    assert str(tmp_path / "listener.toml") in line


def test_a_file_that_cannot_be_read(tmp_path: Path) -> None:
    for path in (tmp_path / "absent.toml", tmp_path):
        with pytest.raises(ConfigError) as caught:
            settings.load({}, {}, "run", str(path))
        (line,) = caught.value.problems
        assert line.startswith(f"--config: cannot read '{path}'")
    latin = tmp_path / "latin.toml"
    latin.write_bytes(b"data = '/\xe4'")
    with pytest.raises(ConfigError, match="is not TOML"):
        settings.load({}, {}, "run", str(latin))


def test_files_of_the_http_port_are_read_before_anything_begins(tmp_path: Path) -> None:
    tokens, absent = tmp_path / "tokens", str(tmp_path / "absent")
    tokens.write_text("anna:short\nbert\n")
    tokens.chmod(0o604)
    for command in ("run", "check"):
        found = problems(Sources({"token_file": [str(tokens)], "http_key": [absent]}, {}, ""), tmp_path, command)
        assert [line.partition(": ")[0] for line in found] == ["--token-file"] * 3 + ["--http-key"]
        (line,) = problems(Sources({"http_cert": [absent]}, {}, ""), tmp_path, command)
        assert line.startswith(f"--http-cert: '{absent}'")
    # Who may not read secrets may still ask how it stands.
    assert load(Sources({"token_file": [absent], "hook_secret_file": [absent]}, {}, ""), tmp_path, "status").token_file


NESTED = [
    ({"data": "/d", "log": "/d"}, "--log: '/d' is also --data"),
    ({"data": "/d", "log": "/d/log"}, "--log: lies inside --data"),
    ({"data": "/d/data", "log": "/d"}, "--data: lies inside --log"),
    ({"data": "/d", "state": "/d/../d/./s"}, "--state: lies inside --data"),
    ({"data": "/d", "incoming": "/d"}, "--incoming: '/d' is also --data"),
    ({"state": "/s", "incoming": "/s/in"}, "--incoming: lies inside --state"),
    ({"log": "/in/log", "incoming": "/in"}, "--log: lies inside --incoming"),
    ({"data": "/"}, "lies inside --data"),
]


@pytest.mark.parametrize(("given", "said"), NESTED)
def test_directories_that_would_eat_each_other_are_refused(given: dict[str, str], said: str, tmp_path: Path) -> None:
    found = problems(Sources({name: [path] for name, path in given.items()}, {}, ""), tmp_path)
    assert any(said in line for line in found), found
    assert all(";" in line for line in found)


def test_equal_incoming_directories_are_refused(tmp_path: Path) -> None:
    assert problems(Sources({"incoming": ["/in", "/in/"]}, {}, ""), tmp_path)
    assert problems(Sources({"incoming": ["/in", "/in/two"]}, {}, ""), tmp_path)


def test_names_that_only_begin_alike_are_no_trouble(tmp_path: Path) -> None:
    given = {"data": ["/d"], "log": ["/d-log"], "state": ["/d.state"], "incoming": ["/d2"]}
    config = load(Sources(given, {}, ""), tmp_path)
    assert config.data == "/d"


@pytest.mark.parametrize("command", ["repack", "plan"])
def test_incoming_does_not_matter_to_commands_without_it(command: str, tmp_path: Path) -> None:
    given = Sources({"data": ["/d"], "incoming": ["/d/in"]}, {}, "")
    assert load(given, tmp_path, command).data == "/d"


def test_a_link_to_another_directory_is_that_directory(tmp_path: Path) -> None:
    """Otherwise what is published would arrive again, for ever."""
    (tmp_path / "real").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "real")
    given = {"incoming": [str(tmp_path / "real")], "data": [str(tmp_path / "link")]}
    (line,) = problems(Sources(given, {}, ""), tmp_path)
    assert "--incoming" in line
    assert "--data" in line


def test_nothing_is_touched(tmp_path: Path) -> None:
    names = ("incoming", "data", "log", "state")
    load(Sources({name: [str(tmp_path / "base" / name)] for name in names}, {}, ""), tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["listener.toml"]


def test_a_config_cannot_be_changed(tmp_path: Path) -> None:
    with pytest.raises(FrozenInstanceError):
        load(Sources({}, {}, ""), tmp_path).workers = 3  # type: ignore[misc]


class Machine(NamedTuple):
    """What the kernel says of processors, and how many that makes."""

    affinity: int
    files: dict[str, str]
    expected: int


V1 = "/sys/fs/cgroup/cpu/cpu.cfs_"
V2 = "/sys/fs/cgroup/cpu.max"
MACHINES = {
    "no limit, no cgroup files": Machine(8, {}, 8),
    "v2 without a limit": Machine(8, {V2: "max 100000\n"}, 8),
    "v2, two processors": Machine(8, {V2: "200000 100000\n"}, 2),
    "v2, a tenth of one": Machine(8, {V2: "10000 100000\n"}, 1),
    "v2, more than affinity allows": Machine(2, {V2: "800000 100000\n"}, 2),
    "v1 without a limit": Machine(4, {V1 + "quota_us": "-1\n", V1 + "period_us": "100000\n"}, 4),
    "v1, three processors": Machine(4, {V1 + "quota_us": "300000\n", V1 + "period_us": "100000\n"}, 3),
    "affinity alone": Machine(1, {V2: "max 100000\n"}, 1),
    "a systemd unit with CPUQuota": Machine(
        8,
        {
            "/proc/self/cgroup": "0::/system.slice/listener.service\n",
            "/sys/fs/cgroup/system.slice/listener.service/cpu.max": "200000 100000\n",
        },
        2,
    ),
}


@pytest.mark.parametrize("machine", MACHINES.values(), ids=MACHINES.keys())
def test_workers_are_the_processors_that_the_process_may_use(machine: Machine, monkeypatch: pytest.MonkeyPatch) -> None:
    def fake_open(path: Any, *arguments: Any, **named: Any) -> Any:
        text = machine.files.get(str(path))
        if text is None:
            raise FileNotFoundError(path)
        return io.StringIO(text)

    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(machine.affinity)), raising=False)
    with monkeypatch.context() as patch:
        patch.setattr(builtins, "open", fake_open)
        found = available_processors()
    assert found == machine.expected


def test_workers_that_are_given_are_taken_as_they_are(tmp_path: Path) -> None:
    assert load(Sources({"workers": ["17"]}, {}, ""), tmp_path).workers == 17


def test_a_directory_that_is_no_text_is_refused_with_its_bytes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Every document names paths, and JSON is UTF-8: each file would fail."""
    odd = os.fsdecode(os.fsencode(tmp_path) + b"/d\xff")
    with pytest.raises(ConfigError) as raised:
        settings.load({"data": [odd]}, {}, "run")
    (problem,) = raised.value.problems
    assert "/d\\xff' is '" in problem
    assert "rename it" in problem
    problem.encode()
    os.mkdir(odd)
    monkeypatch.chdir(odd)
    with pytest.raises(ConfigError) as raised:
        settings.load({}, {}, "run")
    assert len(raised.value.problems) == 4, "the defaults lie below it"
    settings.load({"state": [str(tmp_path / "state")]}, {}, "report")


def test_no_more_senders_than_prometheus_can_bear() -> None:
    senders = [f"CT{number}" for number in range(MOST_SENDERS + 1)]
    assert len(settings.load({"watch_sender": senders[:-1]}, {}).watch_sender) == MOST_SENDERS
    with pytest.raises(ConfigError, match="more than 64 senders"):
        settings.load({"watch_sender": senders}, {})
