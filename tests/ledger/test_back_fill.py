"""A ledger of an older version is filled in from documents, else from a file, while the service goes on."""

from __future__ import annotations

import contextlib
from pathlib import Path

import pytest

from listener.ledger import descriptions
from listener.ledger.back_fill import BackFill
from listener.ledger.connection import open_writer, path_of, transaction
from listener.ledger.evidence import DocumentReader
from listener.ledger.reader import reading
from tests.ledger_bench import HEADER, LedgerBench
from tests.ledger_world import World


def forget(bench: LedgerBench) -> None:
    """Make the ledger as one that was just brought up from an older version."""
    with contextlib.closing(open_writer(path_of(bench.config.state))) as connection, transaction(connection):
        connection.execute("UPDATE series SET patient_id = 0, folder_id = 0, SeriesNumber = '', SeriesDescription = ''")
        connection.execute("UPDATE studies SET StudyDate = '', StudyTime = '', StudyDescription = ''")
        connection.execute("DELETE FROM patients")
        connection.execute("DELETE FROM patient_names")


def everything(bench: LedgerBench) -> list[tuple[object, ...]]:
    with reading(bench.config.state) as reader:
        return [row[1:] for study in reader.studies() for row in (study, *reader.series_of(study))]


@pytest.mark.parametrize("lost", ["nothing", "document"])
def test_a_ledger_of_an_older_version_is_filled_in(tmp_path: Path, lost: str) -> None:
    bench = LedgerBench(tmp_path)
    bench.receive("a", number=1, **HEADER)
    bench.receive("b", number=1, study=1, series=1, **{**HEADER, "PatientID": "OTHER", "AccessionNumber": ""})
    before = everything(bench)
    forget(bench)
    assert everything(bench) != before
    if lost == "document":
        for path in Path(bench.config.log, "studyData").glob("*-series/*-meta.json"):
            path.write_bytes(b"{}")
    bench.tick(1.0)
    assert everything(bench) == before
    bench.clerk.close()


def test_what_cannot_be_read_any_more_has_its_key_and_is_not_tried_again(tmp_path: Path) -> None:
    bench = LedgerBench(tmp_path)
    bench.receive("a", number=1, **HEADER)
    forget(bench)
    for path in Path(bench.config.log, "studyData").glob("*-series/*-meta.json"):
        path.unlink()
    for path in Path(bench.config.data).rglob("*.dcm"):
        path.unlink()
    bench.tick(1.0)
    with reading(bench.config.state) as reader:
        (study,) = reader.studies()
    assert (study.PatientID, study.PatientName, study.AccessionNumber) == ("M 17", "", "A1")
    with contextlib.closing(open_writer(path_of(bench.config.state))) as connection:
        assert connection.execute(descriptions.UNDESCRIBED, (1,)).fetchall() == []
    bench.clerk.close()


@pytest.mark.parametrize("lost", [0, 1])
def test_a_series_that_is_gone_leaves_its_study_as_the_others_describe_it(tmp_path: Path, lost: int) -> None:
    bench = LedgerBench(tmp_path)
    bench.receive("a", number=1, **HEADER)
    bench.receive("b", number=2, series=1, **HEADER)
    with reading(bench.config.state) as reader:
        (before,) = reader.studies()
        gone = reader.series_of(before)[lost]
    forget(bench)
    for path in Path(bench.config.log, "studyData").glob(f"*-series/{gone.SeriesInstanceUID}-meta.json"):
        path.unlink()
    for path in Path(bench.config.data, gone.folder).glob("*.dcm"):
        path.unlink()
    bench.tick(1.0)
    with reading(bench.config.state) as reader:
        (study,) = reader.studies()
    assert (study.StudyDate, study.StudyTime, study.StudyDescription) == (
        before.StudyDate,
        before.StudyTime,
        before.StudyDescription,
    )
    assert study.StudyDate
    bench.clerk.close()


def test_filling_in_goes_on_where_it_stopped(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    world = World(tmp_path)
    for series in range(120):
        world.came(series, 1)
    documents = DocumentReader(world.config)
    left = []
    with caplog.at_level("INFO"), contextlib.closing(open_writer(path_of(world.config.state))) as connection:
        for filling in (BackFill(documents), *[BackFill(documents)] * 3):  # The first was stopped.
            filling.fill(connection, 0.0)
            left += connection.execute(descriptions.HOW_MANY_UNDESCRIBED).fetchone()
    assert left == [70, 20, 0, 0], "a slice at a time, and none twice"
    told = [record.message for record in caplog.records]
    assert [("of 70 series" in text, "of 20 series" in text, "of all series (70 in" in text) for text in told] == [
        (True, False, False),
        (False, True, False),
        (False, False, True),
    ]
    world.close()
