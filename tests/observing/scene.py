"""The whole of it on the loopback interface: storescp, listener and Prometheus, four senders, and faults to look at."""

from __future__ import annotations

import os
import signal
import subprocess
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from listener.quickstart.synthetic import Look, make_series
from tests.conftest import PROJECT, SHARED_DATA
from tests.dicomnet import Receiver, environment, free_port, storescp
from tests.instances import write_instance
from tests.observing.prometheus import Prometheus, prometheus
from tests.service_process import Places, Service, make_places, service
from tests.waiting import PATIENCE, until

SENDERS = 4

#: The labels that Kubernetes would give to the target.
LABELS = {"namespace": "dicom", "pod": "listener-0"}


@dataclass(frozen=True, slots=True)
class Scene:
    """What runs. `address` is the listener's, whichever listener it is: one that was killed has a successor there."""

    places: Places
    receiver: Receiver
    prometheus: Prometheus
    address: str

    @contextmanager
    def listener(self, *args: str) -> Iterator[Service]:
        """A listener, until the block is left or somebody kills it."""
        with service(self.places, "--http", self.address, "--rescan", "0.5", "--series-quiet", "5", *args) as running:
            yield running

    def send(self, parts: Sequence[Sequence[Path]]) -> None:
        """Each part from a sender of its own, all at once; AssertionError unless all were acknowledged."""
        finish(start_senders(self.receiver.port, parts))

    def until_fires(self, alert: str, seconds: float = 40) -> float:
        """Until an alert fires; how long it took in seconds."""
        return self._until(lambda: alert in self.prometheus.firing(), seconds, f"{alert} fires")

    def until_clears(self, alert: str, seconds: float = 40) -> float:
        """Until an alert does not fire any more; how long it took in seconds."""
        return self._until(lambda: alert not in self.prometheus.firing(), seconds, f"{alert} clears")

    def _until(self, predicate: Callable[[], bool], seconds: float, what: str) -> float:
        begun = time.monotonic()
        until(predicate, seconds, what=what)
        return time.monotonic() - begun


@contextmanager
def scene(folder: Path, rules: str) -> Iterator[Scene]:
    """Storescp and Prometheus run, with these rules; the listener is yours to start."""
    places = make_places(folder)
    address = f"127.0.0.1:{free_port()}"
    with storescp(places.incoming) as receiver, prometheus(folder / "prometheus", address, rules, LABELS) as server:
        yield Scene(places, receiver, server, address)


def real_series() -> list[Path]:
    """The real series where it is at hand; else nothing."""
    folder = (PROJECT / SHARED_DATA / "SAG-anon").resolve()
    return sorted(folder.glob("*.dcm"))


def synthetic_series(folder: Path, instances: int) -> list[Path]:
    """A synthetic series that DCMTK sends bit by bit (it would trim what a number of another one is padded with)."""
    folder.mkdir(parents=True, exist_ok=True)
    return [write_instance(folder / f"MR.{number}", number=number) for number in range(1, instances + 1)]


def dealt(paths: Sequence[Path], hands: int = SENDERS) -> list[list[Path]]:
    """The paths dealt out, one by one."""
    return [list(paths[hand::hands]) for hand in range(hands)]


def start_senders(port: int, parts: Sequence[Sequence[Path]]) -> list[subprocess.Popen[bytes]]:
    """A storescu for each part, all at once."""
    return [
        subprocess.Popen(
            ["storescu", "-aet", f"SENDER{number}", "127.0.0.1", str(port), *map(str, part)],
            env=environment(),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        for number, part in enumerate(parts, 1)
        if part
    ]


def finish(senders: Sequence[subprocess.Popen[bytes]], seconds: float = 60) -> None:
    """Wait for senders; AssertionError unless every instance was acknowledged."""
    end = time.monotonic() + PATIENCE * seconds
    statuses = [sender.wait(max(0.1, end - time.monotonic())) for sender in senders]
    assert not any(statuses), statuses


@contextmanager
def hung_workers(running: Service) -> Iterator[None]:
    """Workers that do not come on, as with a mount that hangs."""
    workers = running.workers()
    for pid in workers:
        os.kill(pid, signal.SIGSTOP)
    try:
        yield
    finally:
        for pid in workers:
            os.kill(pid, signal.SIGCONT)


@contextmanager
def refusing_log(places: Places) -> Iterator[None]:
    """A log in which no document of a patient can be written: a file lies where its directory should."""
    documents, aside = places.log / "patientData", places.log / "patientData.aside"
    documents.rename(aside)
    documents.write_bytes(b"")
    try:
        yield
    finally:
        documents.unlink()
        aside.rename(documents)


def broken_files(places: Places, count: int) -> None:
    """Files that cannot be repacked: no DICOM, nothing, and the half of an instance."""
    whole = make_series(places.base / "broken", instances=1, look=Look(seed="broken"))[0].read_bytes()
    for number in range(count):
        data = (b"this is no DICOM", b"", whole[: len(whole) // 2])[number % 3]
        (places.incoming / f"broken{number}").write_bytes(data)
