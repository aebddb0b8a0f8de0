"""Hosts: namespaces of their own for mounts, network, processes and name, each with its own mount of one shared
directory, so that caches and locks are its own too. One can die as a machine does: its cable first, so that no server
is told, then all of its processes at once, and with them the client of its file system.
"""

from __future__ import annotations

import os
import signal
import subprocess
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

from tests.faults.networks import NETWORKS, Network, need, running
from tests.service_process import children, command, environment
from tests.waiting import until

#: What a host's directory can be: one local disk for all, or a network file system.
SHARED = ("disk", *sorted(NETWORKS))

#: File systems of other tests, which a host got a copy of and never looks at: while it has one, who unmounts it and
#: mounts it again gets the old one.
_LET_GO = "sed -n 's#^/dev/loop[0-9]* \\([^ ]*\\) .*#\\1#p' /proc/self/mounts | xargs -r umount -l"

_UNSHARE = (
    "unshare", "--mount", "--net", "--uts", "--pid", "--fork", "--kill-child", "--mount-proc", "--propagation",
    "private", "sh", "-c", f'hostname "$0"; {_LET_GO}; exec sleep infinity',
)  # fmt: skip


#: Ends the FUSE connection of this number, as the end of a machine's kernel does.
_ABORT = (
    "unshare", "--mount", "--propagation", "private", "sh", "-c",
    'mount -t fusectl none /sys/fs/fuse/connections && echo 1 > "/sys/fs/fuse/connections/$0/abort"',
)  # fmt: skip

#: Seconds in which the kernel ends all processes of a host.
_SECONDS_OF_DEATH = 30.0


class Host:
    """A host: its namespaces, and where it has the shared directory. `init` is the first process of its own, with which
    the kernel kills all others.
    """

    def __init__(self, name: str, root: Path) -> None:
        self.root = root
        self._cable: tuple[Network, int] | None = None
        #: The device of its shared directory.
        self._device = 0
        null = subprocess.DEVNULL  # unshare complains when the process that it waits for is killed.
        self._holder = subprocess.Popen((*_UNSHARE, name), stdin=null, stderr=null, process_group=0)
        self.init = until(self._first_process, 10, what="the host has namespaces of its own")
        self._namespace = os.readlink(f"/proc/{self.init}/ns/pid")

    def _first_process(self) -> int:
        """0 until it has all of its namespaces."""
        for pid in children(self._holder.pid):
            if Path(f"/proc/{pid}/comm").read_text() == "sleep\n":
                return pid
        return 0

    @property
    def view(self) -> Path:
        """The shared directory as the host sees it, for who is outside."""
        return Path(f"/proc/{self.init}/root{self.root}")

    @property
    def is_up(self) -> bool:
        return self._holder.poll() is None

    @property
    def words(self) -> tuple[str, ...]:
        """By which a command is run in the host."""
        return ("nsenter", f"--target={self.init}", "--mount", "--net", "--uts", "--pid")

    def plug_in(self, network: Network, number: int) -> None:
        network.plug_in(number, self.init)
        self._cable = (network, number)

    def start(self, *arguments: str) -> subprocess.Popen[bytes]:
        """Start a command of the program in the host, as tests.service_process.start does."""
        return subprocess.Popen(
            [*self.words, *command(*arguments)],
            env=environment(),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            process_group=0,
        )

    def has_mounted(self) -> bool:
        mounted = subprocess.run([*self.words, "mountpoint", "--quiet", str(self.root)], check=False).returncode == 0
        if mounted:
            self._device = os.stat(self.view).st_dev
        return mounted

    def unmount(self) -> None:
        """Take the shared directory away: an empty one of another file system is at its place then."""
        subprocess.run([*self.words, "umount", "--lazy", str(self.root)], check=True)
        assert not self.has_mounted()

    def processes(self) -> list[int]:
        """All that run in it."""
        found = []
        for entry in os.scandir("/proc"):
            try:
                if entry.name.isdigit() and os.readlink(f"/proc/{entry.name}/ns/pid") == self._namespace:
                    found.append(int(entry.name))
            except OSError:
                continue
        return found

    def die(self) -> None:
        """Die at once. When this returns the kernel has killed and forgotten every process of the host (it reaps a
        first process last), and its mounts and network are gone with them.
        """
        if self.is_up:
            if self._cable:
                network, number = self._cable
                network.cut(number)
            os.kill(self.init, signal.SIGKILL)
            try:
                self._holder.wait(_SECONDS_OF_DEATH)
            except subprocess.TimeoutExpired:
                # A client that asked its own mount for something when it was killed waits for its answer for ever.
                subprocess.run((*_ABORT, str(os.minor(self._device))), check=True)
                self._holder.wait()


@contextmanager
def _host(base: Path, name: str, network: Network | None, number: int) -> Iterator[Host]:
    """A host with the shared directory at <base>/shared, as all others have it: documents name files by their paths."""
    point = base / "shared"
    with ExitStack() as stack:
        host = Host(name, point)
        stack.callback(host.die)
        if network:
            host.plug_in(network, number)
            words = (*host.words, *network.mount(name, point))
            stack.enter_context(running(base / f"{name}.log", *words))
        else:
            subprocess.run([*host.words, "mount", "--bind", str(base / "disk"), str(point)], check=True)
        until(host.has_mounted, 20, what=f"{name} has mounted the shared directory")
        yield host


@contextmanager
def hosts(base: Path, shared: str, names: tuple[str, ...]) -> Iterator[list[Host]]:
    """Hosts with one shared directory."""
    need("unshare", "nsenter", "mountpoint", why="apt install util-linux")
    with ExitStack() as stack:
        network = stack.enter_context(NETWORKS[shared](base)) if shared in NETWORKS else None
        for name in ("disk", "shared"):
            (base / name).mkdir()
        yield [stack.enter_context(_host(base, name, network, number)) for number, name in enumerate(names)]
