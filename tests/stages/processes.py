"""A stage as a process, the example or a real one: its events, its HTTP port, its end."""

from __future__ import annotations

import json
import subprocess
import sys
import urllib.error
import urllib.request
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from tests.service_process import Event, environment, events_of
from tests.waiting import until


class StageProcess:
    """A started stage: the example, or what `module` says is to be run with arguments."""

    def __init__(self, state: Path, *args: str, module: Sequence[str] = ("tests.stages.example",)) -> None:
        number = len(list(state.parent.glob("stage-*.ndjson")))
        self._stdout = state.parent / f"stage-{number}.ndjson"
        self._stderr = state.parent / f"stage-{number}.txt"
        with self._stdout.open("wb") as out, self._stderr.open("wb") as err:
            self.process = subprocess.Popen(
                [sys.executable, "-m", *module, "--state", str(state), *args],
                env=environment(),
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=err,
                cwd=Path(__file__).resolve().parents[2],
            )

    def __str__(self) -> str:
        return f"{self._stdout.read_text()}\n{self._stderr.read_text()}"

    def events(self, name: str) -> list[Event]:
        return [event for event in events_of(self._stdout.read_bytes()) if event["event"] == name]

    def wait_for(self, name: str, count: int = 1, seconds: float = 20) -> list[Event]:
        def there() -> list[Event]:
            assert self.process.poll() is None or len(self.events(name)) >= count, str(self)
            found = self.events(name)
            return found if len(found) >= count else []

        return until(there, seconds, what=f"{count} times {name}: {self}")

    def get(self, path: str) -> tuple[int, Any]:
        """Status and body: of JSON, or text."""
        address = self.wait_for("started")[0]["http"]
        try:
            with urllib.request.urlopen(f"http://{address}{path}", timeout=120) as answer:
                status, body = answer.status, answer.read()
        except urllib.error.HTTPError as error:
            with error:
                status, body = error.code, error.read()
        return status, json.loads(body) if body.startswith(b"{") else body.decode()


@contextmanager
def stage(
    state: Path, *args: str, ready: bool = True, module: Sequence[str] = ("tests.stages.example",)
) -> Iterator[StageProcess]:
    """A running stage; ended when the block is left."""
    running = StageProcess(state, *args, module=module)
    try:
        if ready:
            running.wait_for("ready")
        yield running
        if running.process.poll() is None:
            running.process.terminate()
            assert running.process.wait(90) == 0, str(running)
    finally:
        running.process.kill()
        running.process.wait()
