"""Workers that fail, with real ones: whole studies go elsewhere, and come from nobody twice without need."""

from __future__ import annotations

import shutil
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.route.machines import Machine, Ward, scrape, ward
from tests.service_process import Places, value
from tests.stages.processes import StageProcess
from tests.waiting import until

pytestmark = [pytest.mark.real, pytest.mark.faults, pytest.mark.slow, pytest.mark.timeout(900)]


def until_elsewhere(here: Ward, route: StageProcess, study: str, count: int, seconds: float) -> float:
    """Until a worker other than the first has all of a study; the seconds that took."""
    begun = time.monotonic()

    def there() -> bool:
        moved = [event["target"] for event in route.events("moved") if event["StudyInstanceUID"] == study]
        return bool(moved) and sum(of == study for of in here.workers[moved[-1]].instances().values()) == count

    until(there, seconds, what=str(route))
    return time.monotonic() - begun


def killed(worker: Machine) -> None:
    worker.kill()


def frozen(worker: Machine) -> None:
    worker.freeze()


def full(worker: Machine) -> None:
    shutil.rmtree(worker.folder)


def again_with(*options: str) -> Callable[[Machine], None]:
    def fault(worker: Machine) -> None:
        worker.kill()
        worker.start(*options)

    return fault


FAULTS = {
    "killed": (killed, 15.0, "down"),
    "full": (full, 15.0, "full"),
    "refusing": (again_with("--refuse"), 20.0, "down"),
    "aborting": (again_with("--abort-during"), 20.0, "down"),
    "aborting after": (again_with("--abort-after"), 20.0, "down"),
    "silent": (frozen, 60.0, "down"),
    "silent before it answers": (again_with("--sleep-during", "60"), 60.0, "down"),
}


@pytest.mark.parametrize("name", FAULTS)
def test_a_study_goes_whole_to_another_worker(name: str, places: Places, tmp_path: Path) -> None:
    fault, seconds, reason = FAULTS[name]
    with ward(places, quiet=90) as (here, _):
        here.write(
            f'[routes.all]\nsender = ["*"]\nworkers = {[*here.workers]}\n', gpu1="response = 5", gpu2="response = 5"
        )
        with here.route() as route:
            study = here.send(1, *range(5))
            first = here.whole_at_one(study, 5)
            fault(here.workers[first])
            here.send(1, *range(5, 10))
            took = until_elsewhere(here, route, study, 10, seconds)
            print(f"{name}: whole elsewhere after {took:.1f} s")
            moved = route.events("moved")[0]
            assert (moved["origin"], moved["reason"]) == (first, reason)
            assert value(scrape(route), "route_failovers_total", reason=reason) == 1
            until(lambda: value(scrape(route), "route_pending_instances") == 0, 10)
            here.workers[first].kill()  # One that sleeps would hold up the end.


def test_a_destination_that_is_down_all_the_time_holds_up_nobody(places: Places) -> None:
    with ward(places, destinations=1) as (here, _), here.route() as route:
        here.destinations["dest1"].kill()
        studies = [here.send(number, *range(4)) for number in range(4)]
        for study in studies:
            here.whole_at_one(study, 4)
        until(lambda: route.events("down"), 20)
        assert not route.events("refused"), "never a dead letter, and one failure, not one of each instance"
        assert value(scrape(route), "route_pending_instances", target="dest1") == 16
        here.destinations["dest1"].start()
        until(lambda: len(here.destinations["dest1"].instances()) == 16, 30)
        assert value(scrape(route), "route_dead_letters") == 0


def test_who_left_the_routes_file_gives_away_its_live_studies(places: Places) -> None:
    with ward(places, quiet=60) as (here, _), here.route() as route:
        study = here.send(1, 0, 1, 2)
        first = here.whole_at_one(study, 3)
        gone = here.workers.pop(first)
        here.write()
        until_elsewhere(here, route, study, 3, 15)
        assert route.events("moved")[0]["reason"] == "left"
        gone.kill()


def test_what_a_route_that_left_had_queued_is_held_until_it_comes_back(places: Places) -> None:
    with ward(places, workers=1, start=False) as (here, _), here.route() as route:
        study = here.send(1, 0, 1)
        until(
            lambda: value(scrape(route), "route_waiting_studies") + value(scrape(route), "route_pending_instances"), 10
        )
        here.write('[routes.other]\nsender = ["NOBODY"]\nworkers = ["gpu1"]\n')
        until(lambda: value(scrape(route), "route_held_sends") == 2, 10)
        here.workers["gpu1"].start()
        until(lambda: route.events("up") or value(scrape(route), "route_target_up", target="gpu1") == 1, 20)
        assert not here.workers["gpu1"].instances()
        here.write()
        here.whole_at_one(study, 2, 30)


def test_a_worker_that_is_killed_gives_its_studies_whole_to_another(places: Places) -> None:
    with ward(places, quiet=60) as (here, _), here.route() as route:
        study = here.send(1, *range(10))
        first = here.whole_at_one(study, 10)
        here.workers[first].kill()
        here.send(1, *range(10, 20))
        (moved,) = route.wait_for("moved")
        other = moved["target"]
        assert (moved["origin"], moved["reason"]) == (first, "down")
        until(lambda: len(here.workers[other].instances()) == 20, 20)
        assert route.wait_for("down")[0]["target"] == first
        new = here.send(2, 0)
        until(
            lambda: here.workers[other].instances().get(str(new)) is None and new in here.workers[other].studies(), 10
        )
        here.workers[first].start()
        up = route.wait_for("up")
        assert up[0]["target"] == first
        third = here.send(3, 0)
        until(lambda: third in here.workers[first].studies(), 10)
        page = scrape(route)
        assert value(page, "route_failovers_total", reason="down") == 1
