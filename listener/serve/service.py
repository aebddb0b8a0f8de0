"""The process of the stage serve: DICOMweb in the event loop, what is made ahead, and metrics and health beside it,
until a signal.
"""

from __future__ import annotations

import asyncio
import os
import signal
import time
from typing import Any

import listener
from listener.diagnostics import count_into, log
from listener.errors import LedgerFault
from listener.ledger.reader import reading
from listener.planning.names import instant
from listener.serve import metrics
from listener.serve.ahead import Ahead
from listener.serve.figures import Figures
from listener.serve.http_server import HttpServer, Setup, base_of, index_folder, is_any
from listener.serve.index import Lookup
from listener.serve.options import NAME, ServeOptions
from listener.serve.processes import Processes
from listener.status.snapshot import SnapshotFile
from listener.telemetry.binding import listen, shown
from listener.telemetry.events import Events
from listener.telemetry.health import loop_turns, verdict
from listener.telemetry.http_messages import Request, Response
from listener.telemetry.metrics import CONTENT_TYPE, Exposition, build_labels
from listener.telemetry.server import Server, log_failed_page

#: Connections that wait to be accepted, and seconds between two looks.
_BACKLOG, _LOOK = 1024, 1.0


class ServeService:
    """Serves a collection: directories of data and state, and options."""

    def __init__(self, data: str, state: str, options: ServeOptions) -> None:
        self._options, self._state = options, state
        self._metrics = Exposition(metrics.ROWS, {"build_info": build_labels()})
        count_into(self._metrics.log_record)
        self._events = Events(phi=False)
        self._figures = Figures(self._metrics, self._events)
        self._listening = listen(options.dicomweb, _BACKLOG)
        self.address = shown(self._listening)
        setup = Setup(data, state, base_of(options, self.address), options)
        self._http = HttpServer(setup, self._listening, self._figures.told, self._looked)
        self._ahead = Ahead(self._http.index, options.index_space, documents=options.ahead == "on")
        self._others = Processes(options.processes - 1, setup, self._listening.fileno(), self._figures)
        self._live = SnapshotFile(index_folder(state, options))
        self._started = instant(time.time_ns())
        self._heartbeat = time.monotonic()
        self._fault = self._live_fault = ""
        self._stopping = 0
        routes = {"/metrics": self._page, "/healthz": self._healthz, "/readyz": self._readyz}
        self._server = Server(options.http, routes, log_failed_page) if options.http != "off" else None

    def run(self) -> int:
        """Serve until a signal; return 0, or 1 after a second one. Raises FatalFault."""
        try:
            self._http.begin()
            self._http.index.catalogue.make()
            if self._server:
                self._server.start()
            if not self._options.public_url and is_any(self._options.dicomweb):
                log.warning("--public-url is not given: metadata tell clients to find bulk data at %s", self.address)
            asyncio.run(self._serve())
        finally:
            self._http.end()
            if self._server:
                self._server.stop()
            self._listening.close()
            self._write_live("stopped")
            self._live.close()
        self._tell("stopped")
        return int(self._stopping > 1)

    async def _serve(self) -> None:
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, self._stop)
        tasks = [asyncio.create_task(self._ahead.run()), asyncio.create_task(self._look_on())]
        self._others.start()
        http = self._server.address if self._server else "off"
        self._tell("started", version=listener.__version__, dicomweb=self.address, http=http)
        try:
            await self._http.serve()
        finally:
            self._others.stop(at_once=self._stopping > 1)
            await self._others.wait()
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
            await self._ahead.stop()
            self._figures.tell_reads(at_once=True)

    def _stop(self) -> None:
        self._stopping += 1
        if self._stopping == 1:
            self._tell("draining")
        self._http.stop(at_once=self._stopping > 1)
        self._others.stop(at_once=self._stopping > 1)

    def _looked(self, lookup: Lookup) -> None:
        self._figures.looked(lookup)
        self._ahead.grew(lookup.bytes)

    # -- once a second -------------------------------------------------------------------------------------------------

    async def _look_on(self) -> None:
        """Look once a second at the ledger, and tell what was read once a minute."""
        while True:
            self._heartbeat = time.monotonic()
            try:
                await asyncio.to_thread(self._look_at_ledger)
                self._fault = ""
            except LedgerFault as fault:
                if not self._fault:
                    log.error("the ledger cannot be read: %s", fault)
                self._fault = str(fault)
            self._others.tell(self._http.index.waiting)
            self._ahead.grew(self._others.grew)
            self._others.grew = 0
            self._set_metrics()
            self._write_live()
            self._figures.tell_reads()
            self._events.flush()
            await asyncio.sleep(_LOOK)

    def _look_at_ledger(self) -> None:
        with reading(self._state) as reader:
            reader.counts()

    @property
    def _connections(self) -> int:
        return self._http.connections.count + self._others.connections

    def _set_metrics(self) -> None:
        oldest = self._ahead.oldest_ns
        self._metrics.set("serve_connections", self._connections)
        self._metrics.set("serve_processes", 1 + self._others.running)
        self._metrics.set("serve_index_waiting", self._http.index.waiting or 0)
        self._metrics.set("serve_index_documents_waiting", self._ahead.undescribed)
        self._metrics.set("serve_index_lag_seconds", max(0.0, time.time() - oldest / 1e9) if oldest else 0.0)
        self._metrics.set("serve_index_bytes", self._ahead.bytes)
        self._metrics.set("serve_ready", float(self._readiness()[0]))

    def _write_live(self, state: str = "") -> None:
        """Write how the service stands; `state` is its last one."""
        now_ns = time.time_ns()
        fine, body = self._readiness()
        about = {"time": instant(now_ns), "time_ns": now_ns, "started": self._started, "pid": os.getpid()}
        about |= {"host": os.uname().nodename, "version": listener.__version__, "dicomweb": self.address}
        index = self._http.index
        figures = {
            "connections": self._connections,
            "processes": 1 + self._others.running,
            "index": {
                "waiting": index.waiting,
                "documents_waiting": self._ahead.undescribed,
                "bytes": self._ahead.bytes,
            },
        }
        state = state or ("draining" if self._stopping else "ready" if fine else "not-ready")
        try:
            self._live.write(
                {**about, "state": state, "checks": body["checks"], **figures, "notes": {NAME: self._note()}}
            )
            self._live_fault = ""
        except OSError as error:  # Nothing depends on it.
            if not self._live_fault:
                log.warning("serve/live cannot be written: %s", error.strerror)
            self._live_fault = str(error)

    def _note(self) -> str:
        """Return what the status page says of this stage."""
        waiting, undescribed = self._http.index.waiting, self._ahead.undescribed
        found = "catalogue not looked at" if waiting is None else f"{waiting} series not in the catalogue"
        return f"{self._connections} connections, {found}, {undescribed} to be indexed ahead"

    def _tell(self, event: str, **more: Any) -> None:
        self._events.service(event, time.time_ns(), **more)

    # -- read by the HTTP thread ---------------------------------------------------------------------------------------

    def _readiness(self) -> tuple[bool, dict[str, Any]]:
        waiting = self._http.index.waiting
        fills = "the catalogue is being filled" if waiting else "the catalogue has not been looked at yet"
        running, wanted = 1 + self._others.running, 1 + self._others.wanted
        return verdict(
            {
                "loop": loop_turns(self._heartbeat, time.monotonic()),
                "ledger": (not self._fault, self._fault or "the ledger can be read"),
                "catalogue": (waiting == 0, "the catalogue is filled" if waiting == 0 else fills),
                "processes": (running == wanted, f"{running} of {wanted} processes answer"),
                "draining": (not self._stopping, "the service is stopping" if self._stopping else "answering"),
            },
            "ready",
            "not-ready",
        )

    def _page(self, _request: Request) -> Response:
        return Response(200, CONTENT_TYPE, self._metrics.exposition())

    def _healthz(self, _request: Request) -> Response:
        fine, body = verdict({"loop": loop_turns(self._heartbeat, time.monotonic())}, "alive", "stuck")
        return Response.json(200 if fine else 503, body)

    def _readyz(self, _request: Request) -> Response:
        fine, body = self._readiness()
        return Response.json(200 if fine else 503, body)
