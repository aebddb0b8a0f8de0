"""The process of a stage: one owner a collection, signals, events, metrics and health, and what it writes once a second
to `<state>/<stage>/live`.
"""

from __future__ import annotations

import contextlib
import os
import selectors
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple, Protocol

import listener
from listener.diagnostics import count_into, log
from listener.errors import LedgerFault, ListenerError
from listener.ledger.kept_reader import KeptReader
from listener.planning.names import instant
from listener.stages import metric_rows
from listener.stages.ownership import Ownership
from listener.status.snapshot import SnapshotFile
from listener.telemetry.access import Access
from listener.telemetry.events import Events
from listener.telemetry.health import Checks, in_one_line, loop_turns, verdict
from listener.telemetry.http_messages import Request, Response, Route
from listener.telemetry.metric_rows import Row
from listener.telemetry.metrics import CONTENT_TYPE, Exposition, build_labels
from listener.telemetry.server import Server, log_failed_page
from listener.wakeup import Signals, Wakeup

#: Seconds between two looks at everything, and whether the owner has gone.
_TICK = 1.0

#: Longest seconds between two turns (a follower's wake-up may be lost), and until a ledger is tried again.
_TURN, _LEDGER_RETRY = 0.25, 1.0


class StageOwned(ListenerError):
    """Another process of this stage works on the collection; stop it, or leave the work to it."""


class Tools(NamedTuple):
    """What a stage gets of its process: its `name`, its `folder` (`<state>/<stage>`), events and metrics to be used in
    the loop's thread, and `wakeup`, which lets the loop turn at once, from any thread.
    """

    name: str
    folder: str
    events: Events
    metrics: Exposition
    wakeup: Wakeup

    def renew(self, rows: Sequence[Row]) -> None:
        """Show these metrics of the stage from now on: labels changed."""
        self.metrics.renew(metric_rows.rows(self.name, rows))

    def answered(self, how: str, seconds: float, consumer: str = "") -> None:
        """Count a delivery that a consumer of the stage (else the one of its name) answered; for
        DeliveryThread.answered, whose thread alone writes these metrics.
        """
        self.metrics.add("consumer_deliveries_total", 1, consumer or self.name, how)
        self.metrics.observe("consumer_delivery_duration_seconds", seconds, consumer or self.name)


class Stage(Protocol):
    """A stage, as its process runs it: in the loop's thread, between begin() and end() as the only one of its
    collection. `rows` are metrics of its own. One that takes deliveries under other names than its own has `consumers`.
    """

    name: str
    rows: Sequence[Row]

    def begin(self, tools: Tools) -> Sequence[int]:
        """Begin; return descriptors that can be read when there is something to do."""

    def turn(self, now: float) -> float:
        """Do what is due without waiting; return the monotonic time at which something is due. Raises LedgerFault."""

    def checks(self) -> Checks:
        """Return what /readyz tells beside whether the loop turns."""

    def shown(self) -> Mapping[str, Any]:
        """Return what is written once a second, and once after end(): JSON values without patient data."""

    def drain(self) -> bool:
        """Begin nothing new; return whether nothing is under way. Called until it is True, or --drain is over."""

    def end(self) -> None:
        """Stop what is still under way, and close."""


class StageSettings(NamedTuple):
    """Options of every stage: the collection's state directory, address of the HTTP port or "off", who may see what is
    more than metrics and health, and how long a stopping stage may go on, in seconds.
    """

    state: str
    http: str = "off"
    access: Access | None = None
    drain: float = 25.0


class StageService:
    """Runs a stage until a signal. `pages` are routes that only who may look sees; `reload` is called in the loop's
    thread at SIGHUP.
    """

    def __init__(
        self,
        stage: Stage,
        settings: StageSettings,
        pages: Mapping[str, Route] | None = None,
        reload: Callable[[], None] | None = None,
    ) -> None:
        self._stage, self._settings, self._reload = stage, settings, reload
        self._folder = os.path.join(settings.state, stage.name)
        self._ownership = Ownership(self._folder)
        self._ledger = KeptReader(settings.state)
        self._wakeup = Wakeup()
        self._signals = Signals(self._wakeup.set)
        self._selector = selectors.DefaultSelector()
        self._selector.register(self._wakeup.reader, selectors.EVENT_READ)
        self._consumers: tuple[str, ...] = tuple(getattr(stage, "consumers", (stage.name,)))
        table = metric_rows.rows(stage.name, stage.rows, self._consumers)
        self._metrics = Exposition(table, {"build_info": build_labels()})
        count_into(self._metrics.log_record)
        self._tools = Tools(stage.name, self._folder, Events(phi=False), self._metrics, self._wakeup)
        self._live = SnapshotFile(self._folder)
        self._started = instant(time.time_ns())
        self._live_fault = self._fault = ""
        self._state, self._checks = "standby", Checks()
        self._heartbeat = time.monotonic()
        self._next_tick = 0.0
        routes = {"/metrics": self._page, "/healthz": self._healthz, "/readyz": self._readyz}
        http, access = settings.http, settings.access
        self._server = Server(http, routes, log_failed_page, slow=pages or {}, access=access) if http != "off" else None

    def run(self, until: Callable[[], bool] | None = None) -> int:
        """Wait until this process is the owner, work, and drain at a signal. Return 0 after a clean stop, 1 after a
        second signal. With `until` (the word once) work until that is True; raise StageOwned where another process is
        the owner.
        """
        self._until = until or (lambda: False)
        if until and not self._ownership.take():
            self._close()
            raise StageOwned(self._stage.name)
        try:
            if self._server:
                self._server.start()
            self._tell("started", version=listener.__version__, http=self._server.address if self._server else "off")
            if self._wait_for_ownership():
                self._work()
            self._tell("stopped")
            return 1 if self._signals.count > 1 else 0
        finally:
            self._close()

    def _wait_for_ownership(self) -> bool:
        """Return whether this process is the owner; False at a signal before that."""
        told = False
        while not self._signals.count and not self._ownership.take():
            if not told:
                log.info(
                    "another process is the %s of this collection; this one waits, and takes over", self._stage.name
                )
                told = True
            self._tick(time.monotonic())
            self._wait(_TICK / 2)
        return self._ownership.is_held

    def _work(self) -> None:
        for descriptor in self._stage.begin(self._tools):
            self._selector.register(descriptor, selectors.EVENT_READ)
        try:
            self._state = "not-ready"
            while not self._signals.count and not self._until():
                self._turn()
            self._drain()
        finally:
            self._stage.end()

    def _turn(self) -> None:
        """Let the stage do what is due, tell once a second how it stands, and wait."""
        if self._signals.asks_reload:
            self._signals.asks_reload = False
            if self._reload:
                self._reload()
        now = time.monotonic()
        due = self._stage_turn(now)
        if now >= self._next_tick:
            self._tick(now)
        self._wait(min(due, self._next_tick, now + _TURN) - time.monotonic())

    def _stage_turn(self, now: float) -> float:
        try:
            due = self._stage.turn(now)
        except LedgerFault as fault:
            if not self._fault:
                log.error("the stage %s waits: %s", self._stage.name, fault)
            self._fault = str(fault)
            return now + _LEDGER_RETRY
        if self._fault:
            log.info("the stage %s goes on", self._stage.name)
        self._fault = ""
        return due

    def _drain(self) -> None:
        end = time.monotonic() + self._settings.drain
        self._state = "draining"
        self._tell("draining")
        self._tick(time.monotonic())
        while not self._stage.drain() and self._signals.count < 2 and time.monotonic() < end:
            self._turn()

    def _wait(self, seconds: float) -> None:
        self._selector.select(max(0.0, seconds))
        self._wakeup.clear()

    def _tell(self, event: str, **more: Any) -> None:
        self._tools.events.service(event, time.time_ns(), **more)

    # -- once a second -------------------------------------------------------------------------------------------------

    def _tick(self, now: float) -> None:
        self._next_tick, self._heartbeat = now + _TICK, now
        owner = self._ownership.is_held
        self._checks = self._conditions(owner)
        ready, body = self._readiness(now)
        if owner and self._state != "draining":
            if ready and self._state != "ready":
                self._tell("ready")
            elif self._state == "ready" and not ready:
                log.warning("%s", in_one_line(body))
            self._state = body["status"]
        name = self._stage.name
        for row, value in (("is_owner", owner), ("ready", ready), ("heartbeat_timestamp_seconds", time.time())):
            self._metrics.set(f"consumer_{row}", float(value), name)
        if self._server:
            for visit in self._server.access.visits.take():
                self._tell("access", **visit)
        self._tools.events.flush()
        if owner:
            self._count_deliveries()
            self._write_live(body)

    def _count_deliveries(self) -> None:
        with contextlib.suppress(LedgerFault):
            for row in self._ledger.ask(lambda reader: reader.consumers()):
                if row.name in self._consumers:
                    self._metrics.set("consumer_pending_deliveries", row.pending, row.name)
                    self._metrics.set("consumer_failed_deliveries", row.failed, row.name)
                    self._metrics.set("consumer_oldest_pending_timestamp_seconds", row.oldest_ns / 1e9, row.name)

    def _conditions(self, owner: bool) -> Checks:
        if not owner:
            return {"owner": (False, "another process works on this collection: this one takes over when it ends")}
        draining = self._state == "draining"
        return {
            **self._stage.checks(),
            "following": (not self._fault, self._fault or "the ledger can be used"),
            "draining": (not draining, "the stage is stopping: wait for its successor" if draining else "taking work"),
        }

    def _write_live(self, body: Mapping[str, Any]) -> None:
        now_ns = time.time_ns()
        about = {"time": instant(now_ns), "time_ns": now_ns, "started": self._started, "pid": os.getpid()}
        about |= {"host": os.uname().nodename, "version": listener.__version__}
        try:
            self._live.write({**about, "state": self._state, "checks": body["checks"], **self._stage.shown()})
            self._live_fault = ""
        except OSError as error:  # Nothing depends on it.
            if not self._live_fault:
                log.warning("%s/live cannot be written: %s", self._stage.name, error.strerror)
            self._live_fault = str(error)

    # -- read by the HTTP thread: what they use is replaced as a whole -------------------------------------------------

    def _readiness(self, now: float) -> tuple[bool, dict[str, Any]]:
        return verdict({"loop": loop_turns(self._heartbeat, now), **self._checks}, "ready", "not-ready")

    def _page(self, _request: Request) -> Response:
        return Response(200, CONTENT_TYPE, self._metrics.exposition())

    def _healthz(self, _request: Request) -> Response:
        fine, body = verdict({"loop": loop_turns(self._heartbeat, time.monotonic())}, "alive", "stuck")
        return Response.json(200 if fine else 503, body)

    def _readyz(self, _request: Request) -> Response:
        fine, body = self._readiness(time.monotonic())
        return Response.json(200 if fine else 503, body)

    def _close(self) -> None:
        if self._server:
            self._server.stop()
        if self._ownership.is_held:
            self._state = "stopped"
            self._write_live({"checks": {}})
        self._live.close()
        self._ledger.close()
        self._ownership.close()
        self._selector.close()
        self._signals.restore()
        self._wakeup.close()
