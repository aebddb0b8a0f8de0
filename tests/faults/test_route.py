"""`listener route` under kills: of itself, of the listener, of workers, of the ledger. Afterwards every study is whole
at one living worker, every instance is settled, and what arrived there is what came.
"""

from __future__ import annotations

import contextlib
import random
import signal
import time
from pathlib import Path

import pytest
from pydicom import Dataset, dcmread
from pydicom.errors import InvalidDicomError

from listener.route.schema import ROUTE
from listener.stages.database import open_reader, open_writer, transaction
from tests.faults.volumes import disk, until_full
from tests.instances import write_instance
from tests.route.machines import Ward, ward
from tests.service_process import Places, service
from tests.stages.processes import StageProcess
from tests.waiting import until

pytestmark = [pytest.mark.real, pytest.mark.faults, pytest.mark.slow, pytest.mark.timeout(1800)]


class Traffic:
    """Instances of studies, a few at a time."""

    def __init__(self, here: Ward, studies: int, seed: int) -> None:
        self._here, self._dice = here, random.Random(seed)
        self._studies = range(studies)
        self.sent: dict[str, int] = {}
        self._next = dict.fromkeys(self._studies, 0)

    def some(self, count: int = 4, sender: str = "SCANNER") -> None:
        for _ in range(count):
            self._send(self._dice.choice(self._studies), sender)

    def each(self, sender: str = "SCANNER") -> None:
        """One more instance of every study."""
        for study in self._studies:
            self._send(study, sender)

    def _send(self, study: int, sender: str) -> None:
        uid = self._here.send(study, self._next[study], sender=sender)
        self._next[study] += 1
        self.sent[uid] = self._next[study]


def states(places: Places) -> dict[str, int]:
    with contextlib.closing(open_reader(str(places.state), ROUTE)) as connection:
        return dict(connection.execute("SELECT state, count(*) FROM sends GROUP BY state").fetchall())


def settle(here: Ward, traffic: Traffic, seconds: float = 90) -> None:
    """Until all is delivered; then each study is whole at its worker, and each file is the one that came."""
    total = sum(traffic.sent.values())

    def all_delivered() -> bool:
        found = states(here.places)
        assert found == {"delivered": total}, f"{found} of {total}"
        return True

    until(all_delivered, seconds)
    with contextlib.closing(open_reader(str(here.places.state), ROUTE)) as connection:
        workers = dict(connection.execute("SELECT StudyInstanceUID, worker FROM studies").fetchall())
    for study, count in traffic.sent.items():
        assert here.holders(study).get(workers[study]) == count, (study, workers[study], here.holders(study))
        assert here.workers[workers[study]].process, "it lives"
    _compare(here)


def _compare(here: Ward) -> None:
    published = {path.stem: path for path in here.places.data.rglob("*.dcm")}
    assert published
    there: dict[str, list[Dataset]] = {}
    for machine in here.workers.values():
        for path in machine.folder.iterdir():
            with contextlib.suppress(InvalidDicomError):  # One that was killed leaves what it had begun, and not said.
                ds = dcmread(path)
                there.setdefault(str(ds.SOPInstanceUID), []).append(ds)
    for path in published.values():
        ds = dcmread(path)
        assert ds in there[str(ds.SOPInstanceUID)]


def test_killed_at_a_hundred_random_moments_while_another_one_takes_over(places: Places) -> None:
    dice = random.Random(14)
    with ward(places, quiet=5) as (here, _):
        traffic = Traffic(here, 12, 14)
        both = [here.started(), here.started()]
        try:
            for number in range(100):
                traffic.some(3)
                time.sleep(dice.uniform(0.01, 0.25))
                if number % 4 == 0:  # Else it is killed while it starts.
                    until(lambda: any(one.events("ready") for one in both), 120)
                killed = both.pop(0)
                killed.process.kill()
                killed.process.wait()
                both.append(here.started())
            settle(here, traffic, 150)
        finally:
            for one in both:
                one.process.kill()
                one.process.wait()


@pytest.mark.parametrize("removes_ledger", [False, True])
def test_the_listener_is_killed_and_the_ledger_made_anew(removes_ledger: bool, places: Places) -> None:
    with contextlib.ExitStack() as stack:
        here, listening = stack.enter_context(ward(places, quiet=5))
        traffic = Traffic(here, 6, 15)
        route: StageProcess = stack.enter_context(here.route())
        for _ in range(4):
            if removes_ledger:
                route.process.send_signal(signal.SIGSTOP)
            traffic.some(10)
            time.sleep(0.5)
            listening.kill()
            if removes_ledger:
                for path in places.state.glob("ledger.sqlite*"):
                    path.unlink()
            traffic.some(5)
            listening = stack.enter_context(service(places, "--series-quiet=5"))
            listening.wait_for("ready")
            route.process.send_signal(signal.SIGCONT)
        # What a ledger took with it before route had read it, which was stopped, is found when a next generation ends.
        traffic.each()
        settle(here, traffic)
        assert route.process.poll() is None


def test_workers_are_killed_one_after_the_other_under_traffic(places: Places) -> None:
    with ward(places, workers=3, quiet=5) as (here, _), here.route() as route:
        traffic = Traffic(here, 9, 16)
        for name in (*here.workers, *here.workers):
            for _ in range(6):
                traffic.some(4)
                time.sleep(0.1)
            here.workers[name].kill()
            for _ in range(8):
                traffic.some(4)
                time.sleep(0.5)
            here.workers[name].start()
            time.sleep(1)
        settle(here, traffic, 120)
        assert not route.events("refused")


def test_a_burst_of_a_thousand(places: Places, tmp_path: Path) -> None:
    with ward(places, workers=2, quiet=3) as (here, _), here.route():
        traffic = Traffic(here, 5, 17)
        outside = tmp_path / "burst"
        outside.mkdir()
        for number in range(1000):
            ds = write_instance(outside / str(number), study=number % 5, number=number // 5 + 1)
            ds.rename(places.incoming / f"b{number}")
        traffic.sent = {here.send(study, 0, sender="AGAIN"): 200 for study in range(5)}
        until(lambda: states(places).get("delivered", 0) >= 1000, 90, what=str(states))
        for study in traffic.sent:
            assert list(here.holders(study).values()) == [200]


def test_four_senders_and_restarts_of_everything_and_no_study_is_on_two_workers(places: Places) -> None:
    dice = random.Random(18)
    with contextlib.ExitStack() as stack:
        here, listening = stack.enter_context(ward(places, workers=3, quiet=4))
        traffic = Traffic(here, 12, 18)
        route = here.started()
        try:
            for number in range(12):
                traffic.some(12, sender=f"SENDER{number % 4}")
                if number % 4 == 1:
                    route.wait_for("ready", seconds=60)
                    route.process.terminate()
                    assert route.process.wait(120) == 0
                    route = here.started()
                elif number % 4 == 2:
                    listening.kill()
                    listening = stack.enter_context(service(places, "--series-quiet=4"))
                elif number % 4 == 3:
                    worker = here.workers[dice.choice([*here.workers])]
                    worker.kill()
                    worker.start()
                time.sleep(0.3)
            settle(here, traffic)
            for study, count in traffic.sent.items():
                assert list(here.holders(study).values()) == [count], "on one worker only"
            assert len({next(iter(here.holders(study))) for study in traffic.sent}) == 3
            assert not route.events("moved")
        finally:
            route.process.kill()
            route.process.wait()


def test_the_routes_file_changes_under_traffic_and_no_study_moves(places: Places) -> None:
    """Weights, associations, priorities, a route more and less; every third file is refused."""
    with ward(places, workers=3, quiet=20) as (here, _), here.route() as route:
        traffic = Traffic(here, 12, 20)
        for number in range(12):
            traffic.some(8)
            if number % 3 == 2:
                here.write("[routes.none]\nworkers = 3\n")
                route.wait_for("reload-refused", number // 3 + 1, seconds=60)
            else:
                more = '[routes.more]\nsender = ["NOBODY"]\nworkers = ["gpu2"]\n' if number % 2 else ""
                first = f'[routes.all]\nsender = ["*"]\nworkers = {[*here.workers]}\npriority = "high"\n'
                here.write(first + more, gpu1=f"weight = {number % 3 + 1}", gpu2=f"associations = {number % 2 + 1}")
                route.wait_for("reloaded", number - number // 3 + 1, seconds=60)
            traffic.some(8)
        settle(here, traffic)
        for study, count in traffic.sent.items():
            assert list(here.holders(study).values()) == [count], "on one worker only"
        assert not route.events("moved")
        assert not route.events("refused")


def test_a_paused_worker_keeps_its_own_and_gets_no_new_study(places: Places) -> None:
    with ward(places, quiet=30) as (here, _), here.route():
        study = here.send(1, 0)
        first = here.whole_at_one(study, 1)
        with contextlib.closing(open_writer(str(places.state), ROUTE)) as connection, transaction(connection):
            connection.execute("UPDATE targets SET paused = 1 WHERE name = ?", (first,))
        time.sleep(2.5)
        others = [here.send(number, 0) for number in range(2, 6)]
        here.send(1, 1)
        assert here.whole_at_one(study, 2) == first
        assert {here.whole_at_one(other, 1) for other in others} == {*here.workers} - {first}


def test_a_full_volume_stops_nothing_for_good(places: Places, tmp_path: Path) -> None:
    """The stage's folder lies on a volume of its own; what it cannot write down it does again when there is room."""
    with disk("ext4", tmp_path) as volume:
        folder = volume.mounted / "route"
        folder.mkdir()
        (places.state / "route").symlink_to(folder)
        with ward(places, quiet=4) as (here, _), here.route() as route:
            traffic = Traffic(here, 4, 19)
            traffic.some(20)
            until(lambda: states(places).get("delivered") == 20, 30)
            ballast = volume.mounted / "ballast"
            with until_full(), ballast.open("wb", buffering=0) as file:
                for _ in range(100_000):  # Also what is kept for root.
                    file.write(bytes(1 << 16))

            def waits() -> bool:
                traffic.some(20)
                time.sleep(0.2)
                return "waits" in str(route)

            until(waits, what="the log of the queue has no room")
            ballast.unlink()
            settle(here, traffic)
            assert route.process.poll() is None
