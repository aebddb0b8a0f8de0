"""The stage on a real ledger and tree, as its command runs it."""

from __future__ import annotations

import contextlib
import hashlib
import os
import sqlite3
from collections.abc import Iterator
from pathlib import Path

import pytest

from listener import cli
from listener.ledger import deliveries
from listener.ledger.connection import open_writer
from tests.export.collection import Collection, events


@pytest.fixture
def world(tmp_path: Path) -> Iterator[Collection]:
    one = Collection(tmp_path)
    try:
        assert one.export("once") == 0
        yield one
    finally:
        one.close()


def of(captured: pytest.CaptureFixture[str], name: str) -> list[dict[str, object]]:
    return [event for event in events(captured) if event["event"] == name]


def test_a_series_is_in_the_target_and_its_manifest_tells_of_it(
    world: Collection, capfd: pytest.CaptureFixture[str]
) -> None:
    paths = world.add(0, 1, 2, 3)
    assert world.export("once") == 0
    assert world.objects() == {}, "it has not ended"
    world.end()
    assert world.export("once") == 0
    told = world.manifest(0)
    assert {entry.path for entry in told.entries} == {str(path.relative_to(world.config.data)) for path in paths}
    for entry in told.entries:
        data = (world.target / entry.key).read_bytes()
        assert (entry.size, entry.sha256) == (len(data), hashlib.sha256(data).hexdigest())
        assert Path(world.config.data, entry.path).read_bytes() == data
    assert len(world.objects()) == 4
    assert (told.generation, told.state, told.verified, told.supersedes) == (1, "complete", "read", "")
    (event,) = of(capfd, "exported")
    assert event["SeriesInstanceUID"] == world.uid(0)
    assert (event["instances"], event["new"], event["generation"]) == (3, 3, 1)
    assert world.consumer().delivered == 1
    assert world.export("audit", "--deep") == 0


def test_names_by_uid(world: Collection) -> None:
    world.add(0, 1)
    world.end()
    assert world.export("once", "--keys", "uid") == 0
    (entry,) = world.manifest(0).entries
    assert entry.key == f"data/{world.study()}/{world.uid(0)}/{entry.SOPInstanceUID}.dcm"


def test_a_late_instance_uploads_one_object_and_lists_all(world: Collection, capfd: pytest.CaptureFixture[str]) -> None:
    world.add(0, 1, 2)
    world.end()
    world.export("once")
    before = world.objects()
    world.add(0, 3)
    world.end()
    assert world.export("once") == 0
    added = world.objects().keys() - before.keys()
    assert len(added) == 2
    assert len(world.manifest(0, 2).entries) == 3
    assert world.manifest(0, 2).supersedes.endswith("-g1.ndjson")
    assert [event["new"] for event in of(capfd, "exported")] == [2, 1]


def test_both_contents_of_a_replaced_instance_are_there_and_the_newer_manifest_names_the_newer(
    world: Collection,
) -> None:
    world.add(0, 1, 2)
    world.end()
    world.export("once")
    first = {entry.SOPInstanceUID: entry for entry in world.manifest(0).entries}
    (path,) = world.add(0, 1, SeriesDescription="corrected")
    outcome = world.publish(0, 1, superseded=True)
    world.record(outcome)
    world.end()
    assert world.export("once") == 0
    second = {entry.SOPInstanceUID: entry for entry in world.manifest(0, 2).entries}
    changed = [uid for uid, entry in second.items() if first[uid] != entry]
    assert len(changed) == 1
    assert second[changed[0]].key == f"{first[changed[0]].key}~{second[changed[0]].sha256[:8]}"
    assert (world.target / second[changed[0]].key).read_bytes() == path.read_bytes()
    assert (world.target / first[changed[0]].key).stat().st_size == first[changed[0]].size


def test_nothing_of_a_series_leaves_that_has_an_identified_instance(
    world: Collection, capfd: pytest.CaptureFixture[str]
) -> None:
    world.add(0, 1, 2, 3)
    world.add(0, 4, PatientIdentityRemoved="NO")
    world.add(1, 1)
    world.end()
    assert world.export("once") == 1
    assert all("/0/" not in key for key in world.objects())
    assert world.manifest(1).entries
    (event,) = of(capfd, "export-failed")
    assert (event["reason"], event["SeriesInstanceUID"]) == ("identified", world.uid(0))
    assert (world.consumer().failed, world.consumer().delivered) == (1, 1)
    assert "PatientIdentityRemoved" in world.consumer().error
    assert world.export("once", "--allow-identified") == 1, "it was given up, until somebody says otherwise"
    assert cli.main(["hooks", "redeliver", "export", "--yes", "--state", world.config.state]) == 0
    assert world.export("once", "--allow-identified") == 0
    assert len(world.manifest(0).entries) == 4


def test_an_incomplete_series_is_held_unless_it_is_to_be_sent(world: Collection) -> None:
    world.promise(0, 3)
    world.add(0, 1)
    world.advance(200)
    world.tick()
    assert world.series(0).state == "incomplete"
    assert world.export("once", "--incomplete", "send") == 0
    assert world.objects() == {}, "what ended while it was not wanted is not told later"
    world.promise(1, 3)
    world.add(1, 1)
    world.advance(200)
    world.tick()
    assert world.export("once", "--incomplete", "send") == 0
    assert world.manifest(1).state == "incomplete"


def broken(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:200])


def longer(path: Path) -> None:
    path.write_bytes(path.read_bytes() + b"x")


def same_size(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[128:132] = b"NONE"
    path.write_bytes(data)


@pytest.mark.parametrize(
    ("harm", "reason"),
    [(os.unlink, "gone"), (broken, "changed"), (longer, "changed"), (same_size, "unreadable")],
    ids=["gone", "cut", "longer", "garbage"],
)
def test_a_file_that_is_not_what_it_was_fails_its_series_by_name(
    world: Collection, capfd: pytest.CaptureFixture[str], harm: object, reason: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("listener.export.receiver._ATTEMPTS", 1)
    harm(world.add(0, 1, 2)[1])  # type: ignore[operator]
    world.add(1, 1)
    world.end()
    assert world.export("once") == 1
    assert [event["reason"] for event in of(capfd, "export-failed")] == [reason]
    assert [key for key in world.objects() if "/0/" in key] == []
    assert world.manifest(1).entries


def test_a_file_that_the_ledger_does_not_know_yet_as_it_is_waits(world: Collection) -> None:
    os.unlink(world.add(0, 1, 2)[1])
    world.end()
    assert world.export("once") == 1
    assert (world.consumer().pending, world.consumer().failed) == (1, 0)


def test_a_generation_whose_file_was_replaced_meanwhile_leaves_it_to_the_next(world: Collection) -> None:
    world.add(0, 1)
    world.end()
    (path,) = world.add(0, 2)
    os.unlink(path)
    assert world.export("once") == 0
    assert world.objects() == {}
    assert world.consumer().delivered == 1


def test_a_repetition_changes_nothing(world: Collection) -> None:
    world.add(0, 1, 2)
    world.end()
    world.export("once")
    ours = (path for path in world.target.rglob("*") if ".listener" not in str(path) and path.suffix != ".parquet")
    before = {path: path.stat().st_mtime_ns for path in ours}
    world.again()
    assert world.export("once") == 0
    assert {path: path.stat().st_mtime_ns for path in before} == before
    assert world.objects().keys() == {str(path.relative_to(world.target)) for path in before if path.is_file()}


def test_another_ledger_s_generation_of_the_same_number_gets_a_key_of_its_own(world: Collection) -> None:
    world.add(0, 1, 2)
    world.end()
    folder = world.target / "manifests" / world.study()
    folder.mkdir(parents=True)
    there = folder / f"{world.uid(0)}-g1.ndjson"
    there.write_bytes(b"other")
    for _ in range(2):
        assert world.export("once") == 0
        assert there.read_bytes() == b"other"
        assert len(list(folder.iterdir())) == 2
        world.again()


def test_prune_would_wait_until_it_was_verified(world: Collection) -> None:
    world.add(0, 1, PatientIdentityRemoved="NO")
    world.end()

    def may_go() -> bool:
        with contextlib.closing(open_writer(world.ledger)) as ledger:
            return deliveries.is_delivered(ledger, world.series(0))

    assert not may_go()
    world.export("once")
    assert not may_go(), "it failed, so it was not exported"
    assert cli.main(["hooks", "redeliver", "export", "--yes", "--state", world.config.state]) == 0
    assert world.export("once", "--allow-identified") == 0
    assert may_go()


def test_two_exports_of_one_collection_exclude_each_other(
    world: Collection, capsys: pytest.CaptureFixture[str]
) -> None:
    from listener.stages.ownership import Ownership

    with contextlib.closing(Ownership(f"{world.config.state}/export")) as other:
        assert other.take()
        assert world.export("once") == 1
    assert "Another process of this stage works on the collection" in capsys.readouterr().err


def test_two_collections_may_export_the_same_series_to_one_target(tmp_path: Path) -> None:
    with contextlib.ExitStack() as stack:
        worlds = [Collection(tmp_path / name) for name in "ab"]
        for one in worlds:
            stack.callback(one.close)
            assert one.export("once") == 0
            one.add(0, 1, 2)
            one.end()
        assert [one.export("once", to=str(tmp_path / "a/target")) for one in worlds] == [0, 0]
        assert len(worlds[0].objects()) == 3


def test_a_lease_that_ran_out_is_no_harm(world: Collection) -> None:
    world.add(0, 1)
    world.end()
    with contextlib.closing(open_writer(world.ledger)) as ledger:
        (number,) = ledger.execute("SELECT id FROM consumers WHERE name = 'export'").fetchone()
        assert deliveries.lease(ledger, number, world.wall, 1)
    assert world.export("once") == 0
    assert world.consumer().delivered == 1


BAD = [
    ((), "", "--to: names no target"),
    (("once",), "s3://u:hidden@b/x", "password"),
    (("check",), "az://box/x?sig=hidden", "has a query"),
    (("check", "--endpoint", "http://u:hidden@h"), "s3://bucket/x", "password"),
    (("once",), "/absent/directory", "there is no directory"),
    (("once",), "/absent/directory", "--to: there is no directory"),
    (("check", "--archive", "series", "--archive-name", "%PatientID"), "x", "two series of a study alike"),
    (("onc",), "x", "did you mean once?"),
    (("check", "--deep"), "x", "--deep is for 'audit'"),
    (("once", "--uploads", "0"), "x", "--uploads"),
]


@pytest.mark.parametrize(("words", "to", "text"), BAD)
def test_what_cannot_work_is_told_at_the_start(
    tmp_path: Path, words: tuple[str, ...], to: str, text: str, capsys: pytest.CaptureFixture[str]
) -> None:
    one = Collection(tmp_path)
    one.close()
    given = ["--to", to] if to else []
    assert cli.main(["export", *words, "--state", one.config.state, "--data", one.config.data, *given]) == 2
    told = capsys.readouterr().err
    assert text in told
    assert "hidden" not in told


def test_a_collection_without_a_ledger_is_told(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for word in ("once", "check"):
        assert cli.main(["export", word, "--state", str(tmp_path), "--to", str(tmp_path)]) == 2
        assert "There is no ledger" in capsys.readouterr().err
    assert not (tmp_path / "ledger.sqlite").exists()


def test_what_is_off_is_found(world: Collection, capfd: pytest.CaptureFixture[str]) -> None:
    world.add(0, 1, 2, 3)
    world.add(1, 1)
    world.end()
    world.export("once")
    first, second, third = (world.target / entry.key for entry in world.manifest(0).entries)
    first.unlink()
    second.write_bytes(b"short")
    third.write_bytes(b"X" + third.read_bytes()[1:])
    (world.target / "data/x").write_bytes(b"who knows")
    (world.target / f"manifests/{world.study()}/{world.uid(1)}-g1.ndjson").write_bytes(b"no manifest")
    capfd.readouterr()
    assert world.export("audit") == 1
    told = events_of(capfd)
    assert sorted(one["finding"] for one in told) == ["missing", "size", "unknown", "unknown", "unreadable"]
    assert {one["key"].partition("/")[0] for one in told} == {"", "manifests"}, "keys are made of paths"
    assert world.export("audit", "--deep", "--phi") == 1
    told = events_of(capfd)
    assert sorted(one["finding"] for one in told) == ["altered", "missing", "size", "unknown", "unknown", "unreadable"]
    assert str(first.relative_to(world.target)) in {one["key"] for one in told}


def events_of(captured: pytest.CaptureFixture[str]) -> list[dict[str, str]]:
    return events(captured)


def test_status_tells_how_it_stands(world: Collection, capsys: pytest.CaptureFixture[str]) -> None:
    world.add(0, 1, PatientIdentityRemoved="NO")
    world.add(1, 1)
    world.end()
    world.export("once")
    capsys.readouterr()
    assert world.export("status", "--json") == 0
    (told,) = events(capsys)
    assert (told["delivered"], told["failed"], told["pending"]) == (1, 1, 0)
    assert told["service"]["counters"]["export_failures_total"]["identified"] == 1
    assert world.export("status") == 0
    text = capsys.readouterr().out
    assert "given up                  1" in text
    assert str(world.target) in text


def test_a_series_shows_where_it_went(world: Collection, capsys: pytest.CaptureFixture[str]) -> None:
    world.add(0, 1)
    world.end()
    assert world.export("once", "--no-parquet") == 0
    world.add(0, 2)
    world.end()
    assert world.export("once", "--no-parquet", "--verify", "head") == 0
    capsys.readouterr()
    assert cli.main(["series", world.uid(0), "--json", "--state", world.config.state]) == 0
    (told,) = events(capsys)
    first, second = told["exports"]
    assert (first["generation"], first["instances"], first["verified"]) == (1, 1, "read")
    assert (second["generation"], second["instances"], second["verified"]) == (2, 2, "head")
    assert (world.target / second["manifest"]).is_file()
    assert second["target"] == str(world.target)
    assert cli.main(["series", world.uid(0), "--state", world.config.state]) == 0
    assert second["manifest"] in capsys.readouterr().out
    with contextlib.closing(sqlite3.connect(f"{world.config.state}/export/export.sqlite")) as other:
        other.execute("PRAGMA user_version = 1")
    assert cli.main(["series", world.uid(0), "--state", world.config.state]) == 0
    assert "not known" in capsys.readouterr().err
