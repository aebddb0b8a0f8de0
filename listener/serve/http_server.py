"""DICOMweb in the event loop of one process, on a socket that several may share."""

from __future__ import annotations

import contextlib
import logging
import os
import socket
from collections.abc import Callable, Iterator
from typing import NamedTuple

import uvicorn

from listener.errors import FatalFault
from listener.serve.app import Application, Rules
from listener.serve.figures import Told
from listener.serve.guard import Connections, protocol
from listener.serve.index import Index, Lookup, Places
from listener.serve.options import ServeOptions
from listener.serve.retrieve import Retriever
from listener.serve.search import Searcher
from listener.serve.viewer import Viewer
from listener.telemetry.access import Access


class Setup(NamedTuple):
    """What a process needs to answer: directories of data and state, the address in answers, and the options."""

    data: str
    state: str
    base: str
    options: ServeOptions

    @property
    def folder(self) -> str:
        """The directory of the index."""
        return index_folder(self.state, self.options)


def index_folder(state_dir: str, options: ServeOptions) -> str:
    """Return the directory of the index."""
    return options.index or os.path.join(state_dir, "serve")


def base_of(options: ServeOptions, address: str = "") -> str:
    """Return the address in answers; `address` is what is listened on, where a free port was asked for."""
    host = options.dicomweb if options.dicomweb.rpartition(":")[2] != "0" else address
    return options.public_url or f"http://{host or options.dicomweb}{options.prefix}"


def is_any(address: str) -> bool:
    """Return whether an address is none that a client can use: all of the machine's, or a Unix socket."""
    host = address.rpartition(":")[0].strip("[]")
    return host in ("", "0.0.0.0", "::") or address.startswith("unix:")  # noqa: S104 - what is listened on


class _Uvicorn(uvicorn.Server):
    """Uvicorn's server, whose signals are the service's."""

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield


class HttpServer:
    """Answers on `listening`; `told` is called with each answer that ended, `looked` with each look-up."""

    def __init__(
        self,
        setup: Setup,
        listening: socket.socket,
        told: Callable[[Told], None],
        looked: Callable[[Lookup], None],
    ) -> None:
        options = setup.options
        self._listening, self._options = listening, options
        self.connections = Connections(options.behind_proxy)
        places = Places(setup.data, setup.state, setup.folder, setup.base)
        self.index = Index(places, looked, only_complete=options.only_complete)
        self._retriever = Retriever(self.index, options.max_inflated)
        self._access = Access(options.token_file)
        viewer = Viewer(options.viewer, options.public_url or options.prefix) if options.viewer else None
        searcher = Searcher(self.index, options.max_results)
        rules = Rules(
            options.prefix, options.cors, options.max_frames, options.max_age, options.no_token, options.behind_proxy
        )
        app = Application(rules, self._retriever, searcher, self._access, viewer, told)
        config = uvicorn.Config(
            app,
            http=protocol(self.connections),
            ws="none",
            lifespan="off",
            log_config=None,
            access_log=False,
            proxy_headers=False,
            server_header=False,
            timeout_graceful_shutdown=max(1, int(options.drain)),
        )
        self._server = _Uvicorn(config)
        # What it logs of a failed answer has the text of the error, which may hold a path, and so a name; app tells
        # the failure without.
        uvicorn_log = logging.getLogger("uvicorn")
        uvicorn_log.handlers, uvicorn_log.propagate = [logging.NullHandler()], False

    def begin(self) -> None:
        """Look at the tokens. Raises FatalFault."""
        problems = self._access.look()
        if problems:
            raise FatalFault("; ".join(problems))
        self._access.start(lambda: None)

    async def serve(self) -> None:
        """Answer until stop() was called, and what runs has ended."""
        try:
            await self._server.serve(sockets=[self._listening])
        finally:
            await self.index.stop()
            self._retriever.files.close()

    def stop(self, *, at_once: bool = False) -> None:
        """Take no more connections; `at_once`: wait for no answer either."""
        self._server.should_exit = True
        self._server.force_exit = self._server.force_exit or at_once

    def end(self) -> None:
        """Look after the tokens no more."""
        self._access.stop()
