"""`listener run`: the composition root. One loop, which watches, sweeps, hands out work, and says how it is.

Order at the start: own incoming, find out what works where, do claims again, start workers, start the watch, and only
then the first sweep, so that nothing can fall between sweep and watch.
"""

from __future__ import annotations

import platform
import selectors
import time

import listener
from listener.config import Config
from listener.cpu import request_short_slices
from listener.diagnostics import count_into, log
from listener.disk.directories import Directories, prepare, remove_leftovers
from listener.disk.retry import retry_while_transient
from listener.hooks.dispatch import HookManager
from listener.ledger.thread import LedgerThread
from listener.service.engine import Engine
from listener.service.flow import FlowMeter
from listener.service.lock import IncomingLock
from listener.service.monitor import Monitor, server_of
from listener.service.other_listeners import OtherListeners
from listener.service.probes import lease_supported, revision
from listener.service.recorder import Recorder
from listener.service.rescan import Rescan, RescanResult, Troubles
from listener.service.reviser import Reviser
from listener.service.wakeup import Signals, Wakeup, leaving_at_once
from listener.service.watch import Watch, rest_for
from listener.telemetry.events import Events
from listener.telemetry.metrics import Metrics


def metrics_of(config: Config) -> Metrics:
    """All at zero; diagnostics are counted from now on."""
    metrics = Metrics(
        {"version": listener.__version__, "revision": revision(), "python": platform.python_version()},
        {
            "layout": config.layout,
            "fsync": config.fsync,
            "on_conflict": config.on_conflict,
            "keep_source": str(config.keep_source).lower(),
            "poll": str(config.poll).lower(),
        },
    )
    count_into(metrics.log_record)
    return metrics


_BEAT = 1.0  # The loop comes round at least so often, in seconds.
#: How long the draining loop waits at most before it looks whether it may go on, in seconds.
_SOON = 0.2
#: What workers hold when --drain is over gets this long to end, in seconds; then it stays claimed for the next start.
_GRACE = 2.0
#: Corrected series get so long to be brought in line at the end, in seconds.
_REVISE = 5.0


class Service:
    """Everything that runs, and the loop."""

    def __init__(self, config: Config, directories: Directories) -> None:
        self._config = config
        self._owner = IncomingLock(config.incoming)
        remove_leftovers(directories)
        self._bell = Wakeup()
        self._signals = Signals(self._bell.set)
        self._events = Events(config.phi)
        self._metrics = metrics_of(config)
        self._hooks = HookManager(config, retires=True)
        others = OtherListeners()
        self._keeper = LedgerThread(config, self._bell.set, consumers=self._hooks.names, is_worked_on=others.work_on)
        self._recorder = Recorder(self._metrics, self._events, self._keeper, directories.set_aside)
        self._reviser = Reviser(config, directories, self._bell.set, self._owner.descriptors)
        self._keeper.revise = self._reviser.offer
        self._engine = Engine(config, directories, self._recorder, self._owner.descriptors)
        selector, rest = self._engine.selector, rest_for(config.fsync)
        selector.register(self._bell.reader, selectors.EVENT_READ, self._bell.clear)
        self._watch = Watch(config.incoming, selector, self._take_events, polling=config.poll, rest=rest)
        self._vitals = Monitor(config, directories, self._engine, self._watch, self._metrics)
        self._server = server_of(config, self._vitals)
        self._leases = lease_supported(directories.claims)
        self._troubles = Troubles(config.incoming, phi=config.phi)
        self._sweeper = Rescan(config.incoming, self._engine, config.rescan)
        self._flow = FlowMeter(self._engine, self._sweeper, self._watch, 0.0 if self._leases else config.settle)
        self._next_beat = 0.0
        self._is_told_ready = False

    def run(self) -> int:
        """Serve until a signal; 0 after a clean stop, 1 after a second signal."""
        try:
            self._start()
            while not self._signals.count:
                self._turn()
            return self._drain()
        finally:
            self._close()

    def _start(self) -> None:
        if self._server:
            self._server.start()
        told = {"version": listener.__version__, "workers": self._config.workers, "http": self._address}
        self._events.service("started", time.time_ns(), **told)
        self._keeper.start()
        self._hooks.start()
        self._metrics.set("lease_supported", int(self._leases))
        if not self._leases:
            settle = self._config.settle
            log.warning("no leases here: files must be untouched for --settle %g s before they are taken", settle)
        requeued = self._engine.intake.requeue_claims()
        if requeued:
            log.info("%d files that an earlier run had begun are done again", requeued)
        self._watch.ensure()
        self._beat(time.monotonic())

    # -- the loop --------------------------------------------------------------------------------------------------

    def _turn(self) -> None:
        """Once round: wait for workers, events, signals or a deadline; take results, offer arrivals, hand out work."""
        self._wait(
            0.0 if self._sweeper.busy or self._recorder.counting else max(0.0, self._wake_at() - time.monotonic())
        )
        self._recorder.tell_ended()
        self._recorder.revised(self._reviser.take())
        self._recorder.count_on()
        now = time.monotonic()
        if self._watch.opens is not None and now >= self._watch.opens:
            self._take_events()
        self._sweep_on(now)
        self._engine.dispatch(now)
        if now >= self._next_beat:
            self._beat(now)

    def _wait(self, timeout: float) -> None:
        for key in self._engine.turn(timeout):
            key.data()

    def _wake_at(self) -> float:
        moments = [self._next_beat, self._engine.next_wake(), self._watch.opens]
        if not self._sweeper.under_way:
            moments.append(self._sweeper.next)
        return min(moment for moment in moments if moment is not None)

    def _beat(self, now: float) -> None:
        self._next_beat = now + _BEAT
        self._recorder.count_set_aside(now)
        self._vitals.ledger = self._recorder.show_ledger()
        self._events.flush()
        self._vitals.tick(now)
        self._keeper.flow = self._flow.measure(now, sees=self._vitals.sees_incoming)

    def _take_events(self) -> None:
        paths = self._watch.take(time.monotonic())
        for path in paths:
            root = self._watch.root_of(path)
            if root >= 0:
                self._engine.intake.offer(path, root, "event")
        if paths:
            self._metrics.set("last_event_timestamp_seconds", time.time())

    def _sweep_on(self, now: float) -> None:
        if self._watch.overflowed:
            self._tell_overflow()
            self._flow.missed(now)
            self._sweeper.next = now
        if self._sweeper.due(now):
            self._owner.renew()
            self._watch.ensure()
            self._sweeper.begin(now)
        swept = self._sweeper.step(now)
        if swept:
            self._tell_swept(swept)
        if not self._vitals.scanned and self._sweeper.looked and self._engine.pool.is_warm:
            self._vitals.scanned = True
            self._beat(now)
            if not self._vitals.is_ready:
                log.warning("%s; %s", self._vitals.verdict, self._pages())
        if not self._is_told_ready and self._vitals.scanned and self._vitals.is_ready:
            self._tell_ready()

    def _tell_overflow(self) -> None:
        self._watch.overflowed = False
        self._metrics.add("fs_event_queue_overflows_total", 1)
        self._events.service("overflow", time.time_ns())
        log.warning("the queue of file system events overflowed; a sweep finds what was missed")

    def _tell_swept(self, swept: RescanResult) -> None:
        self._metrics.swept(swept.seconds, time.time())
        self._vitals.directories = swept.directories
        for trouble in self._troubles.news(swept.troubles):
            log.error("a directory cannot be swept, %s", trouble)

    def _tell_ready(self) -> None:
        """Once, when everything is as it must be for the first time: not while /readyz says that it is not."""
        self._is_told_ready = True
        self._events.service("ready", time.time_ns(), http=self._address)
        how = "by sweeps alone" if self._watch.polling else "by events and sweeps"
        log.info("ready: files are found %s; %s", how, self._pages())

    @property
    def _address(self) -> str:
        return self._server.address if self._server else "off"

    def _pages(self) -> str:
        return f"metrics, /healthz and /readyz at http://{self._address}" if self._server else "--http is off"

    # -- the end ---------------------------------------------------------------------------------------------------

    def _drain(self) -> int:
        """A last sweep, what workers hold, and as much of the backlog as --drain allows."""
        end = time.monotonic() + self._config.drain
        backlog, engine = self._engine.backlog, self._engine
        self._vitals.draining = True
        self._events.service("draining", time.time_ns(), backlog=backlog.depth)
        self._beat(time.monotonic())
        self._watch.stop()
        self._last_sweep(end)
        # Below --min-free, or while the system refuses, waiting for the queue would only delay the stop.
        while ((engine.flows and backlog.queued) or backlog.working) and self._may_go_on(end):
            self._wait(min(_SOON, max(0.0, end - time.monotonic())))
        engine.paused = True
        while backlog.working and self._may_go_on(end + _GRACE):
            self._wait(_SOON)
        self._events.service("stopped", time.time_ns(), left=backlog.depth)
        log.info("stopped; %d files are left, in incoming or claimed, for the next start", backlog.depth)
        return 1 if self._signals.count > 1 else 0

    def _last_sweep(self, end: float) -> None:
        self._sweeper.begin(time.monotonic())
        while self._sweeper.under_way and self._may_go_on(end):
            self._sweeper.step(time.monotonic())
            self._wait(0 if self._sweeper.busy or not self._sweeper.under_way else _SOON)

    def _may_go_on(self, end: float) -> bool:
        return self._signals.count < 2 and time.monotonic() < end

    def _settle(self) -> None:
        """What was corrected last is brought in line, now that no worker works."""
        self._reviser.finish(_REVISE)
        self._recorder.revised(self._reviser.take())

    def _close(self) -> None:
        self._watch.close()
        if self._server:
            self._server.stop()
        self._engine.close(at_once=self._signals.count > 1)
        self._keeper.close(self._recorder.announce, self._settle)
        self._hooks.stop()
        self._vitals.close()
        self._owner.close()
        self._signals.restore()
        self._bell.close()


def run(config: Config) -> int:
    """The whole service; the exit status."""
    request_short_slices()
    # A volume that is full at the start is waited for: a crash loop would tell less and mend nothing.
    with leaving_at_once():
        directories = retry_while_transient(lambda: prepare(config), log.error)
    return Service(config, directories).run()
