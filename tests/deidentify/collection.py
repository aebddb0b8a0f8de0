"""A collection with a ledger and instances of a planted patient, and `listener deidentify` on it in this process."""

from __future__ import annotations

import sqlite3
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import pydicom
from pydicom.dataset import Dataset

from listener import cli
from listener.deidentify import inputs
from listener.deidentify.metric_rows import NAME
from listener.ledger import batches, deliveries
from listener.ledger.batches import Account, BatchKey, SeriesShare
from listener.ledger.connection import open_writer, path_of, transaction
from listener.ledger.interests import Interest, text_of
from listener.ledger.reader import reading
from listener.ledger.rows import ConsumerRow, SeriesRow
from tests.deidentify import planting
from tests.instances import uid
from tests.ledger_world import World


class Collection(World):
    """Series of study 0; `add` publishes instances, `end` lets their series end."""

    def __init__(self, base: Path, **changes: object) -> None:
        super().__init__(base, **changes)
        self.wall = time.time_ns()  # The stage registers at this moment.
        self.tick()
        self.into = base / "into"
        self.into.mkdir()
        self.key = base / "key"
        inputs.new_key(str(self.key))
        wants = text_of(Interest(("series-complete", "series-incomplete")))
        with closing(open_writer(path_of(self.config.state))) as ledger, transaction(ledger):
            deliveries.add_consumers(ledger, {NAME: wants}, self.wall)

    def add(self, series: int, *numbers: int, syntax: str = planting.EXPLICIT, **overrides: object) -> list[Path]:
        """Write and record instances in which a patient is planted; `overrides` are DICOM keywords."""
        paths = []
        for number in numbers:
            made = self.planted(series, number)
            for keyword, value in overrides.items():
                setattr(made, keyword, value)
            sop = str(uid("instance", 0, 0, series, number))
            path = Path(self.config.data, f"p/s/{series}/{number:04d}-{sop}.dcm")
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(planting.file_of(made, syntax))
            paths.append(path)
        self.came(series, *numbers)
        return paths

    def planted(self, series: int, number: int) -> Dataset:
        made = planting.instance(2)
        made.SOPInstanceUID = uid("instance", 0, 0, series, number)
        made.StudyInstanceUID, made.SeriesInstanceUID = self.study(), self.uid(series)
        for keyword in ("DateOfSecondaryCapture", "SecondaryCaptureDeviceID"):
            if keyword in made:
                delattr(made, keyword)
        return made

    def end(self) -> None:
        """Nothing came for a while: what is open ends."""
        self.advance(11)
        self.tick()

    def consumer(self) -> ConsumerRow:
        with reading(self.config.state) as reader:
            return next(row for row in reader.consumers() if row.name == NAME)

    def deidentify(self, *words: str) -> int:
        """Run a command line of the stage."""
        given = ["--state", self.config.state, "--data", self.config.data]
        given += ["--into", str(self.into), "--key-file", str(self.key)]
        return cli.main(["deidentify", *words, *given])

    def handed(self) -> list[Path]:
        """The folders that were handed over."""
        return sorted(self.into.iterdir())

    def files(self) -> list[Path]:
        return sorted(path for path in self.into.rglob("*") if path.is_file())

    def datasets(self) -> list[Dataset]:
        return [pydicom.dcmread(path) for path in self.files()]


@contextmanager
def ledger_of(collection: Collection) -> Iterator[sqlite3.Connection]:
    with closing(open_writer(path_of(collection.config.state))) as connection, transaction(connection):
        yield connection


def row_of(collection: Collection, series: int) -> SeriesRow:
    with reading(collection.config.state) as reader:
        row = reader.series(collection.uid(series))
    assert row
    return row


def key_of(collection: Collection) -> BatchKey:
    return BatchKey(row_of(collection, 0).root, b"A1001")


def batch(collection: Collection, *series: int) -> None:
    """All files of these series came in one folder, and have an end."""
    shares = [SeriesShare(row_of(collection, number).id, 1, 1) for number in series]
    with ledger_of(collection) as connection:
        batches.end_files(connection, key_of(collection), Account(len(shares), shares, []), collection.wall)
