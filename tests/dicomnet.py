"""Real DICOM senders and receivers: DCMTK's storescp, storescu and dcmsend on ports of their own.

TCP_NODELAY=1 is set for both ends: without it DCMTK waits 40 ms for each instance on the loopback interface.
"""

from __future__ import annotations

import os
import socket
import subprocess
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from listener.storescp import RECOMMENDED
from tests.waiting import PATIENCE, until


@dataclass(frozen=True, slots=True)
class Receiver:
    """A running storescp."""

    port: int
    incoming: Path
    process: subprocess.Popen[bytes]
    output: Path

    def __str__(self) -> str:
        return f"storescp on {self.port} said:\n{self.output.read_text(errors='replace')}"


def free_port() -> int:
    """A TCP port that nobody listens on, and that the kernel gives to nobody else soon."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def accepts(port: int) -> bool:
    """Whether somebody listens on the port of this machine."""
    with socket.socket() as probe:
        probe.settimeout(10)
        return probe.connect_ex(("127.0.0.1", port)) == 0


def environment(**more: str) -> dict[str, str]:
    """The variables of a DCMTK process."""
    return {**os.environ, "TCP_NODELAY": "1", **more}


@contextmanager
def storescp(incoming: Path, *args: str, port: int = 0, nodelay: bool = True) -> Iterator[Receiver]:
    """A storescp that writes into `incoming`, ready to be sent to; stopped when the block is left.

    `args` replace RECOMMENDED when there are any: `storescp(incoming, *RECOMMENDED, "-fe", ".dcm")`. Without `nodelay`
    it leaves Nagle's algorithm on, as DCMTK does by itself.
    """
    incoming.mkdir(parents=True, exist_ok=True)
    variables = environment() if nodelay else environment(TCP_NODELAY="0")
    receiver = _started(incoming, args or RECOMMENDED, port or free_port(), variables)
    if receiver.process.poll() is not None and not port:
        # Somebody took the free port in between.
        receiver = _started(incoming, args or RECOMMENDED, free_port(), variables)
    if receiver.process.poll() is not None:
        raise AssertionError(str(receiver))
    try:
        yield receiver
    finally:
        stop(receiver.process)


def _started(incoming: Path, args: Iterable[str], port: int, variables: dict[str, str]) -> Receiver:
    """A storescp that either accepts connections or has ended."""
    output = incoming.parent / f"storescp-{port}.txt"
    command = ["storescp", *args, "-od", str(incoming), str(port)]
    with output.open("wb") as sink:
        process = subprocess.Popen(
            command, env=variables, stdin=subprocess.DEVNULL, stdout=sink, stderr=sink, process_group=0
        )
    until(lambda: process.poll() is not None or accepts(port), 10, what=" ".join(command))
    return Receiver(port, incoming, process, output)


def stop(process: subprocess.Popen[bytes], seconds: float = 10) -> int:
    """End a process that was started with a process group of its own, and everything in the group."""
    process.terminate()
    try:
        return process.wait(PATIENCE * seconds)
    except subprocess.TimeoutExpired:
        process.kill()
        return process.wait()
    finally:
        kill_group(process.pid)


def kill_group(group: int) -> None:
    """SIGKILL to what is left of a process group."""
    try:
        os.killpg(group, 9)
    except ProcessLookupError:
        return


def run(command: Iterable[str], *, seconds: float = 60, check: bool = True) -> subprocess.CompletedProcess[str]:
    """Run a command to its end; AssertionError with all that it said when it fails or takes longer than PATIENCE times
    `seconds`.
    """
    arguments = list(command)
    seconds *= PATIENCE
    try:
        done = subprocess.run(
            arguments,
            env=environment(),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            encoding="utf-8",
            errors="replace",
            timeout=seconds,
            check=False,
        )
    except subprocess.TimeoutExpired as error:
        raise AssertionError(f"not done in {seconds:g} s: {arguments}\n{error.stdout!r}") from None
    if check and done.returncode != 0:
        raise AssertionError(f"status {done.returncode}: {arguments}\n{done.stdout}")
    return done


def _sources(paths: Path | Iterable[Path]) -> list[str]:
    sources = [paths] if isinstance(paths, Path) else list(paths)
    folders = any(path.is_dir() for path in sources)
    return [*(["+sd", "+r"] if folders else []), *map(str, sources)]


def storescu(
    port: int, paths: Path | Iterable[Path], *args: str, seconds: float = 60, check: bool = True
) -> subprocess.CompletedProcess[str]:
    """Send files, or the files in folders, with storescu."""
    return run(["storescu", *args, "127.0.0.1", str(port), *_sources(paths)], seconds=seconds, check=check)


def dcmsend(
    port: int, paths: Path | Iterable[Path], *args: str, seconds: float = 60, check: bool = True
) -> subprocess.CompletedProcess[str]:
    """Send files, or the files in folders, with dcmsend: it proposes each file's own transfer syntax."""
    return run(["dcmsend", *args, "127.0.0.1", str(port), *_sources(paths)], seconds=seconds, check=check)
