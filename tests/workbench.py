"""A configured place to repack in, below one directory: what a worker has, in the test's own process."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import orjson
import pytest

from listener.config import Config
from listener.disk.directories import prepare
from listener.planning.names import OWN
from listener.records import Arrival, Deferral, Outcome
from listener.repacking import claim
from listener.repacking.context import CLAIM, WorkerContext
from listener.repacking.repack import Repacker
from tests.instances import write_instance


def make_config(base: Path, **changes: Any) -> Config:
    """A configuration below `base`: one worker, no port, no forced sync, no floor of free space."""
    small: dict[str, Any] = {
        "incoming": (str(base / "incoming"),),
        "data": str(base / "data"),
        "log": str(base / "log"),
        "state": str(base / "state"),
        "workers": 1,
        "http": "off",
        "fsync": "none",
        "min_free": 0,
    }
    return replace(Config(), **small | changes)


def arrival_of(path: Path | str, root: int = 0) -> Arrival:
    """The arrival that noticing `path` would make."""
    status = os.lstat(path)
    return Arrival(str(path), root, status.st_ctime_ns, "event", size=status.st_size)


def contents(directory: Path | str) -> dict[str, bytes]:
    """Relative path and bytes of every file below `directory`, our own directories left out."""
    found = {}
    for folder, folders, names in os.walk(directory):
        folders[:] = [name for name in folders if name != OWN]
        for name in names:
            path = os.path.join(folder, name)
            found[os.path.relpath(path, directory)] = b"" if os.path.islink(path) else Path(path).read_bytes()
    return found


class Bench:
    """Four directories, a context and a repacker; plays the parent's part too: it lets go of what is finished."""

    def __init__(self, base: Path, mode: str = CLAIM, **changes: Any) -> None:
        self.config = make_config(base, **changes)
        self.directories = prepare(self.config)
        self.context = WorkerContext(self.config, self.directories, mode)
        self.repacker = Repacker(self.context)
        self.incoming = Path(self.config.incoming[0])
        self.data, self.log, self.state = Path(self.config.data), Path(self.config.log), Path(self.config.state)

    def put(self, name: str = "one", **arguments: Any) -> Path:
        """A finished instance in incoming."""
        return write_instance(self.incoming / name, **arguments)

    def repack(self, *paths: Path | str) -> list[Outcome | Deferral]:
        """Arrivals through one batch; claims of finished ones are let go, as the parent does."""
        results = self.work([arrival_of(path) for path in paths])
        for result in results:
            if isinstance(result, Outcome) and result.claim:
                claim.release(result.claim)
        return results

    def work(self, arrivals: list[Arrival]) -> list[Outcome | Deferral]:
        """What a worker answers; claims stay."""
        return self.repacker.repack(arrivals)

    def outcome(self, path: Path | str) -> Outcome:
        """The outcome of one arrival that must not be deferred."""
        (result,) = self.repack(path)
        assert isinstance(result, Outcome), result
        return result

    def publish(self, name: str = "one", **arguments: Any) -> Outcome:
        """An instance that arrives and is published."""
        result = self.outcome(self.put(name, **arguments))
        assert result.kind == "published", result
        return result

    def claims(self) -> list[str]:
        """Names of the claims that are held."""
        return sorted(name for directory in self.directories.claims for name in os.listdir(directory))

    def document(self, relative: str) -> Any:
        """One JSON document of the log."""
        return orjson.loads((self.log / relative).read_bytes())

    def set_aside(self, reason: str) -> dict[str, bytes]:
        """What lies in set-aside under `reason`, reason files and the lock included."""
        return contents(self.state / "set-aside" / reason)


def need_root() -> None:
    """Skip where mounting and other people's files cannot be had."""
    if os.geteuid() != 0:
        pytest.skip("needs root: it mounts a file system or becomes another user")


@contextmanager
def without_powers() -> Iterator[tuple[str, ...]]:
    """How to start a process that may do no more than its files' permissions say: also root is held to them."""
    if os.geteuid() != 0:
        yield ()
        return
    if shutil.which("setpriv") is None:
        pytest.skip("setpriv is not installed (util-linux)")
    yield ("setpriv", "--bounding-set", "-all", "--inh-caps", "-all")


@contextmanager
def tmpfs(path: Path, size: str = "16m") -> Iterator[Path]:
    """A file system of its own at `path`, so that rename and link really give EXDEV."""
    need_root()
    path.mkdir(parents=True, exist_ok=True)
    command = ["mount", "-t", "tmpfs", "-o", f"size={size}", "none", str(path)]
    made = subprocess.run(command, capture_output=True, check=False)
    if made.returncode:
        pytest.skip(f"no mount here: {made.stderr.decode().strip()}")
    try:
        yield path
    finally:
        subprocess.run(["umount", "-l", str(path)], check=True)


@contextmanager
def bound(source: Path, path: Path) -> Iterator[Path]:
    """`source` by another mount of the same file system, at `path`."""
    need_root()
    path.mkdir(parents=True, exist_ok=True)
    made = subprocess.run(["mount", "--bind", str(source), str(path)], capture_output=True, check=False)
    if made.returncode:
        pytest.skip(f"no mount here: {made.stderr.decode().strip()}")
    try:
        yield path
    finally:
        subprocess.run(["umount", "-l", str(path)], check=True)


def directory_options(folder: Path, *names: str) -> list[str]:
    return [f"--{name}={folder / name}" for name in names or ("data", "log", "state")]
