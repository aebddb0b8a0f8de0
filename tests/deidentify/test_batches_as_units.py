"""A batch is cleaned as one unit: all of its series, or none."""

from __future__ import annotations

from pathlib import Path

import pytest

from listener.deidentify.due import task_of
from listener.errors import Postponed
from listener.ledger import batches
from tests.deidentify.collection import Collection, batch, key_of, ledger_of, row_of


@pytest.fixture
def collection(tmp_path: Path) -> Collection:
    return Collection(tmp_path)


def _state(collection: Collection) -> str:
    with ledger_of(collection) as connection:
        batches.end_due(connection, collection.wall)
        (state,) = connection.execute("SELECT state FROM batches").fetchone()
    return str(state)


def test_its_series_are_handed_over_in_one_folder(collection: Collection) -> None:
    collection.add(0, 1, 2)
    collection.add(1, 1)
    batch(collection, 0, 1)
    collection.end()
    assert collection.deidentify("once") == 0
    (folder,) = collection.handed()
    assert len(list(folder.iterdir())) == 3
    assert len({one.SeriesInstanceUID for one in collection.datasets()}) == 2
    assert collection.consumer().pending == 0
    assert _state(collection) == "done"


def test_all_of_it_or_nothing(collection: Collection) -> None:
    collection.add(0, 1)
    collection.add(1, 1, BodyPartExamined="PLANTAGENET")
    batch(collection, 0, 1)
    collection.end()
    assert collection.deidentify("once") == 1
    assert collection.handed() == []
    assert collection.consumer().failed == 2
    assert _state(collection) == "empty"
    assert collection.deidentify("held", "--release", collection.uid(1)) == 0
    assert collection.deidentify("once") == 0
    assert len(collection.files()) == 2
    assert collection.consumer().failed == 0


def test_what_is_held_of_one_series_lets_the_others_go(collection: Collection) -> None:
    collection.add(0, 1)
    collection.add(1, 1, BurnedInAnnotation="YES")
    batch(collection, 0, 1)
    collection.end()
    assert collection.deidentify("once") == 1
    assert len(collection.files()) == 1
    assert collection.consumer().failed == 1
    assert _state(collection) == "done"


def test_it_is_waited_for(collection: Collection) -> None:
    collection.add(0, 1)
    collection.end()
    collection.add(1, 1)
    row = row_of(collection, 0)
    with ledger_of(collection) as connection:
        batches.start(connection, key_of(collection), row.changed_ns)
    with pytest.raises(Postponed):  # The folder may have more of it.
        task_of(collection.config.state, row, 1, is_incomplete=False)
    batch(collection, 0, 1)
    with pytest.raises(Postponed):  # Series 1 is open.
        task_of(collection.config.state, row, 1, is_incomplete=False)
    collection.end()
    task = task_of(collection.config.state, row, 1, is_incomplete=False)
    assert [part.series.SeriesInstanceUID for part in task.parts] == [collection.uid(0), collection.uid(1)]


def test_a_series_that_grew_after_its_batch_goes_alone(collection: Collection) -> None:
    collection.add(0, 1)
    collection.add(1, 1)
    batch(collection, 0, 1)
    collection.end()
    collection.add(0, 2)
    collection.end()
    task = task_of(collection.config.state, row_of(collection, 0), 2, is_incomplete=False)
    assert (len(task.parts), task.batch) == (1, 0)
    assert len(task.parts[0].instances) == 2
