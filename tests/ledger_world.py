"""A small world for the ledger's writer: a tree, its documents, outcomes, and two clocks that tests move."""

from __future__ import annotations

import contextlib
import os
import sqlite3
from math import inf
from pathlib import Path

import orjson

from listener.config import Config
from listener.ledger.completion import Completion, StudyEnd
from listener.ledger.connection import path_of
from listener.ledger.writer import LedgerWriter
from listener.planning import documents
from listener.records import Outcome
from listener.repacking import setaside
from tests.instances import uid, write_instance
from tests.service_process import Places
from tests.workbench import make_config

#: A moment to begin at, nanoseconds since the epoch.
BEGIN = 1_700_000_000 * 10**9


class World:
    """Publishes without a worker: an instance is a link to a real file of its series, described like a real one."""

    def __init__(self, base: Path, **changes: object) -> None:
        changes = {"series_quiet": (("", 10.0),), "series_timeout": 100.0, **changes}
        self.config: Config = make_config(base, **changes)
        for path in (*self.config.incoming, self.config.data, self.config.log, self.config.state):
            os.makedirs(path, exist_ok=True)  # Two worlds may share a tree.
        self._models: dict[tuple[int, int], Path] = {}
        self._base = base
        self.now = 1000.0
        self.wall = BEGIN
        self.clerk = LedgerWriter(self.config, slice_seconds=inf)
        self.told: list[Completion] = []
        self.studies_told: list[StudyEnd] = []

    def uid(self, series: int) -> str:
        return str(uid("series", 0, 0, series))

    def images(self, series: int) -> Path:
        return Path(self.config.log, "seriesData", f"{self.uid(series)}-img")

    def described(self, series: int) -> set[str]:
        """The instances that readers see."""
        folder = self.images(series)
        return {path.name.removesuffix(".json") for path in folder.iterdir()} if folder.exists() else set()

    # -- what happens

    def advance(self, seconds: float, jump: float = 0.0) -> None:
        """Time goes on; the wall clock also jumps."""
        self.now += seconds
        self.wall += int((seconds + jump) * 1e9)

    def study(self, number: int = 0) -> str:
        return str(uid("study", 0, number))

    def place(self, folder: str, number: int, sop: str) -> str:
        """Where an instance lies below the data directory; a test may say another one."""
        return f"{folder}/{number:04d}-{sop}.dcm"

    def publish(self, series: int, number: int, *, superseded: bool = False, study: int = 0) -> Outcome:
        """An instance gets its place and its document; the outcome is still to be told. Another `study` has the same
        series UID.
        """
        sop, folder = str(uid("instance", 0, study, series, number)), f"p/{'s' * (study + 1)}/{series}"
        target = Path(self.config.data, self.place(folder, number, sop))
        target.parent.mkdir(parents=True, exist_ok=True)
        if not target.exists():
            os.link(self._model(series, study), target)
        document = self.images(series) / f"{target.name}.json"
        document.parent.mkdir(parents=True, exist_ok=True)
        size = target.stat().st_size
        entry = {
            "StudyInstanceUID": self.study(study),
            "imageObj": {target.name: {"size": size, "FSlocation": str(target)}},
        }
        document.write_bytes(orjson.dumps({self.uid(series): entry}))
        for path in (document, document.parent):
            os.utime(path, ns=(self.wall, self.wall))
        return self.outcome("published", series, str(target), sop, size)._replace(
            StudyInstanceUID=self.study(study),
            superseded=str(Path(self.config.state, "set-aside/superseded/old")) if superseded else "",
        )

    def outcome(self, kind: str, series: int, dst: str = "", sop: str = "", size: int = 0) -> Outcome:
        path = f"{self.config.incoming[0]}/MR.{sop}"
        return Outcome(
            kind,
            path,
            0,
            self.wall,
            self.wall,
            size=size,
            dst=dst,
            SOPInstanceUID=sop,
            SeriesInstanceUID=self.uid(series),
            StudyInstanceUID=self.study(),
            PatientID="P0000",
            Modality="MR",
            sender="SENDER",
        )

    def _model(self, series: int, study: int) -> Path:
        key = series, study
        if key not in self._models:
            uids = {"SeriesInstanceUID": self.uid(series), "StudyInstanceUID": self.study(study)}
            self._models[key] = write_instance(self._base / f"model-{series}-{study}", series=series, **uids)
        return self._models[key]

    def promise(self, series: int, number: object) -> None:
        """Another program's word of how many there will be."""
        path = Path(self.config.log, documents.retrieve_path(self.uid(series)))
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(orjson.dumps({"NumberOfSeriesRelatedInstances": number}))

    # -- the ledger's writer

    def record(self, *outcomes: Outcome) -> None:
        self.clerk.record(outcomes, self.now, self.wall)

    def came(self, series: int, *numbers: int, study: int = 0) -> None:
        """Instances are published and recorded."""
        self.record(*[self.publish(series, number, study=study) for number in numbers])

    def tick(self) -> list[Completion]:
        """A look around; what ended, announced."""
        self.clerk.tick(self.now, self.wall)
        return self.announce()

    def announce(self) -> list[Completion]:
        ended = self.clerk.take_ended()
        self.clerk.mark_announced(ended, self.now)
        series = [end for end in ended if isinstance(end, Completion)]
        self.told += series
        self.studies_told += [end for end in ended if isinstance(end, StudyEnd)]
        return series

    def crash(self) -> None:
        """The process is killed and started again; its monotonic clock says something else."""
        self.clerk.close()
        self.clerk = LedgerWriter(self.config, slice_seconds=inf)
        self.now = 5.0

    def close(self) -> None:
        self.clerk.close()


def assert_ledger_equals_logs(places: Places) -> None:
    """Every series and instance that readers see, no other, and each generation ended at most once."""
    seen: dict[str, set[str]] = {}
    for folder in (places.log / "seriesData").glob("*-img"):
        for path in folder.iterdir():
            (uid_,) = orjson.loads(path.read_bytes())
            seen.setdefault(uid_, set()).add(path.name.removesuffix(".json"))
    with contextlib.closing(sqlite3.connect(path_of(str(places.state)))) as connection:
        recorded: dict[str, set[str]] = {}
        for uid_, path, size in connection.execute("SELECT SeriesInstanceUID, path, size FROM files"):
            recorded.setdefault(uid_, set()).add(os.path.basename(path))
            assert (places.data / path).stat().st_size == size
        assert recorded == seen
        totals = dict(connection.execute("SELECT SeriesInstanceUID, instances FROM series WHERE instances > 0"))
        assert totals == {uid_: len(names) for uid_, names in recorded.items()}
        twice = "SELECT 1 FROM history WHERE state <> 'open' GROUP BY series_id, generation HAVING count(*) > 1"
        assert not connection.execute(twice).fetchall()
        told = connection.execute("SELECT reason, files FROM set_aside_counts WHERE files > 0").fetchall()
        folders = [folder for folder in (places.state / "set-aside").glob("*") if folder.is_dir()]
        lying = {folder.name: sum(1 for _ in setaside.entries(str(folder))) for folder in folders}
        assert dict(told) == {reason: number for reason, number in lying.items() if number}
