"""Sending what lies there to one storescp: dcmsend straight to it, and `listener route` with all of it queued."""

from __future__ import annotations

import time
from pathlib import Path
from urllib.request import urlopen

import orjson

from listener.benchmark import servers
from listener.benchmark.energy import Meter
from listener.benchmark.figures import Sample
from listener.benchmark.processes import Watcher, so_far, spent
from listener.benchmark.receiving import Spent, end_of, prepare, repacked, sample_of, until_counted
from listener.benchmark.request import Options
from listener.benchmark.senders import Batches
from listener.benchmark.workdir import RunDirs, WorkDir

_ROUTES = """
[workers.one]
address = "127.0.0.1:{port}"
aet = "STORESCP"
[routes.all]
sender = ["*"]
workers = ["one"]
"""

#: Seconds that all files may take until they are queued.
_SECONDS = 600.0


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
    """Measure `listener route` from the moment at which its worker starts, with all files queued for it; `nodelay`: the
    worker has TCP_NODELAY.
    """
    with workdir.place() as place, servers.service(place, options) as (service, events):
        workdir.corpus.write(place.incoming, batches.files)
        until_counted(service, events, batches.files)
        worker, port = RunDirs(place.base / "worker"), servers.free_port()
        worker.base.mkdir()
        routes = place.base / "routes.toml"
        routes.write_text(_ROUTES.format(port=port), encoding="utf-8")
        with servers.route(place, routes) as (route, told):
            servers.until(lambda: _pending(told) == batches.files, route, _SECONDS, "listener route does not queue all")
            prepare(place, batches)
            at_start, meter, total, begun = so_far(route.pid), Meter(), spent(), time.perf_counter()
            with servers.storescp(worker, port=port, nodelay=nodelay) as (storescp, _), Watcher(route.pid) as watcher:
                until_counted(route, told, batches.files, b'"delivered"')
                wall, joules = time.perf_counter() - begun, meter.joules()
                ours, receiver = so_far(route.pid) - at_start, end_of(storescp, total)
            received = repacked(worker, batches.files)
            return sample_of(name, batches.files, received, Spent(wall, ours, receiver, watcher.peak, joules))


def _pending(events: Path) -> int:
    """Return how many instances wait, by the metrics of the router."""
    started = next(orjson.loads(line) for line in events.read_bytes().splitlines() if b'"started"' in line)
    with urlopen(f"http://{started['http']}/metrics", timeout=10) as answer:
        lines = answer.read().decode().splitlines()
    return int(sum(float(line.split()[-1]) for line in lines if line.startswith("listener_route_pending_instances{")))
