"""The frame cache over a DICOMweb service and over object stores: real ones, with the frames of the files behind."""

from __future__ import annotations

import contextlib
import copy
import os
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from pydicom.data import get_testdata_files

from listener.errors import ConfigError
from listener.frames import FrameCache, OptimizationHint
from tests.export.collection import Collection as Exported
from tests.export.stores import MAKERS
from tests.frames.collection import Collection
from tests.frames.judge import expected
from tests.frames.lines import Lines
from tests.frames.making import JPEG, Maker, header, jpeg
from tests.serve.processes import Serving, serving
from tests.waiting import until

pytestmark = [pytest.mark.real, pytest.mark.filterwarnings("ignore::UserWarning")]

LATENCY = OptimizationHint.MINIMIZE_LATENCY
TOKEN = "0123456789abcdefghijklmnopqrstuvwxyzABCDEF"  # noqa: S105 - of nobody

FILES = [
    path
    for path in sorted(set(get_testdata_files()))
    if os.path.isfile(path) and not any(word in path for word in ("dicomdirtests", "truncated"))
]


@pytest.fixture
def collection(tmp_path: Path) -> Iterator[Collection]:
    with contextlib.closing(Collection(tmp_path)) as made:
        yield made


def put_files(collection: Collection) -> dict[str, list[bytes]]:
    """Files of pydicom in a collection: frames by resource."""
    found = {}
    for number, path in enumerate(FILES):
        frames = expected(path)
        if frames:
            found[collection.add(Maker("", f"1.9.{number}", "1.9", "1.9.9"), Path(path).read_bytes())] = frames
    assert len(found) > 50
    return found


def requests(running: Serving, resource: str) -> int:
    """How many requests for a resource were answered."""
    page = running.health("/metrics").body.decode()
    name = f'listener_serve_requests_total{{resource="{resource}",status="2xx"}} '
    return next((int(float(line.removeprefix(name))) for line in page.splitlines() if line.startswith(name)), 0)


def test_frames_of_a_service_are_those_of_its_files(collection: Collection) -> None:
    wanted = put_files(collection)
    with serving(collection) as running:
        for hint in (None, LATENCY):
            with FrameCache(dicomweb=running.base) as cache:
                for url, frames in wanted.items():
                    for number in {1, len(frames)}:
                        assert cache.get_frame(url, len(frames), number, hint) == frames[number - 1], (url, hint)


def test_a_whole_instance_is_one_request_and_blocks_are_few(collection: Collection) -> None:
    url, frames = collection.slide(1000)
    with serving(collection) as running, FrameCache(dicomweb=f"{running.base}/") as cache:
        assert cache.get_frame(f"{running.base}/{url}", 1000, 700) == frames[699]
        assert [cache.get_cached_frame(url, number) for number in range(1, 1001)] == frames
        until(lambda: requests(running, "instances") == 1, 20)
        small = FrameCache(dicomweb=running.base, max_instance_number_of_frames_to_prefer_whole_instance_download=10)
        with small:
            assert small.get_frame(url, 1000, 100) == frames[99]
            assert small.get_cached_frame(url, 599) == frames[598]
            until(lambda: requests(running, "frames") == 2, 20)
            assert small.cache_stats.number_of_frames_read_in_frame_blocks == 500


def test_many_threads_on_a_cold_frame_are_one_request(collection: Collection) -> None:
    url, frames = collection.slide(50)
    with serving(collection) as running, FrameCache(dicomweb=running.base) as cache, ThreadPoolExecutor(16) as pool:
        got = list(pool.map(lambda _: cache.get_frame(url, 50, 7), range(64)))
        assert got == [frames[6]] * 64
        until(lambda: requests(running, "instances") == 1, 20)
        assert requests(running, "frames") == 0


def test_a_token_is_asked_for_each_time_and_a_refusal_is_no_frame(collection: Collection, tmp_path: Path) -> None:
    url, frames = collection.slide(3)
    tokens = tmp_path / "tokens"
    tokens.write_text(f"program:{TOKEN}\n")
    tokens.chmod(0o400)
    given = ["wrong"]
    with serving(collection, "--token-file", str(tokens)) as running:
        lines = Lines()
        with FrameCache(dicomweb=running.base, token=lambda: given[0], logging_factory=lines) as cache:
            assert cache.get_frame(url, 3, 2) is None
            assert lines.failed() == ["frames could not be loaded"]
            given[0] = TOKEN
            assert until(lambda: cache.get_frame(url, 3, 2), 20) == frames[1]
            gone = url.replace("1.2.3.4", "9.9.9")
            assert cache.get_frame(gone, 3, 2) is None


def test_a_replaced_instance_is_not_mixed_with_what_was_there(collection: Collection) -> None:
    url, frames = collection.slide(40)
    settings: dict[str, Any] = {
        "number_of_frames_to_read": 5,
        "max_instance_number_of_frames_to_prefer_whole_instance_download": 1,
    }
    with serving(collection) as running, FrameCache(dicomweb=running.base, **settings) as cache:
        assert cache.get_frame(url, 40, 1) == frames[0]
        _, others = collection.slide(40, salt=9)
        os.utime(collection.path(), (1, 1))
        until(lambda: running.get(f"/{url}/frames/30", accept="image/jpeg").body == others[29], 20)
        assert cache.get_frame(url, 40, 30) == others[29]
        assert cache.get_cached_frame(url, 1) is None
        assert cache.get_frame(url, 40, 1) == others[0]


def test_what_an_export_wrote_is_read_where_its_manifest_says(tmp_path: Path) -> None:
    for words in ([], ["--archive", "series"]):
        base = tmp_path / str(len(words))
        exported = Exported(base)
        exported.add(1, 1, 2, 3)
        assert exported.export("once", *words) in (0, 1)
        exported.end()
        assert exported.export("once", *words) == 0
        manifest = exported.manifest(1)
        with FrameCache(store=exported.target.as_uri()) as cache:
            for entry in manifest.entries:
                url = f"studies/{manifest.StudyInstanceUID}/series/{manifest.SeriesInstanceUID}"
                frames = expected(str(Path(exported.config.data, entry.path)))
                assert frames
                got = cache.get_frame(f"{url}/instances/{entry.SOPInstanceUID}", 1, 1)
                assert got == frames[0]


@pytest.mark.parametrize("kind", ["directory", "versitygw"])
def test_plain_objects_of_a_store(kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with MAKERS[kind](tmp_path) as store:
        for name, value in store.environment.items():
            monkeypatch.setenv(name, value)
        if store.endpoint:
            monkeypatch.setenv("AWS_ENDPOINT", store.endpoint)
            monkeypatch.setenv("AWS_ALLOW_HTTP", "true")
        check_plain(store.folder, store.to if store.endpoint else store.folder.as_uri())


def check_plain(folder: Path, address: str) -> None:
    wanted = {}
    for number, path in enumerate(FILES):
        frames = expected(path)
        if frames:
            target = folder / "1.9" / "1.9.9" / f"1.9.{number}.dcm"
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_bytes(Path(path).read_bytes())
            wanted[f"studies/1.9/series/1.9.9/instances/1.9.{number}"] = frames
    lines = Lines()
    with FrameCache(store=address, logging_factory=lines) as cache:
        for url, frames in wanted.items():
            assert cache.get_frame(url, len(frames), len(frames)) == frames[-1], (url, lines.lines[-3:])
            assert [cache.get_cached_frame(url, number + 1) for number in range(len(frames))] == frames
        assert cache.get_frame("studies/1.9/series/1.9.9/instances/9.9", 1, 1) is None


def test_a_slide_in_a_store_is_read_by_blocks_and_replaced(tmp_path: Path) -> None:
    target = tmp_path / "1.2.3" / "1.2.3.1" / "1.2.3.4.dcm"
    target.parent.mkdir(parents=True)

    def put(salt: int) -> list[bytes]:
        frames = [jpeg(number + salt, 600) for number in range(600)]
        target.write_bytes(Maker(JPEG).encapsulated(header(frames=600), [[one] for one in frames], "basic"))
        return frames

    frames = put(0)
    url = "studies/1.2.3/series/1.2.3.1/instances/1.2.3.4"
    settings: dict[str, Any] = {"max_instance_number_of_frames_to_prefer_whole_instance_download": 1}
    with FrameCache(store=tmp_path.as_uri(), number_of_frames_to_read=50, **settings) as cache:
        assert cache.get_frame(url, 600, 590) == frames[589]
        assert cache.cache_stats.number_of_frames_read_in_frame_blocks == 50
        assert cache.get_frame(url, 600, 3, LATENCY) == frames[2]
        with copy.copy(cache) as other:
            assert other.get_frame(url, 600, 1) == frames[0]


@pytest.mark.parametrize(
    "wrong",
    [
        {},
        {"data": "x"},
        {"data": "x", "state": "y", "store": "file:///tmp"},
        {"dicomweb": "ftp://x"},
        {"store": "nonsense"},
    ],
)
def test_an_origin_that_is_none_is_refused(wrong: dict[str, str]) -> None:
    make: Callable[..., FrameCache] = FrameCache
    with pytest.raises(ConfigError):
        make(**wrong)
