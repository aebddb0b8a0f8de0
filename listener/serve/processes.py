"""The other processes of a service that answer on its socket; one that ends is replaced."""

from __future__ import annotations

import asyncio
import contextlib
import json
import sys
from dataclasses import asdict
from typing import Any

from listener.diagnostics import log
from listener.serve.figures import Figures, Told
from listener.serve.http_server import Setup
from listener.serve.index import Lookup

#: Longest report in bytes, and seconds until one that ended is replaced.
_LONGEST, _AGAIN = 64 * 1024 * 1024, 1.0


class Processes:
    """`count` processes, whose answers are counted in `figures`, and whose additions to the index in `grew`."""

    def __init__(self, count: int, setup: Setup, descriptor: int, figures: Figures) -> None:
        self._count, self._descriptor, self._figures = count, descriptor, figures
        told = {"data": setup.data, "state": setup.state, "base": setup.base, "options": asdict(setup.options)}
        self._first = json.dumps({**told, "descriptor": descriptor}).encode() + b"\n"
        self._running: dict[int, asyncio.subprocess.Process] = {}
        self._connections: dict[int, int] = {}
        self._tasks: list[asyncio.Task[None]] = []
        self._stopping = False
        self._waiting: int | None = None
        #: Bytes that the index grew by since somebody took them.
        self.grew = 0

    @property
    def running(self) -> int:
        """How many run."""
        return len(self._running)

    @property
    def wanted(self) -> int:
        """How many shall run."""
        return self._count

    @property
    def connections(self) -> int:
        """Their open connections."""
        return sum(self._connections.values())

    def start(self) -> None:
        """Start them."""
        self._tasks = [asyncio.create_task(self._keep(number)) for number in range(self._count)]

    async def _keep(self, number: int) -> None:
        """Keep one running until they shall stop."""
        while not self._stopping:
            try:
                await self._run(number)
            except (OSError, ValueError) as error:
                log.warning("a process that answers failed: %s", type(error).__name__)
            if not self._stopping:
                log.warning("a process that answers ended; it is started again")
                await asyncio.sleep(_AGAIN)

    async def _run(self, number: int) -> None:
        process = await asyncio.create_subprocess_exec(
            sys.executable,
            "-m",
            "listener.serve.child",
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            pass_fds=(self._descriptor,),
            limit=_LONGEST,
            start_new_session=True,
        )
        assert process.stdin
        assert process.stdout
        self._running[number] = process
        try:
            process.stdin.write(self._first + self._news())
            if self._stopping:
                process.stdin.close()
            async for line in process.stdout:
                self._count_report(number, json.loads(line))
        finally:
            del self._running[number]
            self._connections.pop(number, None)
            with contextlib.suppress(ProcessLookupError):
                process.kill()
            await process.wait()

    def _count_report(self, number: int, report: dict[str, Any]) -> None:
        self._connections[number] = report["connections"]
        for told in report["told"]:
            self._figures.told(Told(*told))
        for looked in report["looked"]:
            lookup = Lookup(*looked)
            self._figures.looked(lookup)
            self.grew += lookup.bytes

    def _news(self) -> bytes:
        return json.dumps(self._waiting).encode() + b"\n"

    def tell(self, waiting: int | None) -> None:
        """Tell them how many series the catalogue lacks."""
        if waiting == self._waiting:
            return
        self._waiting = waiting
        for process in self._running.values():
            if process.stdin and not process.stdin.is_closing():
                process.stdin.write(self._news())

    def stop(self, *, at_once: bool = False) -> None:
        """Let them end their answers and go; `at_once`: kill them."""
        self._stopping = True
        for process in self._running.values():
            if process.stdin:
                process.stdin.close()
            if at_once:
                with contextlib.suppress(ProcessLookupError):
                    process.kill()

    async def wait(self) -> None:
        """Wait until all have gone."""
        await asyncio.gather(*self._tasks)
