"""Start the listener and storescp side by side for `make run`, and print what to do next.

This process owns the terminal. The two others run in process groups of their own, so that Ctrl-C reaches only this one,
which then stops the receiver first and the listener after it.
"""

from __future__ import annotations

import argparse
import os
import shlex
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from queue import Empty, SimpleQueue
from threading import Thread
from typing import BinaryIO

import orjson

from listener.diagnostics import in_colour
from listener.quickstart.processes import accepts, dcmtk, start, stop
from listener.quickstart.synthetic import make_series
from listener.storescp import RECOMMENDED

START_SECONDS = 30.0


class QuickStart:
    """The two processes and their output."""

    def __init__(self, folder: Path, port: int, http: str) -> None:
        self.folder, self.port, self.http = folder, port, http
        self.signals: list[int] = []
        self.ready = ""
        self._processes: dict[str, subprocess.Popen[bytes]] = {}
        self._lines: SimpleQueue[bytes] = SimpleQueue()
        self._counts: Counter[str] = Counter()
        self._printed = 0

    def run(self) -> int:
        """Start the listener, then storescp, print what to do next, and wait for the end. Return the exit status."""
        try:
            self._processes["listener"] = listener = start(self._listen(), subprocess.PIPE)
            Thread(target=self._read, args=(listener.stdout,)).start()
            if self._wait(lambda: bool(self.ready)):
                self._processes["storescp"] = start(self._receive())
                if self._wait(lambda: accepts("127.0.0.1", self.port)):
                    print(self._hints(), flush=True)
                    self._wait(lambda: False, float("inf"))
            return self._exit_status()
        finally:
            for process in reversed(self._processes.values()):
                stop(process, self.signals)
            self._print_output()

    def _read(self, output: BinaryIO) -> None:
        with output:
            for line in output:
                self._lines.put(line)

    def _listen(self) -> list[str]:
        folders = [f"--{name}={self.folder / name}" for name in ("incoming", "data", "log", "state")]
        return [sys.executable, "-m", "listener", "run", *folders, f"--http={self.http}"]

    def _receive(self) -> list[str]:
        where = ["-od", str(self.folder / "incoming"), str(self.port)]
        if dcmtk("storescp"):
            return ["storescp", *RECOMMENDED, *where]
        print("Receiving with pynetdicom. DCMTK's storescp is much faster (on Debian: apt-get install dcmtk).")
        return [sys.executable, "-m", "pynetdicom", "storescp", *where]

    def _wait(self, done: Callable[[], bool], seconds: float = START_SECONDS) -> bool:
        """Print the output until `done()` (return True), or until a signal, the end of a process or the deadline
        (False).
        """
        deadline = time.monotonic() + seconds
        while not self.signals and time.monotonic() < deadline:
            if done():
                return True
            if any(process.poll() is not None for process in self._processes.values()):
                return False
            self._print_output()
        return False

    def _print_output(self) -> None:
        """Print new output, and the counts of files when they changed."""
        with suppress(Empty):
            for _ in range(1000):  # then check for signals again
                line = self._lines.get(timeout=0.1)
                if line.startswith(b"{"):
                    self._event(orjson.loads(line))
                else:
                    print(line.decode(errors="replace"), end="", flush=True)
        if self._printed != self._counts.total():
            self._printed = self._counts.total()
            print(", ".join(f"{number} {kind}" for kind, number in self._counts.items()), flush=True)

    def _event(self, event: dict[str, str]) -> None:
        kind = event.get("event", "")
        if kind == "ready":
            self.ready = event["http"]
        elif kind in ("published", "duplicate", "set-aside"):
            self._counts[kind] += 1
        if event.get("error"):
            print(f"{kind} {event.get('src', '')}: {event['error']}", flush=True)

    def _exit_status(self) -> int:
        if self.signals:
            print("\nStopping.", flush=True)
            return 0
        self._print_output()
        message = f"{list(self._processes)[-1]} was not ready within {START_SECONDS:.0f} seconds."
        for name, process in self._processes.items():
            if process.poll() is not None:
                message = f"{name} has ended (status {process.returncode}). What it said last stands above."
        print(message, file=sys.stderr)
        return 1

    def _hints(self) -> str:
        example = shlex.quote(str(self.folder / "example"))
        send = f"TCP_NODELAY=1 storescu +sd localhost {self.port} {example}"
        if not dcmtk("storescu"):
            python = shlex.quote(os.path.relpath(sys.executable))
            send = f"{python} -m pynetdicom storescu -r -cx localhost {self.port} {example}"
        start, end = ("\033[1m", "\033[0m") if in_colour(sys.stdout) else ("", "")
        return (
            "\nstorescp and the listener run. In another terminal, send the example:\n"
            f"    {start}{send}\n{end}and look at the result:\n"
            f"    {start}find {shlex.quote(str(self.folder / 'data'))} -name '*.dcm'\n{end}"
            f"How it stands: {start}http://{self.ready}/{end}\n"
            f"What is measured: {start}http://{self.ready}/metrics{end}\nCtrl-C stops both.\n"
        )


def main(argv: list[str] | None = None) -> int:
    """Make the directories and the example, and run both until Ctrl-C. Return the exit status."""
    parser = argparse.ArgumentParser(prog="make run", description="Start storescp and the listener side by side.")
    parser.add_argument("--dir", type=Path, default=Path("dicom"), help="where everything is kept (DIR=, %(default)s)")
    parser.add_argument("--port", type=int, default=11112, help="where storescp receives (PORT=, %(default)s)")
    parser.add_argument("--http", default="127.0.0.1:9464", help="where the metrics are (HTTP=, %(default)s)")
    args = parser.parse_args(argv)
    host, _, port = args.http.rpartition(":")
    for taken, variable in ((("", args.port), "PORT=11113"), ((host, int(port)), "HTTP=127.0.0.1:9465")):
        if accepts(*taken):
            print(f"Port {taken[1]} is taken. Choose another one: make run {variable}", file=sys.stderr)
            return 1
    for name in ("incoming", "data", "log", "state"):
        (args.dir / name).mkdir(parents=True, exist_ok=True)
    make_series(args.dir / "example", instances=8, series=2)
    quick_start = QuickStart(args.dir, args.port, args.http)
    for each in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(each, lambda number, _: quick_start.signals.append(number))
    return quick_start.run()


if __name__ == "__main__":
    sys.exit(main())
