"""--archive batch: what came in one folder is one archive."""

from __future__ import annotations

import io
import tarfile
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from listener.ledger import batches
from listener.ledger.batches import Account, BatchKey, SeriesShare
from listener.ledger.connection import open_writer, transaction
from tests.export.collection import Collection, events


class World(Collection):
    """Series that come in folders."""

    def folder(self, name: bytes, *series: int) -> None:
        """All files of these series came in one folder, and have an end."""
        rows = [self.series(number) for number in series]
        with closing(open_writer(self.ledger)) as connection, transaction(connection):
            account = Account(len(rows), [SeriesShare(row.id, 1, 1) for row in rows], [])
            batches.end_files(connection, BatchKey(rows[0].root, name), account, self.wall)

    def begin(self, name: bytes) -> None:
        """Files of a folder are being taken."""
        row = self.series(0)
        with closing(open_writer(self.ledger)) as connection, transaction(connection):
            batches.start(connection, BatchKey(row.root, name), row.changed_ns)

    def archives(self) -> dict[str, bytes]:
        return {key: data for key, data in self.objects().items() if key.startswith("archives/")}


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    with closing(World(tmp_path)) as one:
        assert one.export("once") == 0
        yield one


def test_a_batch_is_one_archive_and_each_series_has_its_manifest(
    world: World, capfd: pytest.CaptureFixture[str]
) -> None:
    paths = [*world.add(0, 1, 2), *world.add(1, 1), *world.add(2, 1)]
    world.folder(b"A1001", 0, 1, 2)
    world.end()
    assert world.export("once", "--archive", "batch") == 0
    ((key, data),) = world.archives().items()
    assert key.startswith(f"archives/{world.study()}/batch-")
    with tarfile.open(fileobj=io.BytesIO(data)) as opened:
        assert opened.getnames() == sorted(str(path.relative_to(world.config.data)) for path in paths)
    for series in range(3):
        assert [one.key for one in world.manifest(series).archives] == [key]
    assert (world.consumer().delivered, world.consumer().pending) == (3, 0)
    told = [event["SeriesInstanceUID"] for event in events(capfd) if event["event"] == "exported"]
    assert sorted(map(str, told)) == sorted(world.uid(series) for series in range(3)), "each is told once"
    assert world.export("audit", "--deep") == 0


def test_a_batch_is_waited_for_until_all_of_it_has_ended(world: World) -> None:
    world.add(0, 1)
    world.end()
    world.add(1, 1)
    world.begin(b"A1001")
    assert world.export("once", "--archive", "batch") == 1
    world.folder(b"A1001", 0, 1)
    assert world.export("once", "--archive", "batch") == 1
    assert world.objects() == {}
    assert (world.consumer().pending, world.consumer().failed) == (1, 0)
    world.end()
    world.again()
    assert world.export("once", "--archive", "batch") == 0
    assert len(world.archives()) == 1


def test_what_came_otherwise_is_an_archive_a_series(world: World) -> None:
    world.add(0, 1)
    world.add(1, 1)
    world.folder(b"A1001", 0)
    world.end()
    assert world.export("once", "--archive", "batch") == 0
    assert len(world.archives()) == 2
    assert world.manifest(1).archives[0].key == f"archives/{world.study()}/{world.uid(1)}-g1.tar"


def test_one_identified_instance_keeps_the_whole_batch(world: World) -> None:
    world.add(0, 1)
    world.add(1, 1, PatientIdentityRemoved="NO")
    world.folder(b"A1001", 0, 1)
    world.end()
    assert world.export("once", "--archive", "batch") == 1
    assert world.objects() == {}
    assert world.consumer().failed == 2


def test_a_repetition_changes_nothing(world: World) -> None:
    world.add(0, 1)
    world.add(1, 1)
    world.folder(b"A1001", 0, 1)
    world.end()
    assert world.export("once", "--archive", "batch") == 0
    before = world.objects()
    world.again()
    assert world.export("once", "--archive", "batch") == 0
    assert world.objects() == before
