"""`listener run`: the composition root. One loop, which watches, sweeps, hands out work, and says how it is.

Order at the start: own incoming, find out what works where, do claims again, start workers, start the watch, and only then the
first sweep, so that nothing can fall between sweep and watch. Signal handlers only leave a note for the loop.
"""

from __future__ import annotations

import os
import selectors
import signal
import time
from collections.abc import Iterator, Sequence
from types import FrameType

import listener
from listener import setaside
from listener.config import Config
from listener.diagnostics import count_into, log
from listener.directories import Directories, prepare
from listener.engine import Engine
from listener.errors import SET_ASIDE_REASONS
from listener.events import Events
from listener.health import Conditions, liveness, readiness
from listener.metrics import CONTENT_TYPE, Metrics
from listener.owner import Owner
from listener.pool import Lost
from listener.probes import lease_supported, revision
from listener.records import Deferral, Outcome
from listener.watch import Inbox, Watch, walk
from listener.web import Request, Response, Server

#: Paths of a sweep that are looked at before the loop serves workers again.
_SLICE = 500

#: The loop comes round at least so often, in seconds.
_BEAT = 1.0


class Signals:
    """SIGTERM, SIGINT, SIGHUP: the first asks to drain, the second to stop at once."""

    def __init__(self, inbox: Inbox) -> None:
        self._inbox = inbox
        self.count = 0
        self._before = {
            number: signal.signal(number, self._note) for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)
        }
        # A lease that somebody breaks announces itself by SIGIO, whose default is to kill.
        self._before[signal.SIGIO] = signal.signal(signal.SIGIO, signal.SIG_IGN)

    def _note(self, number: int, frame: FrameType | None) -> None:
        self.count += 1
        self._inbox.wake()

    def restore(self) -> None:
        """Put the former handlers back."""
        for number, handler in self._before.items():
            signal.signal(number, handler)


class Recorder:
    """Hears the engine: one outcome feeds events and metrics alike."""

    def __init__(self, metrics: Metrics, events: Events) -> None:
        self._metrics = metrics
        self._events = events
        self.last_reasons: set[str] = set()

    def discovered(self, source: str) -> None:
        """A file entered."""
        self._metrics.discovered(source)

    def finished(self, outcomes: Sequence[Outcome]) -> None:
        """Files are done."""
        self._events.outcomes(outcomes)
        self._metrics.record_many(outcomes)
        self.last_reasons.update(outcome.reason or "superseded" for outcome in outcomes if outcome.reason or outcome.superseded)

    def deferred(self, deferral: Deferral) -> None:
        """A file must wait."""
        self._metrics.deferred(deferral)

    def lost(self, lost: Lost) -> None:
        """A worker died and was replaced."""
        self._metrics.add("worker_restarts_total", 1, lost.reason)
        self._events.service("worker-lost", time.time_ns(), reason=lost.reason, held=len(lost.held))
        log.error("a worker was lost (%s); its %d files are done again", lost.text, len(lost.held))


class Sweep:
    """One pass over all incoming directories, in slices; what does not fit the backlog is counted."""

    def __init__(self, roots: tuple[str, ...], engine: Engine, source: str) -> None:
        self._engine = engine
        self._source = source
        self._begun = time.monotonic()
        self._paths = self._walk(roots)
        self.beyond = 0
        self.troubles: list[OSError] = []

    def _walk(self, roots: tuple[str, ...]) -> Iterator[tuple[int, str]]:
        for root, directory in enumerate(roots):
            for path in walk(directory, self.troubles.append):
                yield root, path

    def slice(self) -> bool:
        """Offer the next paths; whether the sweep is complete."""
        backlog = self._engine.backlog
        for _ in range(_SLICE):
            found = next(self._paths, None)
            if found is None:
                return True
            root, path = found
            if backlog.full:
                self.beyond += not backlog.holds(path)
            elif not backlog.holds(path):
                self._engine.offer(path, root, self._source)
        return False

    @property
    def seconds(self) -> float:
        """How long it has taken."""
        return time.monotonic() - self._begun


class Service:
    """Everything that runs, and the loop."""

    def __init__(self, config: Config) -> None:
        self._config = config
        self._directories: Directories = prepare(config)
        self._owner = Owner(config.incoming)
        self._inbox = Inbox()
        self._signals = Signals(self._inbox)
        self._events = Events(config.phi)
        self._metrics = Metrics(
            {"version": listener.__version__, "revision": revision(), "python": _python()},
            {"layout": config.layout, "fsync": config.fsync, "on_conflict": config.on_conflict},
        )
        count_into(self._metrics.log_record)
        self._recorder = Recorder(self._metrics, self._events)
        self._engine = Engine(config, self._directories, self._recorder, self._owner.descriptors)
        self._engine.selector.register(self._inbox.reader, selectors.EVENT_READ, self._inbox)
        self._watch = Watch(config.incoming, self._inbox)
        self._server: Server | None = None
        self._sweep: Sweep | None = None
        self._next_sweep = 0.0
        self._next_beat = 0.0
        self._scanned = False
        self._polling = config.poll
        self._conditions = Conditions(heartbeat=time.monotonic(), backlog_limit=config.ready_backlog)
        self._space_ok = True

    # -- the story -------------------------------------------------------------------------------------------------

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
        self._events.service("started", time.time_ns(), version=listener.__version__, workers=self._config.workers)
        self._metrics.set("lease_supported", self._find_lease())
        requeued = self._engine.requeue_claims()
        if requeued:
            log.info("%d files that an earlier run had begun are done again", requeued)
        self._start_watch()
        self._beat(time.monotonic())
        if self._config.http != "off":
            self._server = Server(self._config.http, self._routes(), self._route_failed)
            self._server.start()
        self._sweep = Sweep(self._config.incoming, self._engine, "startup")

    def _find_lease(self) -> int:
        supported = lease_supported(self._directories.claims)
        if not supported:
            log.warning(
                "the kernel cannot say here whether a file is still open for writing (no leases); "
                "files must be untouched for --settle %g seconds",
                self._config.settle,
            )
        return int(supported)

    def _start_watch(self) -> None:
        if self._config.poll:
            return
        problem = self._watch.start()
        self._polling = bool(problem)
        if problem:
            log.warning("%s", problem)

    def _turn(self) -> None:
        now = time.monotonic()
        timeout = 0.0 if self._sweep else max(0.0, self._wake_at() - now)
        for key in self._engine.turn(timeout):
            if key.data is self._inbox:
                self._take_events()
        now = time.monotonic()
        self._sweep_on(now)
        self._engine.dispatch(now)
        if now >= self._next_beat:
            self._beat(now)

    def _wake_at(self) -> float:
        moments = [self._next_beat, self._next_sweep]
        due = self._engine.next_wake()
        return min(moments if due is None else [*moments, due])

    def _take_events(self) -> None:
        paths = self._inbox.drain()
        for path in paths:
            root = self._root_of(path)
            if root >= 0:
                self._engine.offer(path, root, "event")
        if paths:
            self._metrics.set("last_event_timestamp_seconds", time.time())

    def _root_of(self, path: str) -> int:
        for index, root in enumerate(self._config.incoming):
            if path.startswith(root) and f"{os.sep}.listener{os.sep}" not in path[len(root) :]:
                return index
        return -1

    # -- sweeps ----------------------------------------------------------------------------------------------------

    def _sweep_on(self, now: float) -> None:
        if self._inbox.overflowed:
            self._overflowed()
        if self._sweep is None:
            if now < self._next_sweep:
                return
            self._check_watch()
            self._sweep = Sweep(self._config.incoming, self._engine, "rescan")
        if self._sweep.slice():
            self._swept(self._sweep, now)

    def _overflowed(self) -> None:
        self._inbox.overflowed = False
        self._metrics.add("fs_event_queue_overflows_total", 1)
        self._events.service("overflow", time.time_ns())
        log.warning("the queue of file system events overflowed; a sweep finds what was missed")
        self._next_sweep = 0.0

    def _swept(self, sweep: Sweep, now: float) -> None:
        self._engine.backlog.beyond = sweep.beyond
        self._metrics.swept(sweep.seconds, time.time())
        for trouble in sweep.troubles:
            log.error("a directory below incoming cannot be swept: %s", trouble.strerror)
        # With files beyond the bounded queue the next sweep fetches them as soon as there is room.
        self._next_sweep = now + (min(0.2, self._config.rescan) if sweep.beyond else self._config.rescan)
        self._sweep = None
        if not self._scanned:
            self._scanned = True
            self._beat(now)
            address = self._server.address if self._server else "off"
            self._events.service("ready", time.time_ns(), http=address)
            log.info("ready; metrics, /healthz and /readyz at http://%s", address)

    def _check_watch(self) -> None:
        if self._config.poll or self._watch.alive():
            return
        if not self._polling:
            log.warning("the watch on incoming was lost (its directory was replaced, or a thread ended); watching again")
        self._watch.stop()
        problem = self._watch.start()
        if problem and not self._polling:
            log.warning("%s", problem)
        self._polling = bool(problem)

    # -- how it is -------------------------------------------------------------------------------------------------

    def _beat(self, now: float) -> None:
        """Once a second: gauges, free space, conditions."""
        self._next_beat = now + _BEAT
        backlog, metrics = self._engine.backlog, self._metrics
        metrics.set("heartbeat_timestamp_seconds", time.time())
        metrics.pending(backlog.waiting, backlog.working, backlog.retrying, backlog.bytes, backlog.oldest_ns())
        metrics.set("workers", len(self._engine.pool.workers))
        metrics.set("workers_busy", self._engine.pool.busy)
        alive = self._polling or self._watch.alive()
        metrics.set("watcher_alive", int(alive and not self._polling))
        metrics.set("watcher_polling", int(self._polling))
        metrics.set("watched_directories", 0 if self._polling else len(self._config.incoming))
        self._look_at_volumes()
        self._look_at_set_aside()
        self._conditions = self._find_conditions(now, alive)
        metrics.set("ready", int(readiness(self._conditions, now)[0]))

    def _find_conditions(self, now: float, alive: bool) -> Conditions:
        directories = self._directories
        named = {"incoming": self._config.incoming[0], "data": directories.data, "log": directories.log, "state": directories.state}
        return Conditions(
            heartbeat=now,
            watcher_alive=alive and not self._polling,
            polling=self._polling,
            watching=True,
            scanned=self._scanned,
            writable={role: os.access(path, os.W_OK | os.X_OK) for role, path in named.items()},
            space_ok=self._space_ok,
            refusal=self._engine.refusal,
            backlog=self._engine.backlog.depth,
            backlog_limit=self._config.ready_backlog,
            draining=bool(self._signals.count),
        )

    def _look_at_volumes(self) -> None:
        directories = self._directories
        least = None
        for role, path in (
            ("incoming", self._config.incoming[0]), ("data", directories.data), ("log", directories.log), ("state", directories.state),
        ):
            try:
                found = os.statvfs(path)
            except OSError:
                continue
            self._metrics.volume(role, found)
            free = found.f_bavail * found.f_frsize
            least = free if least is None else min(least, free)
        enough = least is None or least >= self._config.min_free
        if enough != self._space_ok:
            if enough:
                log.info("free space is above --min-free again; work goes on")
            else:
                log.error("free space is below --min-free; no work is taken, every source is kept")
        self._space_ok = enough
        self._engine.paused = not enough

    def _look_at_set_aside(self) -> None:
        # Counted anew only when something was put there by us, and each minute for what a person took away.
        if self._recorder.last_reasons or not self._scanned:
            self._recorder.last_reasons.clear()
            self._metrics.set_aside(setaside.totals(self._directories.set_aside))

    def _routes(self) -> dict[str, object]:
        return {"/metrics": self._page, "/healthz": self._healthz, "/readyz": self._readyz}

    def _page(self, request: Request) -> Response:
        return Response(200, CONTENT_TYPE, self._metrics.exposition())

    def _healthz(self, request: Request) -> Response:
        fine, body = liveness(self._conditions, time.monotonic())
        return Response.json(200 if fine else 503, body)

    def _readyz(self, request: Request) -> Response:
        fine, body = readiness(self._conditions, time.monotonic())
        return Response.json(200 if fine else 503, body)

    def _route_failed(self, error: Exception) -> None:
        log.error("a page could not be made: %s", type(error).__name__)

    # -- the end ---------------------------------------------------------------------------------------------------

    def _drain(self) -> int:
        """A last sweep, what workers hold, and as much of the backlog as --drain allows."""
        end = time.monotonic() + self._config.drain
        backlog = self._engine.backlog
        self._events.service("draining", time.time_ns(), backlog=backlog.depth)
        self._beat(time.monotonic())
        self._take_events()
        sweep = Sweep(self._config.incoming, self._engine, "rescan")
        while not sweep.slice() and time.monotonic() < end:
            self._engine.turn(0)
        backlog.beyond = sweep.beyond
        while time.monotonic() < end and self._signals.count < 2 and (backlog.queued or backlog.working):
            self._engine.turn(min(0.2, max(0.0, end - time.monotonic())))
        self._engine.paused = True
        while backlog.working and self._signals.count < 2 and time.monotonic() < end + 2:
            self._engine.turn(0.1)
        self._events.service("stopped", time.time_ns(), left=backlog.depth)
        log.info("stopped; %d files are left in incoming for the next start", backlog.depth)
        return 1 if self._signals.count > 1 else 0

    def _close(self) -> None:
        self._watch.close()
        if self._server:
            self._server.stop()
        self._engine.close(0.0 if self._signals.count > 1 else 5.0)
        self._owner.close()
        self._signals.restore()
        self._inbox.close()


def _python() -> str:
    import platform

    return platform.python_version()


def run(config: Config) -> int:
    """The whole service; the exit status."""
    return Service(config).run()


__all__ = ["SET_ASIDE_REASONS", "Service", "run"]
