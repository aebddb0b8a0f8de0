"""What commands ask the service to do: rows of `requests`, carried out in their order."""

from __future__ import annotations

import contextlib
import json
import sqlite3
from typing import Any

from listener.errors import LedgerFault
from listener.ledger import connection as ledger
from listener.ledger.feed import FeedRow
from listener.route.failover import Failover
from listener.route.intake import Intake
from listener.route.routes_file import Routes

_OPEN = "SELECT id, verb, arguments FROM requests WHERE done_ns = 0 ORDER BY id"
_FILES = """
SELECT s.SeriesInstanceUID, s.StudyInstanceUID, i.SOPInstanceUID, f.path || '/' || i.name, s.sender, s.root,
    i.arrived_ns
FROM series s JOIN instances i ON i.series_id = s.id JOIN folders f ON f.id = i.folder_id
WHERE s.StudyInstanceUID = ? ORDER BY i.arrived_ns
"""


class Requests:
    """Carries them out, within queue.writing()."""

    def __init__(self, connection: sqlite3.Connection, intake: Intake, failover: Failover, state_dir: str) -> None:
        self._connection, self._state_dir = connection, state_dir
        self._intake, self._failover = intake, failover

    def turn(self, routes: Routes, now: float) -> None:
        """Do what is asked for, and record what became of it."""
        for number, verb, text in self._connection.execute(_OPEN).fetchall():
            answer = self._do(verb, json.loads(text), routes, now)
            self._connection.execute(
                "UPDATE requests SET done_ns = ?, answer = ? WHERE id = ?", (int(now * 1e9), answer, number)
            )

    def _do(self, verb: str, arguments: dict[str, Any], routes: Routes, now: float) -> str:
        if verb == "move":
            self._failover.empty(str(arguments["worker"]), routes, "drain", now)
            return ""
        if verb == "send":
            return self._send(str(arguments["study"]), str(arguments.get("worker", "")), now)
        return f"this version knows no '{verb}'"

    def _send(self, study: str, worker: str, now: float) -> str:
        """Queue all of a study that the ledger has, along the routes that fit; `worker` gets it, if one is named."""
        try:
            with ledger.translated(), contextlib.closing(self._collection()) as collection:
                rows = [FeedRow(0, "published", *row) for row in collection.execute(_FILES, (study,))]
        except LedgerFault as fault:
            return str(fault)
        if not rows:
            return "the ledger has no instance of this study"
        if worker and not self._prefer(rows[0], worker, now):
            return f"no route of this study has the worker {worker}"
        for row in rows:
            self._intake.take(row, now)
        return ""

    def _prefer(self, row: FeedRow, worker: str, now: float) -> bool:
        """Give the study of a row to a worker, along the routes that have it; return whether there are any."""
        routes = [route for route in self._intake.routes_of(row) if worker in route.workers]
        for route in routes:
            self._failover.give(route, row, worker, now)
        return bool(routes)

    def _collection(self) -> sqlite3.Connection:
        return ledger.open_reader(ledger.path_of(self._state_dir))
