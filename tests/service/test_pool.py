"""Real worker processes: who holds what, what one leaves that dies, and that all of them end."""

from __future__ import annotations

import contextlib
import os
import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager
from multiprocessing.connection import wait
from pathlib import Path

import pytest

from listener.errors import FatalFault
from listener.records import Outcome
from listener.repacking.context import CLAIM
from listener.service.pool import Pool, Worker, WorkerExit
from listener.service.protocol import WorkerConfig
from tests.waiting import alive, until
from tests.workbench import Bench, arrival_of

pytestmark = pytest.mark.real


@contextmanager
def pool_of(bench: Bench, count: int = 1, deadline: float = 60.0, keep_open: tuple[int, ...] = ()) -> Iterator[Pool]:
    pool = Pool(WorkerConfig(bench.config, bench.directories, CLAIM), count, deadline, keep_open)
    try:
        yield pool
    finally:
        pool.stop()


def answer(worker: Worker) -> list[Outcome]:
    """The outcomes of the batch that a worker holds."""
    results = None
    while results is None:  # its first word is that it works
        assert wait([worker.pipe], 10), "no answer"
        results = worker.collect()
    assert isinstance(results, list)
    return [one for one in results if isinstance(one, Outcome)]


def lost(pool: Pool, worker: Worker) -> tuple[WorkerExit, Worker]:
    with pytest.raises(EOFError):  # noqa: PT012 - it may have said before that it works
        while worker.collect() is None:
            assert wait([worker.pipe], 10), "its pipe does not tell"
    return pool.replace(worker)


def test_workers_answer_in_order_and_are_idle_again(tmp_path: Path) -> None:
    bench = Bench(tmp_path)
    with pool_of(bench, 2) as pool:
        assert pool.idle() == pool.workers
        for number, worker in enumerate(pool.workers):
            paths = [bench.put(f"{number}-{one}", series=number, number=one) for one in range(1, 4)]
            worker.give([arrival_of(path) for path in paths], 0.0)
        assert (pool.idle(), pool.busy) == ([], 2)
        for number, worker in enumerate(pool.workers):
            assert [os.path.basename(one.path) for one in answer(worker)] == [f"{number}-{one}" for one in (1, 2, 3)]
        assert (len(pool.idle()), pool.busy) == (2, 0)


def test_a_worker_goes_on_after_a_bad_file(tmp_path: Path) -> None:
    bench = Bench(tmp_path)
    (bench.incoming / "bad").write_text("hello")
    with pool_of(bench) as pool:
        (worker,) = pool.workers
        for path, kind in ((bench.incoming / "bad", "set-aside"), (bench.put(), "published")):
            worker.give([arrival_of(path)], 0.0)
            assert [one.kind for one in answer(worker)] == [kind]


def test_a_worker_that_is_killed_leaves_what_it_held(tmp_path: Path) -> None:
    bench = Bench(tmp_path)
    with pool_of(bench) as pool:
        (worker,) = pool.workers
        os.kill(worker.pid, signal.SIGSTOP)
        held = [arrival_of(bench.put(str(number), number=number)) for number in (1, 2)]
        worker.give(held, 0.0)
        os.kill(worker.pid, signal.SIGKILL)
        left, successor = lost(pool, worker)
        assert left == WorkerExit(held, "killed", "was killed by SIGKILL", was_ready=False)
        assert pool.workers == [successor]
        assert successor.pid != worker.pid
        successor.give(left.held, 0.0)
        assert [one.kind for one in answer(successor)] == ["published"] * 2


def test_giving_to_a_dead_worker_is_no_error_and_the_files_come_back(tmp_path: Path) -> None:
    bench = Bench(tmp_path)
    with pool_of(bench) as pool:
        (worker,) = pool.workers
        os.kill(worker.pid, signal.SIGKILL)
        until(lambda: not alive(worker.pid))
        held = [arrival_of(bench.put())]
        worker.give(held, 0.0)
        assert lost(pool, worker)[0].held == held


def test_a_worker_that_hangs_is_killed_at_its_deadline(tmp_path: Path) -> None:
    bench = Bench(tmp_path)
    with pool_of(bench, deadline=5.0) as pool:
        (worker,) = pool.workers
        assert pool.next_deadline() is None
        assert wait([worker.pipe], 10)
        assert worker.collect() is None  # It works now; its start has a limit of its own.
        os.kill(worker.pid, signal.SIGSTOP)
        held = [arrival_of(bench.put())]
        worker.give(held, 100.0)
        assert pool.next_deadline() == 105.0
        pool.kill_overdue(104.9)
        assert alive(worker.pid)
        pool.kill_overdue(105.1)
        assert pool.next_deadline() is None
        left, _ = lost(pool, worker)
        assert (left.held, left.reason) == (held, "deadline")


def test_the_idle_are_never_overdue(tmp_path: Path) -> None:
    with pool_of(Bench(tmp_path), deadline=0.1) as pool:
        pool.kill_overdue(1e9)
        assert alive(pool.workers[0].pid)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGIO])
def test_signals_to_the_whole_group_do_not_end_a_worker(number: int, tmp_path: Path) -> None:
    """Ctrl-C reaches everybody; the parent decides when to stop."""
    bench = Bench(tmp_path)
    with pool_of(bench) as pool:
        (worker,) = pool.workers
        worker.give([arrival_of(bench.put("one"))], 0.0)
        answer(worker)  # It is up: the handlers are set.
        os.kill(worker.pid, number)
        worker.give([arrival_of(bench.put("two", number=2))], 0.0)
        assert [one.kind for one in answer(worker)] == ["published"]


def test_workers_end_with_their_parent_s_pipe(tmp_path: Path) -> None:
    with pool_of(Bench(tmp_path), 2) as pool:
        pids = [worker.pid for worker in pool.workers]
        for worker in pool.workers:
            worker.pipe.close()
        until(lambda: not any(map(alive, pids)))


def test_stopping_kills_who_does_not_end(tmp_path: Path) -> None:
    bench = Bench(tmp_path)
    with pool_of(bench, 2) as pool:
        pids = [worker.pid for worker in pool.workers]
        os.kill(pids[0], signal.SIGSTOP)
        begun = time.monotonic()
        pool.stop(0.3)
        assert time.monotonic() - begun < 60
        assert not any(map(alive, pids))
        assert pool.workers == []


def links_in(descriptors: Path) -> set[str]:
    """Return what a process' descriptors point at; one that is closed meanwhile is left out."""
    found = set()
    for one in descriptors.iterdir():
        with contextlib.suppress(FileNotFoundError):
            found.add(os.readlink(one))
    return found


def test_a_worker_keeps_what_it_is_told_to_and_nothing_else(tmp_path: Path) -> None:
    reader, writer = os.pipe()
    other, _ = os.pipe()
    os.set_inheritable(other, True)
    try:
        with pool_of(Bench(tmp_path), keep_open=(writer,)) as pool:
            here = Path(f"/proc/{pool.workers[0].pid}/fd")
            kept = os.readlink(f"/proc/self/fd/{writer}")
            stranger = os.readlink(f"/proc/self/fd/{other}")
            until(lambda: kept in links_in(here))
            assert stranger not in links_in(here)
    finally:
        for descriptor in (reader, writer, other, _):
            os.close(descriptor)


def test_nothing_of_a_worker_reaches_standard_output(tmp_path: Path) -> None:
    with pool_of(Bench(tmp_path)) as pool:
        assert os.readlink(f"/proc/{pool.workers[0].pid}/fd/1") == "/dev/null"


def test_workers_that_die_one_after_the_other_end_the_service_and_no_file_is_blamed(tmp_path: Path) -> None:
    """As when memory or descriptors do not suffice: a worker that never said it works was not ended by a file."""
    bench = Bench(tmp_path)
    with pool_of(bench) as pool:
        for _ in range(19):
            os.kill(pool.workers[0].pid, signal.SIGKILL)
            left, _ = lost(pool, pool.workers[0])
            assert not left.was_ready
        os.kill(pool.workers[0].pid, signal.SIGKILL)
        with pytest.raises(FatalFault, match="no worker lives"):
            lost(pool, pool.workers[0])
