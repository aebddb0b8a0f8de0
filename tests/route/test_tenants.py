"""Two hospitals and their workers, with real parts: each gets what its own worker made, and nobody else does."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from pydicom.dataset import Dataset

from listener.route.schema import ROUTE
from listener.stages.database import open_reader
from tests.instances import instance, save
from tests.route import results
from tests.route.machines import Ward, scrape, ward
from tests.service_process import Places, value
from tests.stages.processes import StageProcess
from tests.waiting import until

pytestmark = pytest.mark.real

ROUTES = """
[routes.stockholm]
root = "stockholm"
workers = ["gpu1"]
results = ["dest1"]
[routes.uppsala]
root = "uppsala"
workers = ["gpu2"]
results = ["dest2"]
[inside]
roots = ["inside"]
"""


@contextmanager
def two_hospitals(tmp_path: Path) -> Iterator[tuple[Ward, StageProcess]]:
    """Roots stockholm, uppsala and inside; gpu1 and dest1 are Stockholm's, gpu2 and dest2 Uppsala's."""
    area = tmp_path / "area"
    roots = tuple(area / name for name in ("stockholm", "uppsala", "inside"))
    places = Places(tmp_path, roots, area / "data", area / "log", area / "state").make()
    with ward(places, destinations=2, quiet=1) as (here, _):
        here.write(ROUTES)
        with here.route() as route:
            yield here, route


def put(here: Ward, root: str, ds: Dataset, sender: str) -> None:
    """A file comes into a root, as storescp writes it."""
    folder = next(path for path in here.places.incomings if path.name == root)
    ds.file_meta.SourceApplicationEntityTitle = sender
    made = save(ds, here.places.base / f"{ds.SOPInstanceUID}.made")
    made.rename(folder / f"{ds.Modality}.{ds.SOPInstanceUID}.{len(list(here.places.base.iterdir()))}")


def at(here: Ward, name: str) -> set[str]:
    """What a destination has: SOP Instance UIDs."""
    return set(here.destinations[name].instances())


def at_destination(here: Ward, name: str, uids: set[str]) -> None:
    """Until a destination has these, and nothing else."""
    until(lambda: at(here, name) == uids, 20, what=f"{name} has {uids}")


def at_worker(here: Ward, name: str, count: int) -> None:
    """Until a worker has so many instances."""
    until(lambda: len(here.workers[name].instances()) == count, 20, what=f"{count} at {name}")


MADE = (results.segmentation, results.report, results.capture)


@pytest.mark.parametrize("differ", [False, True])
def test_each_hospital_gets_what_its_own_worker_made(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, *, differ: bool
) -> None:
    """One study of both, with the same files or (keep-both) with others under the same UIDs."""
    images = {name: instance() for name in ("stockholm", "uppsala")}
    if differ:
        images["uppsala"].ImageComments = "another"
        monkeypatch.setenv("LISTENER_ON_CONFLICT", "keep-both")
    with two_hospitals(tmp_path) as (here, route):
        for number, (name, image) in enumerate(images.items(), 1):
            put(here, name, image, "SCANNER")
            at_worker(here, f"gpu{number}", 1)
        wanted: dict[str, set[str]] = {}
        for worker, destination in (("GPU1", "dest1"), ("GPU2", "dest2")):
            made = [make(images["stockholm"], worker) for make in MADE]
            wanted[destination] = {str(ds.SOPInstanceUID) for ds in made}
            for ds in made:
                put(here, "inside", ds, worker)
        for name, uids in wanted.items():
            at_destination(here, name, uids)
        told = route.wait_for("returned", 6)
        assert {(one["route"], one["worker"]) for one in told} == {("stockholm", "gpu1"), ("uppsala", "gpu2")}
        until(lambda: value(scrape(route), "route_results_total") == 6, 10)
        assert not route.events("held")


def test_what_is_nobody_s_stays_here(tmp_path: Path) -> None:
    image = instance()
    with two_hospitals(tmp_path) as (here, route):
        put(here, "stockholm", image, "SCANNER")
        at_worker(here, "gpu1", 1)
        put(here, "inside", results.note("GPU1", image), "GPU1")
        put(here, "inside", results.segmentation(image, "GPU2"), "GPU2")
        put(here, "inside", results.segmentation(image, "STRANGER"), "STRANGER")
        other = results.segmentation(image, "GPU1")
        other.PatientID = "ANOTHER"
        put(here, "inside", other, "GPU1")
        put(here, "inside", instance(), "GPU1")  # the original comes back
        told = route.wait_for("held", 4)
        assert {one["reason"] for one in told} == {"orphan", "other-worker", "unknown-sender", "patient"}
        until(lambda: value(scrape(route), "route_originals_total") == 1, 10)
        # A route more, read again, changes no answer.
        here.write(ROUTES + '[routes.more]\nroot = "stockholm"\nworkers = ["gpu2"]\nresults = ["dest2"]\n')
        route.wait_for("reloaded")
        put(here, "inside", results.capture(image, "GPU1"), "GPU1")
        until(lambda: len(at(here, "dest1")) == 1, 20, what=str(route))
        assert at(here, "dest2") == set()
        assert "ANOTHER" not in str(route)
        assert "P0000" not in str(route)


def test_a_result_that_comes_back_from_outside_goes_nowhere(tmp_path: Path) -> None:
    image = instance()
    with two_hospitals(tmp_path) as (here, route):
        put(here, "stockholm", image, "SCANNER")
        at_worker(here, "gpu1", 1)
        result = results.segmentation(image, "GPU1")
        put(here, "inside", result, "GPU1")
        until(lambda: len(at(here, "dest1")) == 1, 20, what=str(route))
        put(here, "stockholm", results.segmentation(image, "GPU1"), "STO_PACS")
        put(here, "stockholm", instance(number=2), "SCANNER")
        at_worker(here, "gpu1", 2)
        assert str(result.SOPInstanceUID) not in here.workers["gpu1"].instances()
        with contextlib.closing(open_reader(str(here.places.state), ROUTE)) as state:
            found = state.execute("SELECT kind, count(*) FROM sends GROUP BY kind ORDER BY kind").fetchall()
        assert found == [("result", 1), ("worker", 2)]


def test_a_result_waits_for_its_destination_and_is_there_once(tmp_path: Path) -> None:
    image = instance()
    with two_hospitals(tmp_path) as (here, route):
        here.destinations["dest1"].kill()
        put(here, "stockholm", image, "SCANNER")
        at_worker(here, "gpu1", 1)
        for make in MADE:
            put(here, "inside", make(image, "GPU1"), "GPU1")
        route.wait_for("returned", 3)
        assert at(here, "dest1") == set()
        here.destinations["dest1"].start()
        until(lambda: len(at(here, "dest1")) == 3, 30, what=str(route))
        until(lambda: value(scrape(route), "route_pending_instances") == 0, 10)
