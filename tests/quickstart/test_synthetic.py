"""Synthetic series are real DICOM, distinct, and the same every time."""

from __future__ import annotations

import time
from itertools import pairwise
from pathlib import Path

import pydicom
import pytest

from listener.quickstart.synthetic import ROOT, Look, make_dataset, make_series, uid


def read(folder: Path) -> list[pydicom.FileDataset]:
    return [pydicom.dcmread(path) for path in sorted(folder.iterdir())]


def test_every_instance_is_whole_and_its_own(tmp_path: Path) -> None:
    paths = make_series(tmp_path / "new", instances=4, patients=2, studies=2, series=3)
    made = [pydicom.dcmread(path) for path in paths]

    assert len(made) == 4 * 2 * 2 * 3
    assert len({each.SOPInstanceUID for each in made}) == len(made)
    assert len({each.SeriesInstanceUID for each in made}) == 2 * 2 * 3
    assert len({each.StudyInstanceUID for each in made}) == 2 * 2
    assert {str(each.PatientName) for each in made} == {"Synthetic^One", "Synthetic^Two"}
    assert len({each.PatientID for each in made}) == 2
    for path, each in zip(paths, made, strict=True):
        assert path.name == f"MR.{each.SOPInstanceUID}"
        assert each.file_meta.MediaStorageSOPInstanceUID == each.SOPInstanceUID
        assert len(each.PixelData) == 2 * each.Rows * each.Columns


def test_a_series_counts_its_instances_and_moves_through_space(tmp_path: Path) -> None:
    made = [pydicom.dcmread(path) for path in make_series(tmp_path, instances=12)]

    assert [each.InstanceNumber for each in made] == list(range(1, 13))
    assert all(float(low.SliceLocation) + 1 == float(high.SliceLocation) for low, high in pairwise(made))
    assert all(each.ImagePositionPatient[2] == each.SliceLocation for each in made)
    assert len({each.SeriesInstanceUID for each in made}) == 1


def test_the_same_arguments_give_the_same_bytes_and_another_seed_other_uids(tmp_path: Path) -> None:
    first = {path.name: path.read_bytes() for path in make_series(tmp_path / "a")}
    again = {path.name: path.read_bytes() for path in make_series(tmp_path / "b")}
    other = {path.name for path in make_series(tmp_path / "c", look=Look(seed="other"))}

    assert first == again
    assert not other & set(first)


def test_uids_are_valid_and_pinned() -> None:
    made = [uid("seed", index) for index in range(1000)]

    assert len(set(made)) == 1000
    assert {len(each) for each in made} == {48}
    assert all(pydicom.uid.UID(each).is_valid and each.startswith(ROOT) for each in made)
    # Examples, screenshots and measurements name these.
    assert uid("listener", 1, 1, 1) == "1.2.826.0.1.3680043.10.1470.22001603286193591624"


def test_the_look_changes_size_and_attributes(tmp_path: Path) -> None:
    look = Look(
        rows=8,
        columns=16,
        private_bytes=100_001,
        attributes={"PatientID": "../../x", "SeriesDescription": None, "InstanceNumber": 7, "ImageComments": None},
    )
    [one, two] = [pydicom.dcmread(path) for path in make_series(tmp_path, instances=2, look=look)]

    assert len(one.PixelData) == 2 * 8 * 16
    assert len(one[0x00291010].value) == 100_002
    assert one.PatientID == "../../x"
    assert "SeriesDescription" not in one
    assert (one.InstanceNumber, two.InstanceNumber) == (7, 7)
    assert one.SOPInstanceUID != two.SOPInstanceUID


@pytest.mark.parametrize("keyword", ["SOPInstanceUID", "SeriesInstanceUID", "PatientID", "InstanceNumber"])
def test_any_attribute_can_be_left_out(tmp_path: Path, keyword: str) -> None:
    [path] = make_series(tmp_path, instances=1, look=Look(attributes={keyword: None}))

    assert keyword not in pydicom.dcmread(path)


def test_a_data_set_can_be_changed_and_saved(tmp_path: Path) -> None:
    made = make_dataset(patient=12)
    made.PatientName = "Synthetic^Changed"
    made.save_as(tmp_path / "one.dcm", enforce_file_format=True)

    assert pydicom.dcmread(tmp_path / "one.dcm").PatientName == "Synthetic^Changed"


def test_pixels_are_a_gradient() -> None:
    pixels = memoryview(make_dataset(look=Look(rows=2, columns=3)).PixelData).cast("H").tolist()

    assert pixels == [0, 1365, 2730, 1365, 2730, 4095]


def test_a_thousand_instances_are_made_in_no_time(tmp_path: Path) -> None:
    began = time.process_time()
    make_series(tmp_path, instances=1000)

    assert time.process_time() - began < 8
