"""What instances share is described by the first, or the next where that fails, and again where it went missing."""

from __future__ import annotations

from pathlib import Path

import pytest

from listener.dicom import reader
from listener.dicom.attributes import Limits
from listener.planning.documents import pack_path, patient_path, series_path, study_path, study_series_path
from listener.records import Outcome
from listener.repacking import shared_documents
from listener.repacking.shared_documents import SharedDocuments
from tests.instances import uid
from tests.workbench import Bench, contents

STUDY, SERIES = str(uid("study", 0, 0)), str(uid("series", 0, 0, 0))
SHARED = {
    "patient": patient_path("P0000"),
    "study": study_path(STUDY),
    "study series": study_series_path(STUDY, SERIES),
    "series": series_path(SERIES),
    "pack": pack_path(SERIES),
}


def test_a_document_that_went_missing_comes_back_within_a_second(tmp_path: Path) -> None:
    """A worker trusts what it has seen for a moment, then looks again; here the moment is passed by hand."""
    now = [100.0]
    bench = Bench(tmp_path)
    bench.repacker._shared = SharedDocuments(bench.context, lambda: now[0])
    bench.publish()
    sound = contents(bench.log)
    (bench.log / SHARED["series"]).unlink()
    (bench.log / SHARED["patient"]).write_bytes(b"garbage")
    now[0] += 1.5
    bench.publish(number=2)
    assert {name: contents(bench.log)[name] for name in sound} == sound


@pytest.fixture
def read_whole(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Descriptors of the instances whose whole headers were read."""
    read: list[int] = []
    real = reader.read_elements

    def counted(descriptor: int, size: int, limits: Limits) -> dict[str, dict[str, str]]:
        read.append(descriptor)
        return real(descriptor, size, limits)

    monkeypatch.setattr(shared_documents, "read_elements", counted)
    return read


def test_a_batch_reads_one_whole_header_a_series(tmp_path: Path, read_whole: list[int]) -> None:
    bench = Bench(tmp_path, fsync="batch")
    paths = [bench.put(f"{series}-{number}", series=series, number=number) for number in (1, 2, 3) for series in (0, 1)]
    outcomes = bench.repack(*paths)
    assert [outcome.kind for outcome in outcomes if isinstance(outcome, Outcome)] == ["published"] * 6
    assert len(read_whole) == 2
    assert [bool(outcome.header) for outcome in outcomes if isinstance(outcome, Outcome)] == [True] * 2 + [False] * 4
    assert contents(bench.log).keys() >= set(SHARED.values())


def test_the_next_of_a_batch_describes_the_series_where_the_first_fails(tmp_path: Path, read_whole: list[int]) -> None:
    """The first of the series was read for the shared documents; then something else lies in its place."""
    elsewhere, bench = Bench(tmp_path / "elsewhere"), Bench(tmp_path / "here", fsync="batch")
    taken = Path(elsewhere.publish(number=1).dst).relative_to(elsewhere.data)
    (bench.data / taken / "somebody's").mkdir(parents=True)
    read_whole.clear()
    first, *others = bench.repack(*[bench.put(f"{number}", number=number) for number in (1, 2, 3)])
    assert isinstance(first, Outcome)
    assert first.kind == "set-aside"
    assert [other.kind for other in others if isinstance(other, Outcome)] == ["published"] * 2
    assert [bool(other.header) for other in others if isinstance(other, Outcome)] == [True, False]
    assert len(read_whole) == 2
    assert contents(bench.log).keys() >= set(SHARED.values())
