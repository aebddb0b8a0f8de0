"""Real senders: dcmsend or storescu processes, at full rate or paced."""

from __future__ import annotations

import os
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

from listener.benchmark.corpus import Corpus
from listener.benchmark.processes import spent
from listener.benchmark.verify import Unfinished
from listener.quickstart.processes import dcmtk

#: Files that a paced sender sends in one association: about a series. The start of a sender costs as much as 40 files.
CHUNK = 200

#: Without it, DCMTK waits 40 ms for each instance on the loopback interface.
ENVIRONMENT = {"TCP_NODELAY": "1"}

_Running = tuple[subprocess.Popen[bytes], Iterator[Path]]

#: Seconds between two checks of the senders.
_PAUSE = 0.002

#: Seconds that all senders together may take.
_SECONDS = 3600


class Batches:
    """The corpus in folders for `senders` at once, each cut into associations of `chunk` files (0: one association).

    `shape` is theirs, `files` their number, `size` their bytes in all.
    """

    def __init__(self, folder: Path, corpus: Corpus, senders: int, chunk: int = 0) -> None:
        self.shape = corpus.shape
        self.files = corpus.shape.files
        self.pids: set[int] = set()
        per_sender = -(-self.files // senders)
        lanes = senders * (-(-per_sender // chunk) if chunk else 1)
        self.size = sum(
            corpus.write(folder / f"{number:06}", self.files, step=(number, lanes))
            for number in range(min(lanes, self.files))
        )
        #: All files, in the order of their names.
        self.paths = sorted((path for path in folder.rglob("*") if path.is_file()), key=lambda path: path.name)
        self._lanes = [sorted(folder.iterdir())[number::senders] for number in range(senders)]

    def send(self, port: int, rate: float = 0.0) -> float:
        """Send all, `rate` files a second in all, or at full rate. Return the processor seconds of the senders.

        No other code may wait for a process meanwhile. Raises Unfinished when a sender failed.
        """
        before = spent()
        running: list[_Running] = []
        try:
            self._send(port, rate, running)
        finally:
            for process, _ in running:
                process.kill()
                process.wait()
        return spent() - before

    def _send(self, port: int, rate: float, running: list[_Running]) -> None:
        """Start senders when a lane is free and it is time; `running` always has those that run."""
        begun, sent, waiting = time.monotonic(), 0, [iter(lane) for lane in self._lanes]
        every = self.files / sum(map(len, self._lanes)) / rate if rate else 0.0
        while waiting or running:
            while waiting and time.monotonic() >= begun + sent * every:
                lane = waiting.pop(0)
                if (folder := next(lane, None)) is not None:
                    running.append((_sender(port, folder), lane))
                    self.pids.add(running[-1][0].pid)
                    sent += 1
            waiting += _ended(running)
            if time.monotonic() > begun + _SECONDS:
                raise Unfinished(f"the senders were not done in {_SECONDS} s")
            time.sleep(_PAUSE)


def _ended(running: list[_Running]) -> list[Iterator[Path]]:
    """Remove the senders that have ended, and return their lanes. Raises Unfinished when one failed."""
    ended = [sender for sender in running if sender[0].poll() is not None]
    running[:] = [sender for sender in running if sender not in ended]
    if any(process.returncode for process, _ in ended):
        raise Unfinished("a sender was refused, or ended with an error")
    return [lane for _, lane in ended]


def _sender(port: int, folder: Path) -> subprocess.Popen[bytes]:
    program = sender_program() or "dcmsend"
    return subprocess.Popen(
        [program, "+sd", "-aec", "STORESCP", "127.0.0.1", str(port), str(folder)],
        env={**os.environ, **ENVIRONMENT},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )


def sender_program() -> str | None:
    """Return dcmsend, or storescu where only that is on PATH, or None."""
    return next((name for name in ("dcmsend", "storescu") if dcmtk(name)), None)
