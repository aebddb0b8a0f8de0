"""The catalogue: what it lacks, and that it never mixes two series up."""

from __future__ import annotations

import contextlib
import fnmatch
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from listener.ledger.reader import reading
from listener.ledger.rows import SeriesRow
from listener.serve import catalogue as module
from listener.serve.catalogue import Catalogue, IndexUnusable
from listener.serve.matching import query
from tests.frames.collection import Collection
from tests.frames.making import Maker


@pytest.fixture
def collection(tmp_path: Path) -> Iterator[Collection]:
    with contextlib.closing(Collection(tmp_path)) as made:
        yield made


def rows_of(collection: Collection) -> list[SeriesRow]:
    with reading(collection.state) as reader:
        return reader.listed()


def catalogue_of(collection: Collection) -> Catalogue:
    made = Catalogue(str(Path(collection.state, "serve", "catalogue.sqlite")), collection.state, only_complete=False)
    made.make()
    return made


def named(name: str) -> dict[str, Any]:
    return {"00100010": {"vr": "PN", "Value": [{"Alphabetic": name}]}}


def names(catalogue: Catalogue, **keys: str) -> list[Any]:
    found = catalogue.series(query(list(keys.items()), "series", 10))
    return [one.attributes.get("00100010", {}).get("Value", [None])[0] for one in found]


def test_what_it_has_is_found(collection: Collection) -> None:
    collection.slide(1)
    catalogue = catalogue_of(collection)
    (row,) = rows_of(collection)
    assert catalogue.missing([row]) == {row.id}
    catalogue.put([(row, named("Doe^Jane"))])
    assert catalogue.missing([row]) == set()
    assert catalogue.missing([]) == set()
    assert names(catalogue, PatientName="doe*") == [{"Alphabetic": "Doe^Jane"}]
    assert names(catalogue, PatientName="roe*") == []


def test_one_that_ended_with_something_new_is_described_again(collection: Collection) -> None:
    collection.slide(1)
    catalogue = catalogue_of(collection)
    (row,) = rows_of(collection)
    catalogue.put([(row, named("Doe^Jane"))])
    later = row._replace(last_ns=row.last_ns + 1)
    assert catalogue.missing([later]) == set()
    assert catalogue.missing([later._replace(state="complete")]) == {row.id}


def test_the_same_id_in_another_ledger_is_another_series(collection: Collection) -> None:
    """A ledger that was made anew numbers its series anew: no patient may appear under another's study."""
    collection.slide(1)
    catalogue = catalogue_of(collection)
    (row,) = rows_of(collection)
    catalogue.put([(row._replace(SeriesInstanceUID="9.9"), named("Somebody^Else"))])
    assert catalogue.missing([row]) == {row.id}
    assert names(catalogue) == [None]
    assert names(catalogue, PatientName="Somebody*") == []
    assert catalogue.studies(query([], "studies", 10))[0].attributes == {}


def test_a_damaged_one_is_made_anew_and_one_that_cannot_be_made_is_told(collection: Collection) -> None:
    path = Path(collection.state, "serve", "catalogue.sqlite")
    path.parent.mkdir()
    path.write_bytes(b"no database at all" * 1000)
    assert catalogue_of(collection).missing([]) == set()
    collection.slide(1)
    with pytest.raises(IndexUnusable):
        Catalogue(str(collection.path() / "index"), collection.state, only_complete=False).make()


@pytest.mark.parametrize("few", [0, 2, 2000])
@pytest.mark.parametrize("name", ["*o*", "d*", "*oe*", "*^j*", "*", "?oe^*", "*=*", "nobody"])
def test_few_and_many_matches_are_found_alike(
    few: int, name: str, collection: Collection, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By the catalogue's order and by the ledger's: the newest studies first, each once, page by page."""
    monkeypatch.setattr(module, "_FEW_MATCH", few)
    people = ["Doe^Jane", "Roe^John", "Poe^Edgar", "Smith^Joe"]
    for number in range(12):  # Of each study three series, which did not come together.
        maker = Maker("", f"1.2.{number}.1", f"1.2.{number % 4}", f"1.2.3.{number}")
        collection.add(maker, b"x")
    catalogue = catalogue_of(collection)
    rows = rows_of(collection)
    catalogue.put([(row, named(people[int(row.StudyInstanceUID[-1])])) for row in rows])
    pattern = re.compile(fnmatch.translate(name.lower()))
    matched = [number for number in range(4) if pattern.match(people[number].lower())] if name != "*=*" else []
    keys = [("PatientName", name), ("limit", "2")]
    found = [catalogue.studies(query([*keys, ("offset", str(at))], "studies", 10)) for at in (0, 2)]
    uids = [one.StudyInstanceUID for page in found for one in page[:2]]
    assert uids == [f"1.2.{number}" for number in reversed(matched)]
    assert all(one.series == 3 for page in found for one in page)
    series = catalogue.series(query([("PatientName", name)], "series", 100))
    wanted = [row.SeriesInstanceUID for row in sorted(rows, key=lambda row: -row.id)]
    assert [one.SeriesInstanceUID for one in series] == [
        uid for uid in wanted if int(uid.rpartition(".")[2]) % 4 in matched
    ]
