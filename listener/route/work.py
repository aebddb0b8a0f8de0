"""What the loop does with route.sqlite, each in one transaction: rows of the feed and their cursor, answers, moves,
what commands ask for. After a StageFault it is closed and made anew: what is in memory follows from what is kept.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from listener.ledger.feed import FeedRow
from listener.route.failover import Failover
from listener.route.forgetting import Forgetting
from listener.route.health import DOWN, Standing
from listener.route.intake import Intake
from listener.route.options import RouteOptions
from listener.route.queue import Queue
from listener.route.reload import Loaded
from listener.route.report import Report
from listener.route.requests import Requests
from listener.route.returning import Places, Returns
from listener.route.routes_file import Routes
from listener.route.schema import PENDING, ROUTE, WORKER
from listener.route.senders import Senders
from listener.route.studies import Studies
from listener.stages.database import Checkpointer, open_writer
from listener.stages.follower import Cursor

_TARGET = "INSERT INTO targets (name) VALUES (?) ON CONFLICT DO NOTHING"
_STANDING = """
UPDATE targets SET state = ?, since_ns = ?, cause = ?, detail = ?, stored_ns = max(stored_ns, ?) WHERE name = ?
"""

#: Seconds between two times at which what is old is forgotten.
_FORGET = 600.0


class Work:
    """See the module. Times are seconds since the epoch."""

    def __init__(self, state_dir: str, data_dir: str, options: RouteOptions, senders: Senders) -> None:
        self._options, self._senders = options, senders
        connection = open_writer(state_dir, ROUTE)
        self._checkpointer = Checkpointer(connection, ROUTE.path(state_dir))
        self.queue = Queue(connection)
        now = time.time()
        self.studies = Studies(self.queue, options.busy, options.remember * 86_400, now)
        self.returns = Returns(connection, Places(state_dir, data_dir), options.answer_within, self._answered)
        self._told: list[tuple[str, dict[str, Any]]] = []
        self.intake = Intake(self.queue, self.studies, data_dir, self.returns, self._tell)
        self.failover = Failover(self.studies, options.down_after, senders.window, self._tell_moved)
        self._requests = Requests(connection, self.intake, self.failover, state_dir)
        self._data_version = -1
        self._paused: frozenset[str] = frozenset()
        self._forgetting = Forgetting(self.queue, self.studies, options.remember * 86_400)
        self._forget_at = now + _FORGET
        self._stored_ns: dict[str, int] = {}
        self._standings: Mapping[str, Standing] = {}

    def close(self) -> None:
        """Close the connection."""
        self._checkpointer.close()
        self.queue.connection.close()

    # -- told ----------------------------------------------------------------------------------------------------------

    def _tell(self, event: str, **fields: Any) -> None:
        self._told.append((event, fields))

    def _tell_moved(self, **fields: Any) -> None:
        self._tell("moved", **fields)

    def told(self) -> list[tuple[str, dict[str, Any]]]:
        """Return the events of what stands now, once."""
        told, self._told = self._told, []
        return told

    def touched(self) -> set[str]:
        """Return the targets for which something was queued, once."""
        touched = self.intake.touched | self.failover.touched | self.returns.touched
        self.intake.touched, self.failover.touched, self.returns.touched = set(), set(), set()
        return touched

    def _answered(self, route: str, uid: str) -> None:
        self.studies.answered(route, uid, time.time())

    # -- what the loop does --------------------------------------------------------------------------------------------

    def use(self, loaded: Loaded, standings: Mapping[str, Standing], now: float) -> None:
        """Go by a routes file from now on."""
        routes = loaded.routes
        self.intake.routes = routes
        self.returns.use(routes)
        with self.queue.writing():
            connection = self.queue.connection
            connection.executemany(_TARGET, [(name,) for name in routes.targets])
            values = {"routes": loaded.text, "busy": f"{self._options.busy:g}"}
            connection.executemany("INSERT OR REPLACE INTO meta VALUES (?, ?)", values.items())
            self.queue.hold(routes.routes, [name for name, one in routes.targets.items() if not one.is_worker])
            for window in self._senders.windows():
                window.clear()  # What is held must not go out any more.
            self._read_targets()
            self.failover.use(routes, standings, self._paused)
            self.failover.left(routes, now)
            self.studies.recount(now)
            self.studies.flush()
        self.intake.touched |= set(routes.targets)

    def first_ns(self, now_ns: int) -> int:
        """Return when route first followed this collection (nanoseconds since the epoch)."""
        with self.queue.writing():
            connection = self.queue.connection
            connection.execute("INSERT OR IGNORE INTO meta VALUES ('first_ns', ?)", (str(now_ns),))
            (text,) = connection.execute("SELECT value FROM meta WHERE name = 'first_ns'").fetchone()
        return int(text)

    def were_down(self) -> list[str]:
        """Return the targets that were down when the last service ended."""
        found = self.queue.connection.execute("SELECT name FROM targets WHERE state = ?", (DOWN,))
        return [name for (name,) in found]

    def take(self, rows: Sequence[FeedRow], cursor: Cursor, now: float) -> None:
        """Queue what the feed told."""
        with self.queue.writing():
            for row in rows:
                self.intake.take(row, now)
            self.queue.move_cursor(cursor, max((row.arrived_ns for row in rows), default=0))
            self.studies.flush()

    def take_found(self, rows: Iterable[FeedRow], now: float) -> None:
        """Queue what was found in the ledger."""
        with self.queue.writing():
            for row in rows:
                self.intake.take(row, now, again=False)
            self.studies.flush()

    def end_series(self, series: str, study: str, now: float) -> None:
        """Take in that a series has ended."""
        with self.queue.writing():
            if self.queue.close_series(series, study):
                self.studies.series_changed(study, self.intake.routes.routes, now)

    def claim(self, limit: int, after: int, now: float) -> int:
        """Route what was unclaimed and has a route now; see Intake.claim."""
        with self.queue.writing():
            last = self.intake.claim(limit, after, now)
            self.studies.flush()
        return last

    def settle(self, reports: Sequence[Report], now: float) -> list[bool]:
        """Record answers; return which of them count: not those to an earlier round."""
        counts = []
        ended: Counter[int] = Counter()
        with self.queue.writing():
            for report in reports:
                settled = report.settled
                counts.append(settled is None or self.queue.settle(settled, report.at_ns))
                if settled and counts[-1] and settled.state != PENDING and report.send.kind == WORKER:
                    ended[report.send.study_id] += 1
            for study_id, count in ended.items():
                self.studies.queued(study_id, -count, now)
            self.studies.flush()
        for report, is_counted in zip(reports, counts, strict=True):
            self._forget(report, is_counted=is_counted)
        return counts

    def _forget(self, report: Report, *, is_counted: bool) -> None:
        """Let the window of its target forget a send that is recorded; another round of it may be due."""
        settled, target = report.settled, report.send.target
        if settled is None:
            return
        window = self._senders.window(target)
        if window:
            window.forget(report.send)
        if not is_counted:
            self.intake.touched.add(target)
        elif settled.state == PENDING:
            self._senders.retry_at(target, settled.next_ns)
        elif settled.state == "delivered":
            self._stored_ns[target] = report.at_ns

    def tick(self, routes: Routes, standings: Mapping[str, Standing], now: float) -> None:
        """Do what is due once a second."""
        (version,) = self.queue.connection.execute("PRAGMA data_version").fetchone()
        with self.queue.writing():
            if version != self._data_version:
                self._read_targets()
                self.intake.touched |= set(routes.targets)  # A command may have queued something.
                self.studies.recount(now)
            self.failover.use(routes, standings, self._paused)
            if version != self._data_version:
                self._requests.turn(routes, now)
            self.failover.turn(routes, standings, now)
            self._told += [(told.event, told.fields) for told in self.returns.turn(int(now * 1e9))]
            self._write_standings(standings, now)
            if now >= self._forget_at:
                self._forget_at = now + (0 if self._forgetting.turn(now) else _FORGET)
            self.studies.flush()
        self._data_version = version

    def _read_targets(self) -> None:
        found = self.queue.connection.execute("SELECT name FROM targets WHERE paused = 1")
        self._paused = frozenset(name for (name,) in found)

    @property
    def paused(self) -> frozenset[str]:
        """Return the targets that a person has paused."""
        return self._paused

    def _write_standings(self, standings: Mapping[str, Standing], now: float) -> None:
        """Write down how targets stand, for commands and the next service, where it changed."""
        ago = now - time.monotonic()
        for name, standing in standings.items():
            stored_ns = self._stored_ns.pop(name, 0)
            if standing != self._standings.get(name) or stored_ns:
                since_ns = int((standing.since + ago) * 1e9) if standing.since else 0
                values = (standing.state, since_ns, standing.cause, standing.detail, stored_ns, name)
                self.queue.connection.execute(_STANDING, values)
        self._standings = dict(standings)
