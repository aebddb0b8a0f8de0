"""Worker processes of a stage: they do tasks, ask, fail alone, and end with their parent."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from listener.stages import workers
from listener.stages.worker_process import Setup
from listener.stages.workers import Worker, WorkerFailed, Workers
from tests.service_process import environment
from tests.waiting import until

SETUP = Setup("tests.stages.working:Tasks", 40)


@pytest.fixture
def worker() -> Iterator[Worker]:
    made = Worker(SETUP)
    yield made
    made.end()


def do(worker: Worker, what: str, value: Any = None) -> Any:
    return worker.do((what, value), lambda question: question * 2, lambda: None)


def test_tasks_are_done_one_after_the_other(worker: Worker) -> None:
    assert [do(worker, "add", number) for number in (1, 2, 3)] == [41, 42, 43]
    assert do(worker, "ask", 21) == 42


def test_one_that_dies_is_replaced(worker: Worker) -> None:
    do(worker, "add", 1)
    before = worker.pid
    with pytest.raises(WorkerFailed):
        do(worker, "die")
    assert do(worker, "add", 2) == 42
    assert worker.pid not in (before, 0)


def test_errors_of_the_system_pass_and_others_tell_no_value(worker: Worker, tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        do(worker, "miss", str(tmp_path / "none"))
    with pytest.raises(WorkerFailed) as failed:
        do(worker, "fail", "Plantagenet")
    assert "ValueError" in str(failed.value)
    assert "Plantagenet" not in str(failed.value)
    assert do(worker, "add", 2) == 42


def test_one_that_says_nothing_is_ended(worker: Worker, monkeypatch: pytest.MonkeyPatch) -> None:
    do(worker, "add", 1)
    monkeypatch.setattr(workers, "_LOOK", 0.01)
    monkeypatch.setattr(workers, "_SILENT", 0.1)
    with pytest.raises(WorkerFailed, match="stuck"):
        do(worker, "sleep", 600)
    assert worker.pid == 0


def test_a_task_that_is_not_wanted_any_more_ends_its_worker(worker: Worker, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(workers, "_LOOK", 0.01)

    def stop() -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        worker.do(("sleep", 600), lambda question: question, stop)
    assert worker.pid == 0


def test_each_thread_has_its_own() -> None:
    pool = Workers(2, SETUP)
    meeting = threading.Barrier(2, timeout=60)
    pids: list[int] = []

    def work() -> None:
        with pool.taken() as worker:
            do(worker, "add", 1)
            meeting.wait()
            pids.append(worker.pid)

    threads = [threading.Thread(target=work) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    pool.end()
    assert len(set(pids)) == 2


_PARENT = """
from listener.stages.worker_process import Setup
from listener.stages.workers import Worker
worker = Worker(Setup("tests.stages.working:Tasks", 40))
print(worker.do(("add", 0), lambda _: None, lambda: print(worker.pid, flush=True) or None), worker.pid, flush=True)
worker.do(("sleep", 600), lambda _: None, lambda: None)
"""


def test_one_ends_with_its_parent_whatever_it_does() -> None:
    root = Path(__file__).resolve().parents[2]
    command = [sys.executable, "-c", _PARENT]
    with subprocess.Popen(command, stdout=subprocess.PIPE, env=environment(), cwd=root, text=True) as parent:
        assert parent.stdout
        pid = int(parent.stdout.readline().split()[-1])
        assert os.path.exists(f"/proc/{pid}")
        parent.kill()
        parent.wait()
        until(lambda: not _is_alive(pid), what="the worker ends with its parent")


def _is_alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except (FileNotFoundError, ProcessLookupError):
        return False
