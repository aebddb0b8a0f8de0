"""What is corrected is right everywhere: tree, documents and ledger tell the newest, and one instance is one file."""

from __future__ import annotations

import contextlib
import sqlite3
from pathlib import Path
from typing import Any, NamedTuple

import orjson
import pytest

from listener.ledger.connection import path_of
from listener.ledger.reader import Reader, reading
from listener.ledger.rows import SeriesRow
from tests.instances import ABSENT, uid, write_instance
from tests.service_process import Places, listener, once, service
from tests.waiting import until

SERIES, STUDY, MOVED = (str(uid(*parts)) for parts in (("series", 0, 0, 0), ("study", 0, 0), ("moved",)))


class Case(NamedTuple):
    """Two sends of series 0 (numbers to overrides), and what is there afterwards: PatientID, AccessionNumber and study
    in the ledger, files in the tree, instances, StudyLists by patient, and files set aside by reason.
    """

    first: dict[int, dict[str, Any]]
    second: dict[int, dict[str, Any]]
    owner: tuple[str, str, str] = ("P0000", "A00", STUDY)
    files: int = 2
    instances: int = 2
    lists: dict[str, list[str]] = {"P0000": [STUDY]}  # noqa: RUF012
    aside: dict[str, int] = {"superseded": 2}  # noqa: RUF012
    policy: str = "replace"


def of(*numbers: int, **overrides: Any) -> dict[int, dict[str, Any]]:
    return dict.fromkeys(numbers, overrides)


SECOND = str(uid("instance", 0, 0, 0, 2))
RENUMBERED = {9: {"SOPInstanceUID": SECOND, "InstanceNumber": 9}}

CASES = {
    "patient": Case(
        of(1, 2), of(1, 2, PatientID="P2", AccessionNumber="B"), ("P2", "B", STUDY), lists={"P0000": [], "P2": [STUDY]}
    ),
    "accession": Case(of(1, 2), of(1, 2, AccessionNumber="B"), ("P0000", "B", STUDY)),
    "study": Case(
        of(1, 2),
        of(1, 2, StudyInstanceUID=MOVED, PatientID="P2"),
        ("P2", "A00", MOVED),
        lists={"P0000": [], "P2": [MOVED]},
    ),
    "patient of one": Case(
        of(1, 2),
        of(2, PatientID="P2"),
        ("P2", "A00", STUDY),
        lists={"P0000": [STUDY], "P2": [STUDY]},
        aside={"superseded": 1},
    ),
    "number": Case(of(1, 2), RENUMBERED, aside={"superseded": 1}),
    "number, set aside": Case(of(1, 2), RENUMBERED, aside={"conflict": 1}, policy="set-aside"),
    "number, both kept": Case(of(1, 2), RENUMBERED, files=3, aside={}, policy="keep-both"),
    "a number that it had not": Case(of(1, 2, InstanceNumber=ABSENT), of(1, 2)),
}


@contextlib.contextmanager
def ledger(places: Places) -> Any:
    with reading(str(places.state)) as reader:
        yield reader


def there(reader: Reader) -> list[SeriesRow]:
    """The series that have instances."""
    return [row for row in reader.all_of(SERIES) if row.instances]


def send(places: Places, step: str, instances: dict[int, dict[str, Any]], policy: str) -> None:
    for number, overrides in instances.items():
        write_instance(places.incoming / f"{step}-{number}", number=number, **overrides)
    once(places, "--fsync=none", f"--on-conflict={policy}")


def document(places: Places, name: str) -> Any:
    return orjson.loads((places.log / name).read_bytes())


@pytest.mark.parametrize("name", CASES)
def test_the_newest_is_told(places: Places, name: str) -> None:
    case = CASES[name]
    send(places, "first", case.first, case.policy)
    send(places, "second", case.second, case.policy)
    with ledger(places) as reader:
        (row,) = there(reader)
        assert (row.PatientID, row.AccessionNumber, row.StudyInstanceUID) == case.owner
        assert row.instances == case.instances
        assert {reason: files for reason, (files, _) in reader.set_aside().items()} == case.aside
    tree = [path for path in places.data.rglob("*.dcm") if ".listener" not in path.parts]
    documents = sorted(path.name for path in (places.log / f"seriesData/{SERIES}-img").iterdir())
    assert documents == sorted(f"{path.name}.json" for path in tree)
    assert len(tree) == case.files
    lists = {path.stem: document(places, f"patientData/{path.name}") for path in (places.log / "patientData").iterdir()}
    assert {patient: told[patient]["StudyList"] for patient, told in lists.items()} == case.lists
    assert [path.parent.name for path in (places.log / "studyData").glob(f"*-series/{SERIES}-meta.json")] == [
        f"{case.owner[2]}-series"
    ]
    header = document(places, f"studyData/{case.owner[2]}-series/{SERIES}-meta.json")[case.owner[2]]
    assert header["DICOM"]["AccessionNumber"]["value"] == case.owner[1]
    assert Path(header["SeriesBaseDir"]) in {path.parent for path in tree}
    assert document(places, f"seriesData/{SERIES}-meta.json")[SERIES]["PatientID"] == case.owner[0]
    assert document(places, f"studyData/{case.owner[2]}-meta.json")[case.owner[2]]["PatientID"] == case.owner[0]
    found = listener("verify", *places.outputs(), f"--state={places.state}", "--deep", f"--on-conflict={case.policy}")
    assert found.status == 0, found


@pytest.mark.real
def test_a_running_service_settles_what_is_renumbered(places: Places) -> None:
    with service(places, "--workers=1") as running:
        for name, number in (("a", 1), ("b", 2)):
            write_instance(places.incoming / name, number=number)
        running.wait_for("published", 2)
        write_instance(places.incoming / "c", number=9, SOPInstanceUID=SECOND)
        running.wait_for("published", 3)
        until(lambda: len(list(places.data.rglob("0*.dcm"))) == 2, what="the older file is set aside")
        kept = places.state / "set-aside" / "superseded"
        assert [path.name[:4] for path in kept.iterdir() if path.suffix == ".dcm"] == ["0002"]
        until(lambda: recorded(places) == ["0001", "0009"], what="the ledger has what is there")


def recorded(places: Places) -> list[str]:
    with contextlib.closing(sqlite3.connect(path_of(str(places.state)))) as connection:
        return sorted(name[:4] for (name,) in connection.execute("SELECT name FROM instances"))
