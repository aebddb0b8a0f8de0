"""Hosts: network and mount namespaces of their own, each with its own mount of one shared directory, so that caches and
locks are its own too. One can be torn down as a host dies: all at once, and its file system's client with it.
"""

from __future__ import annotations

import os
import signal
import subprocess
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

from tests.faults.networks import NETWORKS, Mount, need, running
from tests.service_process import command, environment
from tests.waiting import until

#: What a host's directory can be: one local disk for all, or a network file system.
SHARED = ("disk", *sorted(NETWORKS))


class Host:
    """A host: its namespaces, and where it has the shared directory."""

    def __init__(self, root: Path) -> None:
        self.root = root
        words = ("unshare", "--mount", "--net", "--propagation", "private", "sleep", "infinity")
        self._holder = subprocess.Popen(words, stdin=subprocess.DEVNULL, process_group=0)
        ours = os.readlink("/proc/self/ns/mnt")
        self._namespace = f"/proc/{self._holder.pid}/ns/mnt"
        until(lambda: os.readlink(self._namespace) != ours, 10, what="the host has namespaces of its own")

    @property
    def view(self) -> Path:
        """The shared directory as the host sees it, for who is outside."""
        return Path(f"/proc/{self._holder.pid}/root{self.root}")

    @property
    def is_up(self) -> bool:
        return self._holder.poll() is None

    def words(self, *, network: bool = True) -> tuple[str, ...]:
        """By which a command is run in the host; without `network` in its mounts alone."""
        return ("nsenter", f"--target={self._holder.pid}", "--mount", *(("--net",) if network else ()))

    def start(self, *arguments: str) -> subprocess.Popen[bytes]:
        """Start a command of the program in the host, as tests.service_process.start does."""
        return subprocess.Popen(
            [*self.words(), *command(*arguments)],
            env=environment(),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            process_group=0,
        )

    def has_mounted(self) -> bool:
        words = [*self.words(), "mountpoint", "--quiet", str(self.root)]
        return subprocess.run(words, check=False).returncode == 0

    def processes(self) -> list[int]:
        """All that run in it, its holder last."""
        mine = os.readlink(self._namespace)
        found = []
        for entry in os.scandir("/proc"):
            try:
                if entry.name.isdigit() and os.readlink(f"/proc/{entry.name}/ns/mnt") == mine:
                    found.append(int(entry.name))
            except OSError:
                continue
        return sorted(found, key=self._holder.pid.__eq__)

    def tear_down(self) -> None:
        """End everything in it with SIGKILL: its namespaces, and with them its mount, go with the last process."""
        if self._holder.poll() is None:
            for pid in self.processes():
                try:
                    os.kill(pid, signal.SIGKILL)
                except ProcessLookupError:
                    continue
            self._holder.wait()


@contextmanager
def _host(base: Path, name: str, mount: Mount | None) -> Iterator[Host]:
    """A host with the shared directory at <base>/shared, as all others have it: documents name files by their paths."""
    point = base / "shared"
    with ExitStack() as stack:
        host = Host(point)
        stack.callback(host.tear_down)
        if mount:
            words = (*host.words(network=False), *mount(name, point))
            stack.enter_context(running(base / f"{name}.log", *words))
        else:
            subprocess.run([*host.words(), "mount", "--bind", str(base / "disk"), str(point)], check=True)
        until(host.has_mounted, 20, what=f"{name} has mounted the shared directory")
        yield host


@contextmanager
def hosts(base: Path, shared: str, names: tuple[str, ...]) -> Iterator[list[Host]]:
    """Hosts with one shared directory."""
    need("unshare", "nsenter", "mountpoint", why="apt install util-linux")
    with ExitStack() as stack:
        mount = stack.enter_context(NETWORKS[shared](base)) if shared in NETWORKS else None
        for name in ("disk", "shared"):
            (base / name).mkdir()
        yield [stack.enter_context(_host(base, name, mount)) for name in names]
