"""One instance, one place: replays, duplicates, conflicts by policy, and corrected names that move a path."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import orjson
import pytest

from listener.dicom.attributes import Limits
from listener.dicom.reader import Wanted, read_header
from listener.planning import documents
from listener.records import Arrival, Deferral, Outcome
from listener.repacking import claim, describe, document_files
from listener.repacking.context import COPY, MOVE
from listener.repacking.dataset import digest
from listener.repacking.job import Instance
from tests.instances import instance, save, write_instance
from tests.repacking.tree import consistent, files_of, located, other_pixels
from tests.waiting import file_clock_tick
from tests.workbench import Bench, arrival_of, contents, tmpfs


def test_equal_data_sets_that_were_replaced_are_kept_once(tmp_path: Path) -> None:
    bench = Bench(tmp_path)
    kinds = [
        bench.outcome(bench.put(f"{number}", **(other_pixels() if number % 2 else {}))).kind for number in range(6)
    ]
    assert kinds == ["published"] * 6
    assert len(superseded(bench)) == 2
    assert len(set(superseded(bench))) == 2


def superseded(bench: Bench) -> list[bytes]:
    there = bench.set_aside("superseded")
    return [data for name, data in sorted(there.items()) if not name.endswith(".json") and not name.startswith(".")]


# -- the ordinary -----------------------------------------------------------------------------------------------------


def test_a_file_is_linked_and_never_copied(tmp_path: Path) -> None:
    bench = Bench(tmp_path)
    path = bench.put()
    inode, data = path.stat().st_ino, path.read_bytes()
    outcome = bench.outcome(path)
    assert os.stat(outcome.dst).st_ino == inode
    assert os.stat(outcome.dst).st_nlink == 1
    assert Path(outcome.dst).read_bytes() == data
    consistent(bench)


@pytest.mark.parametrize("apart", ["data", "incoming", "state", "log"])
def test_across_mounts_it_is_copied_and_all_else_is_equal(apart: str, tmp_path: Path) -> None:
    with tmpfs(tmp_path / apart):
        bench = Bench(tmp_path)
        path = bench.put()
        path.chmod(0o640)
        os.utime(path, ns=(10**18, 10**18))
        data = path.read_bytes()
        outcome = bench.outcome(path)
        assert outcome.kind == "published"
        assert Path(outcome.dst).read_bytes() == data
        assert os.stat(outcome.dst).st_mode & 0o777 == 0o640
        assert os.stat(outcome.dst).st_mtime_ns == 10**18
        consistent(bench)
        assert bench.outcome(bench.put()).kind == "duplicate"
        assert bench.publish(**other_pixels()).superseded
        consistent(bench)


def test_a_file_that_has_another_name_outside_is_copied(tmp_path: Path) -> None:
    """Whoever has that name could go on writing into the tree."""
    bench = Bench(tmp_path)
    path = bench.put()
    os.link(path, tmp_path / "outside")
    outcome = bench.outcome(path)
    assert not os.path.samefile(outcome.dst, tmp_path / "outside")
    consistent(bench)


def test_modes_of_what_is_published(tmp_path: Path) -> None:
    bench = Bench(tmp_path, file_mode=0o440, dir_mode=0o2750)
    outcome = bench.publish()
    assert os.stat(outcome.dst).st_mode & 0o7777 == 0o440
    for folder in (Path(outcome.dst).parent, Path(outcome.dst).parent.parent):
        assert folder.stat().st_mode & 0o7777 == 0o2750


def test_without_a_mode_a_file_keeps_the_one_that_storescp_gave_it(tmp_path: Path) -> None:
    bench = Bench(tmp_path)
    path = bench.put()
    path.chmod(0o604)
    assert os.stat(bench.outcome(path).dst).st_mode & 0o777 == 0o604


# -- again ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("fsync", ["none", "batch", "each"])
def test_a_claim_that_was_not_let_go_is_done_again_with_the_same_end(fsync: str, tmp_path: Path) -> None:
    bench = Bench(tmp_path, fsync=fsync)
    (first,) = bench.work([arrival_of(bench.put())])
    assert isinstance(first, Outcome)
    tree, logs = contents(bench.data), contents(bench.log)
    inode = os.stat(first.dst).st_ino
    again = Bench(tmp_path, fsync=fsync)  # another process
    (second,) = again.work([Arrival(first.path, 0, first.arrived_ns, "startup", first.claim)])
    assert isinstance(second, Outcome)
    assert (second.kind, second.dst) == ("published", first.dst)
    assert (contents(bench.data), contents(bench.log)) == (tree, logs)
    assert os.stat(second.dst).st_ino == inode
    claim.release(second.claim)
    consistent(bench)


def test_the_same_instance_again_is_a_duplicate_and_the_tree_is_not_touched(tmp_path: Path) -> None:
    bench = Bench(tmp_path)
    first = bench.publish()
    before = os.stat(first.dst)
    second = bench.outcome(bench.put("two"))
    assert (second.kind, second.dst) == ("duplicate", first.dst)
    after = os.stat(first.dst)
    assert (after.st_ino, after.st_mtime_ns, after.st_nlink) == (before.st_ino, before.st_mtime_ns, 1)
    consistent(bench)


def test_another_sender_of_the_same_data_set_is_a_duplicate(tmp_path: Path) -> None:
    """The calling AE title stands in the file meta information, whose length then differs too."""
    bench = Bench(tmp_path)
    first = bench.publish(sender="MR1")
    for sender in ("SCANNER_NUMBER_2", "", "MR2"):
        path = bench.put("again", sender=sender)
        assert path.read_bytes() != Path(first.dst).read_bytes()
        assert bench.outcome(path).kind == "duplicate"
    consistent(bench)


def test_a_batch_with_the_same_instance_twice(tmp_path: Path) -> None:
    bench = Bench(tmp_path, fsync="batch")
    results = bench.repack(bench.put("a"), bench.put("b"), bench.put("c"))
    assert [result.kind for result in results if isinstance(result, Outcome)] == ["published", "duplicate", "duplicate"]
    consistent(bench)


def test_the_digest_is_of_the_data_set(tmp_path: Path) -> None:
    def of(**arguments: Any) -> str:
        path = write_instance(tmp_path / "x", **arguments)
        with path.open("rb") as file:
            header = read_header(file.fileno(), path.stat().st_size, Wanted.of(["SOPInstanceUID"]), Limits())
            return digest(Instance(header, file.fileno()))

    assert of(sender="A") == of(sender="ANOTHER") == of(sender="")
    assert of() != of(**other_pixels())
    assert of() != of(transfer_syntax="1.2.840.10008.1.2.2")


# -- conflicts --------------------------------------------------------------------------------------------------------


def test_replace_gives_the_new_one_the_name_and_keeps_the_old_one(tmp_path: Path) -> None:
    bench = Bench(tmp_path)
    old = bench.publish()
    old_bytes, old_inode = Path(old.dst).read_bytes(), os.stat(old.dst).st_ino
    new = bench.publish("two", **other_pixels())
    assert new.dst == old.dst
    assert Path(new.dst).read_bytes() != old_bytes
    assert superseded(bench) == [old_bytes]
    assert os.stat(new.superseded).st_ino == old_inode
    record = orjson.loads(Path(new.superseded + ".json").read_bytes())
    assert record["reason"] == "superseded"
    consistent(bench)


def test_keep_both_puts_them_side_by_side(tmp_path: Path) -> None:
    bench = Bench(tmp_path, on_conflict="keep-both")
    first = bench.publish()
    second = bench.publish("two", **other_pixels(1))
    third = bench.publish("three", **other_pixels(2))
    stem = first.dst.removesuffix(".dcm")
    for outcome in (second, third):
        assert outcome.dst.startswith(f"{stem}-")
        tail = outcome.dst.removeprefix(f"{stem}-")
        assert len(tail) == len("01234567.dcm")
        int(tail[:8], 16)
    assert len(files_of(bench)) == 3
    consistent(bench)
    for number, name in ((1, "again"), (2, "and again")):
        assert bench.outcome(bench.put(name, **other_pixels(number))).kind == "duplicate"
    assert bench.outcome(bench.put("first again")).kind == "duplicate"
    assert len(files_of(bench)) == 3
    consistent(bench)


def test_set_aside_keeps_what_is_there(tmp_path: Path) -> None:
    bench = Bench(tmp_path, on_conflict="set-aside")
    first = bench.publish()
    before = contents(bench.data)
    outcome = bench.outcome(bench.put("two", **other_pixels()))
    assert (outcome.kind, outcome.reason, outcome.step) == ("set-aside", "conflict", "place")
    assert contents(bench.data) == before
    assert os.path.exists(outcome.dst)
    assert located(bench) == [first.dst]


@pytest.mark.parametrize("policy", ["replace", "keep-both", "set-aside"])
def test_two_instances_on_one_path_never_replace_each_other(policy: str, tmp_path: Path) -> None:
    bench = Bench(tmp_path, on_conflict=policy, image_template="%Modality")
    first = bench.publish()
    before = contents(bench.data)
    outcome = bench.outcome(bench.put("two", number=2))
    assert (outcome.kind, outcome.reason) == ("set-aside", "conflict")
    assert contents(bench.data) == before == {os.path.relpath(first.dst, bench.data): Path(first.dst).read_bytes()}


def test_what_lies_there_and_is_no_dicom_is_kept_aside(tmp_path: Path) -> None:
    bench = Bench(tmp_path)
    target = Path(bench.publish().dst)
    target.write_bytes(b"garbage")
    bench.publish("two")
    assert superseded(bench) == [b"garbage"]
    consistent(bench)


@pytest.mark.parametrize("mode", [COPY, MOVE])
def test_repack_without_claims_settles_conflicts_too(mode: str, tmp_path: Path) -> None:
    bench = Bench(tmp_path, mode, on_conflict="keep-both")
    for number in range(3):
        path = save(instance(**other_pixels(number)), bench.incoming / "x")
        bench.outcome(path)
        assert path.exists() is (mode == COPY)
    assert len(files_of(bench)) == 3


# -- corrected names --------------------------------------------------------------------------------------------------


def test_a_corrected_name_moves_the_path_and_leaves_one_file_and_one_document(tmp_path: Path) -> None:
    bench = Bench(tmp_path)
    old = bench.publish(PatientName="Deo^Jane")
    old_bytes = Path(old.dst).read_bytes()
    new = bench.publish("two", PatientName="Doe^Jane")
    assert new.dst != old.dst
    assert files_of(bench) == [os.path.relpath(new.dst, bench.data)]
    assert superseded(bench) == [old_bytes]
    consistent(bench)


def test_a_corrected_name_and_keep_both(tmp_path: Path) -> None:
    bench = Bench(tmp_path, on_conflict="keep-both")
    bench.publish(PatientName="Deo^Jane")
    bench.publish("two", PatientName="Doe^Jane")
    assert len(files_of(bench)) == 2
    consistent(bench)


def test_a_corrected_name_and_set_aside(tmp_path: Path) -> None:
    bench = Bench(tmp_path, on_conflict="set-aside")
    old = bench.publish(PatientName="Deo^Jane")
    assert bench.outcome(bench.put("two", PatientName="Doe^Jane")).reason == "conflict"
    assert located(bench) == [old.dst]


def test_a_crash_between_link_and_removal_of_the_old_path_is_repaired(tmp_path: Path) -> None:
    """Replace over a moved path: the new one is linked, the old one still there, the document tells of the old."""
    bench = Bench(tmp_path)
    old = bench.publish(PatientName="Deo^Jane")
    old_bytes = Path(old.dst).read_bytes()
    path = bench.put("two", PatientName="Doe^Jane")
    new = Path(old.dst.replace("Deo_Jane", "Doe_Jane"))
    new.parent.mkdir(parents=True)
    held = f"{bench.directories.claims[0]}/{bench.context.claim_name(arrival_of(path))}"
    os.rename(path, held)
    os.link(held, new)
    (result,) = bench.work([Arrival(str(path), 0, 1, "startup", held)])
    assert isinstance(result, Outcome), result
    assert (result.kind, result.dst) == ("published", str(new))
    claim.release(result.claim)
    assert files_of(bench) == [os.path.relpath(new, bench.data)]
    assert superseded(bench) == [old_bytes]
    consistent(bench)


def test_a_corrected_name_onto_a_path_that_another_has_is_a_conflict(tmp_path: Path) -> None:
    bench = Bench(tmp_path)
    old = bench.publish(PatientName="Deo^Jane")
    taken = Path(old.dst.replace("Deo_Jane", "Doe_Jane"))
    taken.parent.mkdir(parents=True)
    write_instance(taken, number=77, PatientName="Doe^Jane")
    before = contents(bench.data)
    (result,) = bench.repack(bench.put("two", PatientName="Doe^Jane"))
    assert isinstance(result, Outcome), result
    assert (result.kind, result.reason) == ("set-aside", "conflict")
    assert contents(bench.data) == before


def overtaken(bench: Bench, arrival: Arrival) -> Outcome:
    """What becomes of a file that another worker was faster than, once it is looked at again."""
    (deferral,) = bench.work([arrival])
    assert isinstance(deferral, Deferral), deferral
    assert deferral.reason == "busy"
    (again,) = bench.work([arrival._replace(claim=deferral.claim)])
    assert isinstance(again, Outcome), again
    claim.release(again.claim)
    return again


def test_the_same_name_again_while_a_corrected_name_is_being_described(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Three data sets of one instance; the third writes the very document of the first, which the second has read."""
    bench = Bench(tmp_path)
    bench.publish(PatientName="Deo^Jane")
    corrected = arrival_of(bench.put("two", PatientName="Doe^Jane", pixels=b"2" * 32))
    third = bench.put("three", PatientName="Deo^Jane", pixels=b"3" * 32)
    real = describe.describe
    told: list[str] = []

    def describe_after_the_third(*arguments: Any) -> Any:
        monkeypatch.setattr(describe, "describe", real)
        told.append(bench.outcome(third).kind)
        return real(*arguments)

    monkeypatch.setattr(describe, "describe", describe_after_the_third)
    again = overtaken(bench, corrected)
    assert told == ["published"]
    assert (again.kind, len(files_of(bench)), len(superseded(bench))) == ("published", 1, 2)
    consistent(bench)


def test_a_corrected_name_while_the_first_document_waits_for_its_lock(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Two data sets of one name are described for the first time, and the document of both is one; a third one, of
    another name, comes between the look of the slower one and its lock.
    """
    bench = Bench(tmp_path)
    slower = arrival_of(bench.put("one", PatientName="Doe^Jane"))
    quicker = bench.put("two", PatientName="Doe^Jane", pixels=b"2" * 32)
    corrected = bench.put("three", PatientName="Deo^Jane", pixels=b"3" * 32)
    real = describe.describe
    told: list[str] = []

    def describe_after_the_quicker(*arguments: Any) -> Any:
        monkeypatch.setattr(describe, "describe", real)
        told.append(bench.outcome(quicker).kind)
        monkeypatch.setattr(describe, "locked", locked_after_the_corrected)
        return real(*arguments)

    def locked_after_the_corrected(*arguments: Any) -> Any:
        monkeypatch.setattr(describe, "locked", document_files.locked)
        told.append(bench.outcome(corrected).kind)
        return document_files.locked(*arguments)

    monkeypatch.setattr(describe, "describe", describe_after_the_quicker)
    again = overtaken(bench, slower)
    assert told == ["published", "published"]
    # It is superseded: the quicker one took its place, and it was kept then.
    assert (again.kind, len(files_of(bench)), len(superseded(bench))) == ("duplicate", 1, 2)
    consistent(bench)


# -- what others left -------------------------------------------------------------------------------------------------


def pointing(bench: Bench, outcome: Outcome, location: Path | str) -> Path:
    """The instance's document, made to tell of another place."""
    name = f"{bench.log}/{documents.instance_path(outcome.SeriesInstanceUID, os.path.basename(outcome.dst))}"
    document = orjson.loads(Path(name).read_bytes())
    image = document[outcome.SeriesInstanceUID]["imageObj"]
    image[os.path.basename(outcome.dst)]["FSlocation"] = str(location)
    Path(name).write_bytes(orjson.dumps(document))
    return Path(name)


@pytest.mark.parametrize("how", ["absolute", "relative", "dots"])
def test_a_document_that_points_outside_the_data_directory_is_not_followed(
    how: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Another program wrote it, with another data directory, or somebody with bad intentions."""
    monkeypatch.chdir(tmp_path)
    bench = Bench(tmp_path)
    outcome = bench.publish()
    victim = write_instance(tmp_path / "victim.dcm", **other_pixels())
    before = victim.read_bytes()
    location = {"absolute": str(victim), "relative": "victim.dcm", "dots": f"{bench.data}/../victim.dcm"}[how]
    pointing(bench, outcome, location)
    new = bench.publish("two", **other_pixels(5))
    assert victim.read_bytes() == before
    assert victim.stat().st_nlink == 1
    assert new.dst == outcome.dst
    consistent(bench)


def test_a_document_that_points_to_nothing_is_mended(tmp_path: Path) -> None:
    bench = Bench(tmp_path)
    pointing(bench, bench.publish(), f"{bench.data}/gone.dcm")
    assert bench.outcome(bench.put("two")).kind == "duplicate"
    consistent(bench)


def test_a_link_in_place_of_an_instance_is_neither_followed_nor_overwritten_silently(tmp_path: Path) -> None:
    bench = Bench(tmp_path)
    target = Path(bench.publish().dst)
    victim = write_instance(tmp_path / "victim.dcm", **other_pixels())
    before = victim.read_bytes()
    target.unlink()
    target.symlink_to(victim)
    (result,) = bench.repack(bench.put("two"))
    assert not isinstance(result, Deferral), "it would be tried for ever"
    assert victim.read_bytes() == before
    assert result.reason == "conflict" or not target.is_symlink()


def test_a_lost_tree_is_published_again(tmp_path: Path) -> None:
    bench = Bench(tmp_path)
    outcome = bench.publish()
    os.unlink(outcome.dst)
    assert bench.publish("two").dst == outcome.dst
    consistent(bench)


# -- what `prune` takes away meanwhile ---------------------------------------------------------------------------------


def test_a_duplicate_marks_the_instance_that_it_is_told_of(tmp_path: Path) -> None:
    """Its time of change alone tells `prune` that a sender was answered with this very file."""
    bench = Bench(tmp_path)
    there = os.stat(bench.publish().dst)
    file_clock_tick()
    assert bench.outcome(bench.put("again")).kind == "duplicate"
    now = os.stat(next(bench.data.rglob("*.dcm")))
    assert now.st_ctime_ns > there.st_ctime_ns
    assert (now.st_ino, now.st_mtime_ns, now.st_mode) == (there.st_ino, there.st_mtime_ns, there.st_mode)


@pytest.mark.parametrize("policy", ["replace", "keep-both", "set-aside"])
def test_an_instance_that_goes_while_another_one_is_compared_with_it_is_in_no_way(
    policy: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Between the link that was refused and the lock: the new one is published under its own name."""
    bench = Bench(tmp_path, on_conflict=policy)
    first = bench.publish().dst
    real = bench.context.locked_place
    gone: list[str] = []

    def locked(path: str) -> Any:
        if not gone:
            gone.append(path)
            os.unlink(path)
        return real(path)

    monkeypatch.setattr(bench.context, "locked_place", locked)
    outcome = bench.outcome(bench.put("again", **other_pixels()))
    assert (outcome.kind, outcome.dst, gone) == ("published", first, [first])
    consistent(bench)
