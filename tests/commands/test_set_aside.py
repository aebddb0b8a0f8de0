"""`listener set-aside`: whose the files are, since when, and what to do about them."""

from __future__ import annotations

import time
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import orjson
import pytest

from listener import cli
from listener.commands.set_aside import rendered
from listener.ledger.reader import reading
from listener.reasons import SET_ASIDE_REASONS, SETTLING, remedy
from listener.status import ledger_view, snapshot
from tests.instances import uid
from tests.ledger_bench import LedgerBench
from tests.odd_files import whole

STUDIES = {name: str(uid("study of", name)) for name in "ab"}


@pytest.fixture
def kept(tmp_path: Path) -> Iterator[LedgerBench]:
    """Three cut files of two senders and two studies, one that is no DICOM, and one that was superseded."""
    made = LedgerBench(tmp_path)
    for name, sender, study in (("one", "CT1", "a"), ("two", "CT1", "a"), ("three", "MR1", "b")):
        data = whole(name, StudyInstanceUID=STUDIES[study], pixels=64, sender=sender)
        put_aside(made, name, data[:-10])
    put_aside(made, "note", b"no DICOM " * 40)
    made.receive("older")
    made.receive("newer", StudyTime="235959")
    made.tick()
    yield made
    made.clerk.close()


def put_aside(kept: LedgerBench, name: str, data: bytes) -> None:
    (kept.incoming / name).write_bytes(data)
    outcome = kept.outcome(kept.incoming / name)
    assert outcome.kind == "set-aside"
    kept.clerk.record([outcome], kept.now, outcome.finished_ns)


def ask(kept: LedgerBench, *arguments: str) -> int:
    return cli.main(["set-aside", f"--state={kept.state}", *arguments])


def listed(kept: LedgerBench, capsys: pytest.CaptureFixture[str], *arguments: str) -> list[tuple[str, str, str, int]]:
    assert ask(kept, "--json", *arguments) == 0
    groups = [orjson.loads(line) for line in capsys.readouterr().out.splitlines()]
    keys = ("reason", "sender", "StudyInstanceUID", "files")
    return sorted(tuple(one[key] for key in keys) for one in groups)


def test_it_groups_by_reason_sender_and_study(kept: LedgerBench, capsys: pytest.CaptureFixture[str]) -> None:
    assert listed(kept, capsys) == [
        ("incomplete", "CT1", STUDIES["a"], 2),
        ("incomplete", "MR1", STUDIES["b"], 1),
        ("not-dicom", "", "", 1),
    ]


@pytest.mark.parametrize(
    ("arguments", "files"),
    [
        (("--sender=CT1",), [2]),
        (("--sender=NOBODY",), []),
        ((f"--study={STUDIES['b']}",), [1]),
        (("--reason=not-dicom",), [1]),
        (("--reason=not-dicom", "--reason=incomplete"), [2, 1, 1]),
        (("--reason=superseded",), [1]),
        (("--reason=incomplete", "--sender=CT1", f"--study={STUDIES['b']}"), []),
    ],
)
def test_it_lists_what_is_asked_for(
    arguments: tuple[str, ...], files: list[int], kept: LedgerBench, capsys: pytest.CaptureFixture[str]
) -> None:
    assert [number for *_, number in listed(kept, capsys, *arguments)] == files


def test_a_group_is_whole_and_has_no_patient(kept: LedgerBench) -> None:
    with reading(str(kept.state)) as reader:
        groups = ledger_view.set_aside_groups(reader, sender="CT1")
        everything = ledger_view.set_aside_groups(reader, SET_ASIDE_REASONS)
    (group,) = groups
    assert group["remedy"] == remedy("incomplete")
    assert group["bytes"] == sum(
        len(data) for name, data in kept.set_aside("incomplete").items() if name in ("one", "two")
    )
    assert group["oldest"] <= group["newest"] <= datetime.now(UTC).isoformat()
    assert set(group) == {
        *("reason", "sender", "StudyInstanceUID", "Modality", "files", "bytes"),
        *("oldest", "newest", "error", "remedy"),
    }
    assert sum(one["files"] for one in everything) == 5
    with reading(str(kept.state)) as reader:
        assert len(ledger_view.set_aside_groups(reader, limit=1)) == 1


def test_people_get_a_table_with_a_remedy_a_reason(kept: LedgerBench, capsys: pytest.CaptureFixture[str]) -> None:
    assert ask(kept) == 0
    said = capsys.readouterr()
    head, *rows = said.out.partition("\n\n")[0].splitlines()
    assert head.split() == ["reason", "sender", "modality", "files", "size", "oldest", "newest", "study"]
    assert len(rows) == 3
    remedies = [f"{reason}: {remedy(reason)}\n" for reason in dict.fromkeys(row.split()[0] for row in rows)]
    assert said.out.partition("\n\n")[2] == "".join([*remedies, f"\n{SETTLING}\n"])
    assert said.err == "and 1 superseded; --reason superseded lists them\n"


def test_ages_are_told(kept: LedgerBench) -> None:
    with reading(str(kept.state)) as reader:
        (group,) = ledger_view.set_aside_groups(reader, sender="MR1")
    group |= {"oldest": "2026-01-01T00:00:00.000000Z", "newest": "2026-01-03T23:00:00.000000Z"}
    row = rendered([group], datetime(2026, 1, 4, tzinfo=UTC)).splitlines()[1]
    assert "3 d ago" in row
    assert "60 min ago" in row


def test_nothing_is_said_in_words_and_as_no_line_for_programs(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    empty = LedgerBench(tmp_path)
    assert ask(empty) == 0
    assert ask(empty, "--json") == 0
    empty.clerk.close()
    assert capsys.readouterr().out == "nothing is set aside\n"


def test_a_ledger_behind_its_directory_is_told(kept: LedgerBench, capsys: pytest.CaptureFixture[str]) -> None:
    """`listener retry` moves files; without a service nobody has told the ledger."""
    (kept.state / "set-aside/not-dicom/note").unlink()
    assert ask(kept, "--reason=not-dicom") == 0
    assert "the ledger has 5 files, the directory 4; the next 'listener run'" in capsys.readouterr().err
    writer = snapshot.SnapshotFile(str(kept.state))
    writer.write({"state": "ready", "time_ns": time.time_ns()})
    writer.close()
    assert ask(kept) == 0
    assert "the directory 4; the running service mends that" in capsys.readouterr().err


def test_an_unknown_reason_is_told_with_those_there_are(kept: LedgerBench, capsys: pytest.CaptureFixture[str]) -> None:
    assert ask(kept, "--reason=bored") == 1
    said = capsys.readouterr().err
    assert "'bored'" in said
    assert all(reason in said for reason in SET_ASIDE_REASONS)


def test_without_a_ledger_it_says_so(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["set-aside", f"--state={tmp_path}"]) == 1
    assert "no ledger" in capsys.readouterr().err
