"""`listener serve` as a process, and a client that asks it."""

from __future__ import annotations

import http.client
import json
import subprocess
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any, NamedTuple

from tests.frames.collection import Collection
from tests.service_process import command, environment, events_of
from tests.waiting import until


class Got(NamedTuple):
    """An answer: status, fields by their names in small letters, body."""

    status: int
    fields: dict[str, str]
    body: bytes

    @property
    def json(self) -> Any:
        return json.loads(self.body)

    @property
    def parts(self) -> list[tuple[str, bytes]]:
        """The parts of a multipart message: media type and content, split by hand, byte for byte."""
        boundary = self.fields["content-type"].partition("boundary=")[2].encode()
        begin, *middle, end = (b"\r\n" + self.body).split(b"\r\n--" + boundary)
        assert (begin, end) == (b"", b"--\r\n")
        found = []
        for part in middle:
            head, _, content = part.partition(b"\r\n\r\n")
            assert len(head) < 200
            found.append((head.decode().strip().removeprefix("Content-Type: "), content))
        return found


class Serving:
    """A started `listener serve`."""

    def __init__(self, collection: Collection, *args: str, **variables: str) -> None:
        self._out, self._err = collection.data.parent / "serve.ndjson", collection.data.parent / "serve.txt"
        places = ["--data", str(collection.data), "--state", collection.state]
        ports = ["--dicomweb", "127.0.0.1:0", "--http", "127.0.0.1:0"]
        with self._out.open("wb") as out, self._err.open("wb") as err:
            self.process = subprocess.Popen(
                command("serve", *places, *ports, *args),
                env=environment(**variables),
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=err,
            )
        self.prefix = "/dicom-web"
        started = until(self._started, 30, what=f"serve to start: {self}") or {}
        self.address, self.http = started["dicomweb"], started["http"]

    def _started(self) -> dict[str, Any] | None:
        assert self.process.poll() is None, str(self)
        return next((event for event in self.events() if event["event"] == "started"), None)

    def events(self) -> list[dict[str, Any]]:
        return events_of(self._out.read_bytes())

    def __str__(self) -> str:
        return f"{self._out.read_text()}\n{self._err.read_text()}"

    @property
    def base(self) -> str:
        return f"http://{self.address}{self.prefix}"

    def get(self, path: str, *, method: str = "GET", whole: bool = False, **fields: Any) -> Got:
        """Ask for a path below the prefix; `fields` with underscores for hyphens."""
        with closing(http.client.HTTPConnection(self.address, timeout=120)) as connection:
            names = {name.replace("_", "-"): value for name, value in fields.items()}
            connection.request(method, path if whole else f"{self.prefix}{path}", headers=names)
            answer = connection.getresponse()
            found = {name.lower(): value for name, value in answer.getheaders()}
            return Got(answer.status, found, answer.read())

    def health(self, path: str) -> Got:
        with closing(http.client.HTTPConnection(self.http, timeout=120)) as connection:
            connection.request("GET", path)
            answer = connection.getresponse()
            return Got(answer.status, {}, answer.read())

    def ready(self) -> None:
        until(lambda: self.health("/readyz").status == 200, 30, what=f"serve to be ready: {self}")

    def workers(self) -> list[int]:
        """The processes that parse for it."""
        children = Path(f"/proc/{self.process.pid}/task/{self.process.pid}/children").read_text().split()
        return [int(pid) for pid in children]


@contextmanager
def serving(collection: Collection, *args: str, **variables: str) -> Iterator[Serving]:
    """A running `listener serve`; ended when the block is left."""
    running = Serving(collection, *args, **variables)
    try:
        yield running
        if running.process.poll() is None:
            running.process.terminate()
            assert running.process.wait(120) == 0, str(running)
    finally:
        running.process.kill()
        running.process.wait()
