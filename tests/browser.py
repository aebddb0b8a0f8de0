"""A real headless Chromium, driven through its own protocol over two pipes: no driver, no port, no library."""

from __future__ import annotations

import base64
import fcntl
import json
import os
import select
import shutil
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from tests.dicomnet import kill_group

_FLAGS = (
    "--headless=new",
    "--no-sandbox",  # containers and root have none
    "--disable-dev-shm-usage",
    "--disable-background-networking",
    "--disable-breakpad",
    "--disable-crash-reporter",
    "--no-first-run",
    "--remote-debugging-pipe",
)

#: Without a graphics card: no graphics, or WebGL by the processor.
_PLAIN = ("--disable-gpu",)
_WEBGL = ("--use-angle=swiftshader", "--enable-unsafe-swiftshader")

PATIENCE = 120.0


def _chromium() -> str | None:
    """Its path, where one is installed."""
    return next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)


class Browser:
    """One tab. Every call raises AssertionError when there is no answer within PATIENCE seconds."""

    def __init__(self, reader: int, writer: int) -> None:
        self._reader, self._writer = reader, writer
        self._buffer = b""
        self._number = 0
        self._session = ""
        self.told: list[dict[str, Any]] = []  # events: what the browser says by itself
        target = self.call("Target.createTarget", url="about:blank")["targetId"]
        self._session = self.call("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]
        for domain in ("Page", "Runtime", "Log", "Network"):
            self.call(f"{domain}.enable")

    def call(self, method: str, **params: Any) -> dict[str, Any]:
        """One command of the protocol, and its result."""
        self._number += 1
        asked = {"id": self._number, "method": method, "params": params}
        if self._session:
            asked["sessionId"] = self._session
        os.write(self._writer, json.dumps(asked).encode() + b"\0")
        while True:
            message = self._message(method)
            if message.get("id") == self._number:
                assert "error" not in message, (method, message)
                result: dict[str, Any] = message["result"]
                return result
            self.told.append(message)

    def _message(self, what: str) -> dict[str, Any]:
        end = time.monotonic() + PATIENCE
        while b"\0" not in self._buffer:
            ready, _, _ = select.select([self._reader], [], [], max(0.0, end - time.monotonic()))
            assert ready, f"no answer to {what}"
            data = os.read(self._reader, 2**20)
            assert data, "the browser ended"
            self._buffer += data
        first, _, self._buffer = self._buffer.partition(b"\0")
        message: dict[str, Any] = json.loads(first)
        return message

    def until(self, event: str) -> dict[str, Any]:
        """Wait for an event that comes from now on."""
        while True:
            message = self._message(event)
            self.told.append(message)
            if message.get("method") == event:
                params: dict[str, Any] = message["params"]
                return params

    def open(self, url: str) -> None:
        """Open a page, and wait until it is loaded."""
        self.call("Page.navigate", url=url)
        self.until("Page.loadEventFired")

    def look(self, width: int, height: int, scheme: str = "light") -> None:
        """The window's size, and whether light or dark is preferred."""
        self.call("Emulation.setDeviceMetricsOverride", width=width, height=height, deviceScaleFactor=1, mobile=False)
        self.call("Emulation.setEmulatedMedia", features=[{"name": "prefers-color-scheme", "value": scheme}])

    def value(self, expression: str) -> Any:
        """What an expression of JavaScript gives."""
        found = self.call("Runtime.evaluate", expression=expression, returnByValue=True, awaitPromise=True)
        assert "exceptionDetails" not in found, found
        return found["result"].get("value")

    def screenshot(self, path: Path) -> None:
        """The whole page, as PNG."""
        found = self.call("Page.captureScreenshot", format="png", captureBeyondViewport=True)
        path.write_bytes(base64.b64decode(found["data"]))

    def complaints(self) -> list[str]:
        """Errors and warnings of scripts, of the policy, and of the network."""
        self.call("Runtime.evaluate", expression="0")  # what was said before is here now
        found = []
        for message in self.told:
            params = message.get("params", {})
            if message.get("method") == "Log.entryAdded" and params["entry"]["level"] in ("error", "warning"):
                found.append(f"{params['entry']['text']} {params['entry'].get('url', '')}")
            if message.get("method") == "Runtime.exceptionThrown":
                found.append(str(params["exceptionDetails"]))
        return found

    def requests(self) -> set[str]:
        """The URLs that were asked for."""
        sent = [one["params"] for one in self.told if one.get("method") == "Network.requestWillBeSent"]
        return {params["request"]["url"] for params in sent}


def _high(descriptor: int) -> int:
    """The same pipe under a number that is in nobody's way."""
    moved = fcntl.fcntl(descriptor, fcntl.F_DUPFD_CLOEXEC, 64)
    os.close(descriptor)
    return moved


@contextmanager
def browser(profile: Path, *, webgl: bool = False) -> Iterator[Browser]:
    """A browser with an empty profile, and WebGL where it is asked for; ended when the block is left. The test is
    skipped where none is installed.
    """
    program = _chromium()
    if program is None:
        pytest.skip("no Chromium is installed (.ci/need chromium)")
    there, we_write = map(_high, os.pipe())
    we_read, here = map(_high, os.pipe())
    silent = os.open(os.devnull, os.O_RDWR)
    actions = [(os.POSIX_SPAWN_DUP2, silent, number) for number in (0, 1, 2)]
    actions += [(os.POSIX_SPAWN_DUP2, there, 3), (os.POSIX_SPAWN_DUP2, here, 4)]
    command = [program, *_FLAGS, *(_WEBGL if webgl else _PLAIN), f"--user-data-dir={profile}", "about:blank"]
    pid = os.posix_spawn(program, command, {**os.environ, "HOME": str(profile)}, file_actions=actions, setpgroup=0)
    for descriptor in (there, here, silent):
        os.close(descriptor)
    try:
        yield Browser(we_read, we_write)
    finally:
        kill_group(pid)
        os.waitpid(pid, 0)
        os.close(we_read)
        os.close(we_write)
