"""Programs of others read a collection over `listener serve`, and see what its files have."""

from __future__ import annotations

import contextlib
import os
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from pydicom import dcmread
from pydicom.data import get_testdata_file
from pydicom.data.data_manager import DATA_ROOT
from pydicom.errors import InvalidDicomError
from pydicom.pixels.utils import pixel_array

from tests.compat.environments import Unreachable, environment, sources
from tests.conftest import PROJECT
from tests.frames.collection import Collection
from tests.frames.making import Maker
from tests.serve.processes import Serving, serving
from tests.serve.slides import LEVELS, write_level
from tests.waiting import until

READERS = ("dicomweb-client==0.61.2", "wsidicom==0.36.1", "pytest==8.4.2")
#: dataclasses-json: what pip finds by itself is too old for it. The others are what FrameCache needs.
HIGHDICOM = ("highdicom==0.28.2",)
EZ_WSI = ("ez-wsi-dicomweb==6.1.6", "dataclasses-json==0.6.7", "orjson", "tenacity", "urllib3")

INSIDE = Path(__file__).parent / "inside"


@pytest.fixture
def files(tmp_path: Path) -> Path:
    folder = tmp_path / "files"
    folder.mkdir()
    for uid in LEVELS:
        write_level(folder / f"{uid}.dcm", uid)
    return folder


@pytest.fixture
def served(files: Path, tmp_path: Path) -> Iterator[Serving]:
    with contextlib.closing(Collection(tmp_path / "collection")) as collection:
        for uid in LEVELS:
            collection.add(Maker("", uid, "1.2.3", "1.2.3.1"), (files / f"{uid}.dcm").read_bytes())
        with serving(collection) as running:
            running.ready()
            yield running


def python(packages: tuple[str, ...], *words: object, **variables: str) -> subprocess.CompletedProcess[str]:
    """Run Python in an environment of these packages."""
    try:
        folder = environment("-".join(packages).replace("==", "-"), list(packages))
    except Unreachable as error:
        pytest.skip(str(error))
    return subprocess.run(
        [str(folder / "bin/python"), "-W", "ignore", *map(str, words)],
        capture_output=True,
        text=True,
        check=False,
        timeout=300,
        env={"PATH": os.defpath, "HOME": str(folder), "PYTHONPATH": str(PROJECT), "LANG": "C.UTF-8", **variables},
    )


def run(packages: tuple[str, ...], script: str, *words: object) -> None:
    """Run a script of `inside` in an environment of these packages; it prints `equal`."""
    done = python(packages, INSIDE / script, *words)
    assert (done.returncode, done.stdout.splitlines()[-1:]) == (0, ["equal"]), done.stdout[-3000:] + done.stderr[-3000:]


@pytest.mark.parametrize("script", ["dicomweb.py", "wsi.py"])
def test_clients_and_readers_see_what_the_files_have(script: str, served: Serving, files: Path) -> None:
    run(READERS, script, served.base, files)


@pytest.mark.parametrize("script", ["ez_wsi.py", "ez_wsi_patterns.py"])
def test_ez_wsi_reads_through_its_cache_and_through_ours(script: str, served: Serving) -> None:
    run(EZ_WSI, script, served.base)


def test_frames_that_highdicom_makes_are_what_pydicom_reads(tmp_path: Path) -> None:
    """Single bits that begin within a byte, fractions, labels, and floating-point numbers."""
    numpy = pytest.importorskip("numpy")
    run(HIGHDICOM, "images.py", get_testdata_file("CT_small.dcm"), tmp_path)
    paths = sorted(tmp_path.glob("*.dcm"))
    assert len(paths) == 4
    with contextlib.closing(Collection(tmp_path / "collection")) as collection:
        for path in paths:
            add(collection, path)
        with serving(collection) as running:
            for path in paths:
                dataset = dcmread(path)
                bits, pixels = dataset.BitsAllocated, pixel_array(dataset)
                wanted = [
                    numpy.packbits(one, bitorder="little").tobytes() if bits == 1 else one.tobytes() for one in pixels
                ]
                uids = (dataset.StudyInstanceUID, dataset.SeriesInstanceUID, dataset.SOPInstanceUID)
                got = running.get("/studies/{}/series/{}/instances/{}/frames/3,1,2".format(*uids))
                assert (got.status, [content for _, content in got.parts]) == (200, [wanted[2], *wanted[:2]]), path


@pytest.mark.filterwarnings("ignore::UserWarning")
def test_dicomweb_client_s_own_tests_of_files_pass_over_the_service(tmp_path: Path) -> None:
    """All but those that store, with the files of pydicom that they know."""
    try:
        tests = sources(READERS[0]) / "tests"
    except Unreachable as error:
        pytest.skip(str(error))
    folder = tmp_path / "tests"
    folder.mkdir()
    shutil.copy(tests / "test_file.py", folder)
    shutil.copy(INSIDE / "file_client.py", folder / "conftest.py")
    with contextlib.closing(Collection(tmp_path / "collection")) as collection:
        for path in sorted(Path(DATA_ROOT, "test_files").rglob("*")):
            add(collection, path)
        with serving(collection) as running:
            until(lambda: running.health("/readyz").status == 200, 120, what=f"serve to be ready: {running}")
            done = python(
                READERS, "-m", "pytest", "-q", "-p", "no:cacheprovider", "-k", "not store", folder, BASE=running.base
            )
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    assert "20 passed" in done.stdout, done.stdout[-3000:]


def add(collection: Collection, path: Path) -> None:
    """Put a file into a collection, if it is one of an instance: with or without a suffix."""
    try:
        header = dcmread(path, stop_before_pixels=True)
        uids = [str(header[name].value) for name in ("SOPInstanceUID", "StudyInstanceUID", "SeriesInstanceUID")]
    except (OSError, KeyError, InvalidDicomError):
        return
    if all(uids):
        collection.add(Maker("", *uids), path.read_bytes(), Modality=str(header.get("Modality") or "OT"))
