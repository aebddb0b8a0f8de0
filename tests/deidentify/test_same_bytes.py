"""Two runs on one collection, in other time zones and with other numbers of workers, make the same bytes."""

from __future__ import annotations

import shutil
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.deidentify.collection import Collection

_GIVEN = ("--option", "retain-modified-dates")


@pytest.fixture
def zone(monkeypatch: pytest.MonkeyPatch) -> Iterator[pytest.MonkeyPatch]:
    yield monkeypatch
    monkeypatch.undo()
    time.tzset()


def made(collection: Collection, name: str, *words: str) -> dict[str, bytes]:
    """What is handed over by a run that knows nothing of others but the key: by path, the bytes."""
    state = Path(collection.config.state)
    before = shutil.copytree(state, state.with_name(f"before-{name}"))
    collection.into = state.with_name(name)
    collection.into.mkdir()
    assert collection.deidentify("once", *_GIVEN, *words) == 0
    shutil.rmtree(state)
    before.rename(state)
    return {str(path.relative_to(collection.into)): path.read_bytes() for path in collection.files()}


def test_time_zone_and_workers_change_no_byte(tmp_path: Path, zone: pytest.MonkeyPatch) -> None:
    collection = Collection(tmp_path)
    for series in range(5):
        collection.add(series, 1, 2)
    collection.end()
    first = made(collection, "first")
    assert len(first) == 10
    for place, workers in (("Pacific/Kiritimati", "4"), ("Pacific/Pago_Pago", "1")):
        zone.setenv("TZ", place)
        time.tzset()
        assert made(collection, f"with-{workers}", "--workers", workers) == first
