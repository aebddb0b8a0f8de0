"""One more process that answers: started by the service, with its socket; ends when its standard input does.

Lines of JSON: on standard input the Setup and the socket's descriptor, then how many series the catalogue lacks; on
standard output, once a second, what is to be counted. `python -m listener.serve.child`.
"""

from __future__ import annotations

import asyncio
import json
import os
import signal
import socket
import sys
from typing import Any

from listener.serve.figures import Told
from listener.serve.http_server import HttpServer, Setup
from listener.serve.index import Lookup
from listener.serve.options import ServeOptions

#: Seconds between two reports.
_REPORT = 1.0


class Child:
    """See the module."""

    def __init__(self, given: dict[str, Any]) -> None:
        options: dict[str, Any] = {
            name: tuple(value) if isinstance(value, list) else value for name, value in given["options"].items()
        }
        setup = Setup(given["data"], given["state"], given["base"], ServeOptions(**options))
        self._told: list[Told] = []
        self._looked: list[Lookup] = []
        listening = socket.socket(fileno=given["descriptor"])
        self._http = HttpServer(setup, listening, self._told.append, self._looked.append)

    async def run(self) -> None:
        """Answer until standard input ends, or a signal."""
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, self._http.stop)
        reader = asyncio.StreamReader()
        await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(reader), sys.stdin)
        tasks = [asyncio.create_task(self._listen(reader)), asyncio.create_task(self._report_on())]
        self._http.begin()
        try:
            await self._http.serve()
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
            self._http.end()
            self._report()

    async def _listen(self, reader: asyncio.StreamReader) -> None:
        while line := await reader.readline():
            self._http.index.waiting = json.loads(line)
        self._http.stop()

    async def _report_on(self) -> None:
        while True:
            self._report()
            await asyncio.sleep(_REPORT)

    def _report(self) -> None:
        """Write what was counted since the last report. A parent that is gone reads no more: then the input ends."""
        report = {"connections": self._http.connections.count, "told": self._told, "looked": self._looked}
        try:
            print(json.dumps(report), flush=True)
        except BrokenPipeError:
            self._http.stop()
        self._told.clear()
        self._looked.clear()


def main() -> None:
    """Answer as the first line of standard input says."""
    first = b""
    while not first.endswith(b"\n"):  # Unbuffered: what follows is for the event loop.
        byte = os.read(0, 1)
        if not byte:
            return
        first += byte
    asyncio.run(Child(json.loads(first)).run())


if __name__ == "__main__":
    main()
