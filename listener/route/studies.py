"""Studies on routes and their workers, as route.sqlite keeps them; live ones, and those of today, also in memory."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable, Iterator, Mapping
from typing import NamedTuple

from listener.route.assignment import Assignments, Key, Study, Worker
from listener.route.queue import Queue
from listener.route.routes_file import Route

_DAY = 86_400

#: Most moves of a study in _MOVES_WITHIN seconds: one that no worker takes must not go round for ever.
MOST_MOVES, _MOVES_WITHIN = 3, 3600

#: Seconds that a study which is not live stays in memory.
_IN_MEMORY = float(_DAY)

_COLUMNS = "t.id, t.route, t.StudyInstanceUID, t.worker, t.awaits_result, t.began_ns, t.last_ns"
_PENDING = """
SELECT study_id, count(*) FROM sends INDEXED BY sends_due WHERE state = 'pending' AND kind = 'worker' GROUP BY study_id
"""
_UNSENT = "SELECT count(*) FROM sends WHERE study_id = ? AND kind = 'worker' AND state = 'pending'"
_STORED = "SELECT count(*) FROM sends WHERE study_id = ?1 AND kind = 'worker' AND state = 'delivered'"
_LIVE = """(
    EXISTS (SELECT 1 FROM sends w WHERE w.study_id = t.id AND w.kind = 'worker' AND w.state = 'pending')
    OR EXISTS (SELECT 1 FROM series s WHERE s.StudyInstanceUID = t.StudyInstanceUID AND s.open = 1)
    OR (t.awaits_result = 1 AND t.last_ns + ?2 > ?1)
)"""
_LOADED = f"SELECT {_COLUMNS} FROM studies t WHERE t.last_ns >= ?3 OR {_LIVE}"
_LIVE_OF = f"SELECT t.id, t.route, t.StudyInstanceUID FROM studies t WHERE t.worker = ?3 AND {_LIVE} ORDER BY t.last_ns"
_OLD = f"""
SELECT t.id FROM studies t WHERE t.last_ns < ?3 AND NOT {_LIVE}
AND NOT EXISTS (SELECT 1 FROM sends w WHERE w.study_id = t.id AND w.state <> 'delivered') LIMIT 1000
"""


class LiveStudy(NamedTuple):
    """A live study of a worker: its worker has instances to get, more may come, or a result is awaited."""

    id: int
    route: str
    StudyInstanceUID: str


def live_of(connection: sqlite3.Connection, worker: str, now_ns: int) -> list[LiveStudy]:
    """Return the live studies of a worker, by what route.sqlite says alone: it is safe to switch off without any."""
    (busy,) = connection.execute("SELECT ifnull((SELECT value FROM meta WHERE name = 'busy'), '600')").fetchone()
    values = (now_ns, int(float(busy) * 1e9), worker)
    return [LiveStudy(*row) for row in connection.execute(_LIVE_OF, values)]


class Studies:
    """Which worker has which study. Times are seconds since the epoch. Methods that change something are called within
    queue.writing(); `flush` is the last of them.

    `workers` are those of the routes file, as they are now; to be replaced when that changes. `on_trial` are names of
    those that get one study at a time. `waiting` are keys of studies for which there was no worker.
    """

    def __init__(self, queue: Queue, busy: float, remember: float, now: float) -> None:
        self._queue = queue
        self.busy, self._remember = busy, remember
        self.assignments = Assignments(busy, _IN_MEMORY)
        self._ids: dict[Key, int] = {}
        self._keys: dict[int, Key] = {}
        self._touched: set[Key] = set()
        self.workers: Mapping[str, Worker] = {}
        self.on_trial: frozenset[str] = frozenset()
        self.waiting: set[Key] = set()
        since_ns = int(now // _DAY * _DAY * 1e9)
        values = (int(now * 1e9), int(busy * 1e9), since_ns)
        for row in self._queue.connection.execute(_LOADED, values).fetchall():
            self._load(row, now)

    def _load(self, row: tuple[int, str, str, str, int, int, int], now: float) -> None:
        number, route, uid, worker, awaits, began_ns, last_ns = row
        key = (route, uid)
        self._ids[key], self._keys[number] = number, key
        (unsent,) = self._queue.connection.execute(_UNSENT, (number,)).fetchone()
        if not worker:
            if unsent:
                self.waiting.add(key)
            return
        study = Study(worker, began_ns / 1e9, awaits_result=bool(awaits))
        study.last, study.unsent, study.open_series = last_ns / 1e9, unsent, self._queue.open_series(uid)
        self.assignments.restore(key, study, now)

    def take(self, route: Route, uid: str, origin: tuple[str, str], now: float) -> tuple[int, str]:
        """Return the id of a study of which something came along a route, and its worker: "" while there is none.
        `origin` are sender and root.
        """
        key = (route.name, uid)
        if key not in self._ids:
            self._find(key, now)
        if key not in self._ids:
            now_ns = int(now * 1e9)
            made = self._queue.connection.execute(
                "INSERT INTO studies (route, StudyInstanceUID, sender, root, began_ns, last_ns) "
                "VALUES (?, ?, ?, ?, ?, ?)",
                (*key, *origin, now_ns, now_ns),
            )
            number = int(made.lastrowid or 0)
            self._ids[key], self._keys[number] = number, key
        self._touched.add(key)
        return self._ids[key], self._worker(key, route, now) if route.workers else ""

    def _find(self, key: Key, now: float) -> None:
        row = self._queue.connection.execute(
            f"SELECT {_COLUMNS} FROM studies t WHERE route = ? AND StudyInstanceUID = ?", key
        ).fetchone()
        if row:
            self._load(row, now)

    def _worker(self, key: Key, route: Route, now: float) -> str:
        known = self.assignments.studies.get(key)
        if known and not (known.worker in route.workers and known.worker in self.workers):
            other = self.assignments.best(key, self.candidates(route, now), now, without=known.worker)
            self.move(self._ids[key], other, "left", now)
            known = self.assignments.studies.get(key)
        if known is None:
            known = self.assignments.assign(key, self.candidates(route, now), now, awaits_result=bool(route.results))
            if known is None:
                self.waiting.add(key)
                return ""
            known.open_series = self._queue.open_series(key[1])
            self.waiting.discard(key)
        known.last, known.awaits_result = now, bool(route.results)
        self.assignments.changed(key, now)
        return known.worker

    def settle_on(self, number: int, worker: str, route: Route, now: float) -> None:
        """Give a study that waits to a worker."""
        key = self._keys[number]
        study = Study(worker, now, awaits_result=bool(route.results))
        study.unsent, study.open_series = self._queue.give(number, worker), self._queue.open_series(key[1])
        self.assignments.restore(key, study, now)
        self.waiting.discard(key)
        self._touched.add(key)

    def candidates(self, route: Route, now: float) -> dict[str, Worker]:
        """Return the workers of a route that are in the routes file, in its order."""
        found = {name: self.workers[name] for name in route.workers if name in self.workers}
        for name in self.on_trial & found.keys():
            if self.assignments.live(name, now):
                found[name] = found[name]._replace(is_up=False)
        return found

    def number(self, key: Key) -> int:
        """Return the id of a study that is in memory."""
        return self._ids[key]

    def queued(self, study_id: int, count: int, now: float) -> None:
        """Count instances of a study that its worker is to get (of one that got or lost them: negative)."""
        key = self._keys.get(study_id)
        study = self.assignments.studies.get(key) if key else None
        if key and study and count:
            study.unsent = max(0, study.unsent + count)
            study.last = now
            self._touched.add(key)
            self.assignments.changed(key, now)

    def recount(self, now: float) -> None:
        """Count anew what is unsent: a command, or another routes file, has changed the queue."""
        unsent = dict(self._queue.connection.execute(_PENDING).fetchall())
        for key, study in self.assignments.studies.items():
            count = unsent.get(self._ids[key], 0)
            if count != study.unsent:
                study.unsent = count
                self.assignments.changed(key, now)

    def series_changed(self, uid: str, routes: Iterable[str], now: float) -> None:
        """Take in that a series of a study began or ended."""
        count = self._queue.open_series(uid)
        for route in routes:
            study = self.assignments.studies.get((route, uid))
            if study:
                study.open_series = count
                self.assignments.changed((route, uid), now)

    def answered(self, route: str, uid: str, now: float) -> None:
        """Take in that a result of a study came back: its worker is busy with it no more."""
        study = self.assignments.studies.get((route, uid))
        if study:
            study.awaits_result = False
            self._touched.add((route, uid))
            self.assignments.changed((route, uid), now)

    def assign_waiting(self, routes: Mapping[str, Route], now: float) -> Iterator[tuple[int, str, int]]:
        """Give studies that wait to workers, if some may get them now; yield id, worker and number of instances."""
        for key in sorted(self.waiting, key=self._ids.__getitem__):
            route = routes.get(key[0])
            if route is None or not any(one.is_up and not one.is_paused for one in self.workers.values()):
                continue
            self._touched.add(key)
            worker = self._worker(key, route, now)
            if worker:
                number = self._ids[key]
                count = self._queue.give(number, worker)
                self.queued(number, count, now)
                yield number, worker, count

    def live(self, worker: str, now: float) -> list[tuple[int, Key]]:
        """Return ids and keys of the live studies of a worker, the oldest first."""
        return sorted((self._ids[key], key) for key in self.assignments.live(worker, now))

    def move(self, number: int, worker: str, reason: str, now: float) -> int:
        """Give a study whole to another worker ("": to one that is still to be found); return how many instances."""
        key = self._keys[number]
        study = self.assignments.studies[key]
        now_ns = int(now * 1e9)
        self._queue.connection.execute(
            f"INSERT INTO moves (study_id, origin, worker, reason, at_ns, stored) VALUES (?1, ?, ?, ?, ?, ({_STORED}))",
            (number, study.worker, worker, reason, now_ns),
        )
        count = self._queue.move(number, worker, now_ns)
        self._touched.add(key)
        if worker:
            study.unsent = count
            self.assignments.move(key, worker, now)
        else:
            self.assignments.drop(key)
            self.waiting.add(key)
        return count

    def may_move(self, number: int, now: float) -> bool:
        """Return whether a study was not moved too often already."""
        (count,) = self._queue.connection.execute(
            "SELECT count(*) FROM moves WHERE study_id = ? AND at_ns > ?", (number, int((now - _MOVES_WITHIN) * 1e9))
        ).fetchone()
        return int(count) < MOST_MOVES

    def flush(self) -> None:
        """Write down the studies that changed."""
        for key in self._touched:
            study = self.assignments.studies.get(key)
            if study:
                self._queue.connection.execute(
                    "UPDATE studies SET worker = ?, last_ns = ?, awaits_result = ? WHERE id = ?",
                    (study.worker, int(study.last * 1e9), study.awaits_result, self._ids[key]),
                )
            elif key in self.waiting:
                self._queue.connection.execute("UPDATE studies SET worker = '' WHERE id = ?", (self._ids[key],))
        self._touched.clear()

    def forget(self, now: float) -> int:
        """Forget studies of which nothing was assigned or sent for so long, and of which nothing waits or was given up;
        return how many. Call it again after a thousand.
        """
        for _ in self.assignments.forget(now):
            pass
        for key in self._ids.keys() - self.assignments.studies.keys() - self.waiting - self._touched:
            del self._keys[self._ids.pop(key)]
        values = (int(now * 1e9), int(self.busy * 1e9), int((now - self._remember) * 1e9))
        old = self._queue.connection.execute(_OLD, values).fetchall()
        for (number,) in old:
            for table in ("sends", "moves"):
                self._queue.connection.execute(f"DELETE FROM {table} WHERE study_id = ?", (number,))
            self._queue.connection.execute("DELETE FROM studies WHERE id = ?", (number,))
        return len(old)
