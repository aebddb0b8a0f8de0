"""Five workers of three makes for one route: storescp, Orthanc and a receiver of pynetdicom's; real senders."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from pydicom import Dataset, dcmread
from pynetdicom import AE, ALL_TRANSFER_SYNTAXES, evt

from listener.network.association import Association, Peer
from listener.network.instance import Instance
from tests.compat.orthanc import Orthanc, orthanc, values
from tests.dicomnet import environment, storescp
from tests.instances import MR_STORAGE, uid, write_instance
from tests.network.kinds import kinds, written
from tests.route.machines import Machine, scrape
from tests.service_process import Places, service, value
from tests.stages.processes import StageProcess, stage
from tests.waiting import until

STUDIES, EACH = 10, 3


@dataclass(frozen=True, slots=True)
class Library:
    """A receiver of pynetdicom's: its port, and what it has."""

    port: int
    has: dict[str, Dataset] = field(default_factory=dict)


@contextmanager
def library() -> Iterator[Library]:
    def store(event: Any) -> int:
        made.has[str(event.dataset.SOPInstanceUID)] = event.dataset
        return 0

    entity = AE(ae_title="LIBRARY")
    entity.add_supported_context(MR_STORAGE, ALL_TRANSFER_SYNTAXES)
    entity.add_supported_context("1.2.840.10008.1.1")
    server = entity.start_server(("127.0.0.1", 0), block=False, evt_handlers=[(evt.EVT_C_STORE, store)])
    assert server
    made = Library(int(server.socket.getsockname()[1]))  # type: ignore[union-attr]
    try:
        yield made
    finally:
        server.shutdown()


@dataclass(frozen=True, slots=True)
class Workers:
    """All five, by name."""

    machines: dict[str, Machine]
    orthanc: Orthanc
    library: Library

    def ports(self) -> dict[str, int]:
        made: dict[str, Machine | Orthanc | Library] = {"orthanc": self.orthanc, "library": self.library}
        return {name: one.port for name, one in (self.machines | made).items()}

    def has(self) -> dict[str, dict[str, Dataset]]:
        """What each of them has, once nothing comes any more."""
        found = {"orthanc": self.orthanc.datasets(), "library": dict(self.library.has)}
        for name, machine in self.machines.items():
            stored = map(dcmread, machine.folder.iterdir())
            found[name] = {str(one.SOPInstanceUID): one for one in stored}
        return found


@contextmanager
def workers(folder: Path) -> Iterator[Workers]:
    folder.mkdir()
    with ExitStack() as stack:
        machines = {name: Machine(folder, name) for name in ("gpu1", "gpu2", "gpu3")}
        for machine in machines.values():
            stack.callback(machine.kill)
            machine.start()
        yield Workers(
            machines, stack.enter_context(orthanc(folder / "orthanc", "ORTHANC")), stack.enter_context(library())
        )


def routes(ports: dict[str, int], path: Path) -> Path:
    text = ""
    for name, port in ports.items():
        text += f'[workers.{name}]\naddress = "127.0.0.1:{port}"\naet = "{name.upper()}"\n'
    path.write_text(f'{text}[routes.all]\nsender = ["*"]\nworkers = {[*ports]}\n')
    return path


def delivered(route: StageProcess) -> int:
    return int(value(scrape(route), "route_sends_total", outcome="delivered"))


@pytest.mark.usefixtures("dcmtk")
def test_each_study_is_whole_at_one_worker_of_whatever_make(places: Places, tmp_path: Path) -> None:
    """Two senders, each instance of each study in turn; a second series of a study goes where the first one went."""
    with (
        service(places, "--series-quiet=30"),
        storescp(places.incoming) as receiver,
        workers(tmp_path / "workers") as made,
    ):
        about = routes(made.ports(), tmp_path / "routes.toml")
        options = ("--routes", str(about), "--data", str(places.data), "--http", "127.0.0.1:0")
        with stage(places.state, *options, module=("listener", "route")) as route:
            sent: dict[str, Dataset] = {}
            for series, program in enumerate((("storescu", "-R"), ("dcmsend", "-aec", "ANYBODY"))):
                folder = tmp_path / f"series{series}"
                folder.mkdir()
                for number in range(STUDIES * EACH):
                    path = folder / f"{number:03}"
                    write_instance(path, study=number % STUDIES, series=series, number=number // STUDIES + 1)
                    sent[str(dcmread(path).SOPInstanceUID)] = dcmread(path)
                command = [*program, "127.0.0.1", str(receiver.port), *map(str, sorted(folder.iterdir()))]
                subprocess.run(command, env=environment(), check=True, capture_output=True)
                until(lambda: delivered(route) == len(sent), 120, what=str(route))
            found = made.has()
            assert sum(map(len, found.values())) == len(sent), "each once"
            studies = {name: {str(one.StudyInstanceUID) for one in has.values()} for name, has in found.items()}
            assert {name: len(uids) for name, uids in studies.items()} == dict.fromkeys(made.ports(), STUDIES // 5)
            assert set().union(*studies.values()) == {str(uid("study", 0, number)) for number in range(STUDIES)}
            for one in (one for has in found.values() for one in has.values()):
                assert values(one) == values(sent[str(one.SOPInstanceUID)])
            assert not route.events("refused")


def test_orthanc_stores_every_kind_as_it_is(tmp_path: Path) -> None:
    paths = [written(tmp_path / f"{n}.dcm", n, dataset) for n, dataset in enumerate(kinds().values())]
    with orthanc(tmp_path / "orthanc", "ORTHANC") as peer:
        instances = [Instance(str(path)) for path in paths]
        with Association(Peer("127.0.0.1", peer.port, "ORTHANC"), [one.pair for one in instances]) as open_:
            assert open_.echo().status == 0
            stored = [open_.store(one) for one in instances]
        assert {one.response.status for one in stored} == {0}
        assert not any(one.is_reencoded for one in stored)
        found = peer.datasets()
        for one, path in zip(instances, paths, strict=True):
            there = found[one.SOPInstanceUID]
            assert there.file_meta.TransferSyntaxUID == one.pair.TransferSyntaxUID
            assert values(there) == values(dcmread(path))
            one.close()
    assert len(found) == len(paths)
