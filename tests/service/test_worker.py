"""A worker is warm when it says that it has begun, and the service is ready when all workers are."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from multiprocessing.connection import Connection
from pathlib import Path

import pytest

from listener.repacking.context import CLAIM
from listener.service import protocol
from listener.service.protocol import Ready, WorkerConfig
from tests.conftest import PROJECT
from tests.service_process import Places, service
from tests.waiting import PATIENCE, until
from tests.workbench import Bench, arrival_of

pytestmark = pytest.mark.real


def imported_before_its_hello(bench: Bench, tmp_path: Path, path: Path | None = None) -> str:
    """What a worker has imported when its first message comes, as `-X importtime` tells it; `path`: a file that waits
    for it already.
    """
    ours, theirs = socket.socketpair()
    told = tmp_path / "imports"
    command = [sys.executable, "-X", "importtime", "-m", "listener.service.worker", str(theirs.fileno())]
    with Connection(ours.detach()) as pipe, theirs, told.open("wb") as stderr:
        protocol.send(pipe, WorkerConfig(bench.config, bench.directories, CLAIM))
        if path:
            protocol.send(pipe, protocol.pack_arrivals([arrival_of(path)]))
        with subprocess.Popen(command, pass_fds=[theirs.fileno()], stderr=stderr) as process:
            assert pipe.poll(120)
            assert isinstance(protocol.receive(pipe), Ready)
            imports = told.read_text(encoding="utf-8")
            if path:
                assert pipe.poll(120)
                protocol.receive(pipe)
            pipe.close()
            assert process.wait(120) == 0
    return imports


def test_a_worker_has_loaded_pydicom_before_it_says_that_it_has_begun(tmp_path: Path) -> None:
    assert "pydicom.filereader" in imported_before_its_hello(Bench(tmp_path), tmp_path)


def test_a_file_that_waits_already_is_not_kept_waiting(tmp_path: Path) -> None:
    bench = Bench(tmp_path)
    assert "pydicom" not in imported_before_its_hello(bench, tmp_path, bench.put())


_HOLD_WORKERS = """
import sys, time, pathlib
if "listener.service.worker" in sys.orig_argv:
    while not pathlib.Path({go!r}).exists():
        time.sleep(0.01)
"""


def test_the_service_is_not_ready_before_its_workers_are_warm(places: Places, tmp_path: Path) -> None:
    slow, go = tmp_path / "slow", tmp_path / "go"
    slow.mkdir()
    (slow / "sitecustomize.py").write_text(_HOLD_WORKERS.format(go=str(go)), encoding="utf-8")
    with service(places, ready=False, through=["env", f"PYTHONPATH={slow}{os.pathsep}{PROJECT}"]) as running:
        running.wait_for("started")
        until(lambda: len(running.workers()) == 2)
        # Two beats, each of which could have told it.
        with pytest.raises(AssertionError, match="2 times ready"):
            running.wait_for("ready", 2, seconds=1.5 / PATIENCE)
        assert not running.events("ready")
        go.touch()
        running.wait_for("ready")
        assert running.get("/readyz").status == 200
