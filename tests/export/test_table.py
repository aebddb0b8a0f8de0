"""The table of headers: a row an instance, read by DuckDB as researchers do, and never a row twice."""

from __future__ import annotations

import hashlib
import json
import sqlite3
import time
import zlib
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from listener.export import columns, parquet
from listener.export.columns import DAY, NUMBER, WHOLE, Column
from listener.export.faults import TargetFault
from listener.export.members import Member
from listener.export.places import places_of
from listener.export.spool import Spool
from listener.export.table import PartRules, Table
from listener.export.upload import Uploader
from tests.export.collection import Collection, events
from tests.export.memory import MemoryTarget


@pytest.fixture
def world(tmp_path: Path) -> Iterator[Collection]:
    with closing(Collection(tmp_path)) as one:
        assert one.export("once") == 0
        yield one


def table(world: Collection, question: str = "SELECT * FROM t ORDER BY path") -> list[dict[str, Any]]:
    duckdb = pytest.importorskip("duckdb")
    with closing(duckdb.connect()) as connection:
        files = f"{world.target}/parquet/*/*.parquet"
        connection.read_parquet(files, hive_partitioning=True).create_view("t")
        found = connection.execute(question)
        names = [one[0] for one in found.description]
        return [dict(zip(names, row, strict=True)) for row in found.fetchall()]


def parts(world: Collection) -> list[Path]:
    return sorted((world.target / "parquet").rglob("*.parquet"))


def test_a_row_an_instance_agrees_with_manifest_and_header(
    world: Collection, capfd: pytest.CaptureFixture[str]
) -> None:
    world.add(0, 1, 2, 3)
    world.add(1, 1)
    world.end()
    assert world.export("once") == 0
    rows = table(world)
    told = {entry.path: entry for number in (0, 1) for entry in world.manifest(number).entries}
    assert {row["path"] for row in rows} == told.keys()
    for row in rows:
        entry = told[row["path"]]
        assert (row["key"], row["size"], row["sha256"], row["offset"]) == (entry.key, entry.size, entry.sha256, None)
        assert (row["Modality"], row["Rows"], row["PatientID"]) == ("MR", 4, "P0000")
        assert (str(row["StudyDate"]), row["InstanceNumber"] in (1, 2, 3)) == ("2024-01-01", True)
        assert row["TransferSyntaxUID"] == "1.2.840.10008.1.2.1"
    headers = [json.loads(row["header"]) for row in rows if row["header"]]
    assert [one["SeriesDescription"] for one in headers] == ["Series 0", "Series 1"]
    (event,) = [event for event in events(capfd) if event["event"] == "export-part"]
    (part,) = parts(world)
    assert (event["rows"], event["key"], event["bytes"]) == (
        4,
        str(part.relative_to(world.target)),
        part.stat().st_size,
    )


def test_pyarrow_reads_what_duckdb_reads(world: Collection) -> None:
    dataset = pytest.importorskip("pyarrow.dataset")
    world.add(0, 1, 2, 3)
    world.add(
        1,
        1,
        PatientBirthDate="19500312",
        SliceThickness="1.5",
        SeriesDescription="Zo\u00eb",
        SpecificCharacterSet="ISO_IR 192",
    )
    world.end()
    assert world.export("once") == 0
    rows = dataset.dataset(world.target / "parquet", partitioning="hive").to_table().to_pylist()
    rows.sort(key=lambda row: row["path"])
    expected = table(world)
    assert [{**row, "day": str(row["day"])} for row in rows] == [{**row, "day": str(row["day"])} for row in expected]
    assert (str(rows[3]["PatientBirthDate"]), rows[3]["SliceThickness"]) == ("1950-03-12", 1.5)
    assert rows[3]["SeriesDescription"] == "Zo\u00eb"


def test_a_later_generation_adds_what_is_new(world: Collection) -> None:
    world.add(0, 1, 2)
    world.end()
    world.export("once")
    world.add(0, 3)
    world.end()
    world.export("once")
    world.again()
    assert world.export("once") == 0
    assert sorted(row["generation"] for row in table(world)) == [1, 1, 2]
    assert len(parts(world)) == 2


def test_a_repetition_after_any_kill_writes_no_row_twice(world: Collection) -> None:
    world.add(0, 1, 2)
    world.end()
    world.export("once")
    before = {path: path.read_bytes() for path in parts(world)}
    state = Path(world.config.state, "export/export.sqlite")
    with closing(sqlite3.connect(state)) as kept:  # Killed between the object and the word that it is there.
        kept.execute("UPDATE parts SET written_ns = 0")
        kept.commit()
    world.again()
    assert world.export("once") == 0
    assert {path: path.read_bytes() for path in parts(world)} == before


def test_more_columns(world: Collection, capsys: pytest.CaptureFixture[str]) -> None:
    world.add(0, 1, StudyComments="a remark")
    world.end()
    assert world.export("once", "--columns", "NoSuchThing") == 2
    assert "is no DICOM keyword" in capsys.readouterr().err
    assert world.export("once", "--columns", "StudyComments") == 0
    assert [row["StudyComments"] for row in table(world)] == ["a remark"]


def test_without_a_table(world: Collection) -> None:
    world.add(0, 1)
    world.end()
    assert world.export("once", "--no-parquet") == 0
    assert parts(world) == []


def test_archives_have_offsets(world: Collection) -> None:
    world.add(0, 1, 2)
    world.end()
    assert world.export("once", "--archive", "series") == 0
    for row in table(world):
        data = (world.target / row["key"]).read_bytes()[row["offset"] :][: row["size"]]
        assert hashlib.sha256(data).hexdigest() == row["sha256"]


def test_it_is_made_again_from_manifests_and_tree(world: Collection, capsys: pytest.CaptureFixture[str]) -> None:
    world.add(0, 1, 2)
    paths = world.add(1, 1, 2)
    world.end()
    world.export("once")
    world.add(0, 3)
    world.end()
    world.export("once")
    before = table(world)
    assert world.export("rebuild-parquet") == 2
    assert "remove all below parquet/ first" in capsys.readouterr().err
    for path in parts(world):
        path.unlink()
    Path(world.config.state, "export/export.sqlite").unlink()
    assert world.export("rebuild-parquet") == 0
    assert "5 rows" in capsys.readouterr().out
    assert table(world) == before
    assert [place.generation for place in places_of(world.config.state, world.uid(0))] == [1, 2]
    world.again()
    assert world.export("once") == 0
    assert len(table(world)) == 5, "what was rebuilt is not added again"
    for path in parts(world):
        path.unlink()
    paths[0].unlink()
    assert world.export("rebuild-parquet") == 0
    gone = [row for row in table(world) if row["path"].endswith(paths[0].name)]
    assert [(row["Modality"], row["SeriesInstanceUID"]) for row in gone] == [(None, world.uid(1))]


VALUES = [
    (Column("x", WHOLE), "12", 12),
    (Column("x", WHOLE), "1\\2", None),
    (Column("x", NUMBER), "1.5", 1.5),
    (Column("x", NUMBER), "abc", None),
    (Column("x", DAY), "19700102", 1),
    (Column("x", DAY), "1970.01.03", 2),
    (Column("x", DAY), "20240230", None),
    (Column("x", DAY), "2024", None),
    (Column("x", "text"), "", None),
    (Column("y", "text"), "a", None),
]


@pytest.mark.parametrize(("column", "text", "value"), VALUES)
def test_values_have_the_type_of_their_column_or_are_absent(column: Column, text: str, value: object) -> None:
    assert columns.value_of(column, {"x": text}) == value


@settings(max_examples=15)
@given(st.lists(st.dictionaries(st.sampled_from([one.name for one in columns.columns()]), st.text(max_size=9))))
def test_any_text_makes_a_file_and_the_same_rows_the_same_bytes(rows: list[dict[str, str]]) -> None:
    pytest.importorskip("arro3.io")
    first, second = (parquet.written(columns.columns(), rows, "test") for _ in range(2))
    assert first == second
    assert first[:4] == first[-4:] == b"PAR1"


# -- parts -------------------------------------------------------------------------------------------------------------


def row(number: int) -> Member:
    return Member(f"{number:032}", 10, zlib.compress(b'{"SOPInstanceUID":"1"}\n' * 10))


@pytest.fixture
def kept(tmp_path: Path) -> Iterator[Spool]:
    with closing(Spool(str(tmp_path))) as one:
        yield one


def test_parts_are_closed_when_they_are_full_or_old(kept: Spool, monkeypatch: pytest.MonkeyPatch) -> None:
    from listener.export.flow import Flow
    from listener.export.upload import Rules

    target, told = MemoryTarget(), list[int]()
    uploader = Uploader(target, Rules(), Flow(), lambda _name, _amount: None)
    one = Table(kept, target, uploader, PartRules(25, 100.0), lambda more: told.append(more["rows"]))
    for number in range(2):
        kept.add(row(number))
        kept.add(row(number))
    one.write_due(is_last=False)
    assert told == [], "not full, not old"
    kept.add(row(2))
    one.write_due(is_last=False)
    assert told == [20], "a member is not cut in two"
    monkeypatch.setattr(time, "time_ns", lambda: 0)
    assert kept.waiting().instances == 10
    monkeypatch.undo()
    with closing(sqlite3.connect(kept._connection.execute("PRAGMA database_list").fetchone()[2])) as other:
        other.execute("UPDATE members SET made_ns = 1")
        other.commit()
    one.write_due(is_last=False)
    assert told == [20, 10]
    kept.add(row(3))
    one.write_due(is_last=True)
    assert told == [20, 10, 10]
    assert len(target.objects) == 3


def test_a_part_that_could_not_be_written_keeps_its_members(kept: Spool) -> None:
    from listener.export.flow import Flow
    from listener.export.upload import Rules

    target, told = MemoryTarget(), list[int]()

    def fail(name: str, _key: str) -> None:
        if name == "look":
            raise TargetFault("gone")

    target.before = fail
    uploader = Uploader(target, Rules(), Flow(), lambda _name, _amount: None)
    one = Table(kept, target, uploader, PartRules(), lambda more: told.append(more["rows"]))
    kept.add(row(0))
    with pytest.raises(TargetFault):
        one.write_due(is_last=True)
    kept.add(row(1))
    target.before = lambda _name, _key: None
    one.write_due(is_last=True)
    assert told == [10, 10], "what came later is a part of its own"
