"""`listener retry`: set-aside files go back into incoming, whole, never over another, and never lost on the way."""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import orjson
import pytest

from listener import cli
from listener.commands import retry
from listener.commands.retry import Choice, Entry, Request, choose
from listener.disk import files, moves, sync
from listener.records import Outcome
from listener.repacking import setaside
from tests.instances import instance, save, uid
from tests.odd_files import whole
from tests.workbench import Bench, contents, tmpfs


@pytest.fixture
def bench(tmp_path: Path) -> Bench:
    return Bench(tmp_path)


def aside(bench: Bench, name: str, data: bytes = b"no DICOM " * 40) -> Outcome:
    """A file that arrives and is set aside."""
    path = bench.incoming / name
    path.write_bytes(data)
    outcome = bench.outcome(path)
    assert outcome.kind == "set-aside", outcome
    return outcome


def superseded(bench: Bench) -> str:
    """The name of the file that was kept of an instance that another one replaced."""
    bench.publish("first")
    save(instance(StudyTime="235959"), bench.incoming / "second")
    outcome = bench.outcome(bench.incoming / "second")
    assert outcome.superseded
    return os.path.basename(outcome.superseded)


def run_retry(bench: Bench, *arguments: str) -> int:
    return cli.main(["retry", f"--state={bench.state}", f"--incoming={bench.incoming}", *where(bench), *arguments])


def where(bench: Bench) -> list[str]:
    return [f"--data={bench.data}", f"--log={bench.log}"]


def waiting(bench: Bench) -> list[str]:
    return sorted(path.name for path in bench.incoming.iterdir() if not path.name.startswith("."))


def left(bench: Bench) -> list[str]:
    return sorted(name for name in contents(bench.state / "set-aside") if not name.endswith(".lock"))


@pytest.mark.parametrize(
    "arguments", [("one",), ("o?e",), ("--reason=not-dicom",), ("--all",), ("*", "--reason=not-dicom")]
)
def test_a_file_goes_back_whole_and_its_reason_goes(
    arguments: tuple[str, ...], bench: Bench, capsys: pytest.CaptureFixture[str]
) -> None:
    aside(bench, "one", b"word " * 99)
    assert run_retry(bench, *arguments) == 0
    assert (bench.incoming / "one").read_bytes() == b"word " * 99
    assert left(bench) == []
    said = capsys.readouterr()
    assert said.out == "back           one (not-dicom)\n"
    assert "1 back in incoming" in said.err


def test_only_what_is_selected_goes_back(bench: Bench) -> None:
    for name in ("one", "two", "three"):
        aside(bench, name)
    aside(bench, "none", b"")
    assert run_retry(bench, "t*") == 0
    assert waiting(bench) == ["three", "two"]
    assert run_retry(bench, "--reason=empty") == 0
    assert waiting(bench) == ["none", "three", "two"]
    assert left(bench) == ["not-dicom/one", "not-dicom/one.json"]


def from_sender(bench: Bench, name: str, sender: str, study: str) -> None:
    data = whole(name, StudyInstanceUID=uid("study of", study), pixels=64, sender=sender)
    aside(bench, name, data[:-10])


def test_those_of_a_sender_or_of_a_study_go_back(bench: Bench) -> None:
    for name, sender, study in (("one", "CT1", "a"), ("two", "CT1", "b"), ("three", "MR1", "b")):
        from_sender(bench, name, sender, study)
    assert run_retry(bench, "--sender=CT1", f"--study={uid('study of', 'b')}") == 0
    assert waiting(bench) == ["two"]
    assert run_retry(bench, f"--study={uid('study of', 'b')}") == 0
    assert waiting(bench) == ["three", "two"]
    assert run_retry(bench, "--sender=NOBODY") == 0
    assert waiting(bench) == ["three", "two"]


def test_yes_is_the_default_and_excludes_a_dry_run(bench: Bench, capsys: pytest.CaptureFixture[str]) -> None:
    aside(bench, "one")
    assert run_retry(bench, "--all", "--yes", "--dry-run") == 2
    assert "exclude each other" in capsys.readouterr().err
    assert waiting(bench) == []
    assert run_retry(bench, "--all", "--yes") == 0
    assert waiting(bench) == ["one"]


def test_it_is_repacked_again(bench: Bench) -> None:
    """What was wrong has been mended, and the file is published like any other."""
    outcome = aside(bench, "one")
    save(instance(), outcome.dst)
    assert run_retry(bench, "--all") == 0
    assert bench.outcome(bench.incoming / "one").kind == "published"


def test_a_name_that_is_taken_gets_a_suffix(bench: Bench, capsys: pytest.CaptureFixture[str]) -> None:
    aside(bench, "one", b"old " * 99)
    (bench.incoming / "one").write_bytes(b"new")
    assert run_retry(bench, "one") == 0
    assert (bench.incoming / "one").read_bytes() == b"new"
    (other,) = [name for name in waiting(bench) if name != "one"]
    assert other.startswith("one-")
    assert (bench.incoming / other).read_bytes() == b"old " * 99
    assert f"as {other}" in capsys.readouterr().out


def test_a_name_as_long_as_names_can_be(bench: Bench) -> None:
    name = "x" * 255
    outcome = aside(bench, name)
    assert orjson.loads(Path(f"{outcome.dst}.json").read_bytes())["name"] == name
    (bench.incoming / os.path.basename(outcome.dst)).touch()
    assert run_retry(bench, name) == 0
    assert len(waiting(bench)) == 2


def test_names_that_are_no_text(bench: Bench) -> None:
    name = os.fsdecode(b"\xff\xfe[1]\n")
    aside(bench, name)
    assert run_retry(bench, name) == 0
    assert waiting(bench) == [name]


def test_a_link_goes_back_as_it_is(bench: Bench) -> None:
    (bench.incoming / "link").symlink_to("/nowhere")
    assert bench.outcome(bench.incoming / "link").reason == "not-regular"
    assert run_retry(bench, "link") == 0
    assert os.readlink(bench.incoming / "link") == "/nowhere"


@pytest.mark.parametrize("arguments", [(), ("one", "--all")])
def test_nothing_selected_is_a_usage_error(
    arguments: tuple[str, ...], bench: Bench, capsys: pytest.CaptureFixture[str]
) -> None:
    aside(bench, "one")
    assert run_retry(bench, *arguments) == 2
    assert "listener: retry: " in capsys.readouterr().err
    assert waiting(bench) == []


def test_an_unknown_name_is_named_and_the_others_go_back(bench: Bench, capsys: pytest.CaptureFixture[str]) -> None:
    aside(bench, "one")
    assert run_retry(bench, "one", "zwei", "dr*") == 1
    said = capsys.readouterr().err
    assert "'zwei'" in said
    assert "'dr*'" in said
    assert waiting(bench) == ["one"]


def test_an_unknown_reason_is_named_with_those_there_are(bench: Bench, capsys: pytest.CaptureFixture[str]) -> None:
    aside(bench, "one")
    assert run_retry(bench, "--reason=bored", "--reason=not-dicom") == 1
    said = capsys.readouterr().err
    assert "'bored'" in said
    assert "not-dicom" in said
    assert waiting(bench) == []


def test_nothing_there_is_nothing_to_do(bench: Bench, capsys: pytest.CaptureFixture[str]) -> None:
    assert run_retry(bench, "--all") == 0
    assert run_retry(bench, "--reason=empty") == 0
    assert "0 back" in capsys.readouterr().err


@pytest.mark.parametrize("name", ["state", "incoming"])
def test_a_directory_that_is_not_there_is_a_wrong_configuration(
    name: str, bench: Bench, capsys: pytest.CaptureFixture[str]
) -> None:
    aside(bench, "one")
    assert run_retry(bench, f"--{name}={bench.state}-elsewhere", "--all") == 2
    assert f"--{name}: " in capsys.readouterr().err
    assert not Path(f"{bench.state}-elsewhere").exists()


def test_superseded_ones_stay_unless_they_are_meant(bench: Bench, capsys: pytest.CaptureFixture[str]) -> None:
    name = superseded(bench)
    for arguments in (["--all"], ["*"], [f"{name[:9]}*"]):
        assert run_retry(bench, *arguments) == 0
        assert waiting(bench) == []
        assert "1 superseded left where they are" in capsys.readouterr().err
    assert run_retry(bench, name) == 0
    assert waiting(bench) == [name]
    assert bench.outcome(bench.incoming / name).superseded, "the versions have changed places"
    assert run_retry(bench, "--reason=superseded") == 0
    assert len(waiting(bench)) == 1


def test_dry_run_moves_nothing(bench: Bench, capsys: pytest.CaptureFixture[str]) -> None:
    aside(bench, "one")
    before = left(bench)
    assert run_retry(bench, "--all", "--dry-run") == 0
    assert (left(bench), waiting(bench)) == (before, [])
    said = capsys.readouterr()
    assert "would-go-back  one" in said.out
    assert "would go back" in said.err


def test_lines_for_programs(bench: Bench, capsysbinary: pytest.CaptureFixture[bytes]) -> None:
    aside(bench, "one")
    assert run_retry(bench, "--all", "--json", "--dry-run") == 0
    assert run_retry(bench, "--all", "--json") == 0
    first, second = map(orjson.loads, capsysbinary.readouterr().out.splitlines())
    told = {"name": "one", "reason": "not-dicom", "incoming": str(bench.incoming)}
    assert first == {**told, "result": "would-go-back"}
    assert second == {**told, "result": "back", "as": "one"}


def test_with_several_roots_each_file_goes_back_where_it_came_from(tmp_path: Path) -> None:
    roots = (str(tmp_path / "a"), str(tmp_path / "b"))
    bench = Bench(tmp_path, incoming=roots)
    path = tmp_path / "b/one"
    path.write_bytes(b"word " * 99)
    (result,) = bench.work([again_arrival(path, 1)])
    assert isinstance(result, Outcome)
    assert orjson.loads(Path(f"{result.dst}.json").read_bytes())["incoming"] == roots[1]
    command = ["retry", f"--state={bench.state}", *where(bench), *(f"--incoming={root}" for root in roots), "one"]
    assert cli.main(command) == 0
    assert path.exists()


def again_arrival(path: Path, root: int) -> Any:
    from tests.workbench import arrival_of

    return arrival_of(path, root)


def test_with_several_roots_a_file_that_does_not_tell_stays(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    bench = Bench(tmp_path)
    outcome = aside(bench, "one")
    note = Path(f"{outcome.dst}.json")
    note.write_bytes(orjson.dumps({**orjson.loads(note.read_bytes()), "incoming": "/elsewhere"}))
    (tmp_path / "more").mkdir()
    assert run_retry(bench, f"--incoming={tmp_path / 'more'}", "one") == 1
    assert "give a single --incoming" in capsys.readouterr().out
    assert len(left(bench)) == 2
    note.write_bytes(b"garbage")
    assert run_retry(bench, "one") == 0, "with one root there is no doubt"


def test_across_mounts_it_is_copied(tmp_path: Path) -> None:
    with tmpfs(tmp_path / "incoming"):
        bench = Bench(tmp_path)
        aside(bench, "one", b"word " * 99)
        (bench.incoming / "link").symlink_to("/nowhere")
        bench.outcome(bench.incoming / "link")
        (bench.incoming / "one").touch()
        assert run_retry(bench, "--all") == 0
        assert left(bench) == []
        names = [path.name for path in bench.incoming.iterdir() if path.name != ".listener"]
        assert len(names) == 3
        assert not any(name.startswith(".") for name in names)
        (other,) = bench.incoming.glob("one-*")
        assert other.read_bytes() == b"word " * 99


def test_across_mounts_a_full_incoming_loses_nothing(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with tmpfs(tmp_path / "incoming", "128k"):
        bench = Bench(tmp_path)
        outcome = aside(bench, "one")
        Path(outcome.dst).write_bytes(bytes(2**20))
        assert run_retry(bench, "--all") == 1
        assert "No space left" in capsys.readouterr().out
        assert len(left(bench)) == 2
        assert waiting(bench) == []


class Crash(BaseException):
    """The end of the process, as far as files are concerned."""


STEPS = [(moves, "renameat2"), (sync, "directories"), (files, "discard")]


@pytest.mark.parametrize(("module", "name"), STEPS)
def test_a_crash_leaves_a_file_in_exactly_one_place(
    module: Any, name: str, bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    aside(bench, "one")

    def crash(*arguments: Any) -> None:
        raise Crash

    with monkeypatch.context() as patch:
        patch.setattr(module, name, crash)
        with pytest.raises(Crash):
            run_retry(bench, "one")
    inside = (bench.incoming / "one").exists()
    kept = (bench.state / "set-aside/not-dicom/one").exists()
    assert inside != kept
    assert kept <= (bench.state / "set-aside/not-dicom/one.json").exists()
    # A reason file without its file is not counted, and is used again when the file comes back.
    assert setaside.totals(str(bench.state / "set-aside"))["not-dicom"].files == kept
    if inside:
        assert run_retry(bench, "one") == 1
        bench.outcome(bench.incoming / "one")
        assert left(bench) == ["not-dicom/one", "not-dicom/one.json"]
    assert run_retry(bench, "one") == 0
    assert (waiting(bench), left(bench)) == (["one"], [])


@pytest.mark.parametrize("links", [True, False])
@pytest.mark.parametrize("number", [errno.EINVAL, errno.ENOSYS])
def test_where_the_kernel_cannot_rename_without_replacing(
    number: int, links: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*arguments: Any, **more: Any) -> None:
        raise OSError(errno.EPERM if more else number, "no")

    monkeypatch.setattr(moves, "renameat2", refuse)
    if not links:
        monkeypatch.setattr(os, "link", refuse)
    for name in ("source", "taken"):
        (tmp_path / name).write_text(name)
    with pytest.raises(FileExistsError):
        moves.rename_new(str(tmp_path / "source"), str(tmp_path / "taken"))
    assert (tmp_path / "source").exists()
    moves.rename_new(str(tmp_path / "source"), str(tmp_path / "free"))
    assert {path.name: path.read_text() for path in tmp_path.iterdir()} == {"free": "source", "taken": "taken"}


def test_a_libc_without_the_call(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ctypes.CDLL", lambda *arguments, **more: object())
    (tmp_path / "one").touch()
    moves.rename_new(str(tmp_path / "one"), str(tmp_path / "two"))
    assert os.listdir(tmp_path) == ["two"]


def test_a_file_that_went_away_meanwhile_is_a_failure_of_its_own(
    bench: Bench, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    aside(bench, "one")
    aside(bench, "two")
    real = retry.put_back

    def vanish(entry: Entry, root: str) -> str:
        if entry.name == "one":
            os.unlink(entry.path)
        return real(entry, root)

    monkeypatch.setattr(retry, "put_back", vanish)
    assert run_retry(bench, "--all") == 1
    assert waiting(bench) == ["two"]
    assert "failed         one" in capsys.readouterr().out


def found() -> Iterator[Entry]:
    yield Entry("/s/empty/a", "empty", "a", "/in")
    yield Entry("/s/empty/a-12345678", "empty", "a", "/in")
    yield Entry("/s/superseded/a", "superseded", "a", "/in")
    yield Entry("/s/incomplete/[b]", "incomplete", "[b]", "/in")


CHOICES = [
    (Request(every=True), 3, [], 1),
    (Request(("a",)), 3, [], 0),
    (Request(("a-12345678",)), 1, [], 0),
    (Request(("?",)), 2, [], 1),
    (Request(("[b]",)), 1, [], 0),
    (Request(("c", "c*")), 0, ["c", "c*"], 0),
    (Request(reasons=("superseded",)), 4, [], 0),
]


@pytest.mark.parametrize(("request_", "chosen", "unknown", "left_there"), CHOICES)
def test_what_a_request_means(request_: Request, chosen: int, unknown: list[str], left_there: int) -> None:
    choice: Choice = choose(request_, found())
    assert (len(choice.chosen), choice.unknown, choice.left) == (chosen, unknown, left_there)
