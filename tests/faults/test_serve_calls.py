"""SIGKILL at every system call by which `listener serve` and its indexing change anything: nothing of the index is ever
wrong, no answer is, and the next run makes it as one that nobody disturbed.
"""

from __future__ import annotations

import contextlib
import http.client
import os
import shutil
import signal
import sqlite3
import subprocess
import tempfile
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.faults.crash import changes
from tests.faults.injecting import CALLS
from tests.frames.collection import Collection
from tests.frames.making import Maker
from tests.instances import instance, save
from tests.service_process import command, environment, events_of
from tests.waiting import until

pytestmark = [pytest.mark.real, pytest.mark.slow, pytest.mark.faults, pytest.mark.timeout(900)]

FRAMES = 20

#: Calls that SQLite alone makes here.
_OF_SQLITE = ("pwrite64", "ftruncate", "fchown")


class Stage:
    """A collection of two series, of which nothing changes, and an index that is made again and again."""

    def __init__(self, base: Path) -> None:
        self._base, self.index = base, base / "index"
        self._trace, self._out = base / "trace", base / "out"
        with contextlib.closing(Collection(base)) as collection:
            url, frames = collection.slide(FRAMES)
            made = instance(number=1)
            uids = map(str, (made.SOPInstanceUID, made.StudyInstanceUID, made.SeriesInstanceUID))
            path = save(made, base / "one")
            other = collection.add(Maker("", *uids), path.read_bytes(), Modality="MR")
            collection.complete()
            self._words = ["--data", str(collection.data), "--state", collection.state, "--index", str(self.index)]
            self._words += ["--public-url", "http://x/dicom-web"]
        #: What is asked for, and what may be answered (None: anything).
        self.asked: dict[str, bytes | None] = {
            f"/{url}/frames/{number}": frame for number, frame in enumerate(frames, 1)
        }
        self.asked |= {f"/{other}/bulkdata/7FE00010": made.PixelData, f"/{other}/metadata": None, "/studies": None}

    def _command(self, *words: str, inject: str, call: str) -> list[str]:
        traced = ["strace", "-f", "-qq", "--seccomp-bpf", "-o", str(self._trace)]
        traced += ["-e", f"trace={call or ','.join('?' + one for one in CALLS)}"]
        traced += ["-e", f"inject={call}:{inject}"] if inject else []
        return [*traced, *command("serve", *words, *self._words)]

    def remove(self) -> None:
        """Remove the index."""
        shutil.rmtree(self.index, ignore_errors=True)

    def once(self, inject: str = "", call: str = "", *, traced: bool = False) -> int:
        """Index all, and return the exit status."""
        words = self._command("once", inject=inject, call=call) if traced else command("serve", "once", *self._words)
        with self._out.open("wb") as out:
            done = subprocess.run(
                words, env=environment(), stdin=subprocess.DEVNULL, stdout=out, stderr=out, check=False, timeout=900
            )
        return done.returncode

    def serve(self, inject: str = "", call: str = "") -> list[str]:
        """Serve, ask for everything until that is answered or nobody answers, and end it; return what was wrong."""
        words = self._command("--dicomweb", "127.0.0.1:0", "--http", "off", inject=inject, call=call)
        with self._out.open("wb") as out:
            process = subprocess.Popen(
                words, env=environment(), stdin=subprocess.DEVNULL, stdout=out, stderr=subprocess.DEVNULL
            )
        try:
            address = until(lambda: process.poll() is not None or self._address(), 60, what="serve to start")
            wrong = self._ask(str(address)) if isinstance(address, str) else []
            with contextlib.suppress(ProcessLookupError, FileNotFoundError, IndexError):
                children = Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()
                os.kill(int(children[0]), signal.SIGTERM)
            process.wait(120)
        finally:
            process.kill()
            process.wait()
        return wrong

    def _address(self) -> str:
        started = [one for one in events_of(self._out.read_bytes()) if one["event"] == "started"]
        return str(started[0]["dicomweb"]) if started else ""

    def _ask(self, address: str) -> list[str]:
        wrong = []
        for path, wanted in self.asked.items():
            connection = http.client.HTTPConnection(address, timeout=60)
            accept = "image/jpeg, application/octet-stream, application/dicom+json"
            with contextlib.suppress(OSError, http.client.HTTPException), contextlib.closing(connection):
                connection.request("GET", f"/dicom-web{path}", headers={"accept": accept})
                answer = connection.getresponse()
                body = answer.read()
                if answer.status == 200 and wanted not in (None, body):
                    wrong.append(f"{path}: not what is there")
        return wrong

    def points(self) -> set[tuple[str, int]]:
        """The calls of the last run that change anything but pipes and sockets, counted for each thread; of those by
        which SQLite changes the catalogue every tenth.
        """
        found, numbers, of_sqlite = set(), Counter[tuple[str, str]](), 0
        for line in self._trace.read_text(errors="replace").splitlines():
            thread, _, rest = line.partition(" ")
            call = rest.lstrip().partition("(")[0]
            if call in CALLS and "resumed>" not in rest:
                numbers[thread, call] += 1
                is_sqlite = call in _OF_SQLITE or "catalogue.sqlite" in rest
                of_sqlite += is_sqlite
                if changes(call, rest.lstrip()) and not (is_sqlite and of_sqlite % 10):
                    found.add((call, numbers[thread, call]))
        return found

    def content(self) -> dict[str, object]:
        """What the index holds: documents and tables by their names, and the rows of the catalogue."""
        files: dict[str, object] = {
            path.name: path.read_bytes() for path in self.index.rglob("*") if path.suffix in (".gz", ".table")
        }
        catalogue = self.index / "catalogue.sqlite"
        if catalogue.exists():
            with contextlib.closing(sqlite3.connect(catalogue)) as connection, contextlib.suppress(sqlite3.Error):
                files["series"] = connection.execute("SELECT * FROM series ORDER BY id").fetchall()
                files["attributes"] = connection.execute("SELECT * FROM attributes ORDER BY id").fetchall()
        return files

    def was_hit(self) -> bool:
        return "+++ killed by SIGKILL +++" in self._trace.read_text(errors="replace")


@pytest.fixture
def stage() -> Iterator[Stage]:
    if shutil.which("strace") is None:
        pytest.skip("strace is not installed")
    memory = "/dev/shm" if os.access("/dev/shm", os.W_OK) else None  # noqa: S108 - a private directory below it
    with tempfile.TemporaryDirectory(prefix="listener-", dir=memory) as name:
        yield Stage(Path(name))


def contradicts(found: dict[str, object], wanted: dict[str, object]) -> list[str]:
    """What of an index is there, and is not as it should be; rows may be missing."""
    wrong = []
    for name, value in found.items():
        if isinstance(value, list):
            wrong += [f"{name} has {row}" for row in value if row not in wanted[name]]  # type: ignore[operator]
        elif value != wanted.get(name):
            wrong.append(f"{name} is another")
    return wrong


def heal(stage: Stage, wanted: dict[str, object], wrong: list[str], where: str) -> list[str]:
    """Index again, as nobody disturbs, and return all that is wrong."""
    wrong = [*wrong, *contradicts(stage.content(), wanted)]
    if stage.once() != 0:
        wrong.append("the next run failed")
    if stage.content() != wanted:
        wrong.append("the next run did not make it whole")
    return [f"{where}: {one}" for one in wrong]


@pytest.mark.parametrize("deed", ["once", "serve"])
def test_serve_that_is_killed_at_every_call(deed: str, stage: Stage) -> None:
    assert stage.once() == 0
    wanted = stage.content()
    assert {"series", "attributes"} < wanted.keys()
    stage.remove()
    assert (stage.once(traced=True) if deed == "once" else stage.serve()) in (0, [])
    assert not contradicts(stage.content(), wanted)
    complaints, hits, points = [], 0, sorted(stage.points())
    for call, number in points:
        stage.remove()
        inject = f"signal=SIGKILL:when={number}"
        wrong: list[str] = []
        if deed == "once":
            stage.once(inject, call, traced=True)
        else:
            wrong = stage.serve(inject, call)
        hits += stage.was_hit()
        complaints += heal(stage, wanted, wrong, f"{call} number {number}")
    print(f"{deed}: {hits} of {len(points)} kill points")
    assert not complaints, "\n".join([f"{len(complaints)} violations at {hits} kill points:", *complaints[:30]])
    assert hits > len(points) / 2
