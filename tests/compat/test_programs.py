"""The real programs over our output, and over px-repack's own: the same counts, the same answers."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from tests.compat import corpus
from tests.compat.packed import Packed, pack_ourselves
from tests.compat.pypx import Pypx, counts_of


@pytest.fixture(scope="module", params=["px-repack", "listener"])
def packed(request: pytest.FixtureRequest, pypx: Pypx, tmp_path_factory: pytest.TempPathFactory) -> Packed:
    """The corpus as the real px-repack packs it, and as we do in its layout."""
    base = tmp_path_factory.mktemp("px")
    packed = Packed(pypx, corpus.make(base / "incoming"), base / "data", base / "log")
    if request.param == "px-repack":
        pypx.repack(packed.corpus.folder, packed.data, packed.log)
    else:
        pack_ourselves(packed)
    return packed


def test_px_repack_puts_files_where_our_templates_say(packed: Packed) -> None:
    expected = {corpus.path_of(ds, packed.layout): name for name, ds in packed.corpus.instances.items()}
    assert corpus.tree(packed.data) == set(expected)
    for path, name in expected.items():
        assert (packed.data / path).read_bytes() == (packed.corpus.folder / name).read_bytes()


def test_px_repack_describes_every_instance_once(packed: Packed) -> None:
    for (study, series), number in packed.corpus.series().items():
        assert len(list((packed.log / "seriesData" / f"{series}-img").iterdir())) == number
        assert packed.document("seriesData", f"{series}-pack.json") == {"seriesPack": True}
        assert (
            packed.document("studyData", f"{study}-series", f"{series}-meta.json")[study]["SeriesInstanceUID"] == series
        )
    for patient, studies in packed.corpus.studies_by_patient().items():
        assert set(packed.document("patientData", f"{patient}.json")[patient]["StudyList"]) == studies


def test_px_status_counts(packed: Packed) -> None:
    for (study, series), number in packed.corpus.series().items():
        status = packed.pypx.status(packed.log, study, series)
        assert counts_of(status) == {
            "received": number,
            "requested": -1,
            "packed": number,
            "pushed": 0,
            "registered": 0,
        }
        assert status["state"] == {
            "study": "StudyContainsSeriesOK",
            "series": "SeriesMapMetaOK",
            "images": "ImagesReceiveCountOK",
        }


def test_px_status_reads_the_expected_number(packed: Packed, tmp_path: Path) -> None:
    (study, series), number = packed.corpus.series().most_common(1)[0]
    log = Path(shutil.copytree(packed.log, tmp_path / "log"))
    told = {"NumberOfSeriesRelatedInstances": str(number + 2)}
    (log / "seriesData" / f"{series}-retrieve.json").write_text(json.dumps(told), encoding="utf-8")
    status = packed.pypx.status(log, study, series)
    assert status["images"]["requested"]["count"] == number + 2
    assert status["state"]["images"] == "ImagesInFlight"


def test_px_status_knows_nothing_of_another_series(packed: Packed) -> None:
    (study, _), _ = packed.corpus.series().most_common(1)[0]
    status = packed.pypx.status(packed.log, study, "1.2.3")
    assert (status["status"], status["error"]) == (False, "Series not found")


def test_px_smdb_finds_every_directory(packed: Packed) -> None:
    for patient, studies in packed.corpus.studies_by_patient().items():
        found = packed.pypx.smdb(packed.log, "imageDirsPatientID", patient)["d_imageDirs"]
        assert set(found) == studies
        for study, directories in found.items():
            theirs = {series for one, series in packed.corpus.series() if one == study}
            assert len(directories) == len(theirs)
            assert all(Path(directory).is_relative_to(packed.data) for directory in directories)
    for series in dict(packed.corpus.series().keys()).values():  # One of each study.
        answer = packed.pypx.smdb(packed.log, "imageDirsSeriesInstanceUID", series)
        assert (answer["status"], answer["error"]) == (True, "")
        assert Path(answer[series]).is_dir()


def test_px_smdb_can_redo_the_maps(packed: Packed, tmp_path: Path) -> None:
    log = Path(shutil.copytree(packed.log, tmp_path / "log"))
    before = corpus.tree(log)
    for patient, studies in packed.corpus.studies_by_patient().items():
        answer = packed.pypx.smdb(log, "mapsUpdateForPatient", patient)
        files = [name for name in answer if name.endswith(".dcm")]
        assert len(files) == sum(n for (study, _), n in packed.corpus.series().items() if study in studies)
    assert corpus.tree(log) == before


def test_px_report_has_a_line_a_series(packed: Packed) -> None:
    report = packed.pypx.report(packed.log)
    assert len(report) == len({study for study, _ in packed.corpus.series()})
    listed = {each["SeriesInstanceUID"] for study in report for each in study["bodySeriesUID"]}
    assert listed == {series for _, series in packed.corpus.series()}
    assert {study["header"]["PatientID"] for study in report} == set(packed.corpus.studies_by_patient())


def test_px_push_stores_a_series_and_px_status_sees_it(packed: Packed, tmp_path: Path) -> None:
    log = Path(shutil.copytree(packed.log, tmp_path / "log"))
    (study, series), number = packed.corpus.series().most_common(1)[0]
    folder = Path(packed.pypx.smdb(log, "imageDirsSeriesInstanceUID", series)[series])
    (tmp_path / "store").mkdir()
    answer = packed.pypx.push(log, folder, tmp_path / "store")
    assert answer["status"] is True
    stored = corpus.tree(tmp_path / "store" / "SERVICES" / "PACS" / "COMPAT")
    assert len(stored) == len(answer["objectFileList"]) == number
    status = packed.pypx.status(log, study, series)
    counts = counts_of(status)
    assert (counts["received"], counts["packed"], counts["pushed"]) == (number, number, number)
    assert status["state"]["images"] == "ImagesPushedOK"


def test_released_programs_that_do_not_work(packed: Packed) -> None:
    """Why px-push, and px-status of 3.12, are called through Python here: when this fails, use the programs again."""
    (study, series), _ = packed.corpus.series().most_common(1)[0]
    push = packed.pypx.run("px-push", "--db", packed.log, "--xcrdir", packed.data)
    assert "'tuple' object has no attribute 'JSONargString'" in push.stderr
    if packed.layout == "px":
        named = ("--StudyInstanceUID", study, "--SeriesInstanceUID", series, "--json")
        status = packed.pypx.run("px-status", "--dblogbasepath", packed.log, *named)
        assert "coroutine is not JSON serializable" in status.stdout
