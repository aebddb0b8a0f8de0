"""The crash harness: SIGKILL at random moments under traffic, restart, again; and somebody reads all the time."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, field
from typing import Any

import orjson

from tests.accounting import Canary, account, files_below, miscounted
from tests.conftest import PROJECT
from tests.dicomnet import kill_group
from tests.faults.traffic import Inflow, Sender, waiting
from tests.service_process import Places, Service, environment, service, settled, value
from tests.waiting import alive, until

#: What the fault itself may do to an instance: a file that two dying workers held.
LOST = ("worker-lost",)

Traffic = Callable[[Places, int], AbstractContextManager[Inflow | Sender]]


@dataclass(slots=True)
class Tally:
    """What a harness did."""

    kills: int = 0
    files: int = 0
    lost: int = 0
    seconds: float = 0.0
    reader: dict[str, Any] = field(default_factory=dict)

    def __str__(self) -> str:
        return (
            f"{self.kills} kills in {self.seconds:.0f} s, {self.files} files, {self.lost} of them set aside as "
            f"worker-lost; readers went round {self.reader['rounds']} times, {self.reader['instances']} instances and "
            f"{self.reader['documents']} documents"
        )


@contextmanager
def reading(places: Places) -> Iterator[dict[str, Any]]:
    """A process that reads tree and logs; what it tells at the end is put into the dictionary."""
    process = subprocess.Popen(
        [sys.executable, "-m", "tests.faults.readers", str(places.data), str(places.log)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        env=environment(),
        cwd=PROJECT,
    )
    told: dict[str, Any] = {}
    try:
        yield told
        said, _ = process.communicate(timeout=300)
        told |= orjson.loads(said)
    finally:
        process.kill()
        process.wait()
        for pipe in (process.stdin, process.stdout):
            if pipe:
                pipe.close()


class Assassin:
    """Kills, at random moments, what a plan says: `all`, `parent` or `worker`."""

    def __init__(self, places: Places, seed: int, args: tuple[str, ...] = ()) -> None:
        self._places = places
        self._args = args
        self._random = random.Random(seed)
        self.kills = 0
        self.reported: set[str] = set()

    def strike(self, victim: str, count: int) -> None:
        """`count` kills of this kind."""
        end = self.kills + count
        while self.kills < end:
            with service(self._places, *self._args, ready=False) as running:
                if victim == "worker":
                    self._kill_workers(running, end)
                else:
                    self._let_work(running)
                    self._kill_service(running, victim)
                self._note(running)

    def _let_work(self, running: Service) -> None:
        """To a random moment: some while starting, most of them while files are in hand."""
        if self._random.random() < 0.2:
            time.sleep(self._random.uniform(0, 0.4))
            return
        try:
            until(lambda: running.stdout.count(b'"published"') > 0 or running.process.poll() is not None, 20)
        except AssertionError as error:
            raise AssertionError(f"{error}: {running}") from None
        time.sleep(self._random.uniform(0, 0.1))

    def _kill_service(self, running: Service, victim: str) -> None:
        workers = running.workers()
        if victim == "all":
            kill_group(running.pid)
        else:
            running.process.kill()
        running.process.wait()
        until(lambda: not any(alive(pid) for pid in workers), 20, what="the workers of the killed service have ended")
        self.kills += 1

    def _kill_workers(self, running: Service, end: int) -> None:
        """One worker after the other; each time some files got through since the one before."""
        done = 0
        while self.kills < end:

            def got_on(before: int = done) -> bool:
                assert running.process.poll() is None, str(running)
                return running.stdout.count(b'"published"') > before

            until(got_on, 30, what=f"files get through between the kills; {running}")
            time.sleep(self._random.uniform(0, 0.03))
            workers = running.workers()
            if workers:
                os.kill(self._random.choice(workers), signal.SIGKILL)
                self.kills += 1
            done = running.stdout.count(b'"published"')

    def _note(self, running: Service) -> None:
        """Whatever was reported done is in the tree, at once."""
        self.reported |= {event["SOPInstanceUID"] for event in running.events("published", "duplicate")}
        there = {path.stem.partition("-")[2] for path in files_below(self._places.data)}
        gone = self.reported - there
        assert not gone, f"{len(gone)} instances were reported and are not in the tree: {sorted(gone)[:5]}"


def harness(places: Places, traffic: Traffic, plan: dict[str, int], seed: int, args: tuple[str, ...] = ()) -> Tally:
    """Kill as often as `plan` says, under `traffic`; then assert the oracle, L1 to L6, and that nobody read a half."""
    tally, begun = Tally(), time.monotonic()
    canary = Canary(places)
    assassin = Assassin(places, seed, args)
    with reading(places) as told:
        with traffic(places, seed) as flow:
            for victim, count in plan.items():
                assassin.strike(victim, count)
        _recover(places)
    tally.kills, tally.files, tally.reader = assassin.kills, flow.files, told
    tally.seconds = time.monotonic() - begun
    assert told["wrong"] == [], told
    assert told["rounds"] > 3, told
    tally.lost = sum(1 for _ in files_below(places.state / "set-aside" / "worker-lost")) // 2
    account(places, flow.sent, aside=flow.aside, allowed=LOST)
    assert not list(canary.changed())
    # Each kill can make one file's second death, never more: its companions come back one by one.
    assert tally.lost <= tally.kills, tally
    return tally


def _recover(places: Places) -> None:
    """L6 and L4: one more start, undisturbed, does all that is left, and is well."""
    with service(places) as running:
        until(lambda: waiting(places) == 0, 60, what=f"everything is done; {running}")
        scrape = settled(running, int(value(running.scrape(), "files_discovered_total")))
        assert not list(miscounted(scrape, running.events()))
        assert running.get("/readyz").status == 200
        assert running.get("/healthz").status == 200
        assert len(running.workers()) == 2
        assert len(os.listdir(f"/proc/{running.pid}/fd")) < 60


def changes(call: str, line: str) -> bool:
    """Whether a call changes anything. Killed before one that does not, a process leaves what it leaves when it is
    killed before the next one that does.
    """
    return call not in ("fcntl", "flock") and (call not in ("open", "openat") or "O_CREAT" in line)
