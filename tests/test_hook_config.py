"""Hooks of flags and of tables: what they are called, what they are told, and every mistake named at once."""

from __future__ import annotations

from pathlib import Path

import pytest

from listener import settings
from listener.config import Config
from listener.errors import ConfigError
from listener.hook_config import HookConfig, header_fields_of
from listener.ledger.interests import EVENTS, SERIES_EVENTS, STUDY_EVENTS, Interest


def load(
    folder: Path, file: str = "", flags: dict[str, list[str] | None] | None = None, **environment: str
) -> list[HookConfig]:
    path = folder / "listener.toml"
    path.write_text(file, encoding="utf-8")
    given = {f"LISTENER_{name}": text for name, text in environment.items()}
    return settings.load(flags or {}, given, "run", str(path)).every_hook


def problems(folder: Path, file: str, flags: dict[str, list[str] | None] | None = None) -> list[str]:
    with pytest.raises(ConfigError) as caught:
        load(folder, file, flags)
    return [problem.replace(f"{folder}/listener.toml: ", "") for problem in caught.value.problems]


def test_without_a_word_there_is_none() -> None:
    assert Config().every_hook == []


def test_a_flag_may_be_repeated_and_the_first_is_called_as_ever(tmp_path: Path) -> None:
    flags: dict[str, list[str] | None] = {
        "on_series_complete": ["http://a/", "http://b/"],
        "on_series_complete_exec": ["one"],
        "on_study_complete": ["http://c/"],
        "on_study_complete_exec": ["two", "three"],
    }
    hooks = load(tmp_path, "", flags)
    assert [(hook.name, hook.url or hook.command, hook.wants.events) for hook in hooks] == [
        ("webhook", "http://a/", SERIES_EVENTS),
        ("webhook-2", "http://b/", SERIES_EVENTS),
        ("exec", "one", SERIES_EVENTS),
        ("study-webhook", "http://c/", STUDY_EVENTS),
        ("study-exec", "two", STUDY_EVENTS),
        ("study-exec-2", "three", STUDY_EVENTS),
    ]


def test_a_variable_holds_one_a_line(tmp_path: Path) -> None:
    """A URL holds colons, a command blanks: a site that has one goes on as it is."""
    (one,) = load(tmp_path, ON_SERIES_COMPLETE="https://host:8443/a:b")
    assert one.url == "https://host:8443/a:b"
    several = load(tmp_path, ON_STUDY_COMPLETE_EXEC="notify 'a b':c\nother --flag\n")
    assert [hook.command for hook in several] == ["notify 'a b':c", "other --flag"]
    assert load(tmp_path, ON_SERIES_COMPLETE="") == []


def test_a_table_has_it_all(tmp_path: Path) -> None:
    secret, headers = tmp_path / "secret", tmp_path / "headers"
    secret.write_text("x")
    headers.write_text("Authorization: Bearer x\n")
    file = f"""
on-series-complete = "http://flag/"
[hooks.archive]
url = "https://archive/"
events = ["study-complete", "set-aside"]
modality = "CT"
sender = ["SCAN*", "MR1"]
result = "complete"
headers-from = "{headers}"
secret-file = "{secret}"
timeout = 60
[hooks.local-1]
exec = "notify --quiet"
"""
    flag, archive, local = load(tmp_path, file)
    assert flag.name == "webhook"
    assert archive == HookConfig(
        "archive",
        "https://archive/",
        wants=Interest(("study-complete", "set-aside"), ("CT",), ("SCAN*", "MR1"), ("complete",)),
        headers_file=str(headers),
        secret_file=str(secret),
        timeout=60.0,
        option="[hooks.archive]",
    )
    assert (local.command, local.wants) == ("notify --quiet", Interest(EVENTS))


def test_a_table_takes_the_place_of_a_flag_by_its_name(tmp_path: Path) -> None:
    """What waits for it is delivered all the same."""
    (one,) = load(tmp_path, '[hooks.webhook]\nurl = "http://new/"')
    assert (one.name, one.url) == ("webhook", "http://new/")


WRONG = {
    "neither": ("[hooks.a]", "[hooks.a]: give it either a url or an exec"),
    "both": ('[hooks.a]\nurl = "http://x/"\nexec = "x"', "[hooks.a]: give it either a url or an exec"),
    "a name": ('[hooks."A b"]\nexec = "x"', "[hooks.A b]: 'A b' is no name for a hook"),
    "a word of the command": ('[hooks.retire]\nexec = "x"', "[hooks.retire]: 'retire' is no name for a hook"),
    "a key": ('[hooks.a]\nexec = "x"\nsenders = "x"', "[hooks.a]: unknown key 'senders'; there are url, exec, events"),
    "an event": ('[hooks.a]\nexec = "x"\nevents = ["study"]', "[hooks.a]: events: 'study' is not known; give one of"),
    "a modality": ('[hooks.a]\nexec = "x"\nmodality = "ct"', "[hooks.a]: modality: 'ct' is no modality"),
    "a result": ('[hooks.a]\nexec = "x"\nresult = "good"', "[hooks.a]: result: 'good' is not known"),
    "a URL": ('[hooks.a]\nurl = "ftp://x"', "[hooks.a]: url: 'ftp://x' is not a URL"),
    "a list of URLs": ('[hooks.a]\nurl = ["http://x/"]', "[hooks.a]: url: has the wrong shape; give one value"),
    "a time": ('[hooks.a]\nexec = "x"\ntimeout = 0', "[hooks.a]: timeout: '0' is out of range"),
    "no file": ('[hooks.a]\nexec = "x"\nsecret-file = "/no"', "[hooks.a]: secret-file: cannot read '/no'"),
    "no headers": ('[hooks.a]\nexec = "x"\nheaders-from = "/no"', "[hooks.a]: headers-from: cannot read '/no'"),
    "no table": ('hooks = "x"', "hooks: has the wrong shape"),
    "no table of tables": ('[hooks]\nurl = "http://x/"', "hooks: has the wrong shape"),
}


@pytest.mark.parametrize(("file", "told"), WRONG.values(), ids=WRONG.keys())
def test_every_mistake_is_named(tmp_path: Path, file: str, told: str) -> None:
    found = problems(tmp_path, file)
    assert len(found) == 1, found
    assert found[0].startswith(told), found


def test_two_of_one_name_are_refused(tmp_path: Path) -> None:
    file = '[hooks.webhook-2]\nexec = "x"'
    found = problems(tmp_path, file, {"on_series_complete": ["http://a/", "http://b/"]})
    assert found == ["[hooks.webhook-2]: 'webhook-2' is also the hook of --on-series-complete; give it another name"]


# -- header fields -----------------------------------------------------------------------------------------------------


def test_header_fields_are_lines() -> None:
    text = "# of the archive\n\nAuthorization: Bearer a:b=\r\nX-Site:  Z\u00fcrich \nX-Empty:\n"
    assert header_fields_of(text) == {"Authorization": "Bearer a:b=", "X-Site": "Z\u00fcrich", "X-Empty": ""}


BAD_LINES = ["Bearer s3cret", "X y: s3cret", ": s3cret", "X: s3cret\x07", "Host: s3cret", "webhook-id: s3cret"]


@pytest.mark.parametrize("line", BAD_LINES)
def test_what_is_none_is_named_by_its_line_and_never_shown(tmp_path: Path, line: str) -> None:
    with pytest.raises(ValueError, match="line 2") as caught:
        header_fields_of(f"X: 1\n{line}\n")
    assert "s3cret" not in str(caught.value)
    path = tmp_path / "headers"
    path.write_text(f"X: 1\n{line}\n", encoding="latin-1")
    (told,) = problems(tmp_path, f'[hooks.a]\nurl = "http://x/"\nheaders-from = "{path}"')
    assert "s3cret" not in told
