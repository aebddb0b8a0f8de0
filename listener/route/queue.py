"""The queue in route.sqlite: every file that came, and to whom each is to be sent."""

from __future__ import annotations

import contextlib
import os
import sqlite3
import stat
from collections.abc import Iterable, Iterator
from typing import NamedTuple

from listener.ledger.feed import FeedRow
from listener.route.schema import COPY, NO_STATUS, RESULT, WORKER
from listener.stages.database import transaction
from listener.stages.follower import Cursor

#: Most folders and series whose ids are remembered.
_REMEMBERED = 4096


class File(NamedTuple):
    """What a file was when it was queued: another one at its place is never sent. All 0: there was none."""

    inode: int = 0
    size: int = 0
    mtime_ns: int = 0

    @classmethod
    def of(cls, about: os.stat_result) -> File:
        """Return what stat says."""
        return cls(about.st_ino, about.st_size, about.st_mtime_ns)

    @classmethod
    def at(cls, path: str) -> File:
        """Return the regular file at a path."""
        with contextlib.suppress(OSError):
            about = os.lstat(path)
            if stat.S_ISREG(about.st_mode):
                return cls.of(about)
        return cls()


class Send(NamedTuple):
    """An instance to be sent to `target`. `path` is below the data directory; `kind` is one of schema.KINDS; `round`
    counts how often it was queued, `attempts` those of this round.
    """

    id: int
    round: int
    target: str
    kind: str
    route: str
    study_id: int
    StudyInstanceUID: str
    SOPInstanceUID: str
    path: str
    inode: int
    size: int
    mtime_ns: int
    priority: int
    attempts: int
    arrived_ns: int

    @property
    def file(self) -> File:
        """Return what the file was when it was queued."""
        return File(self.inode, self.size, self.mtime_ns)


class Settled(NamedTuple):
    """How an attempt ended: `state` is delivered, dead, or pending until `next_ns`; `error` says why in our words,
    `comment` in the peer's.
    """

    send: Send
    state: str
    status: int = NO_STATUS
    error: str = ""
    comment: str = ""
    next_ns: int = 0


_DUE = """
SELECT w.id, w.round, w.target, w.kind, ifnull(t.route, ''), w.study_id, ifnull(t.StudyInstanceUID, ''),
    i.SOPInstanceUID, f.path || '/' || i.name, i.inode, i.size, i.mtime_ns, w.priority, w.attempts, i.arrived_ns
FROM sends w JOIN instances i ON i.id = w.instance_id JOIN folders f ON f.id = i.folder_id
LEFT JOIN studies t ON t.id = w.study_id
WHERE w.target = ? AND w.state = 'pending' AND w.next_ns <= ? ORDER BY w.priority, w.id LIMIT ?
"""
_UNCLAIMED = """
SELECT i.id, i.series_id, s.SeriesInstanceUID, s.StudyInstanceUID, i.SOPInstanceUID, f.path || '/' || i.name,
    u.sender, u.root, u.arrived_ns
FROM unclaimed u JOIN instances i ON i.id = u.instance_id JOIN series s ON s.id = i.series_id
JOIN folders f ON f.id = i.folder_id WHERE u.instance_id > ? ORDER BY u.instance_id LIMIT ?
"""
_KEY = "instance_id = ? AND study_id = ? AND kind = ? AND iif(kind = 'worker', '', target) = ?"
_AGAIN = """
UPDATE sends SET state = 'pending', round = round + 1, attempts = 0, next_ns = 0, status = -1, error = '', comment = '',
    settled_ns = 0
"""
_SETTLE = """
UPDATE sends SET state = iif(state = 'held' AND ?1 = 'pending', 'held', ?1), status = ?2, error = ?3, comment = ?4,
    next_ns = ?5, settled_ns = ?6, attempts = attempts + 1
WHERE id = ?7 AND round = ?8 AND target = ?9 AND state IN ('pending', 'held')
"""


class Queue:
    """Instances and sends, on a writer's connection. Everything but reading is done within writing()."""

    def __init__(self, connection: sqlite3.Connection) -> None:
        self.connection = connection
        #: A transaction failed: what is in memory may be ahead of what is kept.
        self.has_failed = False
        self._folders: dict[str, int] = {}
        self._series: dict[tuple[str, str], int] = {}

    @contextlib.contextmanager
    def writing(self) -> Iterator[None]:
        """Run the block in a transaction."""
        try:
            with transaction(self.connection):
                yield
        except BaseException:
            self.has_failed = True
            raise

    # -- the feed ------------------------------------------------------------------------------------------------------

    def cursor(self) -> tuple[Cursor, int]:
        """Return how far the feed was taken, and the newest arrival of that (nanoseconds since the epoch)."""
        since_ns, seq, handled_ns = self.connection.execute("SELECT since_ns, seq, handled_ns FROM cursor").fetchone()
        return Cursor(since_ns, seq), handled_ns

    def move_cursor(self, cursor: Cursor, handled_ns: int) -> None:
        """Record how far the feed was taken."""
        self.connection.execute(
            "UPDATE cursor SET since_ns = ?, seq = ?, handled_ns = max(handled_ns, ?)", (*cursor, handled_ns)
        )

    # -- what came -----------------------------------------------------------------------------------------------------

    def series_id(self, SeriesInstanceUID: str, StudyInstanceUID: str, *, opens: bool = True) -> tuple[int, bool]:
        """Return the id of a series of which something came, and whether that opened it; without `opens` (it is a
        result) it makes no study live.
        """
        key = (SeriesInstanceUID, StudyInstanceUID)
        if key in self._series:
            return self._series[key], False
        connection = self.connection
        where = "WHERE SeriesInstanceUID = ? AND StudyInstanceUID = ?"
        row = connection.execute(f"SELECT id, open FROM series {where}", key).fetchone()
        if row is None:
            made = connection.execute(
                "INSERT INTO series (SeriesInstanceUID, StudyInstanceUID, open) VALUES (?, ?, ?)", (*key, opens)
            )
            row = (made.lastrowid, 0)
        elif opens and not row[1]:
            connection.execute("UPDATE series SET open = 1 WHERE id = ?", (row[0],))
        if opens:
            if len(self._series) >= _REMEMBERED:
                self._series.clear()
            self._series[key] = int(row[0])
        return int(row[0]), opens and not row[1]

    def close_series(self, SeriesInstanceUID: str, StudyInstanceUID: str) -> bool:
        """Record that a series has ended; return whether it was open."""
        key = (SeriesInstanceUID, StudyInstanceUID)
        self._series.pop(key, None)
        changed = self.connection.execute(
            "UPDATE series SET open = 0 WHERE SeriesInstanceUID = ? AND StudyInstanceUID = ? AND open = 1", key
        )
        return changed.rowcount > 0

    def open_series(self, StudyInstanceUID: str) -> int:
        """Return the number of series of a study that have not ended."""
        (count,) = self.connection.execute(
            "SELECT count(*) FROM series WHERE StudyInstanceUID = ? AND open = 1", (StudyInstanceUID,)
        ).fetchone()
        return int(count)

    def instance(self, row: FeedRow, series_id: int, file: File) -> tuple[int, bool, bool]:
        """Record that a file came; return its id, whether it is new, and whether it is another one than before."""
        folder, _, name = row.path.rpartition("/")
        key = (series_id, row.SOPInstanceUID, self._folder(folder), name)
        arrival = (*file, row.sender, row.root, row.arrived_ns)
        made = self.connection.execute(
            "INSERT OR IGNORE INTO instances (series_id, SOPInstanceUID, folder_id, name, inode, size, mtime_ns, "
            "sender, root, arrived_ns) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
            (*key, *arrival),
        )
        if made.rowcount == 1 and made.lastrowid:
            return made.lastrowid, True, True
        where = "series_id = ? AND SOPInstanceUID = ? AND folder_id = ? AND name = ?"
        number, *before = self.connection.execute(
            f"SELECT id, inode, size, mtime_ns FROM instances WHERE {where}", key
        ).fetchone()
        self.connection.execute(
            "UPDATE instances SET inode = ?, size = ?, mtime_ns = ?, sender = ?, root = ?, arrived_ns = ? WHERE id = ?",
            (*arrival, number),
        )
        return int(number), False, File(*before) != file

    def _folder(self, path: str) -> int:
        number = self._folders.get(path)
        if number is None:
            if len(self._folders) >= _REMEMBERED:
                self._folders.clear()
            self.connection.execute("INSERT OR IGNORE INTO folders (path) VALUES (?)", (path,))
            (number,) = self.connection.execute("SELECT id FROM folders WHERE path = ?", (path,)).fetchone()
            self._folders[path] = number
        return int(number)

    def forget_ids(self) -> None:
        """Forget the ids of series and folders: some are there no longer."""
        self._series.clear()
        self._folders.clear()

    def is_known(self, row: FeedRow, series_id: int) -> bool:
        """Return whether a file came before."""
        folder, _, name = row.path.rpartition("/")
        where = "i.series_id = ? AND i.SOPInstanceUID = ? AND f.path = ? AND i.name = ?"
        found = self.connection.execute(
            f"SELECT 1 FROM instances i JOIN folders f ON f.id = i.folder_id WHERE {where}",
            (series_id, row.SOPInstanceUID, folder, name),
        )
        return found.fetchone() is not None

    def judged(self, series_id: int, keyword: str) -> str | None:
        """Return the value by which a series is judged; None if none of its instances was read for it."""
        row = self.connection.execute(
            "SELECT value FROM judged WHERE series_id = ? AND keyword = ?", (series_id, keyword)
        ).fetchone()
        return None if row is None else str(row[0])

    def judge(self, series_id: int, keyword: str, value: str) -> None:
        """Record the value by which a series is judged from now on."""
        self.connection.execute("INSERT OR IGNORE INTO judged VALUES (?, ?, ?)", (series_id, keyword, value))

    def unclaimed(self, instance_id: int, row: FeedRow, now_ns: int) -> bool:
        """Record that no route wants an arrival; return whether that is new."""
        made = self.connection.execute(
            "INSERT OR IGNORE INTO unclaimed VALUES (?, ?, ?, ?, ?)",
            (instance_id, row.sender, row.root, row.arrived_ns, now_ns),
        )
        return made.rowcount == 1

    def claim(self, instance_id: int, sender: str, root: str) -> None:
        """Record that an unclaimed arrival has found a route."""
        self.connection.execute(
            "DELETE FROM unclaimed WHERE instance_id = ? AND sender = ? AND root = ?", (instance_id, sender, root)
        )

    def unclaimed_rows(self, limit: int, after: int = 0) -> list[tuple[int, int, FeedRow]]:
        """Return the next unclaimed arrivals behind an instance's id: ids of instance and series, and the row."""
        return [
            (number, series, FeedRow(0, "published", *row))
            for number, series, *row in self.connection.execute(_UNCLAIMED, (after, limit))
        ]

    def forget_unclaimed(self, before_ns: int) -> None:
        """Forget arrivals that were unclaimed before a moment: no later routes file takes them up."""
        self.connection.execute("DELETE FROM unclaimed WHERE at_ns < ?", (before_ns,))

    # -- sends ---------------------------------------------------------------------------------------------------------

    def add(self, send: NewSend, now_ns: int, *, again: bool, changed: bool) -> int:
        """Queue an instance; return by how much the number of unsent ones rises. What is queued already stays so, as a
        new round if the file is another one now (`changed`); what was sent is sent `again`.
        """
        made = self.connection.execute(
            "INSERT OR IGNORE INTO sends (instance_id, study_id, kind, target, priority, queued_ns) "
            "VALUES (?, ?, ?, ?, ?, ?)",
            (*send, now_ns),
        )
        if made.rowcount == 1 or not again:
            return made.rowcount
        key = (send.instance_id, send.study_id, send.kind, "" if send.kind == WORKER else send.target)
        more = (send.target, send.priority, now_ns)
        done = self.connection.execute(
            f"{_AGAIN}, target = ?, priority = ?, queued_ns = ? WHERE {_KEY} AND state IN ('delivered', 'dead')",
            (*more, *key),
        )
        if not done.rowcount and changed:
            self.connection.execute(f"{_AGAIN}, queued_ns = ? WHERE {_KEY} AND state = 'pending'", (now_ns, *key))
        return done.rowcount

    def due(self, target: str, now_ns: int, limit: int) -> list[Send]:
        """Return what is to be sent to a target, in the order of sending."""
        return [Send(*row) for row in self.connection.execute(_DUE, (target, now_ns, limit))]

    def settle(self, settled: Settled, now_ns: int) -> bool:
        """Record how an attempt ended; return False for the answer to an earlier round, which counts no more."""
        send, state, status, error, comment, next_ns = settled
        at_ns = 0 if state == "pending" else now_ns
        values = (state, status, error, comment, next_ns, at_ns, send.id, send.round, send.target)
        return self.connection.execute(_SETTLE, values).rowcount == 1

    def give(self, study_id: int, worker: str) -> int:
        """Let a worker get what of a study waits for one; return how much."""
        return self.connection.execute(
            "UPDATE sends SET target = ? WHERE study_id = ? AND kind = 'worker' AND target = ''", (worker, study_id)
        ).rowcount

    def move(self, study_id: int, worker: str, now_ns: int) -> int:
        """Queue the whole study, delivered or not, for another worker; return the number of its instances."""
        return self.connection.execute(
            f"{_AGAIN}, target = ?, queued_ns = ? WHERE study_id = ? AND kind = 'worker' AND state <> 'held'",
            (worker, now_ns, study_id),
        ).rowcount

    def hold(self, routes: Iterable[str], targets: Iterable[str]) -> None:
        """Hold what is pending on other routes than these, or for other destinations, and let the rest go on."""
        known = ("?, " * len(names := [*routes])) + "''"
        there = ("?, " * len(others := [*targets])) + "''"
        gone = (
            f"(study_id <> 0 AND study_id NOT IN (SELECT id FROM studies WHERE route IN ({known}))"
            f" OR kind <> 'worker' AND target NOT IN ({there}))"
        )
        values = (*names, *others)
        self.connection.execute(f"UPDATE sends SET state = 'held' WHERE state = 'pending' AND {gone}", values)
        self.connection.execute(
            f"UPDATE sends SET state = 'pending', next_ns = 0 WHERE state = 'held' AND NOT {gone}", values
        )

    def next_ns(self, target: str, now_ns: int) -> int:
        """Return when the next of what waits to be tried again is due; 0: nothing waits."""
        (due,) = self.connection.execute(
            "SELECT ifnull(min(next_ns), 0) FROM sends WHERE target = ? AND state = 'pending' AND next_ns > ?",
            (target, now_ns),
        ).fetchone()
        return int(due)


class NewSend(NamedTuple):
    """What is queued: an instance of a study on a route, to a target."""

    instance_id: int
    study_id: int
    kind: str
    target: str
    priority: int


__all__ = ["COPY", "RESULT", "WORKER", "File", "NewSend", "Queue", "Send", "Settled"]
