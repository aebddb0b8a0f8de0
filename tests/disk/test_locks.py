"""A lock is waited for with a limit: who holds it for longer delays the files that need it, and nothing else."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from listener.disk import files, locks
from listener.errors import LockHeld
from listener.planning import documents
from listener.planning.names import short_hash
from listener.reasons import LOCKED
from listener.records import Deferral, Outcome
from listener.verification import verify
from tests.instances import instance, write_instance
from tests.repacking.tree import consistent, images, other_pixels
from tests.service_process import Places, listener, service, settled, value
from tests.waiting import until
from tests.workbench import Bench, arrival_of, contents

HOLD = "import fcntl, sys; file = open(sys.argv[1], 'a'); fcntl.flock(file, 2); print('held', flush=True); input()"


@contextmanager
def held(path: Path, *, stopped: bool = False) -> Iterator[int]:
    """Another process holds the lock of `path`; its id."""
    path.parent.mkdir(parents=True, exist_ok=True)
    holder = subprocess.Popen(
        [sys.executable, "-c", HOLD, str(path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert holder.stdout
    assert holder.stdout.readline() == "held\n"
    if stopped:
        holder.send_signal(signal.SIGSTOP)
    try:
        yield holder.pid
    finally:
        holder.send_signal(signal.SIGCONT)
        holder.communicate("\n")


def document_lock(log: Path, relative: str) -> Path:
    """The file whose lock guards a shared or an instance's document."""
    return log / ".listener/locks" / f"document-{short_hash(relative, 2)}"


def patient_lock(log: Path, patient: int) -> Path:
    return document_lock(log, documents.patient_path(str(instance(patient=patient).PatientID)))


# -- one lock ----------------------------------------------------------------------------------------------------------


def test_a_lock_that_is_held_is_named_with_the_process_that_holds_it(tmp_path: Path) -> None:
    with held(tmp_path / "locks/a", stopped=True) as pid:
        until(lambda: Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "T")
        with pytest.raises(LockHeld) as caught:
            files.locked(str(tmp_path / "locks"), "a", timeout=0).__enter__()
    assert str(caught.value.strerror).startswith(f"the lock 'locks/a' is held by process {pid} (python")
    assert str(caught.value.strerror).endswith(", stopped)")


def test_where_the_kernel_does_not_tell_it_is_somebody_elsewhere(tmp_path: Path) -> None:
    with held(tmp_path / "a"), pytest.raises(LockHeld, match="held by another host or container"):
        locks.Locks(0, proc=str(tmp_path)).locked(str(tmp_path), "a").__enter__()


def test_a_lock_is_waited_for_and_one_that_could_not_be_had_is_not_waited_for_again(tmp_path: Path) -> None:
    clock = [0.0]
    ours = locks.Locks(0.6, lambda: clock[0])

    def seconds() -> float:
        begun = time.monotonic()
        with pytest.raises(LockHeld):
            ours.locked(str(tmp_path), "a").__enter__()
        return time.monotonic() - begun

    with held(tmp_path / "a"):
        assert seconds() >= 0.6
        assert seconds() < 0.6
        with ours.locked(str(tmp_path), "b"):
            pass  # Another one can be had.
        clock[0] += 11
        assert seconds() >= 0.6
    with ours.locked(str(tmp_path), "a"):
        pass


# -- what holds up whom ------------------------------------------------------------------------------------------------


def _patient(bench: Bench) -> Path:
    return patient_lock(bench.log, 1)


def _own_document(bench: Bench) -> Path:
    """The lock that an instance's document needs when it replaces another."""
    first = bench.publish("before", patient=1)
    bench.put("held", patient=1, PatientName="CORRECTED^NAME")
    series, name = first.SeriesInstanceUID, os.path.basename(first.dst)
    return document_lock(bench.log, documents.instance_path(series, name))


def _place(bench: Bench) -> Path:
    """The lock under which two data sets of one instance are compared."""
    first = bench.publish("before", patient=1)
    return bench.log / ".listener/locks" / f"place-{short_hash(os.path.relpath(first.dst, bench.data), 2)}"


def _set_aside(bench: Bench) -> Path:
    (bench.incoming / "held").write_bytes(b"no DICOM file" * 20)
    return bench.state / "set-aside/not-dicom/.lock"


@pytest.mark.parametrize("which", [_patient, _own_document, _place, _set_aside])
def test_a_lock_holds_up_one_file_and_the_others_of_its_batch_go(
    tmp_path: Path, which: Callable[[Bench], Path]
) -> None:
    bench = Bench(tmp_path)
    bench.put("held", patient=1)
    lock = which(bench)
    before = contents(bench.data)
    bench.put("other", patient=2, **other_pixels())
    with held(lock) as pid:
        first, second = bench.repack(bench.incoming / "held", bench.incoming / "other")
        assert isinstance(first, Deferral), first
        assert (first.reason, f"is held by process {pid} (" in first.error) == (LOCKED, True), first
        assert isinstance(second, Outcome)
        assert second.kind == "published"
        there = contents(bench.data)
        assert len(there) == len(before) + 1, "what waits is in the tree no more than before"
        assert len(images(bench)) == len(there)
        again = arrival_of(first.claim)._replace(path=first.path, claim=first.claim)
        (still,) = bench.work([again])
        assert isinstance(still, Deferral)
    (done,) = bench.work([again._replace(claim=still.claim)])
    assert isinstance(done, Outcome)
    files.discard(done.claim)
    assert done.kind in ("published", "duplicate", "set-aside")
    consistent(bench)


@pytest.mark.real
def test_the_service_goes_on_while_a_stopped_process_holds_a_lock(places: Places) -> None:
    """A `verify --repair` that somebody stopped (Ctrl-Z) held one patient's document: workers waited for its lock, and
    were killed for it, while /readyz said that all was well.
    """
    with service(places) as running:
        running.wait_for("ready")
        lock = patient_lock(places.log, 0)
        # Some patients share a lock: there are 256.
        others = [number for number in range(1, 60) if patient_lock(places.log, number) != lock][:40]
        with held(lock, stopped=True) as pid:
            for number in range(8):
                write_instance(places.incoming / f"held-{number}", patient=0, study=number, number=number)
            for number in others:
                write_instance(places.incoming / f"other-{number}", patient=number, number=number)
            running.wait_for("published", 40)
            told = until(lambda: not_ok(running.get("/readyz").json()["checks"]["locks"]), 10)
            assert f"process {pid} (" in told
            assert "PAT" not in told
            assert running.get("/readyz").status == 200
            assert f"process {pid} (" in running.stderr
        settled(running, 48)
        assert value(running.scrape(), "worker_restarts_total") == 0


def not_ok(check: dict[str, object]) -> str:
    return "" if check["ok"] else str(check["text"])


# -- commands ----------------------------------------------------------------------------------------------------------


@pytest.mark.real
def test_retry_says_who_holds_the_lock_and_ends(places: Places, monkeypatch: pytest.MonkeyPatch) -> None:
    directory = places.state / "set-aside/not-dicom"
    directory.mkdir(parents=True)
    for name in ("a", "b"):
        (directory / name).write_bytes(b"x" * 200)
    with held(directory / ".lock") as pid:
        done = listener("retry", "--all", *places.flags()[:2], "--state", str(places.state))
    assert done.status == 1
    assert f"the lock 'not-dicom/.lock' is held by process {pid} (" in done.stderr
    assert sorted(contents(directory)) == [".lock", "a", "b"]


def test_verify_tells_what_it_could_not_repair_and_goes_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(locks, "COMMAND_SECONDS", 0.1)
    bench = Bench(tmp_path)
    for patient in (1, 2):
        bench.publish(f"of-{patient}", patient=patient)
    for path in bench.log.glob("patientData/*"):
        path.unlink()
    with held(patient_lock(bench.log, 1)):
        assert verify.run(bench.config, verify.Request(repair=True)) == 1
    assert len(list(bench.log.glob("patientData/*"))) == 1
    assert verify.run(bench.config, verify.Request(repair=True)) == 0
    assert len(list(bench.log.glob("patientData/*"))) == 2
