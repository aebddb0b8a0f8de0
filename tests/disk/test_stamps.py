"""A lock's file tells what was last written under it, so that an old document is not taken for the new one."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from listener.disk import json_file, stamps
from listener.errors import NotCurrent
from listener.planning import documents
from listener.reasons import LOCKED, system_reason
from listener.records import Deferral, Outcome
from tests.instances import instance
from tests.workbench import Bench, arrival_of, contents


@pytest.fixture
def lock(tmp_path: Path) -> Iterator[int]:
    descriptor = os.open(tmp_path / "lock", os.O_RDWR | os.O_CREAT)
    yield descriptor
    os.close(descriptor)


def put(lock: int, path: str, data: bytes) -> None:
    stamps.write(lock, stamps.read(lock), path, data)


def check(lock: int, path: str, data: bytes | None) -> None:
    stamps.require_current(stamps.read_direct(lock), "locks/a", path, data)


def test_what_was_written_last_is_current_and_nothing_else(lock: int) -> None:
    check(lock, "patientData/a.json", b"never stamped")
    put(lock, "patientData/a.json", b"first")
    put(lock, "patientData/b.json", b"another")
    put(lock, "patientData/a.json", b"second")
    check(lock, "patientData/a.json", b"second")
    check(lock, "patientData/b.json", b"another")
    for old in (b"first", b"", None):
        with pytest.raises(NotCurrent, match="'locks/a'") as caught:
            check(lock, "patientData/a.json", old)
        assert system_reason(caught.value) == LOCKED


def test_a_stamp_ends(lock: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Another program may have written the document; no kernel shows an old one for longer."""
    put(lock, "a", b"first")
    later = time.time_ns() + 61 * 10**9
    monkeypatch.setattr(time, "time_ns", lambda: later)
    check(lock, "a", b"foreign")


@pytest.mark.parametrize("there", [b"", b"\0" * 4096, b"garbage", b"a b c\n" * 9, b"\xff" * 5000])
def test_what_is_no_stamp_tells_nothing(there: bytes, lock: int) -> None:
    os.pwrite(lock, there, 0)
    check(lock, "a", b"x")
    put(lock, "a", b"x")
    with pytest.raises(NotCurrent):
        check(lock, "a", b"y")


def test_lines_that_are_no_stamps_hide_none(lock: int) -> None:
    put(lock, "a", b"x")
    line = os.pread(lock, stamps.SIZE, 0).rstrip(b"\n")
    torn = b"\n\n" + line[:40] + b"\n" + line + b"\nfour words of text\n\xff\xfe 1 2\n"
    os.pwrite(lock, torn.ljust(stamps.SIZE, b"\n"), 0)
    assert [stamp.time_ns for stamp in stamps.read(lock)] == [int(line.split()[2], 16)]
    with pytest.raises(NotCurrent):
        check(lock, "a", b"y")


@given(st.lists(st.tuples(st.sampled_from("abcdefgh"), st.binary(max_size=3)), max_size=200))
@settings(max_examples=20, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_the_newest_are_kept_in_one_page(lock: int, written: list[tuple[str, bytes]]) -> None:
    os.ftruncate(lock, 0)
    for number, (path, data) in enumerate(written):
        put(lock, f"{path}{number % 30}", data)
        check(lock, f"{path}{number % 30}", data)
        assert os.fstat(lock).st_size == stamps.SIZE
    assert len(stamps.read(lock)) <= 80


def test_an_old_document_is_not_changed_and_its_file_waits(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What this kernel shows is the StudyList before the other machine's study: to add ours to it would lose that."""
    bench, other = Bench(tmp_path), Bench(tmp_path)
    bench.context.network_log = True
    bench.publish("first", study=1)
    patient = bench.log / documents.patient_path(str(instance().PatientID))
    before = patient.read_bytes()
    other.publish("theirs", study=2)
    real = json_file.read
    monkeypatch.setattr(json_file, "read", lambda path: before if path == str(patient) else real(path))
    (deferral,) = bench.repack(bench.put("ours", study=3))
    assert isinstance(deferral, Deferral)
    assert (deferral.reason, bool(deferral.place)) == (LOCKED, True)
    assert "what another machine wrote" in deferral.error
    assert len(contents(bench.data)) == 2
    monkeypatch.undo()
    (done,) = bench.work([arrival_of(deferral.claim)._replace(path=deferral.path, claim=deferral.claim)])
    assert isinstance(done, Outcome)
    (document,) = bench.document(documents.patient_path(str(instance().PatientID))).values()
    assert len(document["StudyList"]) == 3
