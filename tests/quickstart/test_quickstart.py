"""`make run`: what it prints can be typed, and Ctrl-C leaves nothing behind."""

from __future__ import annotations

import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pydicom
import pytest

from listener.quickstart import processes
from tests.dicomnet import free_port, kill_group, run
from tests.waiting import PATIENCE, until

PROJECT = Path(__file__).parents[2]


class Terminal:
    """A running quick start, and what it has printed by now."""

    def __init__(self, folder: Path, *args: str, **environment: str) -> None:
        self.folder, self.port, self._output = folder, free_port(), folder / "output.txt"
        command = [sys.executable, "-m", "listener.quickstart", f"--port={self.port}", "--http=127.0.0.1:0", *args]
        with self._output.open("wb") as output:
            self.process = subprocess.Popen(
                command,
                cwd=folder,
                env={**os.environ, "PYTHONPATH": str(PROJECT), **environment},
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                process_group=0,
            )

    @property
    def text(self) -> str:
        return self._output.read_text()

    def shows(self, pattern: str, seconds: float = 30) -> re.Match[str]:
        def found() -> re.Match[str] | None:
            over = self.process.poll() is not None
            match = re.search(pattern, self.text)
            if over and not match:
                pytest.fail(f"it ended, and {pattern!r} was never shown:\n{self.text}")
            assert match, self.text
            return match

        match = until(found, seconds, what=f"{pattern!r} on the terminal")
        assert match
        return match

    def children(self) -> dict[str, int]:
        """Program name and process id of the two processes beside it."""
        pids = Path(f"/proc/{self.process.pid}/task/{self.process.pid}/children").read_text().split()
        return {Path(f"/proc/{pid}/comm").read_text().strip(): int(pid) for pid in pids}

    def ends(self, seconds: float = 40) -> int:
        return self.process.wait(PATIENCE * seconds)

    def interrupt(self) -> int:
        """Ctrl-C, and the exit status."""
        self.process.send_signal(signal.SIGINT)
        return self.ends()


@contextmanager
def terminal(folder: Path, *args: str, **environment: str) -> Iterator[Terminal]:
    running = Terminal(folder, *args, **environment)
    try:
        yield running
    finally:
        for pid in running.children().values() if running.process.poll() is None else ():
            kill_group(pid)
        kill_group(running.process.pid)
        running.process.wait()


def typed(line: str, folder: Path) -> str:
    return run(["sh", "-c", f"cd '{folder}' && {line}"]).stdout


@pytest.mark.real
@pytest.mark.usefixtures("dcmtk")
def test_the_printed_lines_work_and_interrupt_ends_it_cleanly(tmp_path: Path) -> None:
    with terminal(tmp_path) as shown:
        shown.shows("Ctrl-C stops both")
        send, look = re.findall("^    (.+)$", shown.text, re.MULTILINE)
        address = shown.shows(r"(http://\S+/metrics)")[1]

        typed(send, tmp_path)
        until(lambda: len(typed(look, tmp_path).splitlines()) == 16, 20)
        with urllib.request.urlopen(address, timeout=120) as answer:  # noqa: S310 - our own
            page = answer.read().decode()
        shown.shows("16 published")
        children = shown.children()

        assert "listener_" in page
        assert "storescp" in children
        assert shown.interrupt() == 0
        assert "Traceback" not in shown.text
    assert not any((tmp_path / "dicom" / "incoming").iterdir())
    sent = {pydicom.dcmread(path).SOPInstanceUID for path in (tmp_path / "dicom" / "example").iterdir()}
    kept = {pydicom.dcmread(tmp_path / path).SOPInstanceUID for path in typed(look, tmp_path).splitlines()}
    assert kept == sent


@pytest.mark.real
def test_without_dcmtk_pynetdicom_receives_and_sends(tmp_path: Path) -> None:
    programs = tmp_path / "bin"
    programs.mkdir()
    with terminal(tmp_path, "--dir", "some where", PATH=str(programs)) as shown:
        shown.shows("Ctrl-C stops both")
        send, look = re.findall("^    (.+)$", shown.text, re.MULTILINE)

        assert "DCMTK's storescp is much faster" in shown.text
        typed(send, tmp_path)
        until(lambda: len(typed(look, tmp_path).splitlines()) == 16, 20)
        assert shown.interrupt() == 0


@pytest.mark.real
@pytest.mark.usefixtures("dcmtk")
def test_the_death_of_storescp_ends_everything_and_is_told(tmp_path: Path) -> None:
    with terminal(tmp_path) as shown:
        shown.shows("Ctrl-C stops both")
        os.kill(shown.children()["storescp"], signal.SIGKILL)

        assert shown.ends() == 1
        assert "storescp has ended (status -9)" in shown.text


@pytest.mark.real
def test_a_listener_that_cannot_start_is_told(tmp_path: Path) -> None:
    with terminal(tmp_path, LISTENER_WORKERS="many") as shown:
        assert shown.ends() == 1
        assert "listener has ended (status 2)" in shown.text
        assert "many" in shown.text


@pytest.mark.real
def test_a_taken_port_is_named_with_the_remedy(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = other.getsockname()[1]
        with terminal(tmp_path, "--port", str(port)) as shown:
            assert shown.ends() == 1
        assert shown.text == f"Port {port} is taken. Choose another one: make run PORT=11113\n"
        with terminal(tmp_path, "--http", f"127.0.0.1:{port}") as shown:
            assert shown.ends() == 1
        assert shown.text == f"Port {port} is taken. Choose another one: make run HTTP=127.0.0.1:9465\n"
    assert not (tmp_path / "dicom").exists()


@pytest.mark.real
def test_a_second_interrupt_ends_what_does_not_stop(tmp_path: Path) -> None:
    deaf = tmp_path / "deaf.sh"
    deaf.write_text("trap '' TERM; touch deaf; sleep 600 & wait; wait")
    process = processes.start([shutil.which("sh") or "sh", "-c", f"cd '{tmp_path}'; . ./deaf.sh"])
    until((tmp_path / "deaf").exists)
    began = time.monotonic()
    processes.stop(process, [signal.SIGINT, signal.SIGINT])

    assert time.monotonic() - began < 60
    assert process.returncode == -signal.SIGKILL
