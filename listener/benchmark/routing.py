"""`listener route` and its workers, which are storescp: all of it queued, beside dcmsend straight to one; what comes,
from a sender through `listener run`, at full rate and paced; and a worker that fails.
"""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from datetime import datetime
from pathlib import Path
from typing import NamedTuple
from urllib.request import urlopen

import orjson

from listener.benchmark import pacing, servers
from listener.benchmark.energy import Meter
from listener.benchmark.figures import Lag, Sample
from listener.benchmark.processes import Watcher, end, so_far, spent
from listener.benchmark.receiving import Spent, end_of, prepare, repacked, sample_of, until_counted
from listener.benchmark.request import Options
from listener.benchmark.senders import Batches
from listener.benchmark.workdir import RunDirs, WorkDir

_WORKER = """
[workers.w{number}]
address = "127.0.0.1:{port}"
aet = "STORESCP"
"""
_ROUTE = """
[routes.all]
sender = ["*"]
workers = {workers}
"""

#: Seconds that all files may take until they are queued.
_SECONDS = 600.0

#: Seconds that a study may take to get to another worker, and files a second that come before and after a fault.
_SECONDS_OF_FAULT, _BEFORE = 120.0, 200.0


def straight(workdir: WorkDir, batches: Batches, name: str) -> Sample:
    """Measure a sender alone: its processor time is that of the row."""
    with workdir.place() as place, servers.storescp(place) as (storescp, port):
        prepare(place, batches)
        meter, total, begun = Meter(), spent(), time.perf_counter()
        with Watcher(without=[storescp.pid]) as watcher:
            senders = batches.send(port)
        wall, joules = time.perf_counter() - begun, meter.joules()
        receiver = end_of(storescp, total) - senders
        received = repacked(place, batches.files)
        return sample_of(name, batches.files, received, Spent(wall, senders, receiver, watcher.peak, joules))


def queued(workdir: WorkDir, batches: Batches, options: Options, name: str, *, nodelay: bool = True) -> Sample:
    """Measure `listener route` with all files queued for a worker that starts, from its first answer on: until then it
    is asked more and more rarely. `nodelay`: the worker has TCP_NODELAY.
    """
    with workdir.place() as place, servers.service(place, options) as (service, events):
        workdir.corpus.write(place.incoming, batches.files)
        until_counted(service, events, batches.files)
        worker, port = _worker(place, 1), servers.free_port()
        with servers.route(place, _routes(place, port)) as (route, told):
            servers.until(lambda: _pending(told) == batches.files, route, _SECONDS, "listener route does not queue all")
            prepare(place, batches)
            total = spent()
            with servers.storescp(worker, port=port, nodelay=nodelay) as (storescp, _), Watcher(route.pid) as watcher:
                until_counted(route, told, 1, b'"delivered"')
                at_start, meter, begun = so_far(route.pid), Meter(), time.perf_counter()
                until_counted(route, told, batches.files, b'"delivered"')
                wall, joules = time.perf_counter() - begun, meter.joules()
                ours, receiver = so_far(route.pid) - at_start, end_of(storescp, total)
            received = repacked(worker, batches.files)
            return sample_of(name, batches.files, received, Spent(wall, ours, receiver, watcher.peak, joules))


def live(workdir: WorkDir, batches: Batches, options: Options, name: str) -> Sample:
    """Measure the way from a sender to a worker while it comes: storescp, `listener run`, `listener route`, storescp.
    Its processor time is that of the router, its rate that of the worker.
    """
    with _routed(workdir, batches, options) as routed:
        at_start, meter, total, begun = so_far(routed.route.pid), Meter(), spent(), time.perf_counter()
        with Watcher(routed.route.pid) as watcher:
            batches.send(routed.port)
            until_counted(routed.route, routed.told, batches.files, b'"delivered"')
        wall, joules = time.perf_counter() - begun, meter.joules()
        ours = so_far(routed.route.pid) - at_start
        end(routed.receiver)
        receiver = end_of(routed.worker, total)
        received = repacked(RunDirs(routed.place.base / "worker1"), batches.files)
        return sample_of(name, batches.files, received, Spent(wall, ours, receiver, watcher.peak, joules))


def hop(workdir: WorkDir, batches: Batches, options: Options, rate: float) -> tuple[Sample, Sample]:
    """Measure two lags while `rate` files come in a second: that of intake with a follower, and what a worker's answer
    takes beyond it. Both in seconds from close-write.
    """
    with _routed(workdir, batches, options) as routed:
        at_start, begun = so_far(routed.route.pid), time.perf_counter()
        with Watcher(routed.route.pid) as watcher:
            pacing.send(routed.port, batches.paths, rate)
            until_counted(routed.route, routed.told, batches.files, b'"delivered"')
        wall, ours = time.perf_counter() - begun, so_far(routed.route.pid) - at_start
        lags = {line["SOPInstanceUID"]: float(line["lag"]) for line in servers.lines(routed.events, "published")}
        hops = {line["SOPInstanceUID"]: float(line["hop"]) for line in servers.lines(routed.told, "delivered")}
        beyond = [max(0.0, hops[uid] - lag) for uid, lag in lags.items()]
        common = (batches.files, batches.size)
        return (
            Sample("intake, followed by route", *common, 0.0, wall, lag=Lag.of([*lags.values()])),
            Sample(
                "route, from intake to answer", *common, ours / batches.files, wall, *watcher.peak, lag=Lag.of(beyond)
            ),
        )


def failed_over(workdir: WorkDir, batches: Batches, options: Options, fault: str) -> Sample:
    """Measure the seconds from a worker's fault (see FAULTS) until the other one has all of the study, which the lag
    tells: its largest is that of the whole study.
    """
    with _routed(workdir, batches, options, workers=2) as routed:
        pacing.send(routed.port, batches.paths[::2], _BEFORE)
        until_counted(routed.route, routed.told, len(batches.paths[::2]), b'"delivered"')
        target = str(servers.lines(routed.told, "delivered")[0]["target"])
        begun = time.time()
        FAULTS[fault](routed, target)
        pacing.send(routed.port, batches.paths[1::2], _BEFORE)
        _until_all_elsewhere(routed, batches.files, target)
        moments = {
            line["SOPInstanceUID"]: datetime.fromisoformat(line["time"]).timestamp() - begun
            for line in servers.lines(routed.told, "delivered")
            if line["target"] != target
        }
        if fault == "silent":  # It would not end.
            os.killpg(routed.workers[target].pid, signal.SIGCONT)
        lag = Lag.of([*moments.values()])
        return Sample(f"worker {fault}", batches.files, batches.size, 0.0, lag.most, lag=lag)


def _until_all_elsewhere(routed: _Routed, files: int, origin: str) -> None:
    def there() -> bool:
        done = {line["SOPInstanceUID"] for line in servers.lines(routed.told, "delivered") if line["target"] != origin}
        return len(done) == files

    servers.until(there, routed.route, _SECONDS_OF_FAULT, "the study does not come to the other worker")


def _kill(routed: _Routed, target: str) -> None:
    # The whole group: children of a storescp that was killed alone would go on with their associations.
    os.killpg(routed.workers[target].pid, signal.SIGKILL)


def _fill(routed: _Routed, target: str) -> None:
    shutil.rmtree(RunDirs(routed.place.base / f"worker{target[1:]}").incoming)


def _stop(routed: _Routed, target: str) -> None:
    os.killpg(routed.workers[target].pid, signal.SIGSTOP)


#: What may be wrong with a worker: it was killed; it has no room (storescp without its directory answers A700); it
#: accepts, and says nothing.
FAULTS: dict[str, Callable[[_Routed, str], None]] = {"killed": _kill, "full": _fill, "silent": _stop}


# -- what runs -------------------------------------------------------------------------------------------------------


class _Routed(NamedTuple):
    """What runs: its place; storescp and its port, `listener route`, and workers by name; the events of `listener run`
    and of the router.
    """

    place: RunDirs
    receiver: subprocess.Popen[bytes]
    port: int
    route: subprocess.Popen[bytes]
    workers: dict[str, subprocess.Popen[bytes]]
    events: Path
    told: Path

    @property
    def worker(self) -> subprocess.Popen[bytes]:
        """Return the first worker."""
        return self.workers["w1"]


@contextmanager
def _routed(workdir: WorkDir, batches: Batches, options: Options, workers: int = 1) -> Iterator[_Routed]:
    with ExitStack() as stack:
        place = stack.enter_context(workdir.place())
        _, events = stack.enter_context(servers.service(place, options))
        found, ports = {}, list[int]()
        for number in range(1, workers + 1):
            found[f"w{number}"], port = stack.enter_context(servers.storescp(_worker(place, number)))
            ports.append(port)
        route, told = stack.enter_context(servers.route(place, _routes(place, *ports)))
        receiver, port = stack.enter_context(servers.storescp(place))
        prepare(place, batches)
        yield _Routed(place, receiver, port, route, found, events, told)


def _worker(place: RunDirs, number: int) -> RunDirs:
    worker = RunDirs(place.base / f"worker{number}")
    worker.base.mkdir()
    return worker


def _routes(place: RunDirs, *ports: int) -> Path:
    """Write the routes file: these workers, and one route to all of them."""
    workers = "".join(_WORKER.format(number=number, port=port) for number, port in enumerate(ports, 1))
    path = place.base / "routes.toml"
    path.write_text(workers + _ROUTE.format(workers=[f"w{number}" for number in range(1, len(ports) + 1)]), "utf-8")
    return path


def _pending(events: Path) -> int:
    """Return how many instances wait, by the metrics of the router."""
    started = next(orjson.loads(line) for line in events.read_bytes().splitlines() if b'"started"' in line)
    with urlopen(f"http://{started['http']}/metrics", timeout=10) as answer:
        lines = answer.read().decode().splitlines()
    return int(sum(float(line.split()[-1]) for line in lines if line.startswith("listener_route_pending_instances{")))
