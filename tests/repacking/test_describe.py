"""Documents on disk: written once, kept as they are, mended where broken, and complete whoever writes at once."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import orjson
import pytest

from listener.planning import documents
from listener.planning.documents import (
    instance_path,
    pack_path,
    patient_path,
    series_path,
    study_path,
    study_series_path,
)
from listener.records import Deferral, Outcome
from listener.repacking.context import CLAIM, WorkerContext
from listener.repacking.repack import Repacker
from listener.service.pool import Pool, Worker
from listener.service.protocol import WorkerConfig
from tests.instances import instance, save, uid
from tests.workbench import Bench, arrival_of, contents, need_root, tmpfs

STUDY, SERIES = str(uid("study", 0, 0)), str(uid("series", 0, 0, 0))
SHARED = {
    "patient": patient_path("P0000"),
    "study": study_path(STUDY),
    "study series": study_series_path(STUDY, SERIES),
    "series": series_path(SERIES),
    "pack": pack_path(SERIES),
}


def stamps(bench: Bench) -> dict[str, tuple[int, int, int]]:
    """Inode and times of every document."""
    found = {}
    for name in contents(bench.log):
        status = os.stat(bench.log / name)
        found[name] = (status.st_ino, status.st_mtime_ns, status.st_ctime_ns)
    return found


def fresh(bench: Bench) -> Bench:
    """Another worker on the same directories: it has seen nothing yet."""
    bench.context = WorkerContext(bench.config, bench.directories, bench.context.mode)
    bench.repacker = Repacker(bench.context)
    return bench


def test_the_first_instance_writes_all_six(tmp_path: Path) -> None:
    bench = Bench(tmp_path)
    outcome = bench.publish()
    own = instance_path(SERIES, os.path.basename(outcome.dst))
    assert sorted(contents(bench.log)) == sorted([*SHARED.values(), own])
    assert bench.document(own)[SERIES]["imageObj"][os.path.basename(outcome.dst)] == {
        "size": os.stat(outcome.dst).st_size,
        "FSlocation": outcome.dst,
    }
    assert bench.document(SHARED["study series"])[STUDY]["SeriesBaseDir"] == os.path.dirname(outcome.dst)
    assert bench.document(SHARED["study series"])[STUDY]["DICOM"]["Modality"] == {"value": "MR", "label": "Modality"}
    assert bench.document(SHARED["patient"])["P0000"]["StudyList"] == [STUDY]


def test_readers_count_one_document_an_instance_and_nothing_else(tmp_path: Path) -> None:
    bench = Bench(tmp_path)
    bench.repack(*(bench.put(str(number), number=number) for number in range(1, 6)))
    assert len(os.listdir(bench.log / f"seriesData/{SERIES}-img")) == 5
    assert len(os.listdir(bench.log / f"studyData/{STUDY}-series")) == 1
    assert os.listdir(bench.directories.log_staging) == []


def test_what_did_not_change_is_never_rewritten(tmp_path: Path) -> None:
    bench = Bench(tmp_path)
    bench.publish()
    before = stamps(bench)
    for number in range(2, 5):
        bench.publish(number=number)
        fresh(bench).publish(number=number + 10)
    for name in ("again", "and again"):
        assert fresh(bench).outcome(bench.put(name)).kind == "duplicate"
    after = stamps(bench)
    assert {name: after[name] for name in before} == before


def test_a_replay_changes_no_document_s_content_and_no_other_document(tmp_path: Path) -> None:
    """Its own is renamed into place again: whoever has read it, to replace the instance, then knows of this one."""
    bench = Bench(tmp_path)
    (first,) = bench.work([arrival_of(bench.put())])
    assert isinstance(first, Outcome)
    before, said = stamps(bench), contents(bench.log)
    arrival = arrival_of(first.claim)._replace(path=first.path, claim=first.claim)
    fresh(bench).work([arrival])
    after = stamps(bench)
    assert contents(bench.log) == said
    own = instance_path(SERIES, os.path.basename(first.dst))
    assert {name for name in before if after[name] != before[name]} == {own}


def test_a_replaced_instance_gets_a_document_of_its_own_size(tmp_path: Path) -> None:
    bench = Bench(tmp_path)
    old = bench.publish()
    new = bench.publish("two", pixels=16)
    own = instance_path(SERIES, os.path.basename(new.dst))
    assert new.dst == old.dst
    assert bench.document(own)[SERIES]["imageObj"][os.path.basename(new.dst)]["size"] == os.stat(new.dst).st_size


# -- broken and foreign -----------------------------------------------------------------------------------------------


BROKEN: dict[str, bytes] = {
    "empty": b"",
    "garbage": b"\xff\xfe{",
    "cut": b'{"a": ',
    "a list": b"[1, 2]",
    "null": b"null",
}


@pytest.mark.parametrize("which", SHARED)
@pytest.mark.parametrize("data", BROKEN.values(), ids=BROKEN.keys())
def test_a_document_that_cannot_be_read_is_replaced(which: str, data: bytes, tmp_path: Path) -> None:
    bench = Bench(tmp_path)
    bench.publish()
    sound = contents(bench.log)
    (bench.log / SHARED[which]).write_bytes(data)
    assert fresh(bench).outcome(bench.put("again")).kind == "duplicate"
    assert contents(bench.log) == sound


@pytest.mark.parametrize("data", BROKEN.values(), ids=BROKEN.keys())
def test_an_instance_s_document_too(data: bytes, tmp_path: Path) -> None:
    bench = Bench(tmp_path)
    outcome = bench.publish()
    sound = contents(bench.log)
    (bench.log / instance_path(SERIES, os.path.basename(outcome.dst))).write_bytes(data)
    assert fresh(bench).outcome(bench.put("again")).kind == "duplicate"
    assert contents(bench.log) == sound


@pytest.mark.parametrize("which", [*SHARED, "instance"])
@pytest.mark.parametrize("kind", ["new", "duplicate"])
@pytest.mark.parametrize("what", ["link to garbage", "link to the same", "dangling", "fifo", "absent"])
def test_what_is_no_file_in_place_of_a_document_is_replaced_and_not_followed(
    which: str, kind: str, what: str, tmp_path: Path
) -> None:
    bench = Bench(tmp_path)
    outcome = bench.publish()
    name = SHARED.get(which) or instance_path(SERIES, os.path.basename(outcome.dst))
    path = bench.log / name
    victim = tmp_path / "victim"
    victim.write_bytes(path.read_bytes() if what == "link to the same" else b"precious")
    before = victim.read_bytes()
    path.unlink()
    if what == "fifo":
        os.mkfifo(path)
    elif what != "absent":
        path.symlink_to(tmp_path / "nowhere" if what == "dangling" else victim)
    if kind == "new":
        os.unlink(outcome.dst)
    assert fresh(bench).outcome(bench.put("again")).kind == ("published" if kind == "new" else "duplicate")
    assert not path.is_symlink()
    assert path.is_file()
    assert isinstance(orjson.loads(path.read_bytes()), dict)
    assert victim.read_bytes() == before
    assert not (tmp_path / "nowhere").exists()


@pytest.mark.parametrize("name", [*SHARED.values(), "instance"])
def test_a_directory_in_place_of_a_document_is_moved_out_of_the_way(name: str, tmp_path: Path) -> None:
    bench = Bench(tmp_path)
    first = bench.publish()
    path = bench.log / (instance_path(SERIES, os.path.basename(first.dst)) if name == "instance" else name)
    path.unlink()
    (path / "somebody's").mkdir(parents=True)
    assert fresh(bench).outcome(bench.put("again")).kind == "duplicate"
    assert orjson.loads(path.read_bytes())
    (displaced,) = (bench.log / ".listener/displaced").iterdir()
    assert (displaced / "somebody's").is_dir()


#: As px-repack and rx-repack write them (shapes as in /docs; values another's).
FOREIGN: dict[str, Any] = {
    "patient": {"P0000": {"PatientID": "P0000", "PatientName": "as px had it", "StudyList": ["9.9"]}},
    "study": {STUDY: {"PatientID": "P0000", "StudyDescription": "as px had it"}},
    "study series": {STUDY: {"SeriesInstanceUID": SERIES, "SeriesBaseDir": "./data/x", "DICOM": {}}},
    "series": {SERIES: {"SeriesNumber": 5, "SeriesDescription": "as rx had it"}},
    "pack": {"seriesPack": True, "more": 1},
}


def test_documents_of_px_and_rx_found_there_are_kept(tmp_path: Path) -> None:
    bench = Bench(tmp_path)
    for which, document in FOREIGN.items():
        path = bench.log / SHARED[which]
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(orjson.dumps(document))
    before = contents(bench.log)
    bench.publish()
    after = contents(bench.log)
    for which in ("study", "study series", "series", "pack"):
        assert after[SHARED[which]] == before[SHARED[which]], which
    assert bench.document(SHARED["patient"])["P0000"] == {
        "PatientID": "P0000",
        "PatientName": "as px had it",
        "StudyList": ["9.9", STUDY],
    }


def test_documents_of_other_programs_are_not_touched(tmp_path: Path) -> None:
    bench = Bench(tmp_path)
    bench.publish()
    others = [documents.retrieve_path(SERIES), f"seriesData/{SERIES}-push.json", f"seriesData/{SERIES}-register.json"]
    for name in others:
        (bench.log / name).write_text("theirs")
    before = stamps(bench)
    fresh(bench).publish(number=2)
    assert all(stamps(bench)[name] == before[name] for name in others)


# -- the study list ---------------------------------------------------------------------------------------------------


def studies(bench: Bench) -> list[str]:
    found: list[str] = bench.document(SHARED["patient"])["P0000"]["StudyList"]
    return found


def test_every_study_of_a_patient_is_in_the_list(tmp_path: Path) -> None:
    bench = Bench(tmp_path)
    for number in range(4):
        bench.publish(study=number)
        bench.publish(study=number, series=1)
    assert studies(bench) == [uid("study", 0, number) for number in range(4)]


def finished(worker: Worker) -> Iterator[Outcome]:
    """All that a worker holds; on a busy machine a lock may be held for longer than it waits, and it does it again."""
    while held := worker.held:
        answer = worker.collect() or worker.collect()
        assert isinstance(answer, list)
        yield from (one for one in answer if isinstance(one, Outcome))
        waiting = [one for one in answer if isinstance(one, Deferral)]
        assert {one.reason for one in waiting} <= {"locked"}, waiting
        paths = {one.path: one.claim for one in waiting}
        if paths:
            worker.give([one._replace(claim=paths[one.path]) for one in held if one.path in paths], 0.0)


@pytest.mark.real
def test_no_study_is_lost_when_many_write_at_once(tmp_path: Path) -> None:
    """24 studies of one patient, four worker processes, two listeners on one log directory."""
    benches = [Bench(tmp_path), Bench(tmp_path, state=str(tmp_path / "s2"), incoming=(str(tmp_path / "in2"),))]
    pools = [Pool(WorkerConfig(bench.config, bench.directories, CLAIM), 2, 60.0) for bench in benches]
    try:
        for number, worker in enumerate([worker for pool in pools for worker in pool.workers]):
            bench = benches[number // 2]
            some = range(6 * number, 6 * number + 6)
            worker.give([arrival_of(bench.put(str(study), study=study)) for study in some], 0.0)
        done = [one for pool in pools for worker in pool.workers for one in finished(worker)]
    finally:
        for pool in pools:
            pool.stop()
    assert [one.kind for one in done] == ["published"] * 24
    assert sorted(studies(benches[0])) == sorted(str(uid("study", 0, number)) for number in range(24))


@pytest.mark.parametrize("patient_id", ["../../x", "", "a/b", "x" * 300, "日本"])
def test_odd_patients_have_a_document_in_its_folder(patient_id: str, tmp_path: Path) -> None:
    bench = Bench(tmp_path)
    ds = instance(PatientID=patient_id, SpecificCharacterSet="ISO_IR 192")
    outcome = bench.outcome(save(ds, bench.incoming / "odd"))
    assert outcome.kind == "published"
    (name,) = os.listdir(bench.log / "patientData")
    assert not name.startswith(".")
    (key,) = bench.document(f"patientData/{name}")
    assert key == (patient_id or "PatientID")
    assert sorted(os.listdir(tmp_path)) == ["data", "incoming", "log", "state"]


@pytest.mark.real
def test_a_full_log_volume_is_a_failure_of_describing(tmp_path: Path) -> None:
    """Also where the first document is written, beside the log: an alert looks for the stage."""
    need_root()
    with tmpfs(tmp_path / "log", "1m") as log:
        bench = Bench(tmp_path)
        with (log / "ballast").open("wb", buffering=0) as ballast, suppress(OSError):
            while True:
                ballast.write(b"x" * 4096)
        (result,) = bench.repack(bench.put())
        assert isinstance(result, Deferral), result
        assert (result.step, result.reason) == ("describe", "no-space")


@pytest.mark.parametrize("kind", ["published", "duplicate"])
def test_shared_documents_that_prune_removed_a_moment_ago_are_there_before_the_next_instance_is_described(
    kind: str, tmp_path: Path
) -> None:
    """A worker trusts what it has seen whole for a second; a series' directory that is not there takes that back."""
    bench = Bench(tmp_path)
    bench.publish()
    before = contents(bench.log)
    for name in SHARED.values():
        (bench.log / name).unlink()
    for path in (bench.log / "seriesData" / f"{SERIES}-img").iterdir():
        path.unlink()
    (bench.log / "seriesData" / f"{SERIES}-img").rmdir()
    if kind == "published":
        next(bench.data.rglob("*.dcm")).unlink()
    assert bench.outcome(bench.put("again")).kind == kind
    assert contents(bench.log) == before


def test_a_claim_that_is_done_again_trusts_no_document(tmp_path: Path) -> None:
    bench = Bench(tmp_path)
    bench.publish()
    (bench.log / SHARED["series"]).unlink()
    arrival = arrival_of(bench.put("again", number=2))
    claimed = f"{bench.directories.claims[0]}/{bench.context.claim_name(arrival)}"
    os.rename(arrival.path, claimed)
    bench.work([arrival._replace(claim=claimed)])
    assert (bench.log / SHARED["series"]).exists()
