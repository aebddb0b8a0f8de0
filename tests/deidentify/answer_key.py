"""An answer key, as the MIDI-B challenge has one: a row for each planted or innocent element, with the word that says
what has to become of it. Made where the values are made, not by the rules that are tested.
"""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime, timedelta
from typing import Any, NamedTuple

from pydicom.dataset import Dataset

from listener.dicom.attributes import dictionary_vr
from tests.deidentify import planting

#: Innocent attributes, which the table does not name: they must stay as they are.
KEPT: dict[str, Any] = {
    "Modality": "MR",
    "Manufacturer": "ACME",
    "BodyPartExamined": "BRAIN",
    "ImageType": ["ORIGINAL", "PRIMARY"],
    "EchoTime": "1.5",
    "FlipAngle": "12",
    "Rows": 4,
    "Columns": 4,
    "PhotometricInterpretation": "MONOCHROME2",
    "ImagePositionPatient": ["1", "2.5", "-3"],
}

#: What must not be empty, for the instance to be one.
PRESENT = ("SOPClassUID", "SOPInstanceUID", "StudyInstanceUID", "SeriesInstanceUID", "PatientID", "Modality")

WORDS = (
    "tag_retained",
    "text_notnull",
    "text_removed",
    "text_retained",
    "date_shifted",
    "uid_changed",
    "uid_consistent",
    "patid_consistent",
    "pixels_retained",
)

Path = tuple[int, ...]


class Row(NamedTuple):
    """What has to become of an element: where it stands, by the tags on the way, the word, and the original."""

    path: Path
    word: str
    original: Any


def key_of(source: Dataset, depth: int) -> Iterator[Row]:
    """The rows of an instance that planting.instance(depth) and `with_innocent` made."""
    here = source
    path: Path = ()
    for level in range(depth + 1):
        yield from _of_level(here, path)
        if level < depth:
            tag = planting.PATH[level]
            path, here = (*path, tag), here[tag].value[0]
    for keyword, value in KEPT.items():
        tag = source[keyword].tag
        yield Row((tag,), "text_retained" if isinstance(value, str) else "tag_retained", source[keyword].value)
    for keyword in PRESENT:
        yield Row((source[keyword].tag,), "text_notnull", source[keyword].value)
    yield Row((0x00100020,), "patid_consistent", source.PatientID)
    yield Row((0x7FE00010,), "pixels_retained", source.PixelData)


def _of_level(here: Dataset, path: Path) -> Iterator[Row]:
    for element in here:
        tag, value = int(element.tag), element.value
        if element.VR == "SQ" or dictionary_vr(tag) is None:
            continue
        if element.VR == "UI" and planting.ROOT in str(value):
            yield Row((*path, tag), "uid_changed", str(value))
            yield Row((*path, tag), "uid_consistent", str(value))
        elif element.VR in ("DA", "DT") and str(value).startswith(planting.DATE):
            yield Row((*path, tag), "date_shifted", str(value))
        elif planting.PLANT.lower() in str(value).lower():
            yield Row((*path, tag), "text_removed", planting.PLANT)


def with_innocent(source: Dataset) -> Dataset:
    for keyword, value in KEPT.items():
        setattr(source, keyword, value)
    return source


class Grading:
    """Compares outputs with their keys: `wrong` has the rows that were not met, `counted` how many of each word."""

    def __init__(self, days: int) -> None:
        self.wrong: list[Row] = []
        self.counted = dict.fromkeys(WORDS, 0)
        self._days = days
        self._uids: dict[str, str] = {}
        self._patients: dict[str, str] = {}

    def grade(self, output: Dataset, rows: Iterator[Row]) -> None:
        for row in rows:
            self.counted[row.word] += 1
            if not self._is_met(_value(output, row.path), row):
                self.wrong.append(row)

    def _is_met(self, value: Any, row: Row) -> bool:
        if row.word in ("tag_retained", "text_retained", "pixels_retained"):
            return bool(value == row.original)
        if row.word == "text_notnull":
            return value not in (None, "")
        if row.word == "text_removed":
            return row.original.lower() not in str(value).lower()
        if value is None:  # With its sequence, or by itself.
            return True
        if row.word == "date_shifted":
            return str(value) == self._moved(row.original) or str(value) == ""
        if row.word == "uid_changed":
            return planting.ROOT not in str(value)
        known = self._uids if row.word == "uid_consistent" else self._patients
        return value == "" or known.setdefault(row.original, str(value)) == str(value)

    def _moved(self, original: str) -> str:
        then = datetime.strptime(original[:8], "%Y%m%d").astimezone() - timedelta(self._days)
        return then.strftime("%Y%m%d") + original[8:]


def _value(dataset: Dataset, path: Path) -> Any:
    """The value at a place, None where nothing is there."""
    for tag in path[:-1]:
        if tag not in dataset or not dataset[tag].value:
            return None
        dataset = dataset[tag].value[0]
    return dataset[path[-1]].value if path[-1] in dataset else None
