"""What others say of what was cleaned: dicom3tools finds no error that the source had not, and Orthanc stores it as one
patient with the same studies, series and bytes.
"""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from collections import Counter
from pathlib import Path

import pydicom
import pytest
from pydicom.data import get_testdata_file
from pydicom.uid import UID

from tests.compat.orthanc import orthanc
from tests.deidentify.collection import Collection
from tests.deidentify.rewriting_bench import job, rewritten

_FILES = (
    "CT_small.dcm",
    "MR_small.dcm",
    "MR_small_bigendian.dcm",
    "rtdose.dcm",
    "rtplan.dcm",
    "rtstruct.dcm",
    "reportsi.dcm",
    "test-SR.dcm",
    "waveform_ecg.dcm",
)
_CLEANING = ("retain-modified-dates", "clean-descriptors", "clean-structured-content", "clean-graphics")
_UID = re.compile(r"<[0-9.]+>|[0-9]+(\.[0-9]+){2,}")


def _errors(path: Path) -> Counter[str]:
    """What dciodvfy calls an error; UIDs are others afterwards."""
    program = shutil.which("dciodvfy")
    if program is None:
        pytest.skip("dciodvfy is not installed")
    told = subprocess.run([program, "-new", str(path)], capture_output=True, check=False, timeout=60).stderr
    lines = told.decode("latin-1").splitlines()
    return Counter(_UID.sub("UID", line) for line in lines if line.startswith("Error"))


@pytest.mark.parametrize("options", [(), _CLEANING], ids=["basic", "cleaning"])
@pytest.mark.parametrize("name", _FILES)
def test_dciodvfy_finds_no_error_that_the_source_had_not(tmp_path: Path, name: str, options: tuple[str, ...]) -> None:
    source = get_testdata_file(name, download=False)
    if not source:
        pytest.skip(f"pydicom has no {name}")
    rewritten(tmp_path, Path(str(source)).read_bytes(), job(*options))
    assert _errors(tmp_path / "target") - _errors(tmp_path / "source") == Counter()


def test_dcentvfy_finds_one_patient_and_one_study(tmp_path: Path) -> None:
    program = shutil.which("dcentvfy")
    if program is None:
        pytest.skip("dcentvfy is not installed")
    collection = Collection(tmp_path)
    for series in (0, 1):
        collection.add(series, 1, 2)
    collection.end()

    def said(paths: list[Path]) -> list[str]:
        done = subprocess.run([program, *map(str, paths)], capture_output=True, check=False, timeout=60)
        return [line for line in (done.stdout + done.stderr).decode("latin-1").splitlines() if "Error" in line]

    before = said(sorted(Path(collection.config.data).rglob("*.dcm")))
    assert collection.deidentify("once", "--option", "retain-modified-dates") == 0
    assert len(said(collection.files())) <= len(before)
    files = collection.files()
    other = pydicom.dcmread(files[0])
    other.PatientID = "another"
    other.SOPInstanceUID = other.file_meta.MediaStorageSOPInstanceUID = UID("1.2.3")
    other.save_as(tmp_path / "other")
    assert len(said([*files, tmp_path / "other"])) > len(said(files)), "it would have been seen"


def test_orthanc_stores_one_patient_with_the_same_studies_series_and_bytes(tmp_path: Path) -> None:
    collection = Collection(tmp_path / "collection")
    for series in (0, 1):
        collection.add(series, 1, 2)
    collection.end()
    assert collection.deidentify("once", "--option", "retain-modified-dates") == 0
    files = collection.files()
    with orthanc(tmp_path / "orthanc", "CLEAN") as archive:
        for path in files:
            archive.add(path.read_bytes())
        counted = json.loads(archive.ask("/statistics"))
        levels = ("Patients", "Studies", "Series", "Instances")
        assert [counted[f"Count{level}"] for level in levels] == [1, 1, 2, 4]
        known = archive.instances()
        for path in files:
            assert archive.ask(f"/instances/{known[path.stem]}/file") == path.read_bytes()
