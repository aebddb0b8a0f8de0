"""A collection with a ledger and real instances, and `listener export` on it in the test's own process."""

from __future__ import annotations

import os
import sqlite3
import time
from contextlib import closing
from pathlib import Path
from typing import Any

import orjson
import pytest

from listener import cli
from listener.export import manifest
from listener.export.manifest import Manifest
from listener.ledger.connection import path_of
from listener.ledger.reader import reading
from listener.ledger.rows import ConsumerRow, SeriesRow
from tests.instances import uid, write_instance
from tests.ledger_world import World


class Collection(World):
    """Series of study 0; `add` publishes instances, `end` lets their series end."""

    def __init__(self, base: Path, **changes: object) -> None:
        super().__init__(base, **changes)
        self.wall = time.time_ns()  # The stage registers at this moment.
        self.tick()
        self.target = base / "target"
        self.target.mkdir()

    def add(self, series: int, *numbers: int, **overrides: Any) -> list[Path]:
        """Write and record instances; they say that they were de-identified, unless `overrides` say otherwise."""
        paths = self.write(series, *numbers, **overrides)
        self.came(series, *numbers)
        return paths

    def write(self, series: int, *numbers: int, **overrides: Any) -> list[Path]:
        """Write instances, of which the ledger knows nothing yet."""
        paths = []
        for number in numbers:
            sop = str(uid("instance", 0, 0, series, number))
            path = Path(self.config.data, f"p/s/{series}/{number:04d}-{sop}.dcm")
            path.parent.mkdir(parents=True, exist_ok=True)
            write_instance(path, series=series, number=number, **{"PatientIdentityRemoved": "YES", **overrides})
            paths.append(path)
        return paths

    def end(self) -> None:
        """Nothing came for a while: what is open ends."""
        self.advance(11)
        self.tick()

    def series(self, number: int) -> SeriesRow:
        with reading(self.config.state) as reader:
            row = reader.series(self.uid(number))
        assert row
        return row

    def consumer(self) -> ConsumerRow:
        with reading(self.config.state) as reader:
            return next(row for row in reader.consumers() if row.name == "export")

    def export(self, *words: str, to: str = "") -> int:
        """Run a command line of the stage."""
        given = ["--state", self.config.state, "--data", self.config.data, "--to", to or str(self.target)]
        word = [words[0]] if words and not words[0].startswith("-") else []
        return cli.main(["export", *word, *given, *words[len(word) :]])

    def objects(self) -> dict[str, bytes]:
        """What lies in the target, by key, but the table."""
        files = [path for path in self.target.rglob("*") if path.is_file()]
        found = {str(path.relative_to(self.target)): path.read_bytes() for path in files}
        return {key: data for key, data in found.items() if not key.startswith((".listener", "parquet"))}

    def manifest(self, series: int, generation: int = 1) -> Manifest:
        path = self.target / f"manifests/{self.study()}/{self.uid(series)}-g{generation}.ndjson"
        return manifest.parsed(path.read_bytes())

    def again(self) -> None:
        """All deliveries are made anew."""
        with closing(sqlite3.connect(self.ledger)) as ledger:
            ledger.execute("UPDATE deliveries SET state = 'pending', settled_ns = 0, next_ns = 0, attempts = 0")
            ledger.commit()

    @property
    def ledger(self) -> str:
        return path_of(self.config.state)


def grown(path: Path, size: int) -> None:
    """Make the pixel data, which come last, so long; the file is sparse."""
    raw = bytearray(path.read_bytes())
    at = raw.rindex(b"\xe0\x7f\x10\x00") + 8
    raw[at : at + 4] = size.to_bytes(4, "little")
    path.write_bytes(raw[: at + 4])
    os.truncate(path, at + 4 + size)


def events(captured: pytest.CaptureFixture[str]) -> list[dict[str, Any]]:
    """The lines of events on standard output."""
    return [orjson.loads(line) for line in captured.readouterr().out.splitlines() if line.startswith("{")]
