"""Patients, studies and series in the ledger: what headers say, from a worker, corrected, and summed by study."""

from __future__ import annotations

import contextlib
import sqlite3
import time
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from listener.ledger import generations
from listener.ledger.connection import migrate, open_writer, path_of
from listener.ledger.descriptions import describe, described, spellings
from listener.ledger.evidence import DocumentReader
from listener.ledger.reader import Reader, reading
from listener.ledger.rows import shown
from listener.records import Outcome, SeriesHeader
from listener.repacking.revision import revise
from tests.ledger_bench import HEADER, LedgerBench
from tests.ledger_world import BEGIN


def rows(bench: LedgerBench, question: str) -> list[tuple[object, ...]]:
    with contextlib.closing(sqlite3.connect(path_of(bench.config.state))) as connection:
        return connection.execute(question).fetchall()


def test_the_first_file_of_a_series_tells_its_header_and_no_other_does(tmp_path: Path) -> None:
    bench = LedgerBench(tmp_path)
    outcomes = [bench.outcome(bench.put(f"f{number}", number=number, **HEADER)) for number in (1, 2, 3)]
    assert outcomes[0].header == SeriesHeader(**HEADER)
    assert [outcome.header for outcome in outcomes[1:]] == [None, None]
    bench.clerk.close()


def test_a_study_is_told_with_its_patient_and_where_it_lies(tmp_path: Path) -> None:
    bench = LedgerBench(tmp_path)
    bench.receive("a", number=1, **HEADER)
    bench.receive("b", number=1, series=1, **{**HEADER, "SeriesNumber": "10", "Modality": "SR"})
    bench.receive("c", number=2, series=1, **{**HEADER, "SeriesNumber": "10", "Modality": "SR"})
    with reading(bench.config.state) as reader:
        (study,) = reader.studies()
        assert reader.study(study.StudyInstanceUID) == study
        told = shown(study, phi=True)
        series = reader.series_of(study)
    assert {name: told[name] for name in HEADER if name in told} == {
        name: value for name, value in HEADER.items() if not name.startswith(("Series", "Station"))
    }
    assert (told["ModalitiesInStudy"], told["senders"]) == (["MR", "SR"], ["SENDER"])
    assert (study.series, study.complete, study.state, study.instances) == (2, 0, "open", 3)
    assert [one.SeriesNumber for one in series] == ["3", "10"], "by number, not by letter"
    for one in series:
        assert Path(bench.config.data, one.folder).is_dir()
        assert Path(one.folder).parent == Path(study.folder)
    bench.clerk.close()


def test_without_phi_no_text_of_a_header_is_told(tmp_path: Path) -> None:
    bench = LedgerBench(tmp_path)
    bench.receive("a", number=1, **HEADER)
    with reading(bench.config.state) as reader:
        (study,) = reader.studies()
        told = [shown(study, phi=False), *(shown(row, phi=False) for row in reader.series_of(study))]
    for name, value in HEADER.items():
        if name != "SeriesNumber":
            assert value not in str(told), name
    bench.clerk.close()


def test_corrected_headers_correct_the_rows(tmp_path: Path) -> None:
    bench = LedgerBench(tmp_path)
    bench.receive("a", number=1, **HEADER)
    corrected = {**HEADER, "PatientName": "Mueller^Anne", "PatientID": "M18", "StudyDescription": "Head"}
    bench.receive("b", number=1, **corrected)
    with reading(bench.config.state) as reader:
        (study,) = reader.studies()
        (series,) = reader.series_of(study)
    assert (study.PatientName, study.PatientID, study.StudyDescription) == ("Mueller^Anne", "M18", "Head")
    assert Path(bench.config.data, series.folder).is_dir(), "the folder is the newest one's"
    assert rows(bench, "SELECT PatientName FROM patients") == [("Mueller^Anne",)], "the wrong name is forgotten"
    assert rows(bench, "SELECT folded FROM patient_names") == [("mueller^anne",)]
    bench.clerk.close()


def test_the_newest_header_counts_in_whatever_order_workers_answer(tmp_path: Path) -> None:
    """Two workers correct two instances at the same time. The answer of the one that was first comes last."""
    bench = LedgerBench(tmp_path)
    bench.receive("a", number=1, **HEADER)
    bench.receive("b", number=2, **HEADER)
    first = bench.outcome(bench.put("c", number=1, **{**HEADER, "PatientName": "First"}))
    second = bench.outcome(bench.put("d", number=2, **{**HEADER, "PatientName": "Second"}))
    bench.clerk.record([second, first], bench.now, time.time_ns())
    outcomes: list[Outcome] = []
    for revision in bench.clerk.take_revisions():
        revise(revision, bench.context, outcomes)
    bench.clerk.record(outcomes, bench.now, time.time_ns())
    with reading(bench.config.state) as reader:
        assert [study.PatientName for study in reader.studies()] == ["Second"]
    header = DocumentReader(bench.config).header(second.StudyInstanceUID, second.SeriesInstanceUID)
    assert header
    assert header.PatientName == "Second"
    bench.clerk.close()


def test_two_patients_in_one_study_stay_two(tmp_path: Path) -> None:
    bench = LedgerBench(tmp_path)
    bench.receive("a", number=1, **HEADER)
    bench.receive("b", number=1, series=1, **{**HEADER, "PatientID": "OTHER"})
    assert sorted(rows(bench, "SELECT p.PatientID FROM series s JOIN patients p ON p.id = s.patient_id")) == [
        ("M 17",),
        ("OTHER",),
    ]
    bench.clerk.close()


@pytest.mark.parametrize(
    ("name", "wanted"),
    [
        ("Doe^John", ["doe^john"]),
        ("DOE^^^^", ["doe"]),
        ("Yamada^Tarou=山田^太郎=やまだ^たろう", ["yamada^tarou", "やまた^たろう", "山田^太郎"]),
        ("Émile^Zoë", ["emile^zoe"]),
        ("STRASSE=Straße", ["strasse"]),
        ("", []),
        ("==", []),
    ],
)
def test_names_are_folded_by_component_group(name: str, wanted: list[str]) -> None:
    assert spellings(name) == wanted


def test_hostile_texts_are_kept_and_bounded(tmp_path: Path) -> None:
    bench = LedgerBench(tmp_path)
    hostile = {"PatientName": "a\x1b[2J^b\udcff".encode("utf-8", "replace").decode(), "StudyDescription": "x" * 5000}
    outcome = bench.outcome(bench.put("a", number=1, SpecificCharacterSet="ISO_IR 192", **hostile))
    assert outcome.header is not None
    assert len(outcome.header.StudyDescription) == 512
    bench.clerk.close()


# -- sums --------------------------------------------------------------------------------------------------------------

_SUMS = """
SELECT StudyInstanceUID, count(*), sum(state = 'open'), sum(state = 'complete'), sum(state = 'incomplete'),
    sum(instances), sum(bytes), max(last_ns)
FROM series WHERE StudyInstanceUID <> '' AND (instances > 0 OR pruned_ns = 0) GROUP BY StudyInstanceUID ORDER BY 1
"""
_KEPT = """
SELECT StudyInstanceUID, series, open, complete, incomplete, instances, bytes, last_ns FROM studies
WHERE series > 0 ORDER BY 1
"""

_UPDATES = {
    "state": "UPDATE series SET state = ? WHERE id = ?",
    "instances": "UPDATE series SET instances = ? WHERE id = ?",
    "bytes": "UPDATE series SET bytes = ? WHERE id = ?",
    "last_ns": "UPDATE series SET last_ns = ? WHERE id = ?",
    "pruned_ns": "UPDATE series SET pruned_ns = ?, instances = 0, bytes = 0 WHERE id = ?",
}

_CHANGES = st.lists(
    st.tuples(
        st.sampled_from((*_UPDATES, "study", "new")),
        st.integers(0, 3),
        st.integers(0, 5),
    ),
    max_size=40,
)


@given(_CHANGES)
def test_a_study_is_the_sum_of_its_series(changes: list[tuple[str, int, int]]) -> None:
    with contextlib.closing(sqlite3.connect(":memory:", isolation_level=None)) as connection:
        migrate(connection)
        clock = 100
        for what, which, number in changes:
            clock += 1
            if what == "new":
                generations.begin(connection, f"1.{clock}", clock)
            elif what == "study":
                connection.execute(
                    "UPDATE series SET StudyInstanceUID = ? WHERE id = ? AND StudyInstanceUID = ''",
                    (f"2.{number % 2}", which + 1),
                )
            else:
                # An arrival is never before the last one; only an empty series is marked as pruned here.
                value = {"state": ("open", "complete", "incomplete")[number % 3], "last_ns": clock}.get(what, number)
                connection.execute(_UPDATES[what], (value, which + 1))
            sums, kept = connection.execute(_SUMS).fetchall(), connection.execute(_KEPT).fetchall()
            assert [row[:-1] for row in kept] == [row[:-1] for row in sums]
            assert all(mine[-1] >= theirs[-1] for mine, theirs in zip(kept, sums, strict=True))


def test_a_crash_before_the_header_was_told_loses_nothing(tmp_path: Path) -> None:
    """The worker wrote the documents; the outcome with the header died with the service."""
    bench = LedgerBench(tmp_path)
    bench.outcome(bench.put("a", number=1, **HEADER))
    bench.receive("b", number=2, **HEADER)
    with contextlib.closing(open_writer(path_of(bench.config.state))) as connection:
        assert described(connection, 1) == SeriesHeader(**HEADER)
    bench.clerk.close()


def test_describing_twice_changes_nothing(tmp_path: Path) -> None:
    with contextlib.closing(open_writer(str(tmp_path / "ledger"))) as connection:
        row = generations.begin(connection, "1.1", BEGIN)
        generations.identify(connection, row.id, ("1", "P", "A", "MR", "S", "/in"), BEGIN)
        for _ in range(2):
            describe(connection, row.id, SeriesHeader(PatientID="P", PatientName="A^B"), 0)
        assert connection.execute("SELECT count(*) FROM patients").fetchone() == (1,)
        assert Reader(connection).studies()[0].PatientName == "A^B"
