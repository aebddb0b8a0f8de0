"""A second `listener run` on the same incoming directories: it waits until their owner has ended, and takes over.

It holds nothing meanwhile and writes nothing. All that the two have in common is the lock of the incoming directory,
which the kernel (or the server of its file system) lets go when its owner dies.
"""

from __future__ import annotations

import contextlib
import os
import select
import time
from collections.abc import Mapping
from typing import Any, NamedTuple

from listener.config import Config
from listener.diagnostics import log
from listener.errors import OwnedElsewhere
from listener.planning.names import instant
from listener.service.lock import IncomingLock
from listener.service.monitor import server_of
from listener.service.systemd import SystemdNotifier
from listener.status import snapshot
from listener.telemetry.events import Events
from listener.telemetry.health import standby_liveness, standby_readiness
from listener.telemetry.http_messages import Request, Response
from listener.telemetry.metric_rows import rows
from listener.telemetry.metrics import CONTENT_TYPE, Exposition, build_labels
from listener.telemetry.server import Server
from listener.wakeup import Signals, Wakeup

#: Seconds between two tries of the lock.
_TRY = 0.25

#: Metrics of a service that waits: all others would be zeros, for which alerts would fire.
_SHOWN = ("heartbeat_timestamp_seconds", "standby", "build_info")


class TakenOver(NamedTuple):
    """What a service begins with: the lock, the server (None: --http off; one that stood by has started it), how long
    it stood by in seconds (0.0: nobody owned incoming), what the former owner showed last (None: nothing), and whether
    the configuration is to be read again.
    """

    lock: IncomingLock
    server: Server | None
    waited: float = 0.0
    former: Mapping[str, Any] | None = None
    asks_reload: bool = False

    def told(self) -> dict[str, Any]:
        """Return the fields of the event `took-over` that tell of the former owner."""
        former = self.former or {}
        seen = instant(int(former["time_ns"])) if former else None
        return {
            "waited": round(self.waited, 3),
            "host": former.get("host", ""),
            "state": former.get("state", ""),
            "seen": seen,
        }


def wait(config: Config) -> TakenOver | None:
    """Return when this process owns the incoming directories; None if a signal told it to stop before that."""
    with contextlib.suppress(OwnedElsewhere):
        return TakenOver(IncomingLock(config.roots), server_of(config))
    standby = _Standby(config)
    try:
        return standby.wait()
    finally:
        standby.close()


class _Standby:
    """Waits for the lock; answers /healthz (alive), /readyz (standby) and /metrics meanwhile."""

    def __init__(self, config: Config) -> None:
        self._config = config
        self._begun = self._heartbeat = time.monotonic()
        self._identities = _identities(config)
        self._not_before = 0.0
        self._fault = ""
        self._wakeup = Wakeup()
        self._signals = Signals(self._wakeup.set)
        self._systemd = SystemdNotifier()
        self._events = Events(config.phi, which=config.events)
        self._metrics = Exposition([row for row in rows() if row.name in _SHOWN], {"build_info": build_labels()})
        self._metrics.set("standby", 1)
        self._server = server_of(config)
        self._handed_over = False

    def wait(self) -> TakenOver | None:
        """Return what was taken over; None at a signal."""
        self._begin()
        while not self._signals.count:
            lock = self._try_lock(time.monotonic())
            if lock:
                self._handed_over = True
                waited = time.monotonic() - self._begun
                return TakenOver(lock, self._server, waited, _shown(self._config.state), self._signals.asks_reload)
            select.select([self._wakeup.reader], [], [], _TRY)
            self._wakeup.clear()
        self._events.service("stopped", time.time_ns(), left=0)
        return None

    def _begin(self) -> None:
        if self._server:
            self._server.serve({"/metrics": self._page, "/healthz": self._healthz, "/readyz": self._readyz})
            self._server.start()
        host = (_shown(self._config.state) or {}).get("host", "")
        address = self._server.address if self._server else "off"
        self._events.service("standby", time.time_ns(), http=address, host=host)
        log.info("another listener owns incoming; this one stands by, and takes over when that one has ended")

    def _try_lock(self, now: float) -> IncomingLock | None:
        """Return the lock if nobody holds it."""
        self._heartbeat = now
        self._metrics.set("heartbeat_timestamp_seconds", time.time())
        self._systemd.tick("standby: another listener owns incoming", started=True, stopping=False)
        found = _identities(self._config)
        if found != self._identities:
            # Replaced or mounted over: its owner finds that with its next rescan, and locks what is there now.
            self._identities, self._not_before = found, now + 2 * self._config.rescan + 1
        if now < self._not_before:
            return None
        try:
            return IncomingLock(self._config.roots, patience=0)
        except OwnedElsewhere:
            self._note("")
        except OSError as error:  # Incoming is gone, or its server does not answer.
            self._note(error.strerror or type(error).__name__)
        return None

    def _note(self, fault: str) -> None:
        if fault and fault != self._fault:
            log.warning("incoming cannot be locked (%s); standing by", fault)
        self._fault = fault

    # -- in the HTTP thread --------------------------------------------------------------------------------------------

    def _page(self, _request: Request) -> Response:
        return Response(200, CONTENT_TYPE, self._metrics.exposition())

    def _healthz(self, _request: Request) -> Response:
        fine, body = standby_liveness(self._heartbeat, time.monotonic())
        return Response.json(200 if fine else 503, body)

    def _readyz(self, _request: Request) -> Response:
        return Response.json(503, standby_readiness(self._heartbeat, time.monotonic(), self._fault))

    def close(self) -> None:
        """Close all that was not handed over."""
        if self._server and not self._handed_over:
            self._server.stop()
        self._signals.restore()
        self._wakeup.close()


def _identities(config: Config) -> list[tuple[int, int]]:
    """Return device and inode of each incoming directory; (0, 0) of one that is not there."""
    found = []
    for root in config.roots:
        try:
            status = os.stat(root)
        except OSError:
            found.append((0, 0))
        else:
            found.append((status.st_dev, status.st_ino))
    return found


def _shown(state_dir: str) -> Mapping[str, Any] | None:
    """Return the last snapshot of the owner, None if there is none that can be read."""
    with contextlib.suppress(OSError, ValueError):
        return snapshot.read(state_dir)
    return None
