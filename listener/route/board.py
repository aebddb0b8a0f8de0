"""What metrics and the `live` file show of route."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from typing import Any

from listener.network.statuses import DELIVERED, UNAVAILABLE
from listener.route.health import DOWN, UNKNOWN, UP, Standing
from listener.route.report import Report
from listener.route.routes_file import Routes
from listener.route.work import Work
from listener.stages.service import Tools

_PENDING = """
SELECT target, count(*), ifnull(min(queued_ns), 0) FROM sends INDEXED BY sends_due WHERE state = 'pending'
GROUP BY target
"""
_DEAD = "SELECT target, count(*) FROM sends WHERE state = 'dead' GROUP BY target"
_COUNTS = """
SELECT (SELECT count(*) FROM sends WHERE state = 'held'), (SELECT count(*) FROM unclaimed)
"""


class Board:
    """Counts answers as they come, and once a second what lies there."""

    def __init__(self, tools: Tools) -> None:
        self._tools = tools
        self._before: dict[str, Standing] = {}
        self.shown: dict[str, Any] = {}
        #: Dead letters at the last look.
        self.dead = 0

    def count(self, report: Report) -> None:
        """Count an attempt that was answered."""
        metrics, target = self._tools.metrics, report.send.target
        metrics.add("route_sends_total", 1, target, report.outcome)
        if report.outcome == DELIVERED:
            metrics.add("route_sent_bytes_total", report.send.size, target)
            metrics.observe("route_store_seconds", report.seconds, target)
            if report.send.round == 1 and not report.send.attempts:
                metrics.observe("route_hop_seconds", report.hop, target)
        if report.is_reencoded:
            metrics.add("route_reencoded_total", 1, target)

    def changed(self, standings: Mapping[str, Standing]) -> Iterator[tuple[str, Standing]]:
        """Yield the targets that went down, or came up again, since the last time."""
        for name, standing in standings.items():
            before = self._before.get(name, Standing()).state
            if standing.state != before and DOWN in (standing.state, before) and standing.state in (UP, DOWN):
                yield name, standing
            if standing.state == DOWN and before != DOWN:
                self._tools.metrics.add("route_sends_total", 1, name, UNAVAILABLE)
        self._before = dict(standings)

    def measure(self, work: Work, routes: Routes, standings: Mapping[str, Standing]) -> None:
        """Set what is measured once a second."""
        metrics, connection = self._tools.metrics, work.queue.connection
        pending = {target: (count, oldest) for target, count, oldest in connection.execute(_PENDING)}
        dead = dict(connection.execute(_DEAD).fetchall())
        self.dead = sum(dead.values())
        held, unclaimed = connection.execute(_COUNTS).fetchone()
        for name, target in routes.targets.items():
            standing = standings.get(name, Standing())
            count, oldest_ns = pending.get(name, (0, 0))
            metrics.set("route_pending_instances", count, name)
            metrics.set("route_oldest_pending_timestamp_seconds", oldest_ns / 1e9, name)
            metrics.set("route_dead_letters", dead.get(name, 0), name)
            metrics.set("route_target_up", float(standing.state in (UNKNOWN, UP)), name)
            metrics.set("route_target_rejects_title", float(standing.state == DOWN and standing.cause == "title"), name)
            if target.is_worker:
                metrics.set("route_live_studies", len(work.studies.live(name, time.time())), name)
                metrics.set("route_worker_paused", float(name in work.paused), name)
        metrics.set("route_waiting_studies", len(work.studies.waiting))
        metrics.set("route_unclaimed_instances", unclaimed)
        metrics.set("route_held_sends", held)
        work.returns.measure(metrics, time.time_ns())
        self.shown = {
            name: {"state": standing.state, "cause": standing.cause, "pending": pending.get(name, (0, 0))[0]}
            for name, standing in standings.items()
        }
