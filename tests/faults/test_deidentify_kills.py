"""`listener deidentify` is killed at random moments: each unit is handed over once, whole, with the same bytes."""

from __future__ import annotations

import random
import shutil
import signal
import sqlite3
import subprocess
import sys
import time
from contextlib import closing
from pathlib import Path

import pytest

from listener.ledger.connection import path_of
from tests.deidentify.collection import Collection

pytestmark = [pytest.mark.faults, pytest.mark.timeout(1800)]

_SERIES, _INSTANCES = 6, 8


def _command(collection: Collection) -> list[str]:
    config = collection.config
    given = ["--state", config.state, "--data", config.data, "--into", str(collection.into)]
    return [sys.executable, "-m", "listener", "deidentify", "once", *given, "--key-file", str(collection.key)]


def _take(collection: Collection, taken: Path) -> None:
    """Be B: take each folder that has its name, as soon as it has."""
    for folder in collection.into.iterdir():
        if not folder.name.endswith(".part"):
            assert not (taken / folder.name).exists(), "handed over twice"
            folder.rename(taken / folder.name)


def _contents(taken: Path) -> dict[str, bytes]:
    return {str(path.relative_to(taken)): path.read_bytes() for path in taken.rglob("*.dcm")}


def _filled(base: Path) -> Collection:
    collection = Collection(base)
    for series in range(_SERIES):
        collection.add(series, *range(1, _INSTANCES + 1))
    collection.end()
    return collection


@pytest.mark.parametrize("seed", range(3))
def test_killed_at_random(tmp_path: Path, seed: int) -> None:
    collection = _filled(tmp_path / "killed")
    taken = tmp_path / "taken"
    taken.mkdir()
    rng = random.Random(seed)
    for _ in range(12):
        process = subprocess.Popen(_command(collection), stdout=subprocess.DEVNULL)
        end = time.monotonic() + rng.uniform(0.3, 2.0)
        while time.monotonic() < end and process.poll() is None:
            _take(collection, taken)
            time.sleep(0.005)
        process.send_signal(signal.SIGKILL)
        process.wait()
        _again(collection)
        _take(collection, taken)
    while subprocess.run(_command(collection), stdout=subprocess.DEVNULL, check=False).returncode:
        _again(collection)
    _take(collection, taken)
    assert len(list(taken.iterdir())) == _SERIES
    assert len(_contents(taken)) == _SERIES * _INSTANCES
    assert list(collection.into.iterdir()) == []
    undisturbed = _filled(tmp_path / "undisturbed")
    shutil.copy(collection.key, undisturbed.key)
    subprocess.run(_command(undisturbed), stdout=subprocess.DEVNULL, check=True)
    assert _contents(undisturbed.into) == _contents(taken)


def _again(collection: Collection) -> None:
    """Leases of the killed process end at once."""
    with closing(sqlite3.connect(path_of(collection.config.state))) as ledger:
        ledger.execute("UPDATE deliveries SET lease_until_ns = 0, next_ns = 0 WHERE state = 'pending'")
        ledger.commit()
