"""systemd is told when the service has started, how it is, that it stops, and that its loop lives."""

from __future__ import annotations

import os
import signal
import socket
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from listener.service.systemd import SystemdNotifier
from tests.service_process import Places, service
from tests.waiting import until


@pytest.fixture
def manager(tmp_path: Path) -> Iterator[tuple[socket.socket, str]]:
    """What systemd would be: a datagram socket, and its name."""
    name = str(tmp_path / "notify")
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as there:
        there.bind(name)
        there.settimeout(60)
        yield there, name


def heard(there: socket.socket) -> list[str]:
    return there.recv(4096).decode().split("\n")


def test_states_are_told_once_and_the_beat_always(manager: tuple[socket.socket, str]) -> None:
    there, name = manager
    supervisor = SystemdNotifier({"NOTIFY_SOCKET": name})
    supervisor.tick("not-ready", started=False, stopping=False)
    assert heard(there) == ["STATUS=not-ready", "WATCHDOG=1"]
    supervisor.tick("ready", started=True, stopping=False)
    assert heard(there) == ["READY=1", "STATUS=ready", "WATCHDOG=1"]
    supervisor.tick("ready", started=True, stopping=False)
    assert heard(there) == ["STATUS=ready", "WATCHDOG=1"]
    supervisor.tick("draining", started=True, stopping=True)
    assert heard(there) == ["STOPPING=1", "STATUS=draining", "WATCHDOG=1"]


def test_a_name_in_the_abstract_namespace() -> None:
    name = f"listener-test-{os.getpid()}"
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as there:
        there.bind(f"\0{name}")
        there.settimeout(60)
        SystemdNotifier({"NOTIFY_SOCKET": f"@{name}"}).tick("ready", started=True, stopping=False)
        assert heard(there)[0] == "READY=1"


def test_a_manager_that_is_gone_or_does_not_read_holds_nobody(
    tmp_path: Path, manager: tuple[socket.socket, str]
) -> None:
    SystemdNotifier({"NOTIFY_SOCKET": str(tmp_path / "nobody")}).tick("ready", started=True, stopping=False)
    there, name = manager
    supervisor = SystemdNotifier({"NOTIFY_SOCKET": name})
    for _ in range(2000):  # More than any queue holds.
        supervisor.tick("ready", started=False, stopping=False)
    deadline = time.monotonic() + 120
    while "READY=1" not in heard(there):
        assert time.monotonic() < deadline, "what could not be said is said later"
        supervisor.tick("ready", started=True, stopping=False)


def test_without_a_manager_nothing_is_said() -> None:
    SystemdNotifier({}).tick("ready", started=True, stopping=False)


@pytest.mark.real
def test_the_service_tells_its_manager(tmp_path: Path, manager: tuple[socket.socket, str]) -> None:
    there, name = manager
    area = tmp_path / "area"
    places = Places(tmp_path, (area / "incoming",), area / "data", area / "log", area / "state").make()
    said: list[str] = []

    def told(word: str) -> bool:
        said.extend(heard(there))
        return word in said

    with service(places, through=("env", f"NOTIFY_SOCKET={name}")) as running:
        until(lambda: told("READY=1"), 20)
        beats = said.count("WATCHDOG=1")
        until(lambda: told("WATCHDOG=1") and said.count("WATCHDOG=1") > beats + 1, 20, what="the loop beats")
        assert "STATUS=ready" in said
        running.process.send_signal(signal.SIGTERM)
        until(lambda: told("STOPPING=1"), 20)
        assert running.wait() == 0
