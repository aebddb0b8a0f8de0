"""Objects that were derived from what was handed over come back with the originals."""

from __future__ import annotations

from pathlib import Path

import pydicom
import pytest
from pydicom.dataset import Dataset
from pydicom.sequence import Sequence
from pydicom.uid import generate_uid

from tests.deidentify import planting
from tests.deidentify.collection import Collection

TODAY = "20300505"

#: What an object has of its source.
SAME = ("PatientID", "PatientName", "StudyInstanceUID", "StudyDate", "FrameOfReferenceUID", "AccessionNumber")


@pytest.fixture
def collection(tmp_path: Path) -> Collection:
    made = Collection(tmp_path)
    made.add(0, 1, 2, FrameOfReferenceUID="1.3.9999.77.5", StudyDate="20200131", AcquisitionDate="20200130")
    made.end()
    assert made.deidentify("once", "--option", "retain-modified-dates") == 0
    return made


#: What a derived object takes over from its sources, and gets back.
IDENTIFYING = ("PatientID", "PatientName", "StudyInstanceUID", "StudyDate", "FrameOfReferenceUID", "AccessionNumber")


def derived(collection: Collection) -> Dataset:
    """A segmentation of what was handed over, as a program that knows nothing else makes it."""
    sources = collection.datasets()
    made = Dataset()
    made.SOPClassUID, made.SOPInstanceUID = "1.2.840.10008.5.1.4.1.1.66.4", generate_uid()
    for keyword in IDENTIFYING:
        setattr(made, keyword, sources[0][keyword].value)
    made.SeriesInstanceUID, made.Modality = generate_uid(), "SEG"
    made.ContentDate, made.SeriesDate = TODAY, sources[0].AcquisitionDate
    made.PatientIdentityRemoved = "YES"
    items = []
    for source in sources:
        item = Dataset()
        item.ReferencedSOPClassUID, item.ReferencedSOPInstanceUID = source.SOPClassUID, source.SOPInstanceUID
        items.append(item)
    series = Dataset()
    series.SeriesInstanceUID, series.ReferencedInstanceSequence = sources[0].SeriesInstanceUID, Sequence(items)
    made.ReferencedSeriesSequence = Sequence([series])
    return made


def back(collection: Collection, tmp_path: Path, *objects: Dataset | bytes) -> tuple[int, list[Dataset]]:
    results, into = tmp_path / "results", tmp_path / "back"
    results.mkdir()
    into.mkdir()
    for number, made in enumerate(objects):
        data = made if isinstance(made, bytes) else planting.file_of(made, planting.EXPLICIT)
        (results / f"{number}.dcm").write_bytes(data)
    collection.into = into
    status = collection.deidentify("reverse", str(results))
    return status, [pydicom.dcmread(path) for path in sorted(into.iterdir())]


def test_a_derived_object_comes_back_with_the_originals(collection: Collection, tmp_path: Path) -> None:
    made = derived(collection)
    status, (found,) = back(collection, tmp_path, made)
    assert status == 0
    (original, _) = [pydicom.dcmread(path) for path in sorted(Path(collection.config.data).rglob("*.dcm"))]
    for keyword in IDENTIFYING:
        assert found[keyword].value == original[keyword].value
    assert (found.SOPInstanceUID, found.SeriesInstanceUID) == (made.SOPInstanceUID, made.SeriesInstanceUID)
    assert (found.ContentDate, found.SeriesDate) == (TODAY, "20200130")
    assert found.PatientIdentityRemoved == "NO"
    (series,) = found.ReferencedSeriesSequence
    assert series.SeriesInstanceUID == collection.uid(0)
    assert {one.ReferencedSOPInstanceUID for one in series.ReferencedInstanceSequence} == {
        pydicom.dcmread(path).SOPInstanceUID for path in Path(collection.config.data).rglob("*.dcm")
    }


def test_what_is_not_known_is_held(collection: Collection, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    elsewhere, stranger, other = (derived(collection) for _ in range(3))
    elsewhere.StudyInstanceUID = generate_uid()
    stranger.PatientID = "P0000"
    unknown = "2.25.121297380925430283610353946411836404253"
    other.ReferencedSeriesSequence[0].SeriesInstanceUID = _ours(unknown)
    status, found = back(collection, tmp_path, elsewhere, stranger, other, collection.datasets()[0])
    assert (status, found) == (1, [])
    told = capsys.readouterr().err
    for why in ("study is not known", "PatientID is not", "refers to something", "was handed over"):
        assert why in told
    assert planting.found_in(told.encode()) == []


def test_each_object_is_asked_for_its_patient_and_its_name(collection: Collection, tmp_path: Path) -> None:
    """Also when the study is known from an object before; and a UID that is a path leads nowhere."""
    good, stranger, path = (derived(collection) for _ in range(3))
    stranger.PatientID = "P0000"
    path.SOPInstanceUID = "1.2.3.4.5.6.7"
    data = planting.file_of(path, planting.EXPLICIT).replace(b"1.2.3.4.5.6.7", b"../../outside")
    status, (found,) = back(collection, tmp_path, good, stranger, data)
    assert (status, found.SOPInstanceUID) == (1, good.SOPInstanceUID)
    assert not list(tmp_path.parent.rglob("outside*"))


def _ours(uid: str) -> str:
    number = int(uid.removeprefix("2.25.")) & ~(0xF << 76) | (8 << 76)
    return f"2.25.{number & ~(3 << 62) | (2 << 62)}"


def test_another_key_is_refused(collection: Collection, tmp_path: Path) -> None:
    from listener.deidentify import inputs

    collection.key = tmp_path / "other"
    inputs.new_key(str(collection.key))
    assert back(collection, tmp_path, derived(collection)) == (2, [])
