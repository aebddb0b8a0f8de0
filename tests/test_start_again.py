"""A service that cannot start tells why on its port and starts once it can, if --retry-start says so."""

from __future__ import annotations

import argparse
import http.client
import signal
import socket
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import orjson
import pytest

from listener.cli import main
from listener.start_again import pause_of
from tests.dicomnet import free_port
from tests.service_process import STOP, Places, events_of, make_places, once, start
from tests.waiting import until

GIVEN: list[tuple[dict[str, Any], dict[str, str], float]] = [
    ({"command": "export"}, {}, 0.0),
    ({"command": "export"}, {"LISTENER_RETRY_START": "30"}, 30.0),
    ({"command": "export", "retry_start": ["2"]}, {"LISTENER_RETRY_START": "30"}, 2.0),
    ({"command": "export", "pause": 5.0}, {"LISTENER_RETRY_START": "30"}, 5.0),
    ({"command": "export", "pause": 0.0}, {"LISTENER_RETRY_START": "30"}, 0.0),
    ({"command": "run"}, {"LISTENER_RETRY_START": "30"}, 30.0),
    ({"command": "export", "word": "once"}, {"LISTENER_RETRY_START": "30"}, 0.0),
    ({"command": "deidentify", "deed": ["check"]}, {"LISTENER_RETRY_START": "30"}, 0.0),
    ({"command": "route", "words": ["ping"]}, {"LISTENER_RETRY_START": "30"}, 0.0),
    ({"command": "check"}, {"LISTENER_RETRY_START": "30"}, 0.0),
    ({"command": "find"}, {"LISTENER_RETRY_START": "30"}, 0.0),
    ({"command": "export"}, {"LISTENER_RETRY_START": "soon"}, 0.0),
]


@pytest.mark.parametrize(("given", "variables", "pause"), GIVEN)
def test_only_a_service_is_tried_again(given: dict[str, Any], variables: dict[str, str], pause: float) -> None:
    assert pause_of(argparse.Namespace(**given), variables) == pause


def test_a_command_line_that_is_none_is_not_tried_again() -> None:
    assert pause_of(None, {"LISTENER_RETRY_START": "30"}) == 0.0


def test_without_the_option_it_leaves(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["export", "--to", str(tmp_path / "nowhere"), "--state", str(tmp_path), "--config", "/dev/null"]) == 2
    assert "tried again" not in capsys.readouterr().err


@contextmanager
def begun(*words: str) -> Iterator[subprocess.Popen[bytes]]:
    process = start(*words)
    try:
        yield process
    finally:
        process.kill()
        process.communicate()


def answer(port: int, path: str) -> tuple[int, dict[str, Any]] | None:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=5)
    try:
        connection.request("GET", path)
        response = connection.getresponse()
        return response.status, orjson.loads(response.read())
    except OSError:
        return None
    finally:
        connection.close()


def answered(port: int, path: str) -> tuple[int, dict[str, Any]]:
    found = until(lambda: answer(port, path), 20, what="it answers")
    assert found
    return found


def stage_of(places: Places, to: Path, port: int, pause: str) -> tuple[str, ...]:
    where = ("--state", str(places.state), "--data", str(places.data), "--to", str(to), "--no-parquet")
    return ("export", *where, "--http", f"127.0.0.1:{port}", "--retry-start", pause)


@pytest.mark.timeout(120)
def test_a_stage_tells_what_is_missing_and_starts_when_it_is_there(tmp_path: Path) -> None:
    places, to, port = make_places(tmp_path), tmp_path / "bucket", free_port()
    assert once(places).status == 0
    with begun(*stage_of(places, to, port, "0.5")) as process:
        status, body = answered(port, "/readyz")
        assert (status, body["status"]) == (503, "not-ready")
        assert f"there is no directory '{to}': make it" in body["checks"]["start"]["text"]
        status, body = answered(port, "/healthz")
        assert (status, body["status"]) == (200, "alive")
        to.mkdir()
        until(lambda: (answer(port, "/readyz") or (0,))[0] == 200, 40, what="it has started")
        process.send_signal(signal.SIGTERM)
        out, err = process.communicate(timeout=STOP)
    assert process.returncode == 0, err
    assert [event["event"] for event in events_of(out)][:1] == ["started"]
    assert b"listener: tried again in 0.5 s (--retry-start)\n" in err


@pytest.mark.timeout(120)
def test_it_leaves_at_a_signal_while_it_waits(tmp_path: Path) -> None:
    places, port = make_places(tmp_path), free_port()
    with begun(*stage_of(places, tmp_path / "bucket", port, "3600")) as process:
        answered(port, "/healthz")
        process.send_signal(signal.SIGTERM)
        process.communicate(timeout=STOP)
    assert process.returncode == 2


@pytest.mark.timeout(120)
def test_one_whose_port_is_taken_is_tried_again_too(tmp_path: Path) -> None:
    """Nobody answers then, and it stays all the same."""
    places = make_places(tmp_path)
    with socket.create_server(("127.0.0.1", 0)) as taken:
        address = f"127.0.0.1:{taken.getsockname()[1]}"
        process = start("run", *places.flags(), "--min-free", "0", "--http", address, "--retry-start", "0.2")
        assert process.stderr
        for _ in range(2):
            assert address.encode() in process.stderr.readline()
            assert process.stderr.readline() == b"listener: tried again in 0.2 s (--retry-start)\n"
    with process:
        told = process.stdout.readline() if process.stdout else b""
        assert b'"started"' in told, "the port is free now"
        process.send_signal(signal.SIGTERM)
        process.communicate(timeout=STOP)
