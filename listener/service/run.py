"""`listener run`: builds the service and runs its loop.

Order at the start: lock incoming, probe the directories, requeue claims, start workers, start the watch, and only then
begin the first rescan, so that no file can come unseen between the two.
"""

from __future__ import annotations

import math
import selectors
import time
from collections.abc import Callable
from dataclasses import replace
from threading import Thread

import listener
from listener.config import Config
from listener.cpu import request_short_slices
from listener.diagnostics import count_into, log
from listener.disk import leases
from listener.disk.directories import Directories, prepare, remove_leftovers
from listener.disk.retry import retry_while_transient
from listener.errors import ConfigError
from listener.hooks.dispatch import HookManager, configured_hooks
from listener.ledger.thread import LedgerThread
from listener.service import standby
from listener.service.batch_lane import BatchLane
from listener.service.disk_guard import DiskGuard
from listener.service.engine import Engine
from listener.service.flow import FlowMeter
from listener.service.lock import IncomingLock
from listener.service.monitor import Monitor, ServiceState, server_of
from listener.service.other_listeners import OtherListeners
from listener.service.recorder import Recorder
from listener.service.reload import reloaded
from listener.service.rescan import Rescan, RescanResult, Troubles
from listener.service.revision_thread import RevisionThread
from listener.service.standby import TakenOver
from listener.service.watch import Watch, rest_for
from listener.telemetry.events import Events
from listener.telemetry.metrics import Metrics, build_labels
from listener.wakeup import Signals, Wakeup, leaving_at_once


def metrics_of(config: Config) -> Metrics:
    """Return the metrics, all at zero, and count diagnostics in them from now on."""
    metrics = Metrics(
        build_labels(),
        {
            "layout": config.layout,
            "fsync": config.fsync,
            "on_conflict": config.on_conflict,
            "keep_source": str(config.keep_source).lower(),
            "poll": str(config.poll).lower(),
        },
        config.watch_sender,
    )
    count_into(metrics.log_record)
    return metrics


#: Interval of what is done once in a while, in seconds: disks, health, snapshot.
_TICK = 1.0
#: Interval of events that tell who looked at the page, in seconds.
_VISITS = 60.0
#: Longest wait of the draining loop before it checks again whether it may go on, in seconds.
_SOON = 0.2
#: Time that workers get after --drain to finish what they hold, in seconds; then it stays claimed for the next start.
_GRACE = 2.0
#: Time that corrected series get at the end to be revised, in seconds.
_REVISE = 5.0

#: Why the engine is paused.
_DISK, _STOPPING = "disk", "stopping"


def _cover_all(directories: Directories) -> bool:
    """Return whether leases show who has a file open. On a network file system they do not cover other machines."""
    claims = filter(None, directories.claims)
    return all(not directories.is_network(path) and leases.work_in(path) for path in claims)


class Service:
    """Owns all parts, and runs the loop."""

    def __init__(
        self,
        config: Config,
        directories: Directories,
        read_again: Callable[[], Config],
        taken: TakenOver | None = None,
    ) -> None:
        self._config = config
        self._read_again = read_again
        self._taken = taken or TakenOver(IncomingLock(config.roots), server_of(config))
        self._lock = self._taken.lock
        remove_leftovers(directories)
        self._wakeup = Wakeup()
        self._signals = Signals(self._wakeup.set)
        self._events = Events(config.phi, which=config.events)
        self._metrics = metrics_of(config)
        self._hooks = HookManager(config, retires=True)
        self._metrics.name_hooks(self._hooks.wants)
        others = OtherListeners()
        self._ledger = LedgerThread(config, self._wakeup.set, consumers=self._hooks.wants, is_worked_on=others.work_on)
        parts = (self._metrics, self._events, self._ledger, directories.set_aside)
        self._recorder = Recorder(*parts, watches_senders=bool(config.watch_sender))
        self._revisions = RevisionThread(config, directories, self._wakeup.set, self._lock.descriptors)
        self._ledger.revise = self._revisions.offer
        self._engine, self._lane = self._ways_in(config, directories)
        self._engines = (self._engine, *self._lane.engines)
        selector, rest = self._engine.selector, rest_for(config.fsync)
        selector.register(self._wakeup.reader, selectors.EVENT_READ, self._wakeup.clear)
        self._watch = Watch(config.incoming, selector, self._take_events, polling=config.poll, rest=rest)
        self._guard = DiskGuard(directories, self._engine.volumes, config.min_free)
        self._monitor = Monitor(config, self._engines, self._guard, self._watch, self._metrics)
        self._state = ServiceState(directories=len(config.incoming))
        self._server = self._taken.server
        self._leases = _cover_all(directories)
        self._troubles = Troubles(config.incoming, phi=config.phi)
        self._rescan = Rescan(config.incoming, self._engine, config.rescan)
        self._flow_meter = FlowMeter(self._engine, self._rescan, self._watch, 0.0 if self._leases else config.settle)
        self._next_tick = 0.0
        self._next_visits = 0.0
        self._announced_ready = False

    def _ways_in(self, config: Config, directories: Directories) -> tuple[Engine, BatchLane]:
        """Return the engine of incoming, without workers where there is none, and the way of batches."""
        of_incoming = config if config.incoming else replace(config, workers=0)
        engine = Engine(of_incoming, directories, self._recorder, self._lock.descriptors)
        lane = BatchLane(config, self._recorder, self._ledger, self._wakeup.set)
        lane.open(directories, self._lock.descriptors)
        return engine, lane

    def run(self) -> int:
        """Serve until a signal; return 0 after a clean stop, 1 after a second signal."""
        try:
            self._start()
            while not self._signals.count:
                self._turn()
                if self._signals.asks_reload:
                    self._signals.asks_reload = False
                    self._reload()
            return self._drain()
        finally:
            self._close()

    def _start(self) -> None:
        if self._server:
            self._monitor.serve_on(self._server)
            if not self._server.alive:
                self._server.start()
        fields = {"version": listener.__version__, "workers": self._config.workers, "http": self._address}
        self._events.service("started", time.time_ns(), **fields)
        self._ledger.start()
        self._hooks.start()
        self._metrics.set("lease_supported", int(self._leases))
        if not self._leases:
            settle = self._config.settle
            log.warning("no leases here: files must be untouched for --settle %g s before they are taken", settle)
        requeued = self._engine.intake.requeue_claims()
        if self._taken.waited:
            self._signals.asks_reload |= self._taken.asks_reload
            self._events.service("took-over", time.time_ns(), **self._taken.told(), claims=requeued)
        if requeued:
            log.info("%d files that an earlier run had begun are done again", requeued)
        self._watch.ensure()
        self._lane.start(self._engine.selector)
        self._tick(time.monotonic())

    # -- the loop --------------------------------------------------------------------------------------------------

    def _turn(self) -> None:
        """Wait for workers, events, signals or a deadline; take results, offer arrivals, hand out work."""
        is_busy = self._rescan.busy or self._recorder.counting
        self._engine.turn(0.0 if is_busy else max(0.0, self._wake_at() - time.monotonic()))
        self._recorder.announce_ended()
        self._recorder.revised(self._revisions.take())
        self._recorder.count_on()
        now = time.monotonic()
        if now >= self._next_tick:
            self._tick(now)
        # What these two offer is handed out as the next turn begins.
        if self._watch.opens is not None and now >= self._watch.opens:
            self._take_events()
        self._step_rescan(now)
        self._lane.turn(now, self._engine.intake.came)

    def _wake_at(self) -> float:
        moments = [self._next_tick, self._engine.next_wake(), self._watch.opens, self._lane.next_wake()]
        if not self._rescan.under_way:
            moments.append(self._rescan.next)
        return min(moment for moment in moments if moment is not None)

    def _tick(self, now: float) -> None:
        self._next_tick = now + _TICK
        self._recorder.count_set_aside(now)
        self._state = self._state._replace(ledger=self._recorder.show_ledger())
        self._events.flush()
        self._tell_visits(now)
        disk = self._guard.look(now)
        for engine in self._engines:
            (engine.resume if disk.may_work else engine.pause)(_DISK)
        self._lane.tick()
        self._monitor.tick(self._state, now)
        sees, coming = disk.writable["incoming"], self._lane.open_series()
        self._ledger.flow = self._flow_meter.measure(now, sees=sees, coming=coming)

    def _tell_visits(self, now: float) -> None:
        """Write who looked at the page and its API, once a minute."""
        if self._server and now >= self._next_visits:
            self._next_visits = now + _VISITS
            for visit in self._server.access.visits.take():
                self._events.service("access", time.time_ns(), **visit)

    def _take_events(self) -> None:
        paths = self._watch.take(time.monotonic())
        for path in paths:
            root = self._watch.root_of(path)
            if root >= 0:
                self._engine.intake.offer(path, root, "event")
        if paths:
            self._metrics.set("last_event_timestamp_seconds", time.time())

    def _step_rescan(self, now: float) -> None:
        if self._watch.take_overflow():
            self._report_overflow()
            self._flow_meter.missed(now)
            self._rescan.request(now)
        if self._rescan.due(now):
            self._lock.renew()
            self._watch.ensure()
            self._rescan.begin(now)
        result = self._rescan.step(now)
        if result:
            self._report_rescan(result)
        if not self._state.scanned and self._rescan.looked and all(engine.pool.is_warm for engine in self._engines):
            self._state = self._state._replace(scanned=True)
            self._tick(now)
            if not self._monitor.is_ready:
                log.warning("%s; %s", self._monitor.verdict, self._pages())
        if not self._announced_ready and self._state.scanned and self._monitor.is_ready:
            self._announce_ready()

    def _report_overflow(self) -> None:
        self._metrics.add("fs_event_queue_overflows_total", 1)
        self._events.service("overflow", time.time_ns())
        log.warning("the queue of file system events overflowed; a rescan finds what was missed")

    def _report_rescan(self, result: RescanResult) -> None:
        self._metrics.rescanned(result.seconds, time.time())
        self._state = self._state._replace(directories=result.directories)
        for trouble in self._troubles.news(result.troubles):
            log.error("a directory cannot be scanned, %s", trouble)

    def _announce_ready(self) -> None:
        """Announce once that the service is ready, which is when /readyz first says so."""
        self._announced_ready = True
        self._events.service("ready", time.time_ns(), http=self._address)
        how = "by rescans alone" if self._watch.polling else "by events and rescans"
        log.info("ready: files are found %s; %s", how, self._pages())

    @property
    def _address(self) -> str:
        return self._server.address if self._server else "off"

    def _pages(self) -> str:
        return f"metrics, /healthz and /readyz at {self._server.url}" if self._server else "--http is off"

    # -- another configuration ---------------------------------------------------------------------------------------

    def _reload(self) -> None:
        """Read the configuration again: what can change does, the rest is named; a wrong one changes nothing."""
        try:
            again = reloaded(self._config, self._read_again())
        except ConfigError as error:
            for problem in error.problems:
                log.error("the configuration was read again, and is refused: %s", problem)
            self._events.service("reload-refused", time.time_ns(), problems=len(error.problems))
            return
        self._follow(again.config)
        # With the level and the events that hold now.
        self._events.service("reloaded", time.time_ns(), changed=again.changed, waiting=again.waiting)
        log.info("the configuration was read again: %s", ", ".join(again.changed) or "nothing has changed in place")
        if again.waiting:
            log.warning("restart for what cannot change in place: %s", ", ".join(again.waiting))

    def _follow(self, config: Config) -> None:
        before, self._config = self._config, config
        log.setLevel(config.log_level.upper())
        self._events.which = config.events
        self._guard.min_free = config.min_free
        self._monitor.ready_backlog = config.ready_backlog
        self._rescan.interval = config.rescan
        self._rescan.next = min(self._rescan.next, time.monotonic() + config.rescan)
        wants = {hook.name: hook.wants for hook in configured_hooks(config)}
        self._ledger.follow(config, wants)
        if self._server:
            self._server.access.change(config.token_file)
        if before.every_hook != config.every_hook:
            self._metrics.name_hooks(wants)
            # It waits for the ledger, as the loop must not.
            Thread(target=self._hooks.change, args=(lambda: self._config,), name="listener-hooks", daemon=True).start()

    # -- the end ---------------------------------------------------------------------------------------------------

    def _drain(self) -> int:
        """Rescan once more, finish what workers hold and as much of the backlog as --drain allows; return the exit
        status.
        """
        end = time.monotonic() + self._config.drain
        backlog, engine = self._engine.backlog, self._engine
        self._state = self._state._replace(draining=True)
        self._events.service("draining", time.time_ns(), backlog=backlog.depth)
        self._tick(time.monotonic())
        self._watch.stop()
        self._lane.stop()
        self._last_rescan(end)
        # Below --min-free, or while the system refuses, waiting for the queue would only delay the stop.
        while ((engine.flows and backlog.queued) or backlog.working) and self._may_go_on(end):
            engine.turn(min(_SOON, max(0.0, end - time.monotonic())))
        engine.pause(_STOPPING)
        while (backlog.working or self._lane.working) and self._may_go_on(end + _GRACE):
            engine.turn(_SOON)
            self._lane.turn(time.monotonic(), self._engine.intake.came)
        self._tell_visits(math.inf)
        self._events.service("stopped", time.time_ns(), left=backlog.depth)
        log.info("stopped; %d files are left, in incoming or claimed, for the next start", backlog.depth)
        return 1 if self._signals.count > 1 else 0

    def _last_rescan(self, end: float) -> None:
        self._rescan.begin(time.monotonic())
        while self._rescan.under_way and self._may_go_on(end):
            self._rescan.step(time.monotonic())
            self._engine.turn(0 if self._rescan.busy or not self._rescan.under_way else _SOON)

    def _may_go_on(self, end: float) -> bool:
        return self._signals.count < 2 and time.monotonic() < end

    def _finish_revisions(self) -> None:
        """Revise what was corrected last, now that no worker works."""
        self._revisions.finish(_REVISE)
        self._recorder.revised(self._revisions.take())

    def _close(self) -> None:
        self._watch.close()
        if self._server:
            self._server.stop()
        self._lane.close(at_once=self._signals.count > 1)
        self._engine.close(at_once=self._signals.count > 1)
        self._ledger.close(self._recorder.announce, self._finish_revisions)
        self._hooks.stop()
        self._monitor.close()
        self._lock.close()
        self._signals.restore()
        self._wakeup.close()


def run(config: Config, read_again: Callable[[], Config]) -> int:
    """Run the service and return the exit status. `read_again` reads the configuration once more, and may raise
    ConfigError.
    """
    request_short_slices()
    directories = _prepared(config)
    if not config.standby:
        return Service(config, directories, read_again).run()
    taken = standby.wait(config)
    # What was mounted while it waited may be another volume.
    return Service(config, _prepared(config), read_again, taken).run() if taken else 0


def _prepared(config: Config) -> Directories:
    # A volume that is full at the start is waited for: a crash loop would say less and mend nothing.
    with leaving_at_once():
        return retry_while_transient(lambda: prepare(config), log.error)
