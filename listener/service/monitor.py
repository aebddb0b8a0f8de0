"""Once a second: gauges, free space, health, and the snapshot that `listener status` reads."""

from __future__ import annotations

import os
import time
from collections.abc import Mapping
from typing import Any

import listener
from listener.config import Config
from listener.diagnostics import log
from listener.disk.directories import Directories
from listener.errors import HELD_UP_REASONS
from listener.planning.names import instant
from listener.service.engine import Engine
from listener.service.systemd import SystemdNotifier
from listener.service.watch import Watch
from listener.status import snapshot
from listener.status.document import NOTHING_HELD_UP
from listener.status.history import History
from listener.status.routes import Serving
from listener.status.snapshot import sample, word
from listener.telemetry.catalogue import LATENCY, Numbers
from listener.telemetry.health import Conditions, in_one_line, liveness, readiness
from listener.telemetry.http_messages import Request, Response, Route
from listener.telemetry.metrics import CONTENT_TYPE, Metrics
from listener.telemetry.server import Server


class SnapshotWriter:
    """Renews the word in `state`. `live` is replaced as a whole: any thread may read it. `held_up` is what HeldUp shows
    of the files that wait alone.
    """

    def __init__(self, state: str, numbers: Numbers) -> None:
        self._numbers = numbers
        self._file = snapshot.Writer(state)
        self._started = instant(time.time_ns())
        self._told = False
        self.held_up: Mapping[str, Any] = NOTHING_HELD_UP
        self.history = History(LATENCY)
        self.live: Mapping[str, Any] = self._word("not-ready", {})

    def tick(self, state: str, checks: Mapping[str, Any], now: float) -> None:
        """The service is in `state` (one of document.STATES) for the reasons in `checks`; `now` is monotonic."""
        self.history.take(sample(self._numbers), now)
        self.live = self._word(state, checks)
        self._write()

    def _word(self, state: str, checks: Mapping[str, Any]) -> dict[str, Any]:
        service = {"version": listener.__version__, "started": self._started, "state": state, "checks": checks}
        return {**word(self._numbers, self.history, service, time.time_ns()), "held_up": self.held_up}

    def _write(self) -> None:
        try:
            self._file.write(self.live)
        except OSError as error:  # Nobody's file depends on it; /readyz says what the volume has.
            if not self._told:
                log.warning("'listener status' cannot be told how it stands: %s", error.strerror)
            self._told = True
        else:
            self._told = False

    def close(self) -> None:
        """The last word: stopped."""
        self.held_up = NOTHING_HELD_UP
        self.live = self._word("stopped", {})
        self._write()
        self._file.close()


#: Locks that are named; who holds one of them holds the others.
_MOST_LOCKS = 3


class Monitor:
    """The state that /metrics, /healthz and /readyz show. `scanned`: the first sweep is done; `directories`: how many
    there are in incoming; `draining`: it is stopping; `ledger`: "" or why the ledger cannot be written. `is_ready` and
    `verdict`: what /readyz said at the last beat, in one line.
    """

    def __init__(
        self, config: Config, directories: Directories, engine: Engine, watch: Watch, metrics: Metrics
    ) -> None:
        self._config = config
        self._engine = engine
        self._watch = watch
        self._metrics = metrics
        self._roles = {
            "incoming": config.incoming,
            "data": (directories.data,),
            "log": (directories.log,),
            "state": (directories.state,),
        }
        self._pulse = SnapshotWriter(directories.state, metrics)
        self._supervisor = SystemdNotifier()
        self._space_ok = True
        self._floor_ok = True
        self._writable: dict[str, bool] = {}
        self._conditions = Conditions(heartbeat=time.monotonic(), backlog_limit=config.ready_backlog)
        self.scanned = False
        self.draining = False
        self.ledger = ""
        self.directories = len(config.incoming)
        self.is_ready, self.verdict = False, ""

    @property
    def sees_incoming(self) -> bool:
        """Whether every incoming directory was there and could be written when it was last looked at."""
        return self._writable.get("incoming", True)

    def tick(self, now: float) -> None:
        """Look at everything; `now` on the monotonic clock."""
        self._look_at_volumes(now)
        self._conditions = self._find_conditions(now)
        self._show_backlog()
        self._show_watch()
        metrics = self._metrics
        metrics.set("heartbeat_timestamp_seconds", time.time())
        metrics.set("workers", len(self._engine.pool.workers))
        metrics.set("workers_busy", self._engine.pool.busy)
        self.is_ready, body = readiness(self._conditions, now)
        self.verdict = in_one_line(body)
        metrics.set("ready", int(self.is_ready))
        self._pulse.held_up = self._engine.held_up.shown(now)
        self._pulse.tick("draining" if self.draining else body["status"], body["checks"], now)
        self._supervisor.tick(self.verdict, started=self.scanned, stopping=self.draining)

    def _show_backlog(self) -> None:
        backlog = self._engine.backlog
        self._metrics.pending(backlog.waiting, backlog.working, backlog.retrying, backlog.bytes, backlog.oldest_ns())
        counts = self._engine.held_up.counts()
        for reason in HELD_UP_REASONS:
            self._metrics.set("files_held_up", counts[reason], reason)

    def _show_watch(self) -> None:
        watch, metrics = self._watch, self._metrics
        metrics.set("watcher_alive", int(watch.alive()))
        metrics.set("watcher_polling", int(watch.polling))
        metrics.set("watch_mode", watch.mode)
        metrics.set("watched_directories", 0 if watch.polling else self.directories)

    def _find_conditions(self, now: float) -> Conditions:
        return Conditions(
            heartbeat=now,
            watcher_alive=self._watch.alive(),
            polling=self._watch.polling,
            watching=self._watch.polling or self._watch.alive(),
            scanned=self.scanned,
            writable=self._writable,
            space_ok=self._space_ok,
            refusal=self._engine.pressure.reason,
            backlog=self._engine.backlog.depth,
            backlog_limit=self._config.ready_backlog,
            draining=self.draining,
            ledger=self.ledger,
            missing=tuple(self._engine.volumes.missing),
            locks="; ".join(self._engine.waits.texts(now)[:_MOST_LOCKS]),
        )

    def _look_at_volumes(self, now: float) -> None:
        free, floor = [], self._config.min_free
        for role, paths in self._roles.items():
            for path in paths:
                try:
                    found = os.statvfs(path)
                except OSError:  # It is gone: `writable` tells.
                    continue
                self._metrics.volume(role, found)
                free.append((found.f_bavail * found.f_frsize, role))
        self._space_ok = min(free, default=(0, ""))[0] >= floor
        # Work is what frees an incoming that has a volume of its own.
        self._mind_the_floor(enough=all(space >= floor for space, role in free if role != "incoming"))
        self._writable = {role: all(map(_writable, paths)) for role, paths in self._roles.items()}
        # Nothing can be done without these, so nothing is taken: a second later it may.
        usable = all(fine for role, fine in self._writable.items() if role != "incoming")
        gone = set(self._engine.volumes.look(now)) - {"incoming"}
        self._engine.paused = not (self._floor_ok and usable) or bool(gone)

    def _mind_the_floor(self, *, enough: bool) -> None:
        if enough and not self._floor_ok:
            log.info("free space is above --min-free again; work goes on")
        elif self._floor_ok and not enough:
            log.error("free space is below --min-free; no work is taken, every source is kept")
        self._floor_ok = enough

    def close(self) -> None:
        """The service has stopped."""
        self._pulse.close()

    # -- what web threads read: `_conditions` is replaced as a whole -------------------------------------------------

    def routes(self) -> dict[str, Route]:
        """The pages of the HTTP port."""
        return {"/metrics": self._page, "/healthz": self._healthz, "/readyz": self._readyz}

    def pages(self) -> dict[str, Route]:
        """The status page and its API: slow routes, because they read the ledger."""
        return Serving(self._config.state, lambda: self._pulse.live, self._pulse.history).routes()

    def _page(self, _request: Request) -> Response:
        return Response(200, CONTENT_TYPE, self._metrics.exposition())

    def _healthz(self, _request: Request) -> Response:
        fine, body = liveness(self._conditions, time.monotonic())
        return Response.json(200 if fine else 503, body)

    def _readyz(self, _request: Request) -> Response:
        fine, body = readiness(self._conditions, time.monotonic())
        return Response.json(200 if fine else 503, body)


def _writable(path: str) -> bool:
    return os.access(path, os.W_OK | os.X_OK)


def server_of(config: Config, vitals: Monitor) -> Server | None:
    """The server of metrics, health and pages; None with --http off."""
    if config.http == "off":
        return None
    return Server(config.http, vitals.routes(), _page_failed, slow=vitals.pages() if config.page else {})


def _page_failed(error: Exception) -> None:
    log.error("a page could not be made: %s", type(error).__name__)
