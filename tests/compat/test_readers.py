"""Programs of others read a collection over `listener serve`, and see what its files have."""

from __future__ import annotations

import contextlib
import os
import shutil
import subprocess
from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest
from pydicom import Dataset, dcmread
from pydicom.data import get_testdata_file
from pydicom.data.data_manager import DATA_ROOT
from pydicom.encaps import generate_frames
from pydicom.errors import InvalidDicomError
from pydicom.pixels.utils import pixel_array

from listener.benchmark.archives import orthanc, plugin
from listener.frames import FrameCache
from tests.compat.environments import Unreachable, environment, sources
from tests.conftest import PROJECT
from tests.frames.collection import Collection
from tests.frames.making import Maker
from tests.serve.processes import Serving, serving
from tests.serve.slides import LEVELS, write_level
from tests.waiting import until

READERS = ("dicomweb-client==0.61.2", "wsidicom==0.36.1", "pytest==8.4.2")
HIGHDICOM = ("highdicom==0.28.2",)
WSIDICOMIZER = ("wsidicomizer==0.26.1", "wsidicom==0.31.0")  # The last for Python 3.11.
#: dataclasses-json: what pip finds by itself is too old for it. The others are what FrameCache needs.
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


def test_ez_wsi_reads_through_its_cache_and_through_ours(served: Serving) -> None:
    run(EZ_WSI, "ez_wsi.py", served.base)


def test_our_cache_asks_a_service_of_ours_for_no_more_than_that_of_ez_wsi(served: Serving, files: Path) -> None:
    run(EZ_WSI, "ez_wsi_patterns.py", served.base, files / "1.2.3.4.dcm")


def test_our_cache_asks_an_orthanc_for_no_more_than_that_of_ez_wsi(files: Path, tmp_path: Path) -> None:
    """Orthanc answers a request for an instance that is no multipart message, as EZ-WSI's is, with 400."""
    found = plugin()
    if found is None:
        pytest.skip("Orthanc with its DICOMweb plugin is not on PATH")
    with orthanc(tmp_path, found, sorted(files.iterdir())) as running:
        run(
            EZ_WSI, "ez_wsi_patterns.py", f"http://127.0.0.1:{running.port}/dicom-web", files / "1.2.3.4.dcm", "refused"
        )


def test_frames_that_highdicom_makes_are_what_pydicom_reads(tmp_path: Path) -> None:
    """Single bits that begin within a byte, fractions, labels, and floating-point numbers."""
    numpy = pytest.importorskip("numpy")
    run(HIGHDICOM, "images.py", get_testdata_file("CT_small.dcm"), tmp_path)
    paths = sorted(tmp_path.glob("*.dcm"))
    assert len(paths) == 4

    def frames(dataset: Dataset) -> list[bytes]:
        pixels, bits = pixel_array(dataset), dataset.BitsAllocated
        return [numpy.packbits(one, bitorder="little").tobytes() if bits == 1 else one.tobytes() for one in pixels]

    check_frames(tmp_path / "collection", {path: frames(dcmread(path)) for path in paths})


def test_frames_of_a_slide_that_wsidicomizer_makes_are_what_pydicom_reads(tmp_path: Path) -> None:
    """With a basic offset table, none, and an extended one, in which wsidicom counts the next item's head with each
    length: a reader that believes it, as pydicom does, gives 8 bytes more.
    """
    run(WSIDICOMIZER, "slides.py", tmp_path)

    def frames(dataset: Dataset) -> list[bytes]:
        assert ("ExtendedOffsetTable" in dataset) == (Path(str(dataset.filename)).parent.name == "eot")
        return [*generate_frames(dataset.PixelData, number_of_frames=int(dataset.NumberOfFrames))]

    paths = sorted(tmp_path.rglob("*.dcm"))
    wanted = {path: frames(dcmread(path)) for path in paths}
    for table in ("bot", "eot", "empty"):
        counts = sorted(len(wanted[path]) for path in paths if path.parent.name == table)
        assert counts == [1, 6, 20, 80], table
    check_frames(tmp_path / "collection", wanted)


def check_frames(base: Path, wanted: Mapping[Path, list[bytes]]) -> None:
    """Frames of files are `wanted`: of a service in another order, by a cache of the tree, by one of the service."""
    with contextlib.closing(Collection(base)) as collection:
        for path in wanted:
            add(collection, path)
        with (
            serving(collection) as running,
            FrameCache(data=str(collection.data), state=collection.state) as local,
            FrameCache(dicomweb=running.base) as remote,
        ):
            for path, frames in wanted.items():
                header = dcmread(path, stop_before_pixels=True)
                uids = (header.StudyInstanceUID, header.SeriesInstanceUID, header.SOPInstanceUID)
                resource = "studies/{}/series/{}/instances/{}".format(*uids)
                count = len(frames)
                numbers = [count, *range(1, count)]
                got = running.get(f"/{resource}/frames/{','.join(map(str, numbers))}")
                assert got.status == 200, (path, got)
                assert [content for _, content in got.parts] == [frames[number - 1] for number in numbers], path
                for cache in (local, remote):
                    assert [cache.get_frame(resource, count, number + 1) for number in range(count)] == frames, path


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
