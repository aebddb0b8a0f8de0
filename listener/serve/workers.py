"""Worker processes as the event loop sees them: a job at a time each, with a deadline; one that fails is replaced."""

from __future__ import annotations

import asyncio
import contextlib
import json
import sys
from typing import Any

from listener.errors import ListenerError

#: Longest answer in bytes: the attributes of a series.
_LONGEST = 16 * 1024 * 1024


class WorkerFailed(ListenerError):
    """A worker died, or took longer than its deadline."""


class Worker:
    """One process, started with its first job; `niceness` lowers its priority, `deadline` is in seconds."""

    def __init__(self, niceness: int, deadline: float) -> None:
        self._niceness, self._deadline = niceness, deadline
        self._process: asyncio.subprocess.Process | None = None
        self._lock = asyncio.Lock()

    async def run(self, **job: Any) -> Any:
        """Return the answer to a job. Raises WorkerFailed."""
        async with self._lock:
            await asyncio.sleep(0)  # From here on it is in a task, which timeout() needs (see guard.Begun).
            try:
                async with asyncio.timeout(self._deadline):
                    return await self._ask(job)
            except (TimeoutError, OSError, ValueError, asyncio.IncompleteReadError):
                await self._end()
                raise WorkerFailed from None
            except asyncio.CancelledError:
                await self._end()
                raise

    async def _ask(self, job: dict[str, Any]) -> Any:
        process = self._process
        if process is None:
            process = self._process = await asyncio.create_subprocess_exec(
                sys.executable,
                "-m",
                "listener.serve.worker",
                str(self._niceness),
                stdin=asyncio.subprocess.PIPE,
                stdout=asyncio.subprocess.PIPE,
                limit=_LONGEST,
                start_new_session=True,
            )
        assert process.stdin
        assert process.stdout
        process.stdin.write(json.dumps(job).encode() + b"\n")
        await process.stdin.drain()
        return json.loads(await process.stdout.readuntil(b"\n"))

    async def _end(self) -> None:
        process, self._process = self._process, None
        if process:
            with contextlib.suppress(ProcessLookupError):
                process.kill()
            await process.wait()
            if process.stdin:
                process.stdin.close()

    async def stop(self) -> None:
        """End the process."""
        await self._end()
