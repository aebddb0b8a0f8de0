"""Path for path and document for document what the real px-repack, rx-repack and oxidicom wrote for the real series.

The oracles are described in ../shared/data/README.md. What may differ is listed here as data, each with its reason.
"""

from __future__ import annotations

import re
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import orjson
import pytest

from listener.storescp import RECOMMENDED
from tests.accounting import files_below, read_tree
from tests.dicomnet import storescp, storescu
from tests.service_process import Event, Places, make_places, once

pytestmark = [pytest.mark.oracle, pytest.mark.real]

SERIES = "1.3.12.2.1107.5.2.19.45152.2013030808061520200285270.0.0.0"
STUDY = "1.2.840.113845.11.1000000001785349915.20130308061609.6346698"

#: Layout -> its oracle, and what stands before the paths in the oracle's tree.txt.
ORACLES = {
    "rx": ("rx-1.0.3", "data/"),
    "px": ("px-3.12.6", "data/"),
    "px311": ("px-3.11.22", "data/"),
    "oxidicom": ("oxidicom-4", ""),
}
LOGGED = ("rx", "px", "px311")

#: Where the predecessors were told to write.
THEIR_DATA, THEIR_LOG, THEIR_INCOMING = "/home/dicom/data/", "/home/dicom/log/", "/home/dicom/in/"

#: Keys of the px oracles that ours leave out: times, and what else stat(2) tells of the published file but its size.
STAT_FIELDS = ["atime", "blksize", "blocks", "ctime", "dev", "gid", "ino", "mode", "mtime", "nlink", "rdev", "uid"]

_DICOM = f"studyData/{STUDY}-series/{SERIES}-meta.json/{STUDY}/DICOM"
_META = f"seriesData/{SERIES}-meta.json"

#: Where rx-repack's logs differ from ours (which have px-repack's shape), and why. `*` is any instance.
RX_DIFFERENCES = {
    f"seriesData/{SERIES}-img/*.json/{SERIES}/SeriesNumber": "rx writes a number, px-repack a string",
    f"seriesData/{SERIES}-img/*.json/{SERIES}/imageObj/*/size": "rx leaves it out; readers want it",
    f"{_META}/SeriesNumber": "rx writes a number, px-repack a string",
    f"{_DICOM}/ImageType/value": "rx prints a list as JSON, pydicom as Python does",
    f"{_DICOM}/ScanningSequence/value": "rx prints a list as JSON and keeps the padding",
    f"{_DICOM}/SequenceVariant/value": "rx prints a list as JSON, pydicom as Python does",
    f"{_DICOM}/ImageOrientationPatient/value": "rx keeps the padding of the last number",
    f"{_DICOM}/PixelSpacing/value": "rx keeps the padding of the last number",
    f"{_DICOM}/PrivateCreator": "rx knows a keyword for it, pydicom does not: no private elements",
    f"{_DICOM}/ReferencedImageSequence/value": "rx prints keywords and UIDs, pydicom names",
    f"{_DICOM}/RequestAttributesSequence/value": "rx prints keywords, pydicom names and quoted texts",
}


@dataclass(frozen=True)
class Run:
    """What one layout made of the series."""

    layout: str
    places: Places
    sources: dict[str, bytes]
    events: list[Event]


def their_log(oracle: Path, layout: str) -> dict[str, Any]:
    """All documents of an oracle, by relative path."""
    return _documents(oracle / ORACLES[layout][0] / "log", THEIR_DATA)


def _documents(directory: Path, prefix: str) -> dict[str, Any]:
    """Documents by relative path, with the data directory's prefix taken out of all texts."""
    found = {}
    for path in files_below(directory):
        found[str(path.relative_to(directory))] = orjson.loads(path.read_bytes().replace(prefix.encode(), b"DATA/"))
    return found


def _described(oracle: Path, layout: str) -> str:
    """The SOP Instance UID that the oracle's document of the series describes."""
    document = their_log(oracle, layout)[f"studyData/{STUDY}-series/{SERIES}-meta.json"]
    return str(document[STUDY]["DICOM"]["SOPInstanceUID"]["value"])


@pytest.fixture(scope="module")
def run(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory, sag_anon: Path, oracle: Path) -> Run:
    """The series through `listener once`, first the instance by which the oracle describes the series."""
    layout = request.param
    places = make_places(tmp_path_factory.mktemp(layout))
    sources = {path.name: path.read_bytes() for path in sorted(sag_anon.glob("*.dcm"))}
    first = _described(oracle, layout)
    events: list[Event] = []
    for chosen in (True, False):
        for name, body in sources.items():
            if name.endswith(f"-{first}.dcm") is chosen:
                (places.incoming / name).write_bytes(body)
        done = once(places, "--layout", layout, "--phi")
        assert done.status == 0, done
        events += done.events
    return Run(layout, places, sources, events)


def each(*layouts: str) -> pytest.MarkDecorator:
    return pytest.mark.parametrize("run", layouts, indirect=True, scope="module")


def tree_of(oracle: Path, layout: str) -> list[str]:
    folder, prefix = ORACLES[layout]
    lines = (oracle / folder / "tree.txt").read_text().splitlines()
    return sorted(line.removeprefix(prefix) for line in lines)


@each(*LOGGED)
def test_the_tree_is_the_oracles(run: Run, oracle: Path) -> None:
    """Every file is where the predecessor put it, and no other file is there."""
    found = sorted(str(path.relative_to(run.places.data)) for path in files_below(run.places.data))
    assert found == tree_of(oracle, run.layout)


@each(*LOGGED)
def test_instances_are_not_changed(run: Run) -> None:
    """Every published file has the bytes of its source."""
    published = {path.name: path.read_bytes() for path in files_below(run.places.data)}
    assert published == run.sources


@each("px", "px311")
def test_logs_are_px_repacks(run: Run, oracle: Path) -> None:
    """Every key and value of every document agrees, but for stat fields and how pydicom 3 prints tags."""
    ours = _documents(run.places.log, f"{run.places.data}/")
    theirs = their_log(oracle, run.layout)
    assert ours.keys() == theirs.keys()
    found = {where: pair for where, pair in differences(ours, theirs) if not _is_declared(where, *pair)}
    assert not found


def _is_declared(where: str, ours: Any, theirs: Any) -> bool:
    if where.rpartition("/")[2] in STAT_FIELDS and "/imageObj/" in where:
        return ours is None
    if isinstance(theirs, str) and "-series/" in where:
        # pydicom 3 prints (0008,1150), pydicom 2 printed (0008, 1150).
        return bool(ours == re.sub(r"\(([0-9a-f]{4}), ([0-9a-f]{4})\)", r"(\1,\2)", theirs))
    return False


def differences(ours: Any, theirs: Any, where: str = "") -> Iterator[tuple[str, tuple[Any, Any]]]:
    """Every place where two documents differ, as (path, (ours, theirs)); what is absent is None."""
    if isinstance(ours, dict) and isinstance(theirs, dict):
        for key in sorted(ours.keys() | theirs.keys()):
            yield from differences(ours.get(key), theirs.get(key), f"{where}/{key}" if where else key)
    elif type(ours) is not type(theirs) or ours != theirs:
        yield where, (ours, theirs)


@each("rx")
def test_logs_are_rx_repacks_but_for_the_list(run: Run, oracle: Path) -> None:
    """rx-repack's documents agree in all but what RX_DIFFERENCES lists, and all of that list is really needed."""
    ours = _documents(run.places.log, f"{run.places.data}/")
    theirs = their_log(oracle, "rx")
    assert ours.keys() == theirs.keys()
    # The document of the series is flat with rx-repack; ours stands under the UID, which every reader accepts.
    assert ours[_META].keys() == {SERIES}
    ours[_META] = ours[_META][SERIES]
    found = {re.sub(r"\d{4}-[0-9.]+\.dcm", "*", where): pair for where, pair in differences(ours, theirs)}
    assert found.keys() == RX_DIFFERENCES.keys()
    numbers = [pair for where, pair in found.items() if where.endswith("/SeriesNumber")]
    assert all(ours == str(theirs) for ours, theirs in numbers)


@each("rx")
def test_events_are_a_superset_of_rx_repacks(run: Run, oracle: Path) -> None:
    """With --phi each line holds every key and value of rx-repack's line for the same file; prefixes differ."""
    ours = {Path(event["src"]).name: event for event in run.events}
    lines = (oracle / "rx-1.0.3" / "events.ndjson").read_bytes().splitlines()
    assert len(lines) == len(run.events) == len(ours)
    for line in lines:
        theirs = orjson.loads(line)
        theirs["src"] = theirs["src"].replace(THEIR_INCOMING, f"{run.places.incoming}/")
        theirs["dst"] = theirs["dst"].replace(THEIR_DATA, f"{run.places.data}/")
        event = ours[Path(theirs["src"]).name]
        assert {key: event.get(key) for key in theirs} == theirs


@pytest.mark.usefixtures("dcmtk")
def test_oxidicom_tree_by_the_calling_ae_title(tmp_path: Path, sag_anon: Path, oracle: Path) -> None:
    """Sent by MYPACS (the files say PACSDCM): oxidicom's tree, with the bytes that storescp wrote."""
    places = make_places(tmp_path)
    outside = tmp_path / "sent"
    shutil.copytree(sag_anon, outside, ignore=lambda _, names: [name for name in names if not name.endswith(".dcm")])
    with storescp(places.incoming, *RECOMMENDED) as receiver:
        storescu(receiver.port, outside, "-aet", "MYPACS")
    written = sorted(path.read_bytes() for path in places.incoming.iterdir())
    done = once(places, "--layout", "oxidicom")
    assert (done.status, len(written)) == (0, 192)
    found = sorted(str(path.relative_to(places.data)) for path in files_below(places.data))
    assert found == tree_of(oracle, "oxidicom")
    assert sorted(one.path.read_bytes() for one in read_tree(places).instances) == written
