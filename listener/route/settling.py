"""The end of each generation of a series: what the feed did not tell is queued, and only when all of it is settled is
the delivery, so that `listener prune` keeps what is still to be sent.
"""

from __future__ import annotations

import contextlib
import sqlite3
import time
from collections.abc import Callable
from typing import NamedTuple

from listener.errors import NotTaken, Postponed
from listener.ledger import connection as ledger
from listener.ledger import consumers
from listener.ledger.feed import FeedRow
from listener.ledger.rows import Delivery, SeriesRow
from listener.route.schema import ROUTE
from listener.stages import database

#: Longest seconds between two looks at a series that is not settled.
_LONGEST = 10.0

#: Files of a series that came after a moment; the path is below the data directory.
_FILES = """
SELECT i.SOPInstanceUID, f.path || '/' || i.name, i.arrived_ns FROM instances i JOIN folders f ON f.id = i.folder_id
WHERE i.series_id = ? AND i.arrived_ns > ?
"""
_OPEN_OR_NEW = """
SELECT id, SeriesInstanceUID, StudyInstanceUID, sender, root FROM series
WHERE (state = 'open' OR last_ns >= ?) AND StudyInstanceUID <> ''
"""
#: When the last generation ended that ended before a moment.
_ENDED = "SELECT ifnull(max(at_ns), 0) FROM history WHERE series_id = ? AND state <> 'open' AND at_ns < ?"
_KNOWN = """
SELECT i.SOPInstanceUID, f.path || '/' || i.name FROM instances i JOIN series s ON s.id = i.series_id
JOIN folders f ON f.id = i.folder_id WHERE s.SeriesInstanceUID = ? AND s.StudyInstanceUID = ?
"""
_FORGOTTEN = "SELECT ifnull((SELECT value FROM meta WHERE name = 'forgotten_ns'), '0')"
_STATES = """
SELECT w.state, count(*) FROM sends w JOIN instances i ON i.id = w.instance_id JOIN series s ON s.id = i.series_id
WHERE s.SeriesInstanceUID = ? AND s.StudyInstanceUID = ? GROUP BY w.state
"""
_HELD = """
SELECT count(*) FROM held h JOIN instances i ON i.id = h.instance_id JOIN series s ON s.id = i.series_id
WHERE s.SeriesInstanceUID = ? AND s.StudyInstanceUID = ? AND h.settled_ns = 0
"""


class Origin(NamedTuple):
    """A series in the ledger: its id there, its UIDs, and the sender and the root of its newest instance."""

    id: int
    SeriesInstanceUID: str
    StudyInstanceUID: str
    sender: str
    root: str

    @classmethod
    def of(cls, series: SeriesRow) -> Origin:
        """Return it from its row."""
        return cls(series.id, series.SeriesInstanceUID, series.StudyInstanceUID, series.sender, series.root)


def missing(collection: sqlite3.Connection, own: sqlite3.Connection, series: Origin, first_ns: int) -> list[FeedRow]:
    """Return the files of a series that the ledger has and route.sqlite has not. Those of generations that had ended at
    `first_ns`, when route first followed, are not routed, nor those that are as old as what was forgotten.
    """
    (ended_ns,) = collection.execute(_ENDED, (series.id, first_ns)).fetchone()
    known = set(own.execute(_KNOWN, (series.SeriesInstanceUID, series.StudyInstanceUID)))
    (forgotten_ns,) = own.execute(_FORGOTTEN).fetchone()  # After what is known: it may rise meanwhile.
    uids = (series.SeriesInstanceUID, series.StudyInstanceUID)
    return [
        FeedRow(0, "published", *uids, uid, path, series.sender, series.root, arrived_ns)
        for uid, path, arrived_ns in collection.execute(_FILES, (series.id, max(ended_ns, int(forgotten_ns))))
        if (uid, path) not in known
    ]


def missed(state_dir: str, own: sqlite3.Connection, since_ns: int, first_ns: int) -> list[FeedRow]:
    """Return what the ledger has and route.sqlite has not, of series that are open, or got something since a moment:
    the feed may have told it, and was not read. Raises LedgerFault.
    """
    with ledger.translated(), contextlib.closing(ledger.open_reader(ledger.path_of(state_dir))) as collection:
        found = [Origin(*row) for row in collection.execute(_OPEN_OR_NEW, (since_ns,)).fetchall()]
        return [row for series in found for row in missing(collection, own, series, first_ns)]


def look_again(state_dir: str, consumer: str) -> None:
    """Have the deliveries that were given up looked at again: dead letters went. Raises LedgerFault."""
    connection = ledger.open_writer(ledger.path_of(state_dir))
    with ledger.translated(), contextlib.closing(connection):
        row = connection.execute("SELECT id FROM consumers WHERE name = ?", (consumer,)).fetchone()
        if row:
            consumers.redeliver(connection, row[0], time.time_ns(), only_failed=True)


class Settler:
    """Takes the deliveries of route. `found` is called with what a series lacks, `ended` with the UIDs of series and
    study when it has ended, both in the thread of the deliveries. See taking.Receiver.
    """

    def __init__(
        self, state_dir: str, found: Callable[[list[FeedRow]], None], ended: Callable[[str, str], None]
    ) -> None:
        self._state_dir = state_dir
        self._found, self._ended = found, ended

    def take(self, delivery: Delivery, renew: Callable[[], None]) -> None:
        """Return when all is settled. Raises Postponed until then, NotTaken for dead letters, LedgerFault."""
        series = delivery.series
        if series is None:
            return
        own = database.open_reader(self._state_dir, ROUTE)
        with database.translated(), contextlib.closing(own):
            (first_ns,) = own.execute("SELECT ifnull((SELECT value FROM meta WHERE name = 'first_ns'), '0')").fetchone()
            lacking = self._lacking(own, series, int(first_ns))
            if lacking:
                self._found(lacking)
                raise Postponed("the feed had not told all of it", 0.5)
            if series.state != "open":
                self._ended(series.SeriesInstanceUID, series.StudyInstanceUID)
            uids = (series.SeriesInstanceUID, series.StudyInstanceUID)
            states = dict(own.execute(_STATES, uids).fetchall())
            (held,) = own.execute(_HELD, uids).fetchone()
        unsettled = states.get("pending", 0) + states.get("held", 0) + held
        if unsettled:
            raise Postponed(f"{unsettled} of its instances are not sent yet", min(_LONGEST, 0.25 * delivery.attempts))
        if states.get("dead"):
            raise NotTaken(
                f"{states['dead']} dead letters: see 'listener route status', then retry or drop them",
                is_final=True,
            )

    def _lacking(self, own: sqlite3.Connection, series: SeriesRow, first_ns: int) -> list[FeedRow]:
        with contextlib.closing(ledger.open_reader(ledger.path_of(self._state_dir))) as collection:
            return missing(collection, own, Origin.of(series), first_ns)

    def abort(self) -> None:
        """Nothing waits."""
