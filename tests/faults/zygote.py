"""A process that has everything imported and forks a `listener once` for each request: a start costs a millisecond
instead of a third of a second, so that every system call of the protocol can be tried.

Run as `python -m tests.faults.zygote`; requests and answers are lines of JSON (see injecting.Zygote). What is forked is
the real command line, `listener.cli.main`. Its workers are one of these:

- `all`: the worker's code runs inside the one process, so that a SIGKILL ends everything at exactly this call;
- `worker`: the worker is a process (forked, not spawned), and only the first one meets the fault.

A stage that is run `once` takes its deliveries and does their work inside the one process too, one after the other.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import pickle
import select
import signal
import subprocess
import sys
import tempfile
import traceback
from collections.abc import Callable, Sequence
from importlib import import_module
from multiprocessing.connection import Connection
from types import SimpleNamespace
from typing import Any, ClassVar

import orjson

from listener import arguments, cli
from listener.commands import deidentify, prune, retry
from listener.deidentify import service as deidentify_service
from listener.deidentify import work as deidentify_work
from listener.errors import FatalFault
from listener.ledger.delivery_threads import DeliveryThread
from listener.oneshot import repack
from listener.records import Arrival
from listener.repacking import removal
from listener.repacking.context import WorkerContext
from listener.repacking.repack import Repacker
from listener.service import engine, pool, protocol, revision_process, worker
from listener.service.pool import Worker
from listener.service.protocol import Fatal, Ready, WorkerConfig
from listener.service.revision_process import Revised
from listener.service.revision_thread import RevisionThread
from listener.stages import workers
from listener.stages.worker_process import Setup
from listener.verification import ledger, verify
from tests.instances import write_instance

Request = dict[str, Any]

_PR_SET_PTRACER = 0x59616D61
_ANY = ctypes.c_ulong(-1)


class NoProcess:
    """In place of a worker's process: keeps its end of the pipe."""

    pid = 0

    def __init__(self, arguments: Sequence[str], pass_fds: Sequence[int], **_: Any) -> None:
        self.pipe = Connection(os.dup(pass_fds[0]))

    def wait(self, timeout: float = 0) -> int:
        self.pipe.close()
        return 0


class InsideWorker(Worker):
    """A worker that is no process: it works as soon as it is given something."""

    def __init__(self, worker_config: WorkerConfig, keep_open: Sequence[int]) -> None:
        super().__init__(worker_config, keep_open)
        self._end: Connection[Any, Any] = self._process.pipe  # type: ignore[attr-defined]
        told: WorkerConfig = protocol.receive(self._end)
        self._repacker = Repacker(WorkerContext(told.config, told.directories, told.mode))
        protocol.send(self._end, Ready(os.getpid()))

    def give(self, arrivals: list[Arrival], now: float) -> None:
        super().give(arrivals, now)
        try:
            arrived = protocol.unpack_arrivals(protocol.receive(self._end))
            protocol.send(self._end, protocol.pack_results(self._repacker.repack(arrived)))
        except FatalFault as fault:
            protocol.send(self._end, Fatal(str(fault)))


class InsideTasks:
    """In place of a stage's worker process: does a task as soon as it is given."""

    def __init__(self, setup: Setup) -> None:
        module, _, name = setup.function.partition(":")
        self._tasks = getattr(import_module(module), name)(setup.argument)

    def do(self, task: Any, answer: Callable[[Any], Any], go_on: Callable[[], None]) -> Any:
        return self._tasks(task, SimpleNamespace(ask=answer, go_on=go_on))

    def end(self) -> None:
        pass


def _take_all(self: DeliveryThread) -> None:
    """As a consumer's thread, but none: takes what is due, and returns to who started it."""
    self.idle = self._stopping
    self._work()


class Forked:
    """As much of subprocess.Popen as a Worker needs, by a fork. The first one of this `once` is under strace."""

    request: ClassVar[Request] = {}
    made: ClassVar[int] = 0

    def __init__(self, arguments: Sequence[str], pass_fds: Sequence[int], **_: Any) -> None:
        self._status: int | None = None
        Forked.made += 1
        self.pid, go = fork()
        if not self.pid:
            # Of what else is open, a spawned worker would inherit nothing.
            own = {0, 1, 2, go, *pass_fds}
            for descriptor in set(map(int, os.listdir("/proc/self/fd"))) - own:
                with contextlib.suppress(OSError):
                    os.close(descriptor)
            become(go, lambda: worker.main(pass_fds[0]))
        release(self.pid, go, self.request if Forked.made == 1 and self.request["inject"] else None)

    def kill(self) -> None:
        if self._status is None:
            os.kill(self.pid, signal.SIGKILL)

    def wait(self, timeout: float = 60) -> int:
        if self._status is None:
            self._status = wait(self.pid, timeout)
        return self._status


def _revise_in_a_fork(self: RevisionThread, request: revision_process.Request, seconds: float) -> list[Revised]:
    """As RevisionThread's process, but forked: nothing has to be imported again. Strace does not follow it either."""
    reader, writer = os.pipe()
    pid = os.fork()
    if not pid:
        try:
            os.close(reader)
            with os.fdopen(writer, "wb") as file:
                pickle.dump(revision_process.answer(request), file)
        finally:
            os._exit(0)
    os.close(writer)
    with os.fdopen(reader, "rb") as file:
        answer = file.read()
    os.waitpid(pid, 0)
    return pickle.loads(answer) if answer else []  # noqa: S301 - our own child is at the other end


def wait(pid: int, timeout: float) -> int:
    """The exit status of a child (negative: the signal); subprocess.TimeoutExpired after `timeout` seconds."""
    descriptor = os.pidfd_open(pid)
    try:
        if not select.select([descriptor], [], [], timeout)[0]:
            raise subprocess.TimeoutExpired("a forked child", timeout)
    finally:
        os.close(descriptor)
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])


def fork() -> tuple[int, int]:
    """A child that waits (see become) until it is released; its pid, and a descriptor for release or become."""
    reader, writer = os.pipe()
    pid = os.fork()
    if pid:
        os.close(reader)
        return pid, writer
    os.close(writer)
    return 0, reader


def become(go: int, main: Any) -> None:
    """In the child: wait until strace is there, then do `main` and end. Never returns."""
    status = 70
    try:
        # Where only ancestors may trace (Yama), strace, a sibling, is allowed.
        ctypes.CDLL(None).prctl(_PR_SET_PTRACER, _ANY, 0, 0, 0)
        os.read(go, 1)
        os.close(go)
        status = main() or 0
    except BaseException:  # noqa: BLE001 - this is the end of the process, as in the real one
        traceback.print_exc()
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(status)


def release(pid: int, go: int, request: Request | None) -> None:
    """Let a child go, under strace when there is a `request` for it."""
    if request is not None:
        calls = ",".join(f"?{name}" for name in request["calls"])
        options = ["-y", "-e", f"trace={calls}"]
        if request["inject"] != "count":
            options += ["-e", f"inject={calls}:{request['inject']}"]
        strace = subprocess.Popen(
            ["strace", "-p", str(pid), "-o", f"{request['out']}/trace", *options],
            stderr=subprocess.PIPE,
            stdin=subprocess.DEVNULL,
        )
        assert strace.stderr is not None
        said = strace.stderr.readline()
        if b"attached" not in said:
            os.kill(pid, signal.SIGKILL)
            raise AssertionError(f"strace: {said!r}")
        TRACERS.append(strace)
    os.write(go, b"g")
    os.close(go)


TRACERS: list[subprocess.Popen[bytes]] = []


def collect_tracers() -> None:
    while TRACERS:
        strace = TRACERS.pop()
        strace.wait(120)
        if strace.stderr:
            strace.stderr.close()


#: Imported and looked up here, so that no child has to: a fault belongs to what a command does, not to its own modules.
COMMANDS = (retry, repack, prune, verify, deidentify, deidentify_service, deidentify_work)
arguments.parser()


def _once(request: Request) -> int:
    """`listener once`, or another command; what it retries is retried soon, and nothing is too young to be judged."""
    Forked.request = request
    inside = request["who"] == "all"
    pool.Worker = InsideWorker if inside else Worker  # type: ignore[misc]
    process = NoProcess if inside else Forked
    pool.subprocess = SimpleNamespace(  # type: ignore[attr-defined, assignment]
        Popen=process, DEVNULL=subprocess.DEVNULL, TimeoutExpired=subprocess.TimeoutExpired
    )
    RevisionThread.run_process = _revise_in_a_fork  # type: ignore[method-assign]
    workers.Worker = InsideTasks  # type: ignore[misc, assignment]
    DeliveryThread.start = _take_all  # type: ignore[method-assign]
    removal.LEDGER_LAG_NS = 0
    verify.SETTLE = ledger._SETTLE = 0.0
    engine.pause = lambda attempt, longest=0.0: min(0.002 * 2**attempt, 0.5)  # type: ignore[attr-defined]
    try:
        return cli.main(request["argv"])
    finally:
        collect_tracers()


def serve(request: Request) -> dict[str, Any]:
    out = request["out"]
    said = [os.open(f"{out}/{name}", os.O_WRONLY | os.O_CREAT | os.O_APPEND) for name in ("stdout", "stderr")]
    pid, go = fork()
    if not pid:
        os.setpgid(0, 0)
        for descriptor, number in zip(said, (1, 2), strict=True):
            os.dup2(descriptor, number)
        become(go, lambda: _once(request))
    for descriptor in said:
        os.close(descriptor)
    traced = request["who"] == "all" and request["inject"]
    release(pid, go, request if traced else None)
    try:
        status: int | None = wait(pid, request.get("seconds", 20))
    except subprocess.TimeoutExpired:
        os.killpg(pid, signal.SIGKILL)
        wait(pid, 10)
        status = None
    collect_tracers()
    return {"status": status}


def _warm_up() -> None:
    """One undisturbed run here, so that no child has anything to import: its calls are the protocol's alone."""
    with tempfile.TemporaryDirectory() as base:
        os.mkdir(f"{base}/incoming")
        for name, changes in (("1", {}), ("2", {"sender": "X"}), ("3", {"StudyTime": "1"}), ("4", {"PatientID": "1"})):
            write_instance(f"{base}/incoming/{name}", **changes)
        for name, body in (("5", b""), ("6", b"text\n" * 99)):
            with open(f"{base}/incoming/{name}", "wb") as file:
                file.write(body)
        places = [f"--{name}={base}/{name}" for name in ("incoming", "data", "log", "state")]
        with open(os.devnull, "w") as null, contextlib.redirect_stdout(null), contextlib.redirect_stderr(null):
            once = {"who": "all", "argv": ["once", *places, "--min-free=0", "--workers=1", "--log-level=error"]}
            _once(once)


def main() -> None:
    _warm_up()
    for line in sys.stdin.buffer:
        print(orjson.dumps(serve(orjson.loads(line))).decode(), flush=True)


if __name__ == "__main__":
    main()
