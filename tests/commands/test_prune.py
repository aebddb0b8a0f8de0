"""`listener prune` beside those who go on sending: what a sender was told of stays, and of what goes nothing stays."""

from __future__ import annotations

import contextlib
import fcntl
import os
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from listener.commands import prune
from listener.config import Config
from listener.disk import files, locks
from listener.errors import ConfigError, LockHeld
from listener.ledger.connection import open_writer, path_of
from listener.planning import documents
from listener.planning.names import short_hash
from listener.records import Outcome
from listener.repacking import removal
from listener.repacking.removal import Remover
from tests.instances import uid
from tests.ledger_bench import LedgerBench
from tests.workbench import contents, tmpfs

SERIES = str(uid("series", 0, 0, 0))
COUNT = 4


@pytest.fixture
def kept(tmp_path: Path) -> Iterator[LedgerBench]:
    """A complete series of some instances."""
    made = LedgerBench(tmp_path)
    for number in range(1, COUNT + 1):
        made.receive(f"a{number}", number=number)
    made.tick(10)
    yield made
    made.clerk.close()


def removing(config: Config, days: float = 0) -> int:
    return prune.prune(config, prune.Request(set_aside=None, series=days, yes=True))


def there(kept: LedgerBench) -> dict[str, str]:
    """Every instance of the tree, by its path, and its document's; both are one to one."""
    found = {}
    for name in contents(kept.log):
        if "-img/" in name:
            found[documents.location(kept.document(name))] = name
    assert sorted(found) == sorted(f"{kept.data}/{name}" for name in contents(kept.data))
    return found


def rows(kept: LedgerBench) -> set[str]:
    """The files of the tree that the ledger has."""
    with contextlib.closing(open_writer(path_of(kept.config.state))) as connection:
        return {f"{kept.data}/{path}" for (path,) in connection.execute("SELECT path FROM files")}


def execute(kept: LedgerBench, text: str, *values: object) -> list[tuple[object, ...]]:
    with contextlib.closing(open_writer(path_of(kept.config.state))) as connection:
        return connection.execute(text, values).fetchall()


def nothing_is_left(kept: LedgerBench) -> None:
    """Of the series; patient's and study's documents stay."""
    assert [name for name in contents(kept.log) if SERIES in name] == []
    assert contents(kept.data) == {}
    assert not (kept.data / ".listener").exists()
    assert [path.name for path in (kept.log / ".listener").iterdir()] == ["locks"]


# -- a second send -----------------------------------------------------------------------------------------------------

SENDS: dict[str, dict[str, object]] = {
    "the same": {},
    "corrected": {"StudyTime": "235959"},
    "another name of the patient, which moves the path": {"PatientName": "Corrected^Name"},
}

#: Where in the removal of the second instance the sends fall.
MOMENTS = ("take_document", "take_instance", "put_back", "forget")


@pytest.mark.parametrize("recorded", [True, False], ids=["the ledger knows at once", "the ledger lags"])
@pytest.mark.parametrize("after", [False, True], ids=["before", "after"])
@pytest.mark.parametrize("moment", MOMENTS)
@pytest.mark.parametrize("what", SENDS)
def test_what_is_sent_again_meanwhile_is_in_the_tree_and_described(
    what: str, moment: str, after: bool, recorded: bool, kept: LedgerBench, monkeypatch: pytest.MonkeyPatch
) -> None:
    """All instances come again at one moment of the removal; whatever each is told, it is there afterwards."""
    told: list[Outcome] = []
    real = getattr(Remover, moment)
    met = 0

    def send() -> None:
        found = [kept.outcome(kept.put(f"again-{n}", number=n, **SENDS[what])) for n in range(1, COUNT + 1)]
        told.extend(found)
        if recorded:
            kept.clerk.record(found, kept.now, time.time_ns())

    def interrupted(*arguments: object) -> object:
        nonlocal met
        met += 1
        now = met == (1 if moment == "forget" else 2)
        if now and not after:
            send()
        result = real(*arguments)
        if now and after:
            send()
        return result

    monkeypatch.setattr(Remover, moment, interrupted)
    if moment == "put_back":  # It has something to do only where another one stops the removal.
        monkeypatch.setattr(Remover, "take_instance", lambda *_: None)
    assert removing(kept.config) == 0
    monkeypatch.undo()
    if not recorded:
        kept.clerk.record(told, kept.now, time.time_ns())
    assert len(told) == COUNT
    assert {one.kind for one in told} <= {"published", "duplicate"}
    assert {one.dst for one in told} == there(kept).keys() == rows(kept)
    kept.tick()
    kept.tick(10)
    found = execute(kept, "SELECT state, instances, pruned_ns FROM series")
    assert found == [("complete", COUNT, 0)]


@pytest.mark.parametrize("moment", ["take_document", "take_instance", "forget"])
def test_a_file_that_comes_again_alone_is_a_generation_of_its_own(
    moment: str, kept: LedgerBench, monkeypatch: pytest.MonkeyPatch
) -> None:
    """While the ledger lags: the others went, this one is there, and consumers hear of it."""
    real = getattr(Remover, moment)
    told: list[Outcome] = []

    def interrupted(*arguments: object) -> object:
        result = real(*arguments)
        if not told:
            told.append(kept.outcome(kept.put("again", number=2)))
        return result

    monkeypatch.setattr(Remover, moment, interrupted)
    removing(kept.config)
    monkeypatch.undo()
    kept.clerk.record(told, kept.now, time.time_ns())
    kept.tick(10)
    assert list(there(kept)) == [told[0].dst]
    generation = 1 if told[0].kind == "duplicate" else 2
    found = execute(kept, "SELECT state, generation, instances, pruned_ns FROM series")
    assert found == [("complete", generation, 1, 0)]
    documents_of_series = [name for name in contents(kept.log) if SERIES in name]
    assert len(documents_of_series) == 4, "its own, and what it would share with others"


def test_a_duplicate_that_the_ledger_does_not_know_yet_keeps_its_instance(
    kept: LedgerBench, capsys: pytest.CaptureFixture[str]
) -> None:
    told = kept.outcome(kept.put("again", number=2))
    assert told.kind == "duplicate"
    removing(kept.config)
    assert list(there(kept)) == [told.dst]
    assert f"left: series {SERIES}: changed within the last minute: {told.SOPInstanceUID}\n" in capsys.readouterr().err


def test_a_series_that_was_sent_again_is_no_older_than_that(kept: LedgerBench) -> None:
    long_ago = time.time_ns() - 31 * 86_400 * 10**9
    execute(kept, "UPDATE series SET last_ns = ?, changed_ns = ?, first_ns = ?", *[long_ago] * 3)
    kept.receive("again", number=2)
    before = there(kept)
    removing(kept.config, days=30)
    assert there(kept) == before
    execute(kept, "UPDATE series SET last_ns = ?", long_ago)
    removing(kept.config, days=30)
    assert contents(kept.data).keys() != {}, "the file itself changed a moment ago"


#: What happened to a file since its series ended, a while ago, and whether it may still go.
SINCE: dict[str, tuple[Callable[[Path], object], bool]] = {
    "another owner or mode": (lambda path: path.chmod(0o640), True),
    "a link of a backup": (lambda path: os.link(path, f"{path}-backup"), True),
    "written to": (lambda path: path.write_bytes(path.read_bytes() + b"\0\0"), False),
    "replaced": (lambda path: os.replace(_copy(path), path), False),
}


def _copy(path: Path) -> Path:
    copy = path.with_name("other")
    copy.write_bytes(path.read_bytes())
    return copy


@pytest.mark.parametrize("what", SINCE)
def test_only_the_file_that_the_ledger_knows_goes(
    what: str, kept: LedgerBench, monkeypatch: pytest.MonkeyPatch
) -> None:
    change, goes = SINCE[what]
    path = next(kept.data.rglob("0002-*.dcm"))
    time.sleep(0.01)  # A file system's clock ticks every few milliseconds.
    change(path)
    monkeypatch.setattr(removal, "LEDGER_LAG_NS", 0)
    removing(kept.config)
    assert path.exists() != goes


def test_who_holds_a_lock_stops_prune_and_nothing_stays_undescribed(
    kept: LedgerBench, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(locks, "COMMAND_SECONDS", 0.05)
    before = there(kept)
    last = list(before)[-1]
    lock = kept.log / ".listener" / "locks" / f"place-{short_hash(os.path.relpath(last, kept.data), 2)}"
    with lock.open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        with pytest.raises(LockHeld):
            removing(kept.config)
    assert there(kept).keys() <= before.keys()
    assert last in there(kept)
    removing(kept.config)
    nothing_is_left(kept)


# -- all of it, and nothing else ---------------------------------------------------------------------------------------


def test_nothing_of_a_series_stays_in_a_study_that_it_was_moved_to(tmp_path: Path) -> None:
    kept = LedgerBench(tmp_path)
    kept.receive("old")
    kept.receive("new", StudyInstanceUID="1.2.3.4")
    kept.tick(10)
    removing(kept.config)
    nothing_is_left(kept)
    assert not (kept.log / "studyData" / "1.2.3.4-series").exists()
    assert (kept.log / documents.study_path("1.2.3.4")).exists()
    kept.clerk.close()


@pytest.mark.parametrize("there_is", ["nothing", "an empty directory", "another one's logs"])
def test_logs_that_are_not_this_ledger_s_are_refused(there_is: str, kept: LedgerBench, tmp_path: Path) -> None:
    other = tmp_path / "other"
    if there_is != "nothing":
        other.mkdir()
    if there_is == "another one's logs":
        stranger = LedgerBench(tmp_path / "stranger")
        stranger.receive("a1", number=1)
        stranger.clerk.close()
        other = stranger.log
    before, foreign = {**contents(kept.data), **contents(kept.log)}, contents(other)
    with pytest.raises(ConfigError, match=r"--log: '.*(other|stranger)"):
        removing(replace(kept.config, log=str(other)))
    assert ({**contents(kept.data), **contents(kept.log)}, contents(other)) == (before, foreign)
    removing(kept.config)
    nothing_is_left(kept)


@pytest.mark.parametrize("folder", ["{base}/archive", "../archive", "x/../../archive"])
def test_what_lies_outside_the_data_directory_is_left_and_named(
    folder: str, kept: LedgerBench, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """As where another program wrote a document, with a data directory of its own."""
    archive = tmp_path / "archive"
    archive.mkdir()
    (archive / "SECRET.dcm").write_bytes(b"a file of somebody's")
    execute(kept, "INSERT INTO folders (path) VALUES (?)", folder.format(base=tmp_path))
    execute(kept, "INSERT INTO instances SELECT 1, '1.2.3', max(id), 'SECRET.dcm', 20, 1 FROM folders")
    assert removing(kept.config) == 0
    assert (archive / "SECRET.dcm").exists()
    assert contents(kept.data) == {}
    said = capsys.readouterr()
    assert f"left: series {SERIES}: outside --data: 1.2.3\n" in said.err
    assert "SECRET" not in said.out + said.err
    assert execute(kept, "SELECT name FROM instances") == [("SECRET.dcm",)]
    assert execute(kept, "SELECT instances, pruned_ns FROM series") == [(1, 0)]
    removing(replace(kept.config, phi=True))
    assert "archive/SECRET.dcm" in capsys.readouterr().err


def test_a_patient_s_directory_that_is_a_link_to_another_file_system(tmp_path: Path) -> None:
    kept = LedgerBench(tmp_path)
    kept.receive("a1", number=1)
    patient = next(kept.data.iterdir())
    with tmpfs(tmp_path / "volume") as volume:
        os.system(f"cp -a '{patient}' '{volume}/p' && rm -r '{patient}'")  # noqa: S605 -- paths of ours
        patient.symlink_to(volume / "p")
        kept.tick(10)
        removing(kept.config)
        assert list(volume.rglob("*.dcm")) == []
        assert execute(kept, "SELECT 1 FROM instances") == []
    kept.clerk.close()


def test_what_an_interrupted_prune_left_in_staging_is_sorted_out(
    kept: LedgerBench, capsys: pytest.CaptureFixture[str]
) -> None:
    """The document of an instance that is there goes back; a file that was to be removed goes; another one is named."""
    before = contents(kept.log)
    document = next(path for path in (kept.log / "seriesData").rglob("*.dcm.json"))
    staging = [path / ".listener" / "staging" / "prune" for path in (kept.data, kept.log)]
    for path in staging:
        path.mkdir(parents=True)
    document.rename(staging[1] / "log-1-1")
    removed = staging[0] / "new"
    removed.write_bytes(b"removed")
    status = removed.stat()
    removed.rename(staging[0] / f"{status.st_ino:x}-{status.st_size:x}-{status.st_mtime_ns:x}-0")
    (staging[0] / "1-2-3-4").write_bytes(b"whose is this?")
    execute(kept, "UPDATE series SET last_ns = ?", time.time_ns() + 10**15)
    removing(kept.config)
    assert contents(kept.log) == before
    assert [path.name for path in staging[0].iterdir()] == ["1-2-3-4"]
    assert "1-2-3-4' is not what an interrupted prune had moved there" in capsys.readouterr().err


# -- set-aside ---------------------------------------------------------------------------------------------------------


def test_a_younger_file_that_took_a_set_aside_name_stays(kept: LedgerBench, monkeypatch: pytest.MonkeyPatch) -> None:
    """`retry` put the old one back, and another one of the same name was set aside, after they were listed."""
    for name in ("one", "two"):
        (kept.incoming / name).write_bytes(b"nothing of the kind")
        kept.outcome(kept.incoming / name)
    directory = kept.state / "set-aside" / "not-dicom"
    long_ago = time.time() - 10 * 86_400
    for path in directory.iterdir():
        os.utime(path, (long_ago, long_ago))
    real = files.locked

    def locked(*arguments: Any) -> object:
        (directory / "one").write_bytes(b"another")
        os.utime(directory / "one.json")
        return real(*arguments)

    monkeypatch.setattr(files, "locked", locked)
    prune.prune(kept.config, prune.Request(set_aside=5, series=None, yes=True))
    assert sorted(path.name for path in directory.iterdir()) == [".lock", "one", "one.json"]
