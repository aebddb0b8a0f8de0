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
            process.wait(120)
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

_ADDRESS, _BRIDGE = "10.99.0.1", "bridge"


class Network(NamedTuple):
    """A network file system: how it is mounted, and the network namespace that its servers have, where hosts are
    plugged in.
    """

    namespace: str
    mount: Mount

    def words(self, name: str, point: Path) -> tuple[str, ...]:
        """By which it is mounted from the network of its servers."""
        return (*_inside(self.namespace), *self.mount(name, point))

    def plug_in(self, number: int, init: int) -> None:
        """Give the host with this first process a cable."""
        into, address = f"--net=/proc/{init}/ns/net", f"{_ADDRESS[:-1]}{number + 2}/24"
        for words in (
            f"link add host{number} type veth peer name eth0 netns {init}",
            f"link set host{number} master {_BRIDGE} up",
        ):
            subprocess.run(["ip", "-n", self.namespace, *words.split()], check=True)
        for words in ("link set lo up", f"addr add {address} dev eth0", "link set eth0 up"):
            subprocess.run(["nsenter", into, "ip", *words.split()], check=True)

    def cut(self, number: int) -> None:
        """Cut a host's cable: nobody is told that its connections end."""
        subprocess.run(["ip", "-n", self.namespace, "link", "set", f"host{number}", "down"], check=True)


def _inside(namespace: str) -> tuple[str, ...]:
    return ("nsenter", f"--net=/run/netns/{namespace}")


@contextmanager
def juicefs(base: Path) -> Iterator[Network]:
    """JuiceFS on a Redis of its own."""
    need("juicefs", "redis-server", "ip", "nsenter", why=".ci/need redis juicefs")
    log, url = base / "network.log", f"redis://{_ADDRESS}:6379/1"
    redis = ("redis-server", "--bind", _ADDRESS, "--protected-mode", "no", "--save", "", "--dir", str(base))
    with _network() as namespace, running(log, *_inside(namespace), *redis):
        until(lambda: "Ready to accept connections" in log.read_text(), 10)
        objects = f"{base}/objects/"
        format_ = [*_inside(namespace), "juicefs", "format", "--storage", "file", "--bucket", objects, url, "two"]
        subprocess.run(format_, check=True, capture_output=True)

        def mount(name: str, point: Path) -> tuple[str, ...]:
            options = ("--no-usage-report", "--cache-dir", f"{base}/cache-{name}", "--metrics", "127.0.0.1:0")
            return ("juicefs", "mount", *options, url, str(point))

        yield Network(namespace, mount)


@contextmanager
def _network() -> Iterator[str]:
    """A network namespace with an address that is not loopback, and a bridge for more; its name."""
    name = f"listener-{os.getpid()}"
    made = subprocess.run(["ip", "netns", "add", name], capture_output=True, check=False)
    if made.returncode:
        pytest.skip(f"no network namespace here: {made.stderr.decode().strip()}")
    try:
        for words in (
            "link set lo up",
            f"link add {_BRIDGE} type bridge",
            f"addr add {_ADDRESS}/24 dev {_BRIDGE}",
            f"link set {_BRIDGE} up",
        ):
            subprocess.run(["ip", "-n", name, *words.split()], check=True)
        yield name
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
def moosefs(base: Path) -> Iterator[Network]:
    """MooseFS in a network of its own, since it wants an address that is not loopback."""
    need("mfsmaster", "mfschunkserver", "mfsmount", "ip", "nsenter", why=".ci/need moosefs")
    _moosefs_settings(base)
    log = base / "network.log"
    with ExitStack() as stack:
        namespace = stack.enter_context(_network())
        for program, settings in (("mfsmaster", "master.cfg"), ("mfschunkserver", "chunk.cfg")):
            command = (*_inside(namespace), program, "-f", "-c", str(base / settings), "start")
            stack.enter_context(running(log, *command))
            until(lambda program=program: f"{program} daemon initialized" in log.read_text(), 20)  # type: ignore[misc]
        until(lambda: "register end" in log.read_text(), 20, what="the chunk server is known")
        yield Network(namespace, lambda _, point: ("mfsmount", "-f", str(point), "-H", _ADDRESS))


@contextmanager
def machines_of(base: Path, network: str) -> Iterator[Machines]:
    """Two machines on a network file system of this name."""
    with ExitStack() as stack:
        system = stack.enter_context(NETWORKS[network](base))
        points = []
        for name in ("one", "other"):
            point = base / name
            points.append(stack.enter_context(_mounted(point, base / "network.log", system.words(name, point))))
        yield Machines(*points)


NETWORKS: dict[str, Callable[[Path], AbstractContextManager[Network]]] = {"juicefs": juicefs, "moosefs": moosefs}
