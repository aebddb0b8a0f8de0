"""The stage route: what the feed tells is queued for workers and destinations, sent, and settled; see stages.service.

What a kill leaves: queue and cursor are written together, so that a row of the feed is queued, or told again; an answer
that was not written down is asked for again, by sending once more.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Mapping, Sequence
from typing import Any

from listener.diagnostics import log
from listener.errors import ConfigError
from listener.ledger.delivery_threads import Consumer, DeliveryThread
from listener.ledger.feed import FeedRow
from listener.ledger.interests import Interest, text_of
from listener.network.statuses import DELIVERED, FULL
from listener.route import metric_rows
from listener.route.board import Board
from listener.route.options import RouteOptions
from listener.route.reload import Loaded, load, looks
from listener.route.report import Report
from listener.route.schema import ROUTE
from listener.route.sender import Line
from listener.route.senders import Senders
from listener.route.settling import Settler, look_again, missed
from listener.route.work import Work
from listener.stages.database import StageFault
from listener.stages.follower import Follower
from listener.stages.service import Tools
from listener.telemetry.health import Checks
from listener.telemetry.metric_rows import Row

#: Events of deliveries that route waits for.
_WANTS = text_of(Interest(events=("series-complete", "series-incomplete")))

#: Seconds of a lease, between two looks at everything, and at least between two records of answers.
_LEASE, _TICK, _RECORD = 60.0, 1.0, 0.05

#: Most answers that are recorded in one transaction, and rows that are taken at a time.
_ANSWERS, _ROWS = 2000, 500

#: Before the newest arrival that was handled, so many nanoseconds are looked through where the feed has a gap.
_SLACK = 600 * 10**9


class Route:
    """See stages.service.Stage. `loaded` is the routes file at the start."""

    name = ROUTE.stage

    def __init__(self, state_dir: str, data_dir: str, options: RouteOptions, loaded: Loaded) -> None:
        self._state_dir, self._data_dir, self._options = state_dir, data_dir, options
        self._loaded, self._looks = loaded, looks(options.routes, loaded.routes)
        self._is_config_ok = True
        self.rows: Sequence[Row] = metric_rows.rows(loaded.routes)
        self._reports: deque[Report] = deque()
        self._unsettled: list[Report] = []
        self._found: deque[list[FeedRow]] = deque()
        self._ended: deque[tuple[str, str]] = deque()
        self._work: Work | None = None
        self._next_tick = self._next_record = 0.0
        self._claims_after = -1
        self._is_draining = self._has_news = False

    # -- the floor -----------------------------------------------------------------------------------------------------

    def begin(self, tools: Tools) -> Sequence[int]:
        """Open the queue, follow the feed, and start to send."""
        self._tools = tools
        self._board = Board(tools)
        self._senders = Senders(self._line())
        work = self._opened()
        self._follower = Follower(self._state_dir, self.name, work.queue.cursor()[0], _WANTS)
        self._settler = Settler(self._state_dir, self._tell_found, self._tell_ended)
        self._taker = DeliveryThread(Consumer(self.name, self.name, _WANTS, _LEASE), self._settler, self._state_dir)
        self._taker.answered = tools.answered
        self._use(work, self._loaded, at_start=True)
        self._taker.start()
        return [self._follower.fileno()]

    def turn(self, now: float) -> float:
        """Do what is due; see stages.service.Stage."""
        try:
            return self._turn(now)
        finally:
            if self._work and self._work.queue.has_failed:
                self._close_work()

    def checks(self) -> Checks:
        """Return what /readyz tells."""
        return {
            "routes": (
                self._is_config_ok,
                "the routes file is in use"
                if self._is_config_ok
                else "the routes file has problems, and the one before is in use: see the log, mend it",
            )
        }

    def shown(self) -> Mapping[str, Any]:
        """Return how targets stand."""
        return {"targets": self._board.shown}

    def drain(self) -> bool:
        """Finish what is in hand."""
        self._is_draining = True
        self._senders.finish()
        return self._senders.is_finished() and not self._reports and not self._unsettled

    def end(self) -> None:
        """Stop, and record what was still answered."""
        self._taker.stop()
        self._senders.abort()
        try:
            self._settle(time.time(), all_=True)
        except StageFault as fault:
            log.warning("the last answers were not recorded (%s); these instances are sent again", fault)
        self._close_work()
        self._follower.close()

    def reload(self) -> None:
        """Read the routes file again."""
        self._looks, self._has_news = (), True

    def _line(self) -> Line:
        options = self._options
        return Line(self._data_dir, options.down_after, options.echo, self._report, self._tell_news)

    # -- threads -------------------------------------------------------------------------------------------------------

    def _report(self, report: Report) -> None:
        self._reports.append(report)
        if len(self._reports) == 1:
            self._tools.wakeup.set()

    def _tell_news(self) -> None:
        self._has_news = True
        self._tools.wakeup.set()

    def _tell_found(self, rows: list[FeedRow]) -> None:
        self._found.append(rows)
        self._tools.wakeup.set()

    def _tell_ended(self, series: str, study: str) -> None:
        self._ended.append((series, study))
        self._tools.wakeup.set()

    # -- one turn ------------------------------------------------------------------------------------------------------

    def _opened(self) -> Work:
        work = self._work = Work(self._state_dir, self._data_dir, self._options, self._senders)
        return work

    def _close_work(self) -> None:
        if self._work:
            self._work.close()
        self._work = None

    def _current(self) -> Work:
        """Return the open queue; after a fault it is opened anew, and the feed taken from where that stands."""
        if self._work:
            return self._work
        work = self._opened()
        self._follower.rewind(work.queue.cursor()[0])
        self._use(work, self._loaded)
        return work

    def _turn(self, now: float) -> float:
        work, wall = self._current(), time.time()
        due = now + _TICK
        if self._reports or self._unsettled:
            if now >= self._next_record:
                self._settle(wall)
            else:
                due = self._next_record
        if now >= self._next_tick or self._has_news:
            self._next_tick, self._has_news = now + _TICK, False
            self._tick(work, wall)
        if not self._is_draining:
            self._fill(work, wall)
        if self._take(work, wall):
            due = now
        self._take_found(work, wall)
        if self._claims_after >= 0:
            self._claims_after = work.claim(_ROWS, self._claims_after, wall) or -1
            due = now
        if not self._is_draining:
            self._fill(work, wall)
        return min(due, self._next_tick, now + self._until_retry(wall))

    def _until_retry(self, wall: float) -> float:
        retry_ns = self._senders.next_retry_ns()
        return max(0.01, retry_ns / 1e9 - wall) if retry_ns else _TICK

    def _fill(self, work: Work, wall: float) -> None:
        touched = work.touched()
        self._senders.fill(work.queue, touched, int(wall * 1e9))

    def _settle(self, wall: float, *, all_: bool = False) -> None:
        """Record the answers. Until that is done they stay in memory, and nothing more is offered than a window."""
        self._next_record = time.monotonic() + _RECORD
        while self._reports or self._unsettled:
            while self._reports and len(self._unsettled) < _ANSWERS:
                self._unsettled.append(self._reports.popleft())
            counted = self._current().settle(self._unsettled, wall)
            both = zip(self._unsettled, counted, strict=True)
            told = [event_of(one) for one, counts in both if self._count(one, counts=counts)]
            self._tools.events.services(told)
            self._unsettled = []
            if not all_:
                return

    def _take(self, work: Work, wall: float) -> bool:
        """Take rows of the feed; return whether there may be more."""
        batch = self._follower.take(_ROWS)
        if batch.is_broken:
            self._reconcile(work, wall)
        if batch.rows or batch.is_broken:
            work.take(batch.rows, batch.cursor, wall)
            self._tell(work)
        self._follower.report(batch.cursor)
        return len(batch.rows) == _ROWS

    def _reconcile(self, work: Work, wall: float) -> None:
        """Queue what the feed may have told, and was not read: it is the first start, or there is a gap."""
        _, handled_ns = work.queue.cursor()
        since_ns = handled_ns - _SLACK if handled_ns else int(wall * 1e9)
        rows = missed(self._state_dir, work.queue.connection, since_ns, work.first_ns(int(wall * 1e9)))
        if rows:
            log.info("%d instances are taken from the ledger, because the feed did not tell them", len(rows))
            self._found.append(rows)

    def _take_found(self, work: Work, wall: float) -> None:
        """Take what was found beside the feed, once all is taken that the feed tells: what it tells is no surprise."""
        while self._found:
            work.take_found(self._found[0], wall)
            self._found.popleft()
        while self._ended:
            work.end_series(*self._ended[0], wall)
            self._ended.popleft()
        self._tell(work)

    # -- once a second -------------------------------------------------------------------------------------------------

    def _tick(self, work: Work, wall: float) -> None:
        self._senders.turn()
        found = looks(self._options.routes, self._loaded.routes)
        if found != self._looks:
            self._looks = found
            self._load_again(work)
        standings = self._senders.standings()
        for name, standing in self._board.changed(standings):
            fields = {"cause": standing.cause, "detail": standing.detail} if standing.cause else {}
            self._event(standing.state, time.time_ns(), target=name, **fields)
        work.tick(self._loaded.routes, standings, wall)
        self._tell(work)
        dead = self._board.dead
        self._board.measure(work, self._loaded.routes, standings)
        if self._board.dead < dead:
            look_again(self._state_dir, self.name)
        self._tools.metrics.set("route_config_ok", float(self._is_config_ok))
        self._tools.metrics.set("route_behind_rows", self._follower.behind())

    def _load_again(self, work: Work) -> None:
        try:
            loaded = load(self._options.routes)
        except ConfigError as error:
            self._is_config_ok = False
            for problem in error.problems:
                log.error("the routes file is refused, the one before stays in use: %s", problem)
            self._event("reload-refused", time.time_ns(), problems=error.problems)
            return
        self._is_config_ok = True
        self._use(work, loaded)
        self._looks = looks(self._options.routes, loaded.routes)  # It may name others now.
        self._event("reloaded", time.time_ns())

    def _use(self, work: Work, loaded: Loaded, *, at_start: bool = False) -> None:
        self._loaded = loaded
        self.rows = metric_rows.rows(loaded.routes)
        if not at_start:
            self._tools.renew(self.rows)
        self._senders.use(loaded, work.were_down() if at_start else ())
        work.use(loaded, self._senders.standings(), time.time())
        self._claims_after = 0
        self._tell(work)

    # -- told ----------------------------------------------------------------------------------------------------------

    def _event(self, name: str, at_ns: int, **fields: Any) -> None:
        self._tools.events.service(name, at_ns, **fields)

    def _tell(self, work: Work) -> None:
        for event, fields in work.told():
            if event == "moved":
                self._tools.metrics.add("route_failovers_total", 1, fields["reason"])
            self._event(event, time.time_ns(), **fields)

    def _count(self, report: Report, *, counts: bool) -> bool:
        """Count an attempt; return whether it is an event: not where it stays as it was, or its round is over."""
        if report.send.target in self._loaded.routes.targets:
            self._board.count(report)
        return counts and report.outcome != FULL


def event_of(report: Report) -> tuple[str, int, dict[str, Any]]:
    """Return name, time and values of the event of an attempt that was answered, or cannot be made."""
    send, settled = report.send, report.settled
    fields: dict[str, Any] = {
        "SOPInstanceUID": send.SOPInstanceUID,
        "StudyInstanceUID": send.StudyInstanceUID,
        "route": send.route,
        "target": send.target,
        "status": f"{report.status:04X}" if report.status >= 0 else "",
        "round": send.round,
    }
    if report.outcome == DELIVERED:
        return "delivered", report.at_ns, {**fields, "hop": round(report.hop, 6)}
    is_dead = bool(settled and settled.state == "dead")
    return "refused", report.at_ns, {**fields, "dead": is_dead, "error": settled.error if settled else ""}
