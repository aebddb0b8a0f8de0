"""One file's whole story, and a batch of them between two barriers: outcomes, faults, and what is left behind."""

from __future__ import annotations

import errno
import itertools
import os
import time
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

import pytest

from listener.disk import files, leases, sync
from listener.errors import STEPS, FatalFault
from listener.planning import documents
from listener.planning.plan import make_plan
from listener.reasons import SET_ASIDE_REASONS
from listener.records import Arrival, Deferral, Outcome
from listener.repacking import claim, describe, repack
from listener.repacking.context import COPY, MOVE
from tests.holders import writer
from tests.hostile_entries import odd_files
from tests.instances import ABSENT, uid, write_instance
from tests.workbench import Bench, arrival_of, contents


def only(results: list[Outcome | Deferral]) -> Outcome | Deferral:
    (result,) = results
    return result


# -- one story --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("fsync", ["none", "batch", "each"])
def test_the_outcome_of_what_is_published_says_all(fsync: str, tmp_path: Path) -> None:
    bench = Bench(tmp_path, fsync=fsync)
    path = bench.put("MR.1", number=3, sender="SCANNER_1")
    status, before = os.stat(path), time.time_ns()
    result = only(bench.work([arrival_of(path)]))
    assert isinstance(result, Outcome)
    assert (result.kind, result.reason, result.step, result.error) == ("published", "", "", "")
    assert (result.path, result.root_index, result.arrived_ns) == (str(path), 0, status.st_ctime_ns)
    assert before <= result.begun_ns <= result.finished_ns <= time.time_ns()
    assert result.size == status.st_size
    assert result.SOPInstanceUID == uid("instance", 0, 0, 0, 3)
    assert result.SeriesInstanceUID == uid("series", 0, 0, 0)
    assert result.StudyInstanceUID == uid("study", 0, 0)
    assert (result.PatientID, result.Modality, result.sender) == ("P0000", "MR", "SCANNER_1")
    assert [entry.name for entry in result.missing] == ["PerformedStationAETitle"]
    assert (result.warning, result.superseded) == ("", "")
    assert os.path.samefile(result.dst, result.claim)
    assert len(result.step_seconds) == len(STEPS)
    assert all(seconds >= 0 for seconds in result.step_seconds)
    assert abs(sum(result.step_seconds) - result.seconds) < 0.001
    assert result.fast
    assert bench.claims() == [os.path.basename(result.claim)], "the parent lets it go"


def test_the_seconds_of_a_batch_are_each_file_s_own(tmp_path: Path) -> None:
    """What a file waits for the others at the barriers is not its work: together they are not longer than the batch."""
    share = 0.0
    for attempt in range(20):  # A busy machine may stop us between two files.
        bench = Bench(tmp_path / str(attempt), fsync="batch")
        arrivals = [arrival_of(bench.put(f"MR.{number}", number=number)) for number in range(1, 33)]
        begun = time.perf_counter()
        outcomes = [result for result in bench.work(arrivals) if isinstance(result, Outcome)]
        share = sum(outcome.seconds for outcome in outcomes) / (time.perf_counter() - begun)
        assert len(outcomes) == 32
        assert share <= 1
        assert all(seconds >= 0 for outcome in outcomes for seconds in outcome.step_seconds)
        assert all(abs(sum(outcome.step_seconds) - outcome.seconds) < 1e-6 for outcome in outcomes)
        if share > 0.5:
            break
    assert share > 0.5


def test_missing_attributes_are_told_with_the_instance_that_wrote_the_documents(tmp_path: Path) -> None:
    bench = Bench(tmp_path)
    absent: dict[str, Any] = {"PatientAge": ABSENT, "StudyDescription": ABSENT, "SeriesNumber": ABSENT}
    first = bench.publish(**absent)
    second = bench.publish("two", number=2, **absent)
    names = [one.name for one in first.missing]
    assert {"PatientAge", "PerformedStationAETitle", "StudyDescription", "SeriesNumber"} <= set(names)
    assert first.missing[names.index("PatientAge")] == (
        "(0010,1010)",
        "PatientAge",
        "No such data element with tag (0010,1010)",
    )
    assert {one.name for one in second.missing} == {"StudyDescription", "SeriesNumber"}
    another_worker = Bench(tmp_path)
    assert another_worker.publish("three", number=3, **absent).missing == second.missing


def test_a_warning_comes_along(tmp_path: Path) -> None:
    bench = Bench(tmp_path)
    path = bench.put()
    path.write_bytes(path.read_bytes() + b"and more")
    assert bench.outcome(path).warning == "bytes behind the data set"


# -- faults of the file -----------------------------------------------------------------------------------------------


def _cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-10])


def _instance(**overrides: Any) -> Callable[[Path], None]:
    def make(path: Path) -> None:
        write_instance(path, **overrides)

    return make


def _whole_then_cut(path: Path) -> None:
    write_instance(path)
    _cut(path)


FAULTS: dict[str, tuple[Callable[[Path], object], str]] = {
    "no bytes": (Path.touch, "empty"),
    "text": (lambda path: path.write_text("hello " * 100), "not-dicom"),
    "four bytes": (lambda path: path.write_bytes(b"DICM"), "not-dicom"),
    "cut": (_whole_then_cut, "incomplete"),
    "no SOP Instance UID": (_instance(SOPInstanceUID=ABSENT), "missing-uid"),
    "empty Series Instance UID": (_instance(SeriesInstanceUID=""), "missing-uid"),
    "no Study Instance UID": (_instance(StudyInstanceUID=ABSENT), "missing-uid"),
}


@pytest.mark.parametrize(("make", "reason"), FAULTS.values(), ids=FAULTS.keys())
def test_a_fault_of_the_file_sets_it_aside(make: Callable[[Path], object], reason: str, tmp_path: Path) -> None:
    bench = Bench(tmp_path)
    path = bench.incoming / "bad"
    make(path)
    data = path.read_bytes()
    outcome = bench.outcome(path)
    assert (outcome.kind, outcome.reason) == ("set-aside", reason)
    assert outcome.step in ("claim", "read")
    assert outcome.error
    assert outcome.dst == str(bench.state / f"set-aside/{reason}/bad")
    assert Path(outcome.dst).read_bytes() == data
    assert not path.exists()
    assert bench.claims() == []
    assert contents(bench.data) == contents(bench.log) == {}


@pytest.mark.parametrize("name", ["link", "dangling", "fifo", "socket"])
def test_what_is_not_a_regular_file_is_set_aside(name: str, tmp_path: Path) -> None:
    bench = Bench(tmp_path)
    outcome = bench.outcome(odd_files(bench.incoming)[name])
    assert (outcome.kind, outcome.reason) == ("set-aside", "not-regular")
    assert os.path.lexists(outcome.dst)


@pytest.mark.parametrize(("limit", "reason"), [({"max_header": 1024}, "too-large"), ({"max_depth": 1}, "too-deep")])
def test_limits(limit: dict[str, Any], reason: str, tmp_path: Path) -> None:
    from pydicom.dataset import Dataset

    inner, middle, outer = Dataset(), Dataset(), Dataset()
    inner.ImageComments = "x" * 2000
    middle.ReferencedStudySequence = [inner]
    outer.ReferencedStudySequence = [middle]
    bench = Bench(tmp_path, **limit)
    assert bench.outcome(bench.put(ReferencedStudySequence=[outer])).reason == reason


def test_a_hostile_patient_stays_below_the_roots(tmp_path: Path) -> None:
    bench = Bench(tmp_path)
    outcome = bench.publish(PatientID="../../x", PatientName="..", StudyDescription="/etc/passwd")
    assert outcome.dst.startswith(f"{bench.data}/.._.._x-")
    assert sorted(os.listdir(tmp_path)) == ["data", "incoming", "log", "state"]


def test_whatever_a_parser_raises_is_an_outcome_without_its_words(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The message of an unexpected exception may quote a value."""

    def broken(*_: Any) -> None:
        raise LookupError("Doe^Jane")

    bench = Bench(tmp_path)
    monkeypatch.setattr(repack, "make_plan", broken)
    outcome = bench.outcome(bench.put())
    assert (outcome.kind, outcome.reason) == ("set-aside", "internal")
    assert outcome.error.startswith("LookupError at test_repack.py:")
    assert "Doe" not in outcome.error


def test_too_deep_a_recursion_and_too_little_memory_end_one_file_only(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    bench = Bench(tmp_path)
    errors = iter([RecursionError(), MemoryError()])
    real = make_plan

    def some(header: Any, layout: Any) -> Any:
        error = next(errors, None)
        if error:
            raise error
        return real(header, layout)

    monkeypatch.setattr(repack, "make_plan", some)
    results = bench.repack(*(bench.put(str(number), number=number) for number in (1, 2, 3)))
    kinds = [one.kind for one in results if isinstance(one, Outcome)]
    assert kinds == ["set-aside", "set-aside", "published"]
    assert {one.reason for one in results} <= {"", *SET_ASIDE_REASONS}


# -- not the end ------------------------------------------------------------------------------------------------------


def test_what_vanished_is_an_ordinary_end(tmp_path: Path) -> None:
    bench = Bench(tmp_path)
    path = bench.put()
    arrival = arrival_of(path)
    path.unlink()
    result = only(bench.work([arrival]))
    assert isinstance(result, Outcome)
    assert (result.kind, result.claim, result.dst) == ("vanished", "", "")


def test_what_is_still_open_is_put_off(tmp_path: Path) -> None:
    bench = Bench(tmp_path)
    path = bench.put()
    with writer(path):
        result = only(bench.repack(path))
    assert isinstance(result, Deferral)
    assert (result.reason, result.step, result.claim) == ("busy", "claim", "")
    assert bench.outcome(path).kind == "published"


def test_what_is_written_to_while_it_is_read_is_done_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A late writer of a claimed file, where no lease keeps him waiting: nothing is let go, and the next try publishes
    what is whole then.
    """
    bench = Bench(tmp_path, settle=0.0)
    monkeypatch.setattr(leases, "take", lambda _: leases.UNKNOWN)
    path = bench.put()
    real = make_plan

    def late(header: Any, layout: Any) -> Any:
        (name,) = bench.claims()
        with open(os.path.join(bench.directories.claims[0], name), "ab") as file:
            file.write(b"\0" * 8)
        return real(header, layout)

    monkeypatch.setattr(repack, "make_plan", late)
    first = only(bench.repack(path))
    assert isinstance(first, Deferral)
    assert (first.reason, first.step) == ("busy", "release")
    monkeypatch.undo()
    arrival = Arrival(str(path), 0, first.arrived_ns, "retry", first.claim)
    second = only(bench.work([arrival]))
    assert isinstance(second, Outcome)
    assert second.kind == "published"
    assert os.stat(second.dst).st_size == second.size


REFUSALS = [
    (errno.ENOSPC, "no-space"),
    (errno.EDQUOT, "no-space"),
    (errno.EROFS, "permission"),
    (errno.EMFILE, "io-error"),
]


@pytest.mark.parametrize(("number", "reason"), REFUSALS)
@pytest.mark.parametrize("where", ["rename", "link", "write", "sync"])
def test_errors_of_the_system_keep_the_claim_and_lose_nothing(
    where: str, number: int, reason: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    bench = Bench(tmp_path, fsync="batch")
    path = bench.put()
    data = path.read_bytes()

    def refuse(*_: Any, **__: Any) -> None:
        raise OSError(number, os.strerror(number))

    module, name = {
        "rename": (os, "rename"),
        "link": (os, "link"),
        "write": (files.StagingDir, "write"),
        "sync": (os, "fdatasync"),
    }[where]
    monkeypatch.setattr(module, name, refuse)
    result = only(bench.repack(path))
    assert isinstance(result, Deferral)
    assert result.reason == reason
    assert result.error == os.strerror(number)
    assert result.step in STEPS
    assert str(tmp_path) not in result.error
    assert Path(result.claim or path).read_bytes() == data
    monkeypatch.undo()
    again = only(bench.work([Arrival(str(path), 0, result.arrived_ns, "retry", result.claim)]))
    assert isinstance(again, Outcome)
    assert again.kind == "published"
    assert Path(again.dst).read_bytes() == data
    assert len(contents(bench.log)) == 6
    assert os.listdir(bench.directories.data_staging) == os.listdir(bench.directories.log_staging) == []


def test_an_io_error_of_a_sync_ends_everything_and_every_claim_stays(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    bench = Bench(tmp_path, fsync="batch")

    def broken(_: int) -> None:
        raise OSError(errno.EIO, "Input/output error")

    monkeypatch.setattr(os, "fdatasync", broken)
    arrivals = [arrival_of(bench.put(str(number), number=number)) for number in (1, 2)]
    descriptors = len(os.listdir("/proc/self/fd"))
    with pytest.raises(FatalFault):
        bench.work(arrivals)
    assert len(bench.claims()) == 2
    assert len(os.listdir("/proc/self/fd")) == descriptors


# -- batches ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("fsync", ["none", "batch", "each"])
def test_good_and_bad_files_of_one_batch_do_not_meet(fsync: str, tmp_path: Path) -> None:
    bench = Bench(tmp_path, fsync=fsync)
    paths: list[Path] = []
    expected: list[str] = []
    for number, (make, reason) in enumerate(FAULTS.values(), 1):
        bad = bench.incoming / f"bad{number}"
        make(bad)
        paths += [bench.put(f"good{number}", number=100 + number), bad]
        expected += ["published", reason]
    results = bench.repack(*paths)
    assert [one.path for one in results] == [str(path) for path in paths], "answers are in the order of the questions"
    assert [one.reason or one.kind for one in results if isinstance(one, Outcome)] == expected
    assert len(contents(bench.data)) == len(FAULTS)
    assert bench.claims() == []


@pytest.mark.parametrize(("fsync", "syncs"), [("none", 0), ("batch", 1), ("each", 1)])
def test_what_is_forced_to_disk(fsync: str, syncs: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing is let go before its data, its document and their directories are on disk."""
    bench = Bench(tmp_path, fsync=fsync)  # What is made at the start is on disk whatever --fsync says.
    done: list[str] = []
    real = sync.descriptors, sync.directories

    def data(opened: Sequence[int]) -> None:
        done.append("data")
        real[0](opened)

    def names(paths: Iterable[str]) -> None:
        done.append("names")
        real[1](paths)

    monkeypatch.setattr(sync, "descriptors", data)
    monkeypatch.setattr(sync, "directories", names)
    bench.repack(*(bench.put(str(number), number=number) for number in range(1, 5)))
    assert bool(done) is bool(syncs)
    if syncs:
        assert done.index("data") < done.index("names")
        assert done[-1] != "data" or fsync == "each"


def test_no_descriptor_and_no_temporary_is_left(tmp_path: Path) -> None:
    bench = Bench(tmp_path)
    before = len(os.listdir("/proc/self/fd"))
    for make, _ in FAULTS.values():
        make(bench.incoming / "bad")
        bench.repack(bench.incoming / "bad", bench.put("good"))
    assert len(os.listdir("/proc/self/fd")) == before
    assert os.listdir(bench.directories.data_staging) == os.listdir(bench.directories.log_staging) == []


# -- without claims ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("mode", [COPY, MOVE])
def test_copying_and_moving(mode: str, tmp_path: Path) -> None:
    bench = Bench(tmp_path, mode)
    path = bench.put()
    inode = path.stat().st_ino
    outcome = bench.outcome(path)
    assert (outcome.kind, outcome.claim) == ("published", "")
    assert path.exists() is (mode == COPY)
    assert (os.stat(outcome.dst).st_ino == inode) is (mode == MOVE)
    assert os.stat(outcome.dst).st_nlink == 1
    assert bench.claims() == []


@pytest.mark.parametrize("mode", [COPY, MOVE])
def test_what_fails_stays_where_it_is(mode: str, tmp_path: Path) -> None:
    bench = Bench(tmp_path, mode)
    (bench.incoming / "text").write_text("hello")
    outcome = bench.outcome(bench.incoming / "text")
    assert (outcome.kind, outcome.reason, outcome.dst) == ("set-aside", "not-dicom", "")
    assert os.listdir(bench.incoming) == ["text"]


def test_a_duplicate_that_is_moved_goes_and_one_that_is_copied_stays(tmp_path: Path) -> None:
    for mode, left in ((MOVE, []), (COPY, ["again"])):
        bench = Bench(tmp_path / mode, mode)
        bench.outcome(bench.put("first"))
        (bench.incoming / "first").unlink(missing_ok=True)
        assert bench.outcome(bench.put("again")).kind == "duplicate"
        assert os.listdir(bench.incoming) == left


def test_a_release_that_is_repeated_is_no_error(tmp_path: Path) -> None:
    bench = Bench(tmp_path)
    outcome = bench.publish()
    claim.release(outcome.claim)


@pytest.mark.parametrize("policy", ["replace", "keep-both", "set-aside"])
def test_two_data_sets_of_one_instance_at_the_same_time(
    policy: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """On two paths, in two workers: whoever comes second begins again, and meets the other one."""
    bench = Bench(tmp_path, on_conflict=policy)
    first, second = arrival_of(bench.put("one")), bench.put("two", PatientName="Corrected")
    real = describe.describe

    def meanwhile(*args: Any) -> None:
        monkeypatch.setattr(describe, "describe", real)
        other = Bench(tmp_path, on_conflict=policy)
        # In one process both would give the same names to their temporaries.
        for namer in (
            other.context,
            other.context.log_staging,
            other.context.data_staging,
            other.context.state_staging,
        ):
            monkeypatch.setattr(namer, "serial", itertools.count(1000))
        assert [result.kind for result in other.repack(second) if isinstance(result, Outcome)] == ["published"]
        real(*args)

    monkeypatch.setattr(describe, "describe", meanwhile)
    (put_off,) = bench.work([first])
    assert isinstance(put_off, Deferral), put_off
    assert put_off.reason == "busy"
    (result,) = bench.work([first._replace(claim=put_off.claim)])
    assert isinstance(result, Outcome)
    assert result.kind == ("set-aside" if policy == "set-aside" else "published")
    published = [path for path in contents(bench.data) if path.endswith(".dcm")]
    described = [path for path in contents(bench.log) if "-img/" in path]
    assert len(published) == len(described) == (2 if policy == "keep-both" else 1)
    locations = [documents.location(bench.document(path)) for path in described]
    assert sorted(locations) == sorted(str(bench.data / path) for path in published)
