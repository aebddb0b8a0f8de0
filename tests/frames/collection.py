"""A collection of few files: a data directory, and a ledger that knows what lies in it."""

from __future__ import annotations

import os
from math import inf
from pathlib import Path

import orjson

from listener.ledger.writer import LedgerWriter
from listener.records import Outcome
from tests.frames.making import JPEG, Maker, header, jpeg
from tests.ledger_world import BEGIN
from tests.workbench import make_config


class Collection:
    """Data and state below `base`; files are put straight into the tree, and told to the ledger."""

    def __init__(self, base: Path) -> None:
        self.config = make_config(base)
        for path in (*self.config.incoming, self.config.data, self.config.log, self.config.state):
            os.makedirs(path, exist_ok=True)
        self.data, self.state = Path(self.config.data), self.config.state
        self._count = 0
        self._writer = LedgerWriter(self.config, slice_seconds=inf)

    def add(self, maker: Maker, data: bytes, name: str = "", Modality: str = "SM") -> str:
        """Put a file in, in place of one with this name, and return the resource that it is."""
        self._count += 1
        target = self.data / "patient" / "study" / maker.SeriesInstanceUID / (name or f"{maker.SOPInstanceUID}.dcm")
        target.parent.mkdir(parents=True, exist_ok=True)
        beside = target.with_suffix(".part")
        beside.write_bytes(data)
        beside.rename(target)
        entry = {
            "StudyInstanceUID": maker.StudyInstanceUID,
            "imageObj": {target.name: {"size": len(data), "FSlocation": str(target)}},
        }
        document = Path(self.config.log, "seriesData", f"{maker.SeriesInstanceUID}-img", f"{target.name}.json")
        document.parent.mkdir(parents=True, exist_ok=True)
        document.write_bytes(orjson.dumps({maker.SeriesInstanceUID: entry}))
        outcome = Outcome(
            "published",
            f"{self.config.incoming[0]}/{self._count}",
            0,
            BEGIN + self._count,
            BEGIN + self._count,
            size=len(data),
            dst=str(target),
            SOPInstanceUID=maker.SOPInstanceUID,
            SeriesInstanceUID=maker.SeriesInstanceUID,
            StudyInstanceUID=maker.StudyInstanceUID,
            PatientID="P",
            Modality=Modality,
            sender="SENDER",
        )
        self._writer.record([outcome], 1000.0, BEGIN)
        return url(maker)

    def slide(self, frames: int, instance: str = "1.2.3.4", salt: int = 0) -> tuple[str, list[bytes]]:
        """Put a slide in; return its resource and frames."""
        maker = Maker(JPEG, SOPInstanceUID=instance)
        pictures = [jpeg(number + salt, 20 + 2 * (number % 5)) for number in range(frames)]
        return self.add(maker, maker.encapsulated(header(frames=frames), [[one] for one in pictures])), pictures

    def complete(self) -> None:
        """Let all series end."""
        self._writer.tick(10_000.0, BEGIN + 10**13)
        self._writer.mark_announced(self._writer.take_ended(), 10_000.0)

    def close(self) -> None:
        self._writer.close()

    def path(self, instance: str = "1.2.3.4") -> Path:
        return next(self.data.rglob(f"{instance}.dcm"))


def url(maker: Maker) -> str:
    return f"studies/{maker.StudyInstanceUID}/series/{maker.SeriesInstanceUID}/instances/{maker.SOPInstanceUID}"
