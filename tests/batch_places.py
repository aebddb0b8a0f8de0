"""Directories with folders as batches, and what a person sees of them."""

from __future__ import annotations

import contextlib
import csv
import io
import os
import shutil
from dataclasses import dataclass
from pathlib import Path

from listener.ledger import batches
from listener.ledger.connection import open_writer, path_of, transaction
from tests.instances import write_instance
from tests.service_process import Done, Places, listener, make_places


@dataclass(frozen=True, slots=True)
class BatchPlaces:
    """The directories of a listener whose way in are folders."""

    places: Places
    batches: Path

    def flags(self, *more: str) -> list[str]:
        return ["--batches", str(self.batches), *self.outputs(), "--min-free", "0", *more]

    def outputs(self) -> list[str]:
        return [*self.places.outputs(), "--state", str(self.places.state)]

    def folder(self, name: str, count: int = 3, *, patient: int = 0, series: int = 0, first: int = 1) -> Path:
        """A folder with instances of one series."""
        path = self.batches / name
        path.mkdir(exist_ok=True)
        for number in range(first, first + count):
            write_instance(path / f"{number}.dcm", patient=patient, series=series, number=number)
        return path

    def once(self, *more: str, quiet: float = 0) -> Done:
        options = ("--workers", "2", "--fsync", "none", "--batch-quiet", str(quiet))
        return listener("once", *self.flags(), *options, *more)

    def rows(self) -> dict[str, dict[str, str]]:
        """The rows of the report by the name of the folder."""
        done = listener("report", "--state", str(self.places.state), "--by", "batch", "--tsv", "--phi")
        assert done.status == 0, done
        rows = csv.DictReader(io.StringIO(done.stdout.decode()), delimiter="\t")
        return {row["name"]: row for row in rows}

    def states(self) -> dict[str, tuple[str, int, int, int, int]]:
        """State, generation, series, instances and errors by the name of the folder."""
        return {
            name: (
                row["status"],
                int(row["generation"]),
                int(row["series"]),
                int(row["instances"]),
                int(row["errors"]),
            )
            for name, row in self.rows().items()
        }

    def names(self) -> list[str]:
        """The names that lie in the directory of batches, but for our own."""
        return sorted(name for name in os.listdir(self.batches) if name != ".listener")

    def published(self) -> list[str]:
        return sorted(path.name for path in self.places.data.rglob("*.dcm"))


def known_batch(state: Path, name: str = "A1") -> None:
    """A batch in the ledger of a running service: number 1, unfinished."""
    with contextlib.closing(open_writer(path_of(str(state)))) as connection, transaction(connection):
        batches.see(connection, batches.BatchKey(str(state.parent / "batches"), name.encode()), 1)


def make_batch_places(base: Path) -> BatchPlaces:
    places = make_places(base)
    shutil.rmtree(places.incoming)
    batches = places.data.parent / "batches"
    batches.mkdir()
    return BatchPlaces(places, batches)
