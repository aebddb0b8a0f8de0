"""`listener repack` by its parts: what is asked for, which files those are, and nothing left behind."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest

from listener.errors import ConfigError
from listener.oneshot import repack
from listener.oneshot.repack import Request
from listener.planning.names import OWN
from tests.holders import writer
from tests.instances import write_instance
from tests.workbench import contents, make_config

NOTHING: dict[str, Any] = {
    "paths": [],
    "xcrdir": None,
    "xcrfile": None,
    "xcrdirfile": None,
    "substring": None,
    "cleanup": False,
    "log_ndjson": False,
}

ASKED: list[tuple[dict[str, Any], Request]] = [
    ({"paths": ["a", "b"]}, Request(("a", "b"))),
    ({"xcrdir": "d", "xcrfile": "f"}, Request(("d/f",))),
    ({"xcrdir": "d", "xcrfile": "/elsewhere/f"}, Request(("/elsewhere/f",))),
    ({"xcrfile": "f"}, Request(("./f",))),
    ({"xcrdir": "d"}, Request(("d",))),
    ({"xcrdir": "d", "substring": "dcm,MR"}, Request(("d",), ("dcm", "MR"))),
    ({"xcrdir": "d", "substring": ","}, Request(("d",))),
    ({"xcrdirfile": "d/f", "xcrdir": "x", "xcrfile": "y"}, Request(("d/f",))),
    ({"paths": ["a"], "xcrdir": "d", "xcrfile": "f"}, Request(("a", "d/f"))),
    ({"paths": ["a"], "cleanup": True, "log_ndjson": True}, Request(("a",), cleanup=True)),
]


@pytest.mark.parametrize(("given", "request_"), ASKED)
def test_what_is_asked_for(given: dict[str, Any], request_: Request) -> None:
    assert Request.of(NOTHING | given, with_state=False)._replace(quiet=False) == request_


def test_nothing_is_named() -> None:
    with pytest.raises(ConfigError, match="name files or folders"):
        Request.of(NOTHING, with_state=False)


def folder(base: Path) -> Path:
    made = base / "in"
    (made / "below").mkdir(parents=True)
    for number, name in enumerate(("a.dcm", "b.dcm", "c", "below/d.dcm", ".hidden.dcm", "e.part"), 1):
        write_instance(made / name, number=number)
    return made


@pytest.mark.parametrize(
    ("substrings", "count"),
    [((), 4), (("dcm",), 3), (("a", "b."), 2), (("a", "dcm"), 3), (("none",), 0), (("below",), 0)],
)
def test_which_files_of_a_folder(
    substrings: tuple[str, ...], count: int, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    source = folder(tmp_path)
    assert repack.run(make_config(tmp_path), Request((str(source),), substrings)) == 0
    assert len(capfd.readouterr().out.splitlines()) == len(contents(tmp_path / "data")) == count
    assert len(contents(source)) == 6


def test_substrings_do_not_matter_to_files_that_are_named(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    source = folder(tmp_path)
    assert repack.run(make_config(tmp_path), Request((str(source / "c"),), ("dcm",))) == 0
    assert len(contents(tmp_path / "data")) == 1


def test_a_file_named_twice_is_done_twice_and_published_once(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    source = folder(tmp_path)
    assert repack.run(make_config(tmp_path), Request((str(source / "c"),) * 2)) == 0
    assert len(contents(tmp_path / "data")) == 1


def test_nothing_is_left_behind(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    source = folder(tmp_path)
    (source / "text").write_text("hello")
    assert repack.run(make_config(tmp_path), Request((str(source),), cleanup=True)) == 1
    assert sorted(os.listdir(tmp_path)) == ["data", "in", "log"]
    for root in ("data", "log"):
        assert list((tmp_path / root / OWN / "staging").iterdir()) == []
    assert sorted(contents(source)) == [".hidden.dcm", "e.part", "text"]


def test_what_is_open_for_writing_fails_and_stays(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    source = folder(tmp_path)
    with writer(source / "c"):
        assert repack.run(make_config(tmp_path), Request((str(source),), cleanup=True)) == 1
    assert (source / "c").exists()
    assert "1 failed; they stay where they are" in capfd.readouterr().err


def test_more_than_one_batch(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    source = tmp_path / "in"
    source.mkdir()
    for number in range(1, 71):
        write_instance(source / str(number), number=number)
    assert repack.run(make_config(tmp_path), Request((str(source),))) == 0
    assert len(contents(tmp_path / "data")) == 70


def test_repacking_a_tree_onto_itself_changes_nothing(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    source = folder(tmp_path)
    config = make_config(tmp_path)
    repack.run(config, Request((str(source),)))
    before = contents(config.data)
    for cleanup in (False, True):
        repack.run(config, Request((config.data,), cleanup=cleanup))
        assert contents(config.data) == before


def test_a_tree_reached_by_a_link_is_that_tree(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    config = make_config(tmp_path)
    repack.run(config, Request((str(folder(tmp_path)),)))
    before = contents(config.data)
    (tmp_path / "link").symlink_to(config.data)
    repack.run(config, Request((f"{tmp_path}/link/.",), cleanup=True))
    assert contents(config.data) == before


def test_a_tree_is_moved_to_another_layout(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    config = make_config(tmp_path)
    repack.run(config, Request((str(folder(tmp_path)),)))
    before = sorted(contents(config.data).values())
    assert repack.run(make_config(tmp_path, layout="px"), Request((config.data,), cleanup=True)) == 0
    after = contents(config.data)
    assert sorted(after.values()) == before
    assert all("/Series_0-" in name for name in after)


@pytest.mark.parametrize(
    ("given", "quiet"),
    [({"xcrdir": "d", "xcrfile": "f"}, True), ({"xcrdir": "d", "log_ndjson": True}, False), ({"paths": ["a"]}, False)],
)
def test_a_predecessor_s_spelling_prints_events_only_when_asked(
    given: dict[str, Any], quiet: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sys.stdout.isatty", lambda: False)
    assert Request.of({**NOTHING, **given}, with_state=False).quiet == quiet
