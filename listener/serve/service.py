"""The process of the stage serve: DICOMweb in the event loop, metrics and health beside it, until a signal."""

from __future__ import annotations

import asyncio
import contextlib
import os
import platform
import signal
import time
from collections.abc import Iterator
from typing import Any

import uvicorn

import listener
from listener.diagnostics import count_into, log
from listener.errors import FatalFault, LedgerFault
from listener.ledger.reader import reading
from listener.serve import metrics
from listener.serve.app import Application, Rules, Told
from listener.serve.guard import Connections, protocol
from listener.serve.index import Index, Places
from listener.serve.options import ServeOptions
from listener.serve.retrieve import Retriever
from listener.serve.search import Searcher
from listener.serve.viewer import Viewer
from listener.telemetry.access import Access
from listener.telemetry.binding import listen, shown
from listener.telemetry.events import Events
from listener.telemetry.health import verdict
from listener.telemetry.http_messages import Request, Response
from listener.telemetry.metrics import CONTENT_TYPE, Exposition
from listener.telemetry.server import Server

#: Connections that wait to be accepted, seconds between two looks, and within which the event loop comes round.
_BACKLOG, _LOOK, _STUCK = 1024, 1.0, 60.0

#: Different reads that are counted apart in a minute; the others are counted together.
_MOST_READS = 10_000


class _Uvicorn(uvicorn.Server):
    """Uvicorn's server, whose signals are the service's."""

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield


class ServeService:
    """Serves a collection: directories of data and state, and options."""

    def __init__(self, data: str, state: str, options: ServeOptions) -> None:
        self._options = options
        self._state = state
        build = {"version": listener.__version__, "revision": os.environ.get("LISTENER_REVISION", "")}
        self._metrics = Exposition(metrics.ROWS, {"build_info": {**build, "python": platform.python_version()}})
        count_into(self._metrics.log_record)
        self._events = Events(phi=False)
        self._connections = Connections()
        self._listening = listen(options.dicomweb, _BACKLOG)
        self.address = shown(self._listening)
        base = options.public_url or f"http://{self.address}{options.prefix}"
        places = Places(data, state, options.index or os.path.join(state, "serve"), base)
        self._index = Index(places, self._indexed, only_complete=options.only_complete)
        self._retriever = Retriever(self._index, options.max_inflated)
        self._access = Access(options.token_file)
        self._reads: dict[tuple[str, str, str], list[int]] = {}
        self._read_at = time.monotonic()
        self._heartbeat = time.monotonic()
        self._fault = ""
        self._stopping = 0
        routes = {"/metrics": self._page, "/healthz": self._healthz, "/readyz": self._readyz}
        self._server = Server(options.http, routes, _page_failed) if options.http != "off" else None

    def run(self) -> int:
        """Serve until a signal; return 0, or 1 after a second one."""
        try:
            problems = self._access.look()
            if problems:
                raise FatalFault("; ".join(problems))
            if self._server:
                self._server.start()
            self._access.start(lambda: None)
            asyncio.run(self._serve())
        finally:
            self._access.stop()
            if self._server:
                self._server.stop()
            self._listening.close()
        self._tell("stopped")
        return int(self._stopping > 1)

    async def _serve(self) -> None:
        options = self._options
        viewer = Viewer(options.viewer, options.public_url or options.prefix) if options.viewer else None
        rules = Rules(options.prefix, options.cors, options.max_frames, options.max_age, options.no_token)
        searcher = Searcher(self._index, options.max_results)
        app = Application(rules, self._retriever, searcher, self._access, viewer, self._told)
        config = uvicorn.Config(
            app,
            http=protocol(self._connections),
            ws="none",
            lifespan="off",
            log_config=None,
            access_log=False,
            proxy_headers=False,
            server_header=False,
            timeout_graceful_shutdown=max(1, int(options.drain)),
        )
        server = _Uvicorn(config)
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, self._stop, server)
        tasks = [asyncio.create_task(self._index.fill()), asyncio.create_task(self._look_on())]
        http = self._server.address if self._server else "off"
        self._tell("started", version=listener.__version__, dicomweb=self.address, http=http)
        try:
            await server.serve(sockets=[self._listening])
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
            await self._index.stop()
            self._retriever.files.close()
            self._tell_reads()

    def _stop(self, server: uvicorn.Server) -> None:
        self._stopping += 1
        if self._stopping == 1:
            self._tell("draining")
        server.should_exit = True
        server.force_exit = self._stopping > 1

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
            self._metrics.set("serve_connections", self._connections.count)
            self._metrics.set("serve_index_waiting", self._index.waiting or 0)
            self._metrics.set("serve_ready", float(self._readiness()[0]))
            if time.monotonic() - self._read_at >= 60.0:
                self._tell_reads()
            self._events.flush()
            await asyncio.sleep(_LOOK)

    def _look_at_ledger(self) -> None:
        with reading(self._state) as reader:
            reader.counts()

    def _tell(self, event: str, **more: Any) -> None:
        self._events.service(event, time.time_ns(), **more)

    # -- what is told --------------------------------------------------------------------------------------------------

    def _indexed(self, kind: str, seconds: float, worked: bool) -> None:
        if kind == "series":
            self._metrics.add("serve_index_series_total", 1, "made" if worked else "failed")
            self._metrics.observe("serve_index_duration_seconds", seconds)

    def _told(self, told: Told) -> None:
        self._metrics.add("serve_requests_total", 1, told.kind, f"{told.status // 100}xx")
        self._metrics.observe("serve_request_duration_seconds", told.seconds, told.kind)
        self._metrics.add("serve_bytes_total", told.bytes, told.kind)
        self._metrics.add("serve_frames_total", told.frames)
        if told.StudyInstanceUID:
            key = (told.client, told.StudyInstanceUID, told.kind)
            if key not in self._reads and len(self._reads) >= _MOST_READS:
                key = ("others", "", told.kind)
            counts = self._reads.setdefault(key, [0, 0, 0])
            counts[0] += 1
            counts[1] += told.bytes
            counts[2] += told.status >= 400

    def _tell_reads(self) -> None:
        """Write an event for each client, study and resource since the last minute: who read what."""
        reads, self._reads, self._read_at = self._reads, {}, time.monotonic()
        for (client, study, kind), (requests, size, failures) in reads.items():
            about = {"client": client, "StudyInstanceUID": study, "resource": kind}
            counts = {"requests": requests, "bytes": size, "failures": failures}
            self._tell("read", **about, **counts)

    # -- read by the HTTP thread ---------------------------------------------------------------------------------------

    def _readiness(self) -> tuple[bool, dict[str, Any]]:
        waiting = self._index.waiting
        fills = "the catalogue is being filled" if waiting else "the catalogue has not been looked at yet"
        return verdict(
            {
                "loop": self._loop(),
                "ledger": (not self._fault, self._fault or "the ledger can be read"),
                "catalogue": (waiting == 0, "the catalogue is filled" if waiting == 0 else fills),
                "draining": (not self._stopping, "the service is stopping" if self._stopping else "answering"),
            },
            "ready",
            "not-ready",
        )

    def _loop(self) -> tuple[bool, str]:
        age = time.monotonic() - self._heartbeat
        return age < _STUCK, f"the loop came round {age:.1f} s ago"

    def _page(self, _request: Request) -> Response:
        return Response(200, CONTENT_TYPE, self._metrics.exposition())

    def _healthz(self, _request: Request) -> Response:
        fine, body = verdict({"loop": self._loop()}, "alive", "stuck")
        return Response.json(200 if fine else 503, body)

    def _readyz(self, _request: Request) -> Response:
        fine, body = self._readiness()
        return Response.json(200 if fine else 503, body)


def _page_failed(error: Exception) -> None:
    log.error("a page could not be made: %s", type(error).__name__)
