"""What the service shows once a second: gauges, health, and the snapshot that `listener status` reads."""

from __future__ import annotations

import os
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import listener
from listener.config import Config
from listener.diagnostics import log
from listener.planning.names import instant
from listener.reasons import HELD_UP_REASONS
from listener.service.disk_guard import DiskGuard
from listener.service.engine import Engine
from listener.service.held_up import shown_together
from listener.service.systemd import SystemdNotifier
from listener.service.watch import Watch
from listener.status import preview, snapshot
from listener.status.document import NOTHING_HELD_UP
from listener.status.history import History
from listener.status.routes import Shows, StatusRoutes
from listener.status.snapshot import sample, snapshot_of
from listener.telemetry.access import access_of
from listener.telemetry.health import Conditions, in_one_line, liveness, readiness
from listener.telemetry.http_messages import Request, Response, Route
from listener.telemetry.metric_rows import LATENCY, Numbers
from listener.telemetry.metrics import CONTENT_TYPE, Metrics
from listener.telemetry.server import Server, log_failed_page

#: Seconds after which the points of the charts are written again.
_HISTORY_EVERY = 60.0


class SnapshotWriter:
    """Writes the snapshot below `state_dir`. `live` is the last one, replaced as a whole: any thread may read it.
    `incoming` are the incoming directories.
    """

    def __init__(self, state_dir: str, numbers: Numbers, incoming: Sequence[str] = ()) -> None:
        self._numbers = numbers
        self._file = snapshot.SnapshotFile(state_dir)
        self._history_file = snapshot.SnapshotFile(state_dir, snapshot.HISTORY)
        self._history_due = time.monotonic() + _HISTORY_EVERY
        self._service = {
            "version": listener.__version__,
            "host": os.uname().nodename,
            "incoming": [os.path.basename(path) for path in incoming],
            "started": instant(time.time_ns()),
        }
        self._failed = False
        self.history = History(LATENCY)
        self._restore(state_dir)
        self.live: Mapping[str, Any] = self._snapshot("not-ready", {}, {"held_up": NOTHING_HELD_UP})

    def tick(self, state: str, checks: Mapping[str, Any], parts: Mapping[str, Any], now: float) -> None:
        """Take a sample and write the snapshot: the service is in `state` (one of document.STATES) for the reasons in
        `checks`; `parts` are `held_up` (what HeldUp.shown returns) and `volume_ids` by role; `now` is monotonic.
        """
        self.history.add(sample(self._numbers), now)
        self.live = self._snapshot(state, checks, parts)
        self._write(self._file, self.live)
        if now >= self._history_due:
            self._write_history(now)

    def _snapshot(self, state: str, checks: Mapping[str, Any], parts: Mapping[str, Any]) -> dict[str, Any]:
        service = {**self._service, "state": state, "checks": checks}
        found = snapshot_of(self._numbers, self.history, service, time.time_ns())
        for role, volume in found["volumes"].items():
            volume["id"] = parts.get("volume_ids", {}).get(role, "")
        return {**found, "held_up": parts["held_up"]}

    def _write_history(self, now: float) -> None:
        self._history_due = now + _HISTORY_EVERY
        self._write(self._history_file, {"time_ns": time.time_ns(), "points": self.history.saved(now)})

    def _restore(self, state_dir: str) -> None:
        try:
            saved = snapshot.read(state_dir, snapshot.HISTORY)
            if saved:
                late = (time.time_ns() - saved["time_ns"]) / 1e9
                self.history.restore(saved["points"], late, time.monotonic())
        except (OSError, LookupError, TypeError, ValueError):  # Charts begin anew; nothing depends on them.
            return

    def _write(self, file: snapshot.SnapshotFile, content: Mapping[str, Any]) -> None:
        try:
            file.write(content)
        except OSError as error:  # No file depends on it; /readyz names what is wrong with the volume.
            if not self._failed:
                log.warning("the snapshot for 'listener status' cannot be written: %s", error.strerror)
            self._failed = True
        else:
            self._failed = False

    def close(self) -> None:
        """Write the last snapshot: stopped."""
        self.live = self._snapshot("stopped", {}, {"held_up": NOTHING_HELD_UP})
        self._write(self._file, self.live)
        self._write_history(time.monotonic())
        self._file.close()
        self._history_file.close()


class ServiceState(NamedTuple):
    """What the loop knows of itself. `scanned`: the first rescan is complete; `draining`: the service is stopping;
    `ledger`: "" or why the ledger cannot be written; `directories`: how many there are in and below incoming.
    """

    directories: int
    scanned: bool = False
    draining: bool = False
    ledger: str = ""


#: Locks that are named; who holds one of them holds the others.
_MOST_LOCKS = 3


class Monitor:
    """The state that /metrics, /healthz and /readyz show. `is_ready` and `verdict`: what /readyz says since the last
    `tick`, the latter as one line. `ready_backlog` may be changed. The first of `engines` is that of incoming.
    """

    def __init__(
        self, config: Config, engines: Sequence[Engine], guard: DiskGuard, watch: Watch, metrics: Metrics
    ) -> None:
        self.ready_backlog = config.ready_backlog
        self._config = config
        self._engine, self._engines = engines[0], engines
        self._watch = watch
        self._metrics = metrics
        self._guard = guard
        preview.forget(config.state)
        self._snapshot_writer = SnapshotWriter(config.state, metrics, config.incoming)
        self._systemd = SystemdNotifier()
        self._conditions = Conditions(heartbeat=time.monotonic(), backlog_limit=config.ready_backlog)
        self.is_ready, self.verdict = False, ""

    def tick(self, service: ServiceState, now: float) -> None:
        """Renew gauges, health and the snapshot; `now` on the monotonic clock."""
        self._conditions = self._find_conditions(service, now)
        self._show_backlog()
        self._show_watch(service.directories)
        usages = _fullest(self._guard.state.usage)
        for role, usage in usages.items():
            self._metrics.volume(role, usage)
        metrics = self._metrics
        metrics.set("heartbeat_timestamp_seconds", time.time())
        metrics.set("workers", sum(len(engine.pool.workers) for engine in self._engines))
        metrics.set("workers_busy", sum(engine.pool.busy for engine in self._engines))
        self.is_ready, body = readiness(self._conditions, now)
        self.verdict = in_one_line(body)
        metrics.set("ready", int(self.is_ready))
        state = "draining" if service.draining else body["status"]
        ids = {role: f"{usage.f_fsid:x}" for role, usage in usages.items()}
        held_up = shown_together([engine.held_up for engine in self._engines], now)
        parts = {"held_up": held_up, "volume_ids": ids}
        self._snapshot_writer.tick(state, body["checks"], parts, now)
        self._systemd.tick(self.verdict, started=service.scanned, stopping=service.draining)

    def _show_backlog(self) -> None:
        backlog = self._engine.backlog
        self._metrics.pending(backlog.waiting, backlog.working, backlog.retrying, backlog.bytes, backlog.oldest_ns())
        counts = Counter[str]()
        for engine in self._engines:
            counts.update(engine.held_up.counts())
        for reason in HELD_UP_REASONS:
            self._metrics.set("files_held_up", counts[reason], reason)

    def _show_watch(self, directories: int) -> None:
        watch, metrics = self._watch, self._metrics
        metrics.set("watcher_alive", int(watch.alive()))
        metrics.set("watcher_polling", int(watch.polling))
        metrics.set("watch_mode", watch.mode)
        metrics.set("watched_directories", 0 if watch.polling else directories)

    def _find_conditions(self, service: ServiceState, now: float) -> Conditions:
        disk = self._guard.state
        return Conditions(
            heartbeat=now,
            watcher_alive=self._watch.alive(),
            polling=self._watch.polling,
            watching=self._watch.polling or self._watch.alive(),
            scanned=service.scanned,
            writable=disk.writable,
            space_ok=disk.space_ok,
            refusal=next((reason for engine in self._engines if (reason := engine.breaker.reason)), ""),
            backlog=self._engine.backlog.depth,
            backlog_limit=self.ready_backlog,
            draining=service.draining,
            ledger=service.ledger,
            missing=disk.missing,
            locks="; ".join(self._engine.waits.texts(now)[:_MOST_LOCKS]),
        )

    def close(self) -> None:
        """Write the last snapshot."""
        self._snapshot_writer.close()

    # -- read by web threads: `_conditions` is replaced as a whole -------------------------------------------------

    def serve_on(self, server: Server) -> None:
        """Let the HTTP port show metrics and health, and page and API unless --page is off."""
        routes: dict[str, Route] = {"/metrics": self._page, "/healthz": self._healthz, "/readyz": self._readyz}
        server.serve(routes, {} if self._config.page == "off" else self._pages())

    def _pages(self) -> dict[str, Route]:
        """Return the status page and its API: slow routes, because they read the ledger."""
        writer = self._snapshot_writer
        shows = Shows(phi=self._config.page == "phi", data_dir=self._config.data)
        return StatusRoutes(self._config.state, lambda: writer.live, writer.history, shows).routes()

    def _page(self, _request: Request) -> Response:
        return Response(200, CONTENT_TYPE, self._metrics.exposition())

    def _healthz(self, _request: Request) -> Response:
        fine, body = liveness(self._conditions, time.monotonic())
        return Response.json(200 if fine else 503, body)

    def _readyz(self, _request: Request) -> Response:
        fine, body = readiness(self._conditions, time.monotonic())
        return Response.json(200 if fine else 503, body)


def _fullest(usage: Sequence[tuple[str, os.statvfs_result]]) -> dict[str, os.statvfs_result]:
    """Return one volume for each role: of several incoming directories that with the least room."""
    found: dict[str, os.statvfs_result] = {}
    for role, one in usage:
        if role not in found or one.f_bavail * one.f_frsize < found[role].f_bavail * found[role].f_frsize:
            found[role] = one
    return found


def server_of(config: Config) -> Server | None:
    """Return the server of the HTTP port, which has no routes yet; None with --http off."""
    if config.http == "off":
        return None
    access = access_of(config.token_file, config.http_cert, config.http_key, config.http_client_ca)
    return Server(config.http, {}, log_failed_page, access=access)
