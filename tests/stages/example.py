"""A small stage on the floor: it writes down each instance that the feed tells, and at the end of a series what it did
not. `python -m tests.stages.example --state DIR`.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import sys
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from listener.diagnostics import set_up
from listener.ledger.connection import open_reader, path_of
from listener.ledger.delivery_threads import Consumer, DeliveryThread
from listener.ledger.rows import Delivery
from listener.stages.follower import Cursor, Follower
from listener.stages.service import StageService, StageSettings, Tools
from listener.telemetry.health import Checks
from listener.telemetry.metric_rows import Row

NAME = "example"
_FILES = "SELECT path FROM files WHERE SeriesInstanceUID = ?"


class Example:
    """See Stage. Lines of `<state>/example/handled`: since, seq and path; seq 0 for what the end of a series told."""

    name = NAME
    rows: Sequence[Row] = (Row("example_instances_total", "counter", (), "Instances that were written down."),)

    def __init__(self, state: str) -> None:
        self._state = state
        self._lock = threading.Lock()
        self._broken = 0

    def begin(self, tools: Tools) -> Sequence[int]:
        self._tools = tools
        self._path = Path(tools.folder, "handled")
        if self._path.exists():  # A kill may have cut the last line.
            os.truncate(self._path, self._path.read_bytes().rfind(b"\n") + 1)
        handled = read(self._state)
        cursors = [Cursor(int(since), int(seq)) for since, seq, _ in handled if seq != "0"]
        self._handled = {path for *_, path in handled}
        self._follower = Follower(self._state, NAME, cursors[-1] if cursors else Cursor())
        self._taker = DeliveryThread(Consumer(NAME, NAME, "", 60.0), self, self._state)
        self._taker.answered = tools.answered
        self._taker.start()
        return [self._follower.fileno()]

    def turn(self, now: float) -> float:
        batch = self._follower.take()
        self._broken += batch.is_broken
        self._write([(batch.cursor.since_ns, row.seq, row.path) for row in batch.rows])
        self._follower.report(batch.cursor)
        return now if batch.rows else now + 60

    def _write(self, lines: Sequence[tuple[int, int, str]]) -> None:
        with self._lock, self._path.open("a", encoding="utf-8") as file:
            file.write("".join(f"{since} {seq} {path}\n" for since, seq, path in lines))
            self._handled |= {path for *_, path in lines}
        self._tools.metrics.add("example_instances_total", len(lines))

    def take(self, delivery: Delivery, renew: Callable[[], None]) -> None:
        if delivery.series is not None:
            with contextlib.closing(open_reader(path_of(self._state))) as ledger:
                files = ledger.execute(_FILES, (delivery.series.SeriesInstanceUID,)).fetchall()
            self._write([(0, 0, path) for (path,) in files if path not in self._handled])
        self._tools.events.service("settled", time.time_ns(), key=delivery.key)

    def abort(self) -> None:
        """Nothing waits."""

    def checks(self) -> Checks:
        return {"example": (True, "nothing can go wrong")}

    def shown(self) -> Mapping[str, Any]:
        return {"handled": len(self._handled), "broken": self._broken}

    def drain(self) -> bool:
        return not Path(self._state, "busy").exists()

    def end(self) -> None:
        self._taker.stop()
        self._follower.close()


def read(state: str | Path) -> list[tuple[str, str, str]]:
    """What was written down: since, seq, path. A line that is not whole yet is none."""
    path = Path(state, NAME, "handled")
    text = path.read_text(encoding="utf-8") if path.exists() else ""
    words = [line.split(" ") for line in text.split("\n")[:-1]]
    return [(since, seq, name) for since, seq, name in words]


def main() -> int:
    parser = argparse.ArgumentParser()
    parser.add_argument("--state", required=True)
    parser.add_argument("--drain", type=float, default=5.0)
    given = parser.parse_args()
    set_up("info")
    os.makedirs(given.state, exist_ok=True)
    return StageService(Example(given.state), StageSettings(given.state, "127.0.0.1:0", None, given.drain)).run()


if __name__ == "__main__":
    sys.exit(main())
