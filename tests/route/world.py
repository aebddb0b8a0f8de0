"""What route keeps, as if the service had done it: studies, their workers, and what was sent; with real files."""

from __future__ import annotations

import sqlite3
from pathlib import Path
from typing import Any

from pydicom.dataset import Dataset

from listener.ledger.feed import FeedRow
from listener.route.returning import Places, Returns, Told
from listener.route.routes_file import Routes, read
from listener.route.schema import ROUTE
from listener.stages.database import open_writer, transaction
from tests.instances import save

SECOND = 1_000_000_000

ROUTES = """
[workers.gpu1]
address = "127.0.0.1:11111"
aet = "GPU1"
[workers.gpu2]
address = "127.0.0.1:11112"
aet = "GPU2"
[destinations.sto]
address = "127.0.0.1:11113"
aet = "STO"
[destinations.upp]
address = "127.0.0.1:11114"
aet = "UPP"
[routes.stockholm]
root = "stockholm"
workers = ["gpu1", "gpu2"]
results = ["sto"]
priority = "high"
[routes.uppsala]
root = "uppsala"
workers = ["gpu1", "gpu2"]
results = ["upp"]
[inside]
roots = ["inside"]
"""


class World:
    """A collection in a folder, whose route.sqlite is filled by hand; `now_ns` is its clock."""

    def __init__(self, folder: Path, routes: str = ROUTES) -> None:
        self.state, self.data = folder / "state", folder / "data"
        self.data.mkdir(exist_ok=True)
        self.connection: sqlite3.Connection = open_writer(str(self.state), ROUTE)
        self.now_ns = 1_000 * SECOND
        self.answered: list[tuple[str, str]] = []
        self.returns = Returns(
            self.connection, Places(str(self.state), str(self.data)), 600.0, lambda *of: self.answered.append(of)
        )
        self.use(routes)
        self._files = 0

    def use(self, routes: str) -> None:
        """Go by another routes file."""
        self.routes: Routes = read(routes)
        self.returns.use(self.routes)
        self.run("INSERT OR REPLACE INTO meta VALUES ('routes', ?)", routes)
        for name in self.routes.targets:
            self.run("INSERT OR IGNORE INTO targets (name) VALUES (?)", name)

    def file(self, ds: Dataset, sender: str, root: str) -> int:
        """Write an instance into the data directory, and record that it came; return its number."""
        self._files += 1
        name = f"{self._files}.dcm"
        save(ds, self.data / name)
        self.run("INSERT OR IGNORE INTO folders (path) VALUES ('.')")
        series = (ds.SeriesInstanceUID, ds.StudyInstanceUID)
        self.run("INSERT OR IGNORE INTO series (SeriesInstanceUID, StudyInstanceUID) VALUES (?, ?)", *series)
        (series_id,) = self.row("SELECT id FROM series WHERE SeriesInstanceUID = ? AND StudyInstanceUID = ?", *series)
        (folder_id,) = self.row("SELECT id FROM folders")
        self.run(
            "INSERT INTO instances (series_id, SOPInstanceUID, folder_id, name, sender, root) "
            "VALUES (?, ?, ?, ?, ?, ?)",
            *(series_id, ds.SOPInstanceUID, folder_id, name, sender, root),
        )
        return int(self.row("SELECT max(id) FROM instances")[0])

    def sent(self, ds: Dataset, route: str, worker: str, state: str = "delivered") -> int:
        """An original that came along a route, and was sent to a worker (or waits to be); return its number."""
        number = self.file(ds, "SCANNER", f"/srv/{route}")
        now = self.now_ns
        self.run(
            "INSERT INTO studies (route, StudyInstanceUID, worker, awaits_result, began_ns, last_ns) "
            "VALUES (?, ?, ?, 1, ?, ?) ON CONFLICT DO UPDATE SET last_ns = excluded.last_ns",
            *(route, ds.StudyInstanceUID, worker, now, now),
        )
        (study,) = self.row(
            "SELECT id FROM studies WHERE route = ? AND StudyInstanceUID = ?", route, ds.StudyInstanceUID
        )
        self.run(
            "INSERT INTO sends (instance_id, study_id, kind, target, state) VALUES (?, ?, 'worker', ?, ?)",
            *(number, study, worker, state),
        )
        return number

    def moved(self, route: str, study: str, worker: str) -> None:
        """A study moves to another worker, as it stands."""
        number, origin = self.row(
            "SELECT id, worker FROM studies WHERE route = ? AND StudyInstanceUID = ?", route, study
        )
        (stored,) = self.row("SELECT count(*) FROM sends WHERE study_id = ? AND state = 'delivered'", number)
        self.run("INSERT INTO moves VALUES (NULL, ?, ?, ?, 'down', 0, ?)", number, origin, worker, stored)
        self.run("UPDATE studies SET worker = ? WHERE id = ?", worker, number)
        self.run(
            "UPDATE sends SET target = ?, state = 'pending' WHERE study_id = ? AND kind = 'worker'", worker, number
        )

    def came(self, ds: Dataset, sender: str = "GPU1", number: int = 0, kind: str = "published") -> list[Told]:
        """An instance comes into the inside root (as the file of that number, if given)."""
        number = number or self.file(ds, sender, "/srv/inside")
        uids = (ds.SeriesInstanceUID, ds.StudyInstanceUID, ds.SOPInstanceUID)
        row = FeedRow(1, kind, *uids, f"{number}.dcm", sender, "/srv/inside", self.now_ns)
        with transaction(self.connection):
            return self.returns.take(row, number, self.now_ns)

    def turn(self) -> list[Told]:
        """One second passes."""
        self.now_ns += SECOND
        with transaction(self.connection):
            return self.returns.turn(self.now_ns)

    def results(self) -> list[tuple[Any, ...]]:
        """What is queued for destinations: instance, target, state, round."""
        return self.rows("SELECT instance_id, target, state, round FROM sends WHERE kind = 'result' ORDER BY id")

    def held(self) -> list[tuple[Any, ...]]:
        """What is held: instance and why."""
        return self.rows("SELECT instance_id, why FROM held WHERE settled_ns = 0 ORDER BY id")

    def run(self, statement: str, *values: Any) -> None:
        self.connection.execute(statement, values)

    def row(self, question: str, *values: Any) -> tuple[Any, ...]:
        return tuple(self.connection.execute(question, values).fetchone())

    def rows(self, question: str, *values: Any) -> list[tuple[Any, ...]]:
        return [tuple(row) for row in self.connection.execute(question, values)]

    def close(self) -> None:
        self.connection.close()
