"""What `listener deidentify` needs and has not: nothing passes that was not recorded, nothing is lost, it says why
without naming anybody, and once all is there again the units are handed over once.
"""

from __future__ import annotations

import sqlite3
import subprocess
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, closing, contextmanager
from pathlib import Path

import pytest

from listener import cli
from listener.deidentify.vault import Vault
from listener.ledger.connection import path_of
from listener.stages import database
from tests.deidentify import planting
from tests.deidentify.collection import Collection
from tests.faults.volumes import fill
from tests.workbench import need_root, tmpfs


@pytest.fixture
def collection(tmp_path: Path) -> Collection:
    """Two series of three instances each."""
    made = Collection(tmp_path)
    for series in (0, 1):
        made.add(series, 1, 2, 3)
    made.end()
    return made


def vault_of(collection: Collection) -> Path:
    return Path(collection.config.state, "deidentify/deidentify.sqlite")


def due_now(collection: Collection) -> None:
    """What is to be tried again later is due at once."""
    with closing(sqlite3.connect(path_of(collection.config.state))) as ledger:
        ledger.execute("UPDATE deliveries SET lease_until_ns = 0, next_ns = 0 WHERE state = 'pending'")
        ledger.commit()


def both_are_there_once(collection: Collection) -> None:
    """What waited is handed over now."""
    due_now(collection)
    assert collection.deidentify("once") == 0
    assert len(collection.handed()) == 2
    assert len(collection.files()) == 6
    assert not [path for path in collection.handed() if path.suffix]


def nothing_came(collection: Collection, capfd: pytest.CaptureFixture[str]) -> str:
    """Nothing is handed over and nothing given up; what was said, which names nobody."""
    assert not [path for path in collection.handed() if path.is_dir() and path.suffix != ".part"]
    assert collection.consumer().failed == 0
    said = capfd.readouterr()
    told = said.out + said.err
    assert planting.found_in(told.encode()) == []
    return told


def test_the_disk_of_what_is_clean_is_full(collection: Collection, capfd: pytest.CaptureFixture[str]) -> None:
    need_root()
    with tmpfs(collection.into, "1m"):
        fill(collection.into, leave=8192)
        assert collection.deidentify("once") == 1
        nothing_came(collection, capfd)
        assert [path.name for path in collection.handed() if path.is_dir()] == []
        (collection.into / ".ballast").unlink()
        both_are_there_once(collection)


@contextmanager
def locked(vault: Path) -> Iterator[None]:
    """Somebody else writes, and does not end."""
    with closing(sqlite3.connect(vault, isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        yield
        other.execute("ROLLBACK")


@contextmanager
def damaged(vault: Path) -> Iterator[None]:
    """Its pages hold something else."""
    whole = vault.read_bytes()
    vault.write_bytes(whole[:100] + b"\xa5" * (len(whole) - 100))
    yield
    for path in vault.parent.glob(f"{vault.name}-*"):
        path.unlink()
    vault.write_bytes(whole)


@contextmanager
def read_only(vault: Path) -> Iterator[None]:
    """Its file system was remounted, as after an error of the disk."""
    need_root()
    folder = vault.parent
    subprocess.run(["mount", "--bind", str(folder), str(folder)], check=True)
    try:
        subprocess.run(["mount", "-o", "remount,bind,ro", str(folder)], check=True)
        yield
    finally:
        subprocess.run(["umount", str(folder)], check=True)


@pytest.mark.parametrize("trouble", [locked, damaged, read_only])
def test_the_vault_cannot_be_used(
    collection: Collection,
    trouble: Callable[[Path], AbstractContextManager[None]],
    capfd: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(database, "_BUSY_TIMEOUT", 0.05)
    Vault(collection.config.state).close()
    with trouble(vault_of(collection)):
        assert collection.deidentify("once") != 0
        nothing_came(collection, capfd)
    both_are_there_once(collection)


def test_the_key_is_gone(collection: Collection, capfd: pytest.CaptureFixture[str]) -> None:
    aside = collection.key.with_suffix(".aside")
    collection.key.rename(aside)
    assert collection.deidentify("once") == 2
    assert "the key cannot be used" in nothing_came(collection, capfd)
    aside.rename(collection.key)
    both_are_there_once(collection)


def test_what_is_to_be_cleaned_was_pruned_meanwhile(collection: Collection, capfd: pytest.CaptureFixture[str]) -> None:
    gone = min(Path(collection.config.data, "p/s/0").iterdir())
    kept = gone.read_bytes()
    gone.unlink()
    assert collection.deidentify("once") == 1
    assert len(collection.handed()) == 1
    assert len(collection.files()) == 3
    assert collection.consumer().failed == 0
    said = capfd.readouterr()
    assert planting.found_in((said.out + said.err).encode()) == []
    gone.write_bytes(kept)
    both_are_there_once(collection)


def test_a_series_that_stays_away_is_given_up_and_can_be_asked_for_again(collection: Collection) -> None:
    folder = Path(collection.config.data, "p/s/0")
    aside = folder.rename(folder.with_name("aside"))
    for _ in range(6):
        collection.deidentify("once")
        due_now(collection)
    assert (collection.consumer().failed, collection.consumer().pending) == (1, 0)
    assert len(collection.handed()) == 1
    aside.rename(folder)
    assert cli.main(["hooks", "redeliver", "deidentify", "--failed", "--yes", "--state", collection.config.state]) == 0
    both_are_there_once(collection)


def test_the_volume_of_the_data_is_not_there(collection: Collection) -> None:
    data = Path(collection.config.data)
    aside = data.rename(data.with_name("aside"))
    for _ in range(6):
        assert collection.deidentify("once") != 0
        due_now(collection)
    assert collection.consumer().failed == 0
    aside.rename(data)
    both_are_there_once(collection)
