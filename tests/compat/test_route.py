"""Hospitals and a worker that are Orthanc, and results that highdicom makes: who gets what."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from collections.abc import Set as AbstractSet
from contextlib import ExitStack
from dataclasses import dataclass
from functools import partial
from io import BytesIO
from pathlib import Path

import pytest
from pydicom import dcmread
from pydicom.data import get_testdata_file

from tests.compat.environments import Unreachable, environment
from tests.compat.orthanc import Orthanc, orthanc, values
from tests.dicomnet import environment as variables
from tests.dicomnet import storescp
from tests.instances import uid
from tests.route.machines import scrape
from tests.service_process import Places, service, value
from tests.stages.processes import StageProcess, stage
from tests.waiting import until

ROUTES = """
[workers.orthanc]
address = "127.0.0.1:{worker}"
aet = "WORKER"
[destinations.stockholm]
address = "127.0.0.1:{stockholm}"
aet = "STOCKHOLM"
[destinations.uppsala]
address = "127.0.0.1:{uppsala}"
aet = "UPPSALA"
[routes.stockholm]
root = "stockholm"
workers = ["orthanc"]
results = ["stockholm"]
[routes.uppsala]
root = "uppsala"
workers = ["orthanc"]
results = ["uppsala"]
[inside]
roots = ["inside"]
"""

RESULTS = ("segmentation", "report", "capture")


@pytest.fixture(scope="session")
def python() -> Path:
    """A Python that has highdicom."""
    try:
        return environment("highdicom-0.28.2", ["highdicom==0.28.2"]) / "bin/python"
    except Unreachable as error:
        pytest.skip(str(error))


@dataclass(frozen=True, slots=True)
class World:
    """Two hospitals and a worker; `listener run` and `listener route` between them."""

    folder: Path
    hospitals: dict[str, Orthanc]
    worker: Orthanc
    inside: int
    route: StageProcess

    def has(self, name: str, uids: AbstractSet[str]) -> bool:
        """Whether a hospital has these instances, and no others."""
        return self.hospitals[name].instances().keys() == uids

    def study_of(self, name: str, series: int) -> dict[str, bytes]:
        """Let a hospital have a study and send it; its instances by UID."""
        made = {}
        for number in range(3):
            image = dcmread(str(get_testdata_file("CT_small.dcm")))
            image.StudyInstanceUID = uid("study", name)
            image.SeriesInstanceUID = uid("series", name, series)
            image.SOPInstanceUID = image.file_meta.MediaStorageSOPInstanceUID = uid("image", name, series, number)
            image.PatientID, image.InstanceNumber = f"OF-{name}", number + 1
            image.save_as(self.folder / "one.dcm")
            made[str(image.SOPInstanceUID)] = (self.folder / "one.dcm").read_bytes()
            self.hospitals[name].add(made[str(image.SOPInstanceUID)])
        self.hospitals[name].send("listener")
        return made

    def answer(self, python: Path, image: str, folder: Path) -> set[str]:
        """What the worker does with an image that it has: its results go to the inside; their UIDs."""
        folder.mkdir()
        data = self.worker.ask(f"/instances/{self.worker.instances()[image]}/file")
        (folder / "image").write_bytes(data)
        script = Path(__file__).parent / "inside/results.py"
        subprocess.run([python, "-W", "ignore", script, folder / "image", folder], check=True, capture_output=True)
        paths = [folder / f"{name}.dcm" for name in RESULTS]
        command = ["storescu", "-aet", "WORKER", "-R", "127.0.0.1", str(self.inside), *map(str, paths)]
        subprocess.run(command, check=True, env=variables(), capture_output=True)
        return {str(dcmread(path).SOPInstanceUID) for path in paths}


@pytest.fixture
def world(tmp_path: Path, dcmtk: None) -> Iterator[World]:
    area = tmp_path / "area"
    roots = tuple(area / name for name in ("stockholm", "uppsala", "inside"))
    places = Places(tmp_path, roots, area / "data", area / "log", area / "state").make()
    with ExitStack() as stack:
        stack.enter_context(service(places, "--series-quiet=2", "--on-conflict=keep-both"))
        receivers = {root.name: stack.enter_context(storescp(root)) for root in roots}
        hospitals = {
            name: stack.enter_context(
                orthanc(tmp_path / name, name.upper(), listener=("STORESCP", receivers[name].port))
            )
            for name in ("stockholm", "uppsala")
        }
        worker = stack.enter_context(orthanc(tmp_path / "worker", "WORKER"))
        routes = tmp_path / "routes.toml"
        ports = {name: hospital.port for name, hospital in hospitals.items()}
        routes.write_text(ROUTES.format(worker=worker.port, **ports))
        options = ("--routes", str(routes), "--data", str(places.data), "--http", "127.0.0.1:0")
        route = stack.enter_context(stage(places.state, *options, module=("listener", "route")))
        yield World(tmp_path, hospitals, worker, receivers["inside"].port, route)


def test_each_hospital_gets_what_was_made_of_its_own_images(world: World, python: Path, tmp_path: Path) -> None:
    sent = {name: world.study_of(name, 1) for name in world.hospitals}
    until(lambda: len(world.worker.instances()) == 6, 30, what=str(world.route))
    assert world.worker.instances().keys() == set().union(*sent.values())
    there = world.worker.datasets()
    for image, data in ((image, data) for images in sent.values() for image, data in images.items()):
        assert values(there[image]) == values(dcmread(BytesIO(data)))
    made = {
        name: world.answer(python, next(iter(images)), tmp_path / f"results-{name}") for name, images in sent.items()
    }
    for name in world.hospitals:
        until(partial(world.has, name, sent[name].keys() | made[name]), 30, what=str(world.route))
    until(lambda: [value(scrape(world.route), "route_results_total", route=name) for name in sent] == [3, 3], 10)
    page = scrape(world.route)
    assert value(page, "route_held_results") == 0
    assert value(page, "route_dead_letters") == 0
